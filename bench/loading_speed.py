"""Claim: from files to normalised batches of varied photos at 224 pixels at least 5 × torchvision's images/s from the
second epoch on, and 2 × in the first.

    python bench/loading_speed.py --repeats 5

data/tools/dataset, letterboxed, mirrored, shifted, rotated and zoomed per photo, nothing trained. Discern's first
epoch has the scan in it, with an empty cache; torchvision's the start of its two workers (ImageFolder, transforms on
PIL images). Imports are done before the clock starts, files are in the system's cache; a process each, taking turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import measure
import pictures

FIRST, LATER = 2.0, 5.0
"""How many times as many images/s as torchvision, at least."""

SIDES = ("discern", "torchvision")


def main() -> None:
    """Measure both sides."""
    parser = argparse.ArgumentParser(description="Loading alone against torchvision's ImageFolder.")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="one round of two epochs, no RESULTS.md")
    asked = parser.parse_args()
    rounds, epochs = (1, 2) if asked.quick else (asked.repeats, asked.epochs)
    photos, setting = pictures.data() / "tools" / "dataset", measure.setting()
    done: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    turn("torchvision", photos, 1)  # so that the files are in the system's cache
    for round_ in range(rounds):
        for side in (SIDES, SIDES[::-1])[round_ % 2]:
            done[side].append(turn(side, photos, epochs))
            print(f"round {round_ + 1}, {side}: {done[side][-1]}", flush=True)
    measure.publish("Loading alone against torchvision", section(done, epochs), setting, quick=asked.quick)
    means = [statistics.median(each["mean"] for each in turns) for turns in done.values()]
    if abs(means[0] - means[1]) > 0.2 or len({each["images"] for turns in done.values() for each in turns}) > 1:
        sys.exit(f"The sides did not load the same: {done}")


def turn(side: str, photos: Path, epochs: int) -> dict[str, Any]:
    """A process that loads, and the most memory it held."""
    with measure.scratch() as own:
        command = [sys.executable, measure.HERE / "sides" / f"load_{side}.py", photos, str(epochs), own / "answer"]
        ended = measure.run(command, DISCERN_CACHE=own / "cache")
        return {**json.loads((own / "answer").read_text()), "own": ended.own}


def section(done: dict[str, list[dict[str, Any]]], epochs: int) -> str:
    """A row for each side."""
    speeds = {
        side: [[each["images"] / seconds for seconds in each["seconds"]] for each in turns]
        for side, turns in done.items()
    }
    ours, rows = speeds["discern"], []
    for side, theirs in speeds.items():
        first = [of[0] for of in theirs]
        later = [statistics.median(of[1:]) for of in theirs]
        times = (
            [our[0] / their for our, their in zip(ours, first, strict=True)],
            [statistics.median(our[1:]) / their for our, their in zip(ours, later, strict=True)],
        )
        told = ("", "") if side == "discern" else tuple(measure.spread(each, 1) for each in times)
        memory = [each["own"] / 1e9 for each in done[side]]
        rows.append([side, measure.spread(first, 0), measure.spread(later, 0), *told, measure.spread(memory, 2)])
    columns = ["side", "images/s, first epoch", "later", "Discern's ÷ its, first", "later", "GB of its own"]
    return (
        f"{done['discern'][0]['images']:,} photos at 224 pixels, {epochs} epochs; rounds: {len(ours)}, median and "
        f"range, the ratios round by round (memory without that of workers). Claimed: {FIRST:.0f} times in the first "
        f"epoch, {LATER:.0f} times from then on.\n\n{measure.table(columns, rows)}"
    )


if __name__ == "__main__":
    main()
