"""Claim: transfer with published weights at least 4 × faster than fastai's `fine_tune` and than a plain PyTorch loop
on a frozen backbone, no less accurate.

    python bench/transfer_peers.py --repeats 3

MobileNetV2 with its real weights on data/tools. Discern's preparation leaves out the copies of test photos and splits
off validation; the peers get its list of files, so that all train on, validate on and are tested on the same photos.
Every round has a seed of its own. Each training is a process, timed from its start to its end, in rotating order:

- discern: `discern train` with an empty cache, both phases, its audit, judging, heat maps and report included;
- fastai: `vision_learner` and `fine_tune`, an epoch of the head and EPOCHS of the whole network;
- frozen: `discern train` with the first phase alone;
- torch: a linear head on the frozen network, photos decoded and varied by two workers in every epoch, until the
  validation loss has not fallen for 5 epochs, EPOCHS at most; the epoch with the lowest one counts. When it was first
  as accurate on validation as frozen is told, too.

fastai is compared with discern, torch with frozen. All weigh classes alike. Ends with an error when Discern is less
accurate on test than a peer, by more than two standard errors of the mean difference of a photo.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import measure
import numpy as np
import peers
import pictures
import polars as pl
from trainings import Turn, by_discern, by_peer

from discern.progress import Silent
from discern.steps.prepare import prepare
from discern.training.phases import TRANSFER
from discern.training.recipe import Recipe

CLAIM = 4.0
"""How many times as long as Discern a peer takes, at least."""

MODEL = "mobilenetv2_100"

EPOCHS = {"fastai": 5, "torch": 20}

AGAINST = {"fastai": "discern", "torch": "frozen"}
"""What each peer is compared with."""

SIDES = ("discern", "fastai", "frozen", "torch")


@dataclass(frozen=True, kw_only=True)
class Photos:
    """What everybody gets."""

    file: Path
    """A line for each photo: image, file, label, split."""
    fingerprint: str
    """Of the Dataset, to see that `discern train` makes the same."""
    counts: dict[str, int]
    """Of images by split."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One training of a side, as far as it counts."""

    seconds: float
    """To its end."""
    processor: float
    """Seconds of all cores together; of the whole process."""
    epochs: int
    """That were trained."""
    right: dict[str, bool]
    """Test photos."""
    alike: float = math.nan
    """Seconds until it was first as accurate on validation as what it is compared with, where that was looked for."""

    @property
    def accuracy(self) -> float:
        """On test."""
        return statistics.mean(self.right.values())


def main() -> None:
    """Measure all sides."""
    parser = argparse.ArgumentParser(description="Speed of transfer learning against fastai and plain PyTorch.")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, each with a seed of its own")
    parser.add_argument("--quick", action="store_true", help="an epoch of each phase, one round, no RESULTS.md")
    asked = parser.parse_args()
    python, setting = peers.python_of("fastai"), measure.setting()
    rounds = 1 if asked.quick else asked.repeats
    done: dict[str, list[Trained]] = {side: [] for side in SIDES}
    with measure.scratch() as folder:
        for round_ in range(rounds):
            photos = listed(folder, seed=round_)
            turns = {}
            for k in range(len(SIDES)):
                side = SIDES[(round_ + k) % len(SIDES)]
                turns[side] = turn(side, python, photos, seed=round_, quick=asked.quick)
                print(f"round {round_ + 1}, {side}: {turns[side].seconds:.1f} s", flush=True)
            for side, trained in counted(turns, photos).items():
                done[side].append(trained)
    measure.publish("Transfer learning against fastai and PyTorch", section(done, photos), setting, quick=asked.quick)
    worse = [peer for peer in AGAINST if lower(*gained(done, peer))]
    if worse:
        sys.exit(f"Discern is less accurate than {' and '.join(worse)}: the speeds do not compare.")


def words() -> tuple[str | Path, ...]:
    """What `discern train` is told besides the photos."""
    weights = pictures.data() / "weights" / f"{MODEL}.imagenet"
    test = pictures.data() / "tools" / "dataset_testing"
    return "--test", test, "--model", MODEL, "--weights", weights, "--leakage", "drop"


def listed(folder: Path, *, seed: int) -> Photos:
    """What Discern makes of data/tools before it trains."""
    recipe = Recipe(leakage="drop", seed=seed)
    dataset = prepare(pictures.tools(), recipe, size=64, progress=Silent()).dataset
    file = folder / f"photos-{seed}.csv"
    names = [dataset.classes[label] for label in dataset.labels]
    files = [str(dataset.root / name) for name in dataset.table["file"]]
    dataset.table.select("image", "split").with_columns(file=pl.Series(files), label=pl.Series(names)).write_csv(file)
    return Photos(file=file, fingerprint=dataset.fingerprint, counts=dataset.split_counts())


