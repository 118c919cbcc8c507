"""Claim: from scratch to 72 % of CIFAR-10's test images (JPEG) at least 15 × faster than reference system A's own loop
gets to its best; and how long fastai, Ultralytics, Keras and Lightning take to the same accuracy on their usual paths.

    python bench/cifar_peers.py
    python bench/cifar_peers.py --sides discern system_a

All have the same files: Discern's split of the training images, 5 % for validation; the test images are looked at
after every epoch, off the clock, and choose nothing. Each side is a process, timed from its start, imports and reading
included. A peer ends with the first epoch that names GOAL of the validation images (the test accuracy of that epoch
stands beside), or after LIMIT epochs; system A trains its 25 epochs, and the one that is best on validation counts.

- discern: `discern train` with COMMAND, to its last weights: scan, audit for leaks and training are in that, judging
  and the report are in "all"; with an empty cache and with what that left.
- system_a: images in memory, PIL transforms, DataLoader of two workers, Adam, its regularised net.
- lightning: ImageFolder and the same; keras: image_dataset_from_directory, cached, augmentation in the network, the
  same net; fastai: ImageDataLoaders, ResNet-18, fit_one_cycle; ultralytics: yolo11n-cls.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import measure
import peers
import pictures
from trainings import Turn, by_discern, by_peer

from discern.data.dataset import Dataset
from discern.progress import Silent
from discern.steps.prepare import prepare
from discern.training.recipe import load_recipe

CLAIM, GOAL = 15.0, 0.72

COMMAND = ("--recipe", "fast", "--epochs", "1", "--set", "network.widths=[32,96,192]", "--set", "warmup_epochs=0.2")

GATE = ("--leakage", "allow", "--because", "the published split")

LIMIT = {"system_a": 25, "lightning": 25, "keras_scratch": 25, "fastai_scratch": 10, "ultralytics": 40}
"""Epochs at most; fastai's schedule is laid out over them."""

PYTHONS = {
    "lightning": "lightning",
    "keras_scratch": "keras",
    "fastai_scratch": "fastai",
    "ultralytics": "ultralytics",
}
"""The environment of each peer."""

SIDES = ("discern", *LIMIT)


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What a side came to."""

    seconds: float
    """To the weights that count."""
    test: float
    """Their accuracy on test."""
    val: float
    """And on validation."""
    epochs: int
    """Until then."""
    note: str
    """What else is to be said."""


def main() -> None:
    """Measure the sides."""
    parser = argparse.ArgumentParser(description="From scratch on CIFAR-10: time to 72 % against system A and others.")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--repeats", type=int, default=3, help="rounds of discern, each with a seed of its own")
    parser.add_argument("--quick", action="store_true", help="2,000 images, one epoch, no RESULTS.md")
    asked = parser.parse_args()
    for side in asked.sides:
        if side in PYTHONS:
            peers.python_of(PYTHONS[side])
    setting = measure.setting()
    found: dict[str, list[Reached]] = {}
    with measure.scratch() as folder:
        dataset = split_of(2_000 if asked.quick else None)
        pictures.written(dataset, folder / "photos")
        for side in asked.sides:
            for seed in range(asked.repeats if side == "discern" and not asked.quick else 1):
                for name, reached in turn(side, folder, seed, quick=asked.quick).items():
                    found.setdefault(name, []).append(reached)
                    print(f"{name}: {reached}", flush=True)
    measure.publish("From scratch on CIFAR-10 to 72 %", section(found), setting, quick=asked.quick)


def split_of(few: int | None) -> Dataset:
    """CIFAR-10 as `discern train --recipe fast` splits it."""
    dataset = pictures.cifar()
    recipe = load_recipe("fast").with_changes({"leakage": "allow", "because": "the published split"})
    return prepare(pictures.some(dataset, few) if few else dataset, recipe, size=32, progress=Silent()).dataset


def turn(side: str, folder: Path, seed: int, *, quick: bool) -> dict[str, Reached]:
    """Train with one of them."""
    if side == "discern":
        photos, cache = folder / "photos" if quick else pictures.data() / "cifar10", folder / f"cache-{seed}"
        words = [*COMMAND, *GATE, "--seed", str(seed)]
        turns = {f"discern, {what}": by_discern(photos, *words, cache=cache) for what in ("cold", "warm")}
        return {name: by_us(turn) for name, turn in turns.items()}
    python = peers.python_of(PYTHONS[side]) if side in PYTHONS else Path(sys.executable)
    epochs, goal = 1 if quick else LIMIT[side], 0.0 if side == "system_a" else GOAL
    return {side: by_them(side, by_peer(python, side, folder / "photos", seed, epochs, goal))}


def by_us(turn: Turn) -> Reached:
    """Discern's last weights."""
    lines = turn.told["metrics"]
    return Reached(
        seconds=turn.told["trained"],
        test=statistics.mean(turn.told["right"].values()),
        val=lines[-1]["val_acc"],
        epochs=len(lines),
        note=f"all {turn.seconds:.0f} s, training alone {lines[-1]['seconds']:.0f} s",
    )


def by_them(side: str, turn: Turn) -> Reached:
    """A peer's first epoch at the goal, or its best."""
    epochs = turn.told["epochs"]
    best = max(range(len(epochs)), key=lambda at: epochs[at]["val"])
    first = next((at for at, epoch in enumerate(epochs) if epoch["val"] >= GOAL), best)
    counted = best if side == "system_a" else first
    note = f"best of {len(epochs)} epochs" if side == "system_a" else ""
    if side != "system_a" and epochs[counted]["val"] < GOAL:
        note = f"not reached in {len(epochs)} epochs; its best"
    if side == "system_a" and epochs[first]["val"] >= GOAL:
        note += f"; at {GOAL:.0%} of validation after {epochs[first]['seconds']:.0f} s"
    return Reached(**epochs[counted], epochs=counted + 1, note=note)


def section(found: dict[str, list[Reached]]) -> str:
    """A row for each side."""
    rows = []
    cold, warm = ([each.seconds for each in found.get(f"discern, {what}", [])] for what in ("cold", "warm"))
    for name, reached in found.items():
        seconds = [each.seconds for each in reached]
        peer, theirs = PYTHONS.get(name), not name.startswith("discern")
        label = f"{name} {peers.versions(peer)[main_package(peer)]}" if peer else name
        rows.append(
            [
                label.replace("_scratch", ""),
                measure.spread(seconds, 0),
                measure.spread([each.epochs for each in reached], 0),
                measure.spread([each.val for each in reached], 3),
                measure.spread([each.test for each in reached], 3),
                times(seconds, cold) if theirs else "",
                times(seconds, warm) if theirs else "",
                reached[0].note,
            ]
        )
    columns = ["side", "seconds", "epochs", "validation", "test", "times discern, cold", "times discern, warm", ""]
    return (
        f"`discern train CIFAR10 {' '.join(COMMAND)}`, n = {len(cold)} seeds, cold and warm; the others once. Seconds "
        f"from the start of the process to the weights that count. Claimed: system A's best takes at least "
        f"{CLAIM:.0f} times as long as Discern to {GOAL:.0%} of the test images.\n\n{measure.table(columns, rows)}"
    )


def times(theirs: list[float], ours: list[float]) -> str:
    """How many times as long."""
    return f"{statistics.median(theirs) / statistics.median(ours):.1f}" if ours else ""


def main_package(peer: str) -> str:
    """The tool itself."""
    return peers.PEERS[peer][0].partition("==")[0]


if __name__ == "__main__":
    main()
