"""Claim: all pairs among one million 64-bit hashes within 6 bits, exactly, in under 60 s and 4 GB on two cores.

    python bench/hamming_growth.py --repeats 3

From 10,000 to 1,000,000 hashes, each count in a process of its own: random ones and planted neighbours of every
distance up to 6 (one hash in a hundred has one). On the clock is `pairs_within` alone; the memory is the most that the
process ever held, interpreter and libraries included. Then recall: all planted pairs, and for a sample of the hashes
the pairs that comparing them with every other hash finds. Hashes of real pictures are no random ones, they crowd:
those of CIFAR-10 as it is, mirrored and turned (8 × 60,000) stand beside.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path

import measure
import numpy as np

COUNTS = (10_000, 30_000, 100_000, 300_000, 1_000_000)

RADIUS = 6

QUERIES = 2000
"""Hashes that are compared with every other one."""

SECONDS, GIGABYTES = 60.0, 4.0
"""Of the claim, for the largest count."""


def main() -> None:
    """Measure every count."""
    parser = argparse.ArgumentParser(description="Growth of the search for near hashes.")
    parser.add_argument("--repeats", type=int, default=3, help="processes for each count")
    parser.add_argument("--quick", action="store_true", help="up to 100,000, one process each, no RESULTS.md")
    parser.add_argument("--child", nargs=3, metavar=("COUNT", "SEED", "ANSWER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        count, seed, answer = asked.child
        Path(answer).write_text(json.dumps(searched(count, int(seed))))
        return
    setting = measure.setting()
    with measure.scratch() as folder:
        real, answer = folder / "cifar10.npy", folder / "answer.json"
        np.save(real, of_pictures(folder / "cache"))
        counts: tuple[int | Path, ...] = (*(COUNTS[:3] if asked.quick else COUNTS), real)
        done: dict[int | Path, list[dict[str, float]]] = {count: [] for count in counts}
        for seed in range(1 if asked.quick else asked.repeats):
            for count in counts:
                measure.run([sys.executable, __file__, "--child", str(count), str(seed), answer])
                done[count].append(json.loads(answer.read_text()))
                print(f"seed {seed}, {count}: {done[count][-1]}", flush=True)
    measure.publish("Near hashes: growth", section(done), setting, quick=asked.quick)
    missed = [count for count, runs in done.items() if any(run["missed"] for run in runs)]
    if missed:
        sys.exit(f"Pairs were missed or made up among {', '.join(str(count) for count in missed)} hashes.")


def of_pictures(cache: Path) -> np.ndarray:
    """Hashes of CIFAR-10 and of its pictures mirrored and turned."""
    import pictures

    from discern.data.duplicates.signature import variants
    from discern.data.scan import scan

    dataset, _ = scan(pictures.cifar(), size=32, fit="pad", cache=cache)
    every: np.ndarray = variants(dataset.table["hash"].to_numpy()).reshape(-1)
    return every


def searched(count: str, seed: int) -> dict[str, float]:
    """Time, memory and errors of one search."""
    from discern.data.duplicates.hamming import pairs_within

    random = np.random.default_rng(seed)
    hashes, planted = _planted(int(count), random) if count.isdecimal() else (np.load(count), np.zeros((0, 2), int))
    pairs_within(hashes[:1000], RADIUS)
    before = measure.memory()["VmHWM"]
    began = time.perf_counter()
    pairs = pairs_within(hashes, RADIUS)
    seconds, peak = time.perf_counter() - began, measure.memory()["VmHWM"]
    found = set(map(tuple, pairs.tolist()))
    queries = random.choice(len(hashes), min(QUERIES, len(hashes)), replace=False).tolist()
    wanted = {(min(q, i), max(q, i)) for q in queries for i in _near(hashes, q)}
    asked = set(queries)
    answered = {pair for pair in found if pair[0] in asked or pair[1] in asked}
    missed = len(set(map(tuple, planted.tolist())) - found) + len(wanted ^ answered)
    return {
        "count": len(hashes),
        "seconds": seconds,
        "before": before,
        "peak": peak,
        "pairs": len(pairs),
        "planted": len(planted),
        "checked": len(wanted),
        "missed": missed,
    }


def _planted(count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random hashes, of which one in a hundred differs from another in 0 to RADIUS bits; those pairs."""
    hashes = random.integers(0, 1 << 64, count, dtype=np.uint64)
    place = random.permutation(count)[: count // 100 * 2].reshape(-1, 2)
    for source, copy in place:
        bits = random.choice(64, int(random.integers(0, RADIUS + 1)), replace=False).astype(np.uint64)
        hashes[copy] = hashes[source] ^ np.bitwise_or.reduce(np.uint64(1) << bits, initial=np.uint64(0))
    return hashes, np.sort(place, axis=1)


def _near(hashes: np.ndarray, query: int) -> list[int]:
    near: list[int] = np.flatnonzero(np.bitwise_count(hashes ^ hashes[query]) <= RADIUS).tolist()
    return [each for each in near if each != query]


def section(done: dict[int | Path, list[dict[str, float]]]) -> str:
    """The table, and the growth in a sentence."""
    rows, middle = [], {count: statistics.median([run["seconds"] for run in runs]) for count, runs in done.items()}
    counts = [count for count in done if isinstance(count, int)]
    for count, runs in done.items():
        k = counts.index(count) if count in counts else 0
        growth = math.log(middle[count] / middle[counts[k - 1]]) / math.log(counts[k] / counts[k - 1]) if k else None
        rows.append(
            [
                f"{count:,}" if isinstance(count, int) else f"{runs[0]['count']:,.0f} of CIFAR-10",
                measure.spread([run["seconds"] for run in runs]),
                "" if growth is None else f"{growth:.2f}",
                measure.spread([run["peak"] / 1e9 for run in runs]),
                measure.spread([run["before"] / 1e9 for run in runs]),
                f"{statistics.median([run['pairs'] for run in runs]):,.0f}",
                f"{sum(run['planted'] + run['checked'] for run in runs):,.0f}",
                f"{sum(run['missed'] for run in runs):,.0f}",
            ]
        )
    columns = ["hashes", "seconds", "exponent", "peak GB", "GB before", "pairs", "pairs checked", "wrong"]
    last, first = counts[-1], counts[0]
    whole = math.log(middle[last] / middle[first]) / math.log(last / first)
    return (
        f"All pairs within {RADIUS} bits; processes for each count: {len(done[last])}, median and range. The exponent "
        f"is that of the growth since the row above, {whole:.2f} over all (1 is linear, 2 compares all with all). "
        f"Claimed for {COUNTS[-1]:,}: under {SECONDS:.0f} s and {GIGABYTES:.0f} GB, none missed.\n\n"
        f"{measure.table(columns, rows)}\n\n"
        f"Checked are the planted pairs and all pairs of {QUERIES:,} hashes in each process, by brute force; wrong "
        "are those that were missed or made up."
    )


if __name__ == "__main__":
    main()
