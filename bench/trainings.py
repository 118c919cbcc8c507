"""Trainings from the start of a process to its end: Discern's command, and the peers'."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure

from discern.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One training."""

    seconds: float
    """Of the process: imports, reading, training, judging."""
    processor: float
    """Seconds of all cores together, of its own processes too."""
    peak: int
    """Most bytes of memory it held at once, its own processes left out."""
    told: dict[str, Any]
    """What the side says of it."""


def by_discern(photos: Path, *words: str | Path, cache: Path | None = None) -> Turn:
    """`discern train`, on an empty cache unless given; it tells the run's metrics by epoch, its summary and when the
    last weights were there.
    """
    with measure.scratch() as own:
        command = [Path(sys.executable).parent / "discern", "train", photos, *words, "--runs", own, "--name", "run"]
        began = time.time()
        turn = _timed(command, DISCERN_CACHE=cache or own / "cache")
        run = Run(own / "run")
        trained = run.checkpoint("last").stat().st_mtime - began
        predictions = run.predictions
        names, right = predictions.images, predictions.probabilities.argmax(axis=1) == predictions.labels
        test = {
            name: bool(hit) for name, hit, of in zip(names, right, predictions.splits, strict=True) if of == "test"
        }
        told = {"info": run.info, "metrics": run.metrics, "dataset": run.dataset.fingerprint, "right": test}
        told["trained"] = trained
        return Turn(**{**vars(turn), "told": told})


def by_peer(python: Path, tool: str, *words: object) -> Turn:
    """The side of a tool; the last thing it is given is where it writes its answer."""
    with measure.scratch() as own:
        answer = own / "answer.json"
        turn = _timed([python, measure.HERE / "sides" / f"with_{tool}.py", *map(str, words), answer])
        return Turn(**{**vars(turn), "told": json.loads(answer.read_text())})


def _timed(command: Sequence[str | Path], **environment: str | Path) -> Turn:
    worked = sum(os.times()[2:4])
    ended = measure.run(command, **environment)
    return Turn(seconds=ended.seconds, processor=sum(os.times()[2:4]) - worked, peak=ended.peak, told={})


def ratios(theirs: Sequence[Turn], ours: Sequence[Turn]) -> list[float]:
    """How many times as long as Discern a peer took, round by round."""
    return [peer.seconds / discern.seconds for peer, discern in zip(theirs, ours, strict=True)]