def turn(side: str, python: Path, photos: Photos, *, seed: int, quick: bool) -> Turn:
    """Train in one of the ways."""
    weights = pictures.data() / "weights" / f"{MODEL}.imagenet"
    if side in AGAINST:
        interpreter = python if side == "fastai" else Path(sys.executable)
        return by_peer(interpreter, side, photos.file, weights, seed, 1 if quick else EPOCHS[side])
    phases = TRANSFER if side == "discern" else TRANSFER[:1]
    short = {"epochs": 1} if quick else {}
    own = [{**asdict(phase), **short} for phase in phases]
    more = ["--set", f"phases={json.dumps(own)}"] if quick or side == "frozen" else []
    return by_discern(pictures.data() / "tools" / "dataset", *words(), "--seed", str(seed), *more)


def counted(turns: dict[str, Turn], photos: Photos) -> dict[str, Trained]:
    """What counts of a round; leaves when Discern trained on other photos than it listed."""
    found = {}
    for side in ("discern", "frozen"):
        told = turns[side].told
        if told["dataset"] != photos.fingerprint:
            sys.exit(f"`discern train` used other photos than were listed for the peers: {told['info']['dataset']}.")
        found[side] = _trained(turns[side], turns[side].seconds, len(told["metrics"]), told["right"])
    told = turns["fastai"].told
    found["fastai"] = _trained(turns["fastai"], turns["fastai"].seconds, len(told["epochs"]), told["right"])
    chosen = min(turns["frozen"].told["metrics"], key=lambda line: line["val_loss"])
    epochs = turns["torch"].told["epochs"]
    best = min(epochs, key=lambda epoch: epoch["val_loss"])
    found["torch"] = _trained(turns["torch"], epochs[-1]["seconds"], len(epochs), best["right"])
    alike = next((epoch["seconds"] for epoch in epochs if epoch["val"] >= chosen["val_acc"]), math.inf)
    print(f"torch was first as accurate on validation as frozen after {alike:.1f} s", flush=True)
    found["torch"] = replace(found["torch"], alike=alike)
    return found


def _trained(turn: Turn, seconds: float, epochs: int, right: dict[str, bool]) -> Trained:
    return Trained(seconds=seconds, processor=turn.processor, epochs=epochs, right=right)


def gained(done: dict[str, list[Trained]], peer: str) -> tuple[float, float]:
    """Mean of Discern's test accuracy less a peer's, and its standard error over photos; seeds are averaged first."""
    ours, theirs = done[AGAINST[peer]], done[peer]
    names = sorted(ours[0].right)
    each = [[a.right[name] - b.right[name] for name in names] for a, b in zip(ours, theirs, strict=True)]
    gains = np.array(each, float).mean(axis=0)
    return float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(len(gains)))


def lower(gain: float, error: float) -> bool:
    """Whether Discern is less accurate by more than chance."""
    return gain < -2 * error


def section(done: dict[str, list[Trained]], photos: Photos) -> str:
    """Times and accuracies."""
    rows = []
    for side, trained in done.items():
        ratio, gain = "", ""
        if side in AGAINST:
            ours = done[AGAINST[side]]
            times = [peer.seconds / own.seconds for peer, own in zip(trained, ours, strict=True)]
            ratio = f"{measure.spread(times, 1)} as {AGAINST[side]}"
            mean, error = gained(done, side)
            gain = f"{mean:+.3f} ± {2 * error:.3f}"
        name = " ".join(f"{k} {v}" for k, v in peers.versions(side).items()) if side == "fastai" else side
        rows.append(
            [
                name,
                measure.spread([each.seconds for each in trained], 1),
                measure.spread([each.processor for each in trained], 1),
                measure.spread([each.epochs for each in trained], 0),
                ratio,
                measure.spread([each.accuracy for each in trained], 3),
                gain,
            ]
        )
    columns = ["side", "seconds", "processor seconds", "epochs", "times as long", "test accuracy", "Discern gains"]
    return (
        f"MobileNetV2 on data/tools, {photos.counts} in the last round. Whole processes; torch ends when its "
        f"validation loss has not fallen for 5 epochs ({EPOCHS['torch']} at most). It "
        f"was as accurate on validation as frozen after {measure.spread([each.alike for each in done['torch']], 0)} s "
        f"first, which nobody knows beforehand. Rounds, each with its own seed: {len(done['discern'])}; median and "
        f"range, the ratios round by round; the gain in test accuracy with two standard errors. Claimed: {CLAIM:.0f} "
        f"times.\n\n{measure.table(columns, rows)}"
    )


if __name__ == "__main__":
    main()
