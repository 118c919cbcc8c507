"""Claim: scan and duplicate audit at least 10 × faster than cleanvision and 3 × faster than imagededup (PHash).

    python bench/duplicates_speed.py tools --repeats 5
    python bench/duplicates_speed.py cifar10 --repeats 1 --limit 3600

All see the same folder: the images of the set written out as JPEG files, with byte-identical and edited copies put in
(edits in turns: resized, recompressed, cropped by 5 %, brighter or darker by 15 %, mirrored). Round after round each
tool runs in a process of its own, in rotating order; the clock starts when its imports are done and it has gone
through a few images, and Discern's cache is empty every time. The recall of the copies that were put in must not be
lower than a peer's, or this ends with an error.

Discern does: open_dataset, scan, copies, and the findings that need no network. cleanvision: Imagelab.find_issues with
its default issues, exact and near duplicates among them. imagededup: PHash.encode_images and find_duplicates with its
default threshold (10 bits) and processes; it looks for copies alone, so its ratio is to Discern's scan and copies.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import measure
import numpy as np
import peers
import pictures
import polars as pl

CLAIMS = {"cleanvision": 10.0, "imagededup": 3.0}
"""How many times as long as Discern a peer takes, at least."""

TOOLS = ("discern", *CLAIMS)

COMPARED = {"cleanvision": ("scan", "copies", "findings"), "imagededup": ("scan", "copies")}
"""What of Discern's stages a peer does, too."""

WARM = 6
"""Images of each class that every tool goes through before its clock starts."""

RADIUS = 10
"""imagededup's default threshold, by which its pairs are judged when its search was cut off."""

Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one tool did with the folder once."""

    seconds: dict[str, float]
    """By stage, imports and warm-up left out."""
    processor: float | None
    """Seconds of all cores together, of its own processes too; unknown when it was cut off."""
    in_time: bool
    """False when it was cut off at the limit: it would have taken longer than its seconds."""
    pairs: set[Pair] | None
    """Copies it found, each pair of names in order; unknown when it was cut off before it said anything."""

    @property
    def total(self) -> float:
        """Seconds."""
        return sum(self.seconds.values())


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well the copies that were put in were found."""

    exact: float
    """Share of the byte-identical copies that are paired with their source."""
    near: float
    """Share of the edited copies."""
    edits: dict[str, float]
    """The same by edit."""
    precision: float
    """Of pairs with a copy that was put in. Pairs the tool also finds between their sources do not count."""
    originals: int
    """Pairs among the images as they were; nobody knows how many of them are copies."""


def main() -> None:
    """Measure one set of images."""
    parser = argparse.ArgumentParser(description="Speed of the duplicate audit against cleanvision and imagededup.")
    parser.add_argument("set", choices=pictures.SETS)
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--limit", type=float, default=3600, help="seconds after which a peer is cut off")
    parser.add_argument("--exact", type=float, default=0.05, help="byte-identical copies, as a share of the images")
    parser.add_argument("--near", type=float, default=0.05, help="edited copies, as a share of the images")
    parser.add_argument("--images", type=int, help="only so many of the images, at random")
    parser.add_argument("--quick", action="store_true", help="400 images, one round, nothing written to RESULTS.md")
    asked = parser.parse_args()
    if asked.quick:
        asked.images, asked.repeats = asked.images or 400, 1
    pythons = {"discern": Path(sys.executable)} | {peer: peers.python_of(peer) for peer in CLAIMS}
    setting = measure.setting()
    with measure.scratch() as folder:
        dataset = pictures.SETS[asked.set]()
        dataset = pictures.some(dataset, asked.images or len(dataset))
        photos = pictures.with_copies(dataset, folder / "photos", exact=asked.exact, near=asked.near)
        warm = pictures.warm_up(photos.root, folder / "warm", WARM)
        turns: dict[str, list[Turn]] = {tool: [] for tool in TOOLS}
        for round_ in range(asked.repeats):
            for k in range(len(TOOLS)):
                tool = TOOLS[(round_ + k) % len(TOOLS)]
                turns[tool].append(turn(tool, pythons[tool], photos.root, warm, asked.limit))
                print(f"round {round_ + 1}, {tool}: {turns[tool][-1].seconds}", flush=True)
    found = {tool: done[-1].pairs for tool, done in turns.items()}
    scores = {tool: score(pairs, photos.truth) for tool, pairs in found.items() if pairs is not None}
    part = f", {asked.images:,} images," if asked.images else ""
    title = f"Duplicate audit of {asked.set}{part} against cleanvision and imagededup"
    measure.publish(title, section(photos, turns, scores, asked.limit), setting, quick=asked.quick)
    worse = [peer for peer in CLAIMS if peer in scores and not as_good(scores["discern"], scores[peer])]
    if worse:
        sys.exit(f"Discern found fewer of the copies than {' and '.join(worse)}: the speeds do not compare.")


def turn(tool: str, python: Path, photos: Path, warm: Path, limit: float) -> Turn:
    """Run one tool on the folder."""
    side = measure.HERE / "sides" / f"with_{tool}.py"
    with measure.scratch() as own:
        answer, began = own / "answer.json", time.time()
        ended = measure.run([python, side, photos, warm, answer], limit=limit, DISCERN_CACHE=own / "cache")
        if not answer.exists():
            sys.exit(f"{tool} needs more than {limit:.0f} s for its imports and a few images: raise --limit.")
        told, wrote = json.loads(answer.read_text()), answer.stat().st_mtime
    seconds: dict[str, float] = told["seconds"]
    if not ended.in_time:
        seconds["cut off after"] = began + ended.seconds - wrote  # a side writes when a stage on the clock begins
    if "hashes" in told and "pairs" not in told:
        told["pairs"] = alike(told["hashes"])
    found = told.get("pairs", told.get("clusters"))
    return Turn(
        seconds=seconds,
        processor=told.get("processor"),
        in_time=ended.in_time,
        pairs=found if found is None else pairs_of(found),
    )


