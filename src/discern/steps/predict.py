"""Predict: what a Run says about image files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from discern.deploy.predict import image_files, load_predictor
from discern.errors import DataError, UnreadableImage
from discern.progress import Logged, Progress
from discern.runs.predictions import Predictions
from discern.runs.run import Run, open_run

_PORTION = 256  # images decoded before they are predicted, so that any number needs little memory


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Predictions of the images that could be read, and the reasons for the others."""

    predictions: Predictions
    """Labels are -1: the truth is not known."""
    unreadable: dict[str, str]
    """Why each image that is not among the predictions could not be used, by its path."""


def predict(
    run: Run | str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]],
    *,
    progress: Progress | None = None,
) -> Answers:
    """Class probabilities of image files, and of all images below folders.

    Raises DataError when not one of them can be read.
    """
    run, progress = run if isinstance(run, Run) else open_run(run), progress or Logged()
    if run.info["status"] != "finished":
        progress.say(f"warning: {run} is unfinished: this is its best checkpoint so far.")
    files = image_files([Path(image) for image in images])
    predictor = load_predictor(run)
    names: list[str] = []
    parts = [np.empty((0, len(predictor.classes)), np.float32)]
    unreadable: dict[str, str] = {}
    with progress.track("Predicting", len(files)) as advance:
        for start in range(0, len(files), _PORTION):
            squares = []
            for file in files[start : start + _PORTION]:
                try:
                    squares.append(predictor.decode(file))
                    names.append(str(file))
                except UnreadableImage as error:
                    unreadable[str(file)] = str(error)
            if squares:
                parts.append(predictor.probabilities(np.stack(squares)))
            advance(len(files[start : start + _PORTION]), "")
    if not names:
        others = f" (nor can any of the {len(files) - 1} others)" if len(files) > 1 else ""
        raise DataError(f"{next(iter(unreadable.values())).removesuffix('.')}{others}; name images that open.")
    for problem in unreadable.values():
        progress.say(f"warning: {problem}")
    predictions = Predictions(
        images=tuple(names),
        splits=("new",) * len(names),
        labels=np.full(len(names), -1),
        probabilities=np.concatenate(parts),
        classes=predictor.classes,
    )
    return Answers(predictions=predictions, unreadable=unreadable)