def pairs_of(clusters: Iterable[Sequence[str]]) -> set[Pair]:
    """Every two names of every cluster."""
    return {
        (min(one, other), max(one, other)) for names in clusters for k, one in enumerate(names) for other in names[:k]
    }


def alike(hashes: dict[str, str]) -> Iterable[Sequence[str]]:
    """The pairs that a search of these hashes was looking for."""
    names, bits = list(hashes), np.array([int(each, 16) for each in hashes.values()], np.uint64)
    for row in range(1, len(names)):
        for other in np.flatnonzero(np.bitwise_count(bits[:row] ^ bits[row]) <= RADIUS).tolist():
            yield names[row], names[other]


def score(found: set[Pair], truth: pl.DataFrame) -> Score:
    """Judge the pairs that were found; a copy's origin is its source, an original image its own."""
    origin = dict(truth.select("image", "source").iter_rows())
    hit = truth.with_columns(
        hit=pl.Series([tuple(sorted(pair)) in found for pair in truth.select("image", "source").iter_rows()])
    )
    near = hit.filter(pl.col("kind") == "near_duplicate")
    originals = {pair for pair in found if pair[0] not in origin and pair[1] not in origin}
    traced = [tuple(sorted(origin.get(name, name) for name in pair)) for pair in found - originals]
    judged = [pair for pair in traced if pair not in originals]
    return Score(
        exact=float(hit.filter(pl.col("kind") == "exact_duplicate")["hit"].mean()),
        near=float(near["hit"].mean()),
        edits=dict(near.group_by("detail").agg(pl.col("hit").mean()).sort("detail").iter_rows()),
        precision=sum(one == other for one, other in judged) / max(len(judged), 1),
        originals=len(originals),
    )


def as_good(ours: Score, theirs: Score) -> bool:
    """Recall no lower."""
    return ours.exact >= theirs.exact and ours.near >= theirs.near


def section(photos: pictures.Photos, turns: dict[str, list[Turn]], scores: dict[str, Score], limit: float) -> str:
    """Tables of times, of ratios and of what was found."""
    rounds = len(turns["discern"])
    counts = dict(photos.truth["kind"].value_counts().iter_rows())
    rows = []
    for tool, done in turns.items():
        totals, ratios = [each.total for each in done], [] if tool == "discern" else ratios_of(turns, tool)
        worked = [each.processor for each in done if each.processor is not None]
        least = "" if all(each.in_time for each in done) else "over "
        rows.append(
            [
                tool if tool == "discern" else f"{tool} {peers.versions(tool)[tool]}",
                f"{least}{measure.spread(totals)}",
                measure.spread(worked, 1) if len(worked) == len(done) else "",
                f"{'under ' if least else ''}{photos.count / statistics.median(totals):,.0f}",
                "1" if tool == "discern" else f"{least}{measure.spread(ratios, 1)}",
                "" if tool == "discern" else f"{CLAIMS[tool]:.0f} ({', '.join(COMPARED[tool])})",
                stages(done),
            ]
        )
    speed = measure.table(
        [
            "tool",
            "seconds",
            "processor seconds",
            "images/s",
            "times as long as discern",
            "claimed, at least",
            "stages",
        ],
        rows,
    )
    edits = list(scores["discern"].edits)
    columns = ["tool", "exact", "near", *edits, "precision", "pairs among the originals"]
    found = measure.table(columns, [judged(tool, each, edits) for tool, each in scores.items()])
    return (
        f"{photos.count:,} JPEG files, {counts['exact_duplicate']:,} byte-identical and {counts['near_duplicate']:,} "
        f"edited copies among them. Rounds: {rounds}; median and range, the ratios round by round.\n\n{speed}\n\n"
        f"Recall of the copies that were put in, near ones also by edit; precision among pairs with such a copy.\n\n"
        f"{found}{cut_off(turns, limit)}"
    )


def ratios_of(turns: dict[str, list[Turn]], tool: str) -> list[float]:
    """How many times as long as Discern for the same work a tool took, round by round."""
    ours = [sum(turn.seconds[stage] for stage in COMPARED[tool]) for turn in turns["discern"]]
    return [theirs.total / seconds for seconds, theirs in zip(ours, turns[tool], strict=True)]


def stages(done: Sequence[Turn]) -> str:
    """Median seconds of each stage."""
    names = list(dict.fromkeys(name for each in done for name in each.seconds))
    medians = {name: statistics.median([each.seconds.get(name, 0.0) for each in done]) for name in names}
    return ", ".join(f"{name} {seconds:.2f}" for name, seconds in medians.items()) if len(names) > 1 else ""


def judged(tool: str, score: Score, edits: Sequence[str]) -> list[str]:
    """A row of the second table."""
    shares = [score.exact, score.near, *(score.edits[edit] for edit in edits), score.precision]
    return [tool, *(f"{share:.3f}" for share in shares), f"{score.originals:,}"]


def cut_off(turns: dict[str, list[Turn]], limit: float) -> str:
    """What it means that a tool did not end."""
    said = ""
    for tool, done in turns.items():
        if all(each.in_time for each in done):
            continue
        said += (
            f"\n\n{tool} had not ended after {limit:,.0f} s, imports and warm-up included, and was cut off: its time "
            "and ratio are lower bounds. "
        )
        if done[-1].pairs is None:
            said += "What it would have found is not known."
        else:
            said += f"Its pairs are those of its hashes within {RADIUS} bits, as its search would have found them."
    return said


if __name__ == "__main__":
    main()
