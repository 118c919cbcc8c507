"""Explain: heat maps of a Run's model, on chosen images or on a telling few of its test images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from discern.data.decode import Fit
from discern.data.scan import load_images
from discern.deploy.predict import Predictor, image_files, load_predictor
from discern.errors import UsageError
from discern.explanation.cam import grad_cam
from discern.explanation.panels import panel
from discern.files import write_json, writing
from discern.models.network import Network
from discern.progress import Logged, Progress
from discern.runs.predictions import Predictions
from discern.runs.run import Run, open_run

_PORTION = 32  # images explained together: their maps and gradients must fit in memory

RIGHT, WRONG = 6, 6
"""How many right and wrong test images a Run's own explanations show."""


def explain(
    run: Run | str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]] | None = None,
    *,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Write a panel (photo, heat map, overlay) per image into the Run's explanations/, and say what each shows.

    Without `images`, the most confident right test images of each class in turn and the most confident wrong ones.
    Each record has path, file, image, label (None when unknown), prediction, confidence.
    """
    run, progress = run if isinstance(run, Run) else open_run(run), progress or Logged()
    predictor = load_predictor(run)
    if not _has_map(predictor):
        raise UsageError(f"{run.model} has no last map of places, so there is nothing to draw heat maps from.")
    folder = run.path / "explanations"
    if images is None:
        records, squares = _telling(run, predictor)
    else:
        files = image_files([Path(image) for image in images])
        squares = np.stack([predictor.decode(file) for file in files])
        records, folder = [{"image": str(file), "label": None} for file in files], folder / "chosen"
    with progress.track("Explaining", len(records)) as advance:
        for start in range(0, len(records), _PORTION):
            part = records[start : start + _PORTION]
            said = _explained(predictor, squares[start : start + _PORTION], folder, start)
            for record, says in zip(part, said, strict=True):
                record |= says
            advance(len(part), "")
    write_json(folder / "explanations.json", records)
    return [{"path": str(folder / record["file"]), **record} for record in records]


def mapped(run: Run) -> bool:
    """Whether the Run's network has a last map of places, without which there are no heat maps."""
    return _has_map(load_predictor(run))


@torch.no_grad()
def _has_map(predictor: Predictor) -> bool:
    network, size = cast(Network, predictor.model), predictor.preprocessing.size
    device = next(network.parameters()).device
    try:
        maps = network.as_map(network.forward_features(torch.zeros(1, 3, size, size, device=device)))
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):  # lists, or tokens of another order
        return False
    return isinstance(maps, Tensor) and maps.dim() == 4 and min(maps.shape[2:]) > 1


def _telling(run: Run, predictor: Predictor) -> tuple[list[dict[str, Any]], UInt8[np.ndarray, "image s s 3"]]:
    predictions = run.predictions.split("test")
    rows = telling_rows(predictions)
    names = [predictions.images[row] for row in rows]
    positions = {name: i for i, name in enumerate(names)}
    subset = run.dataset.filter(pl.col("image").is_in(names))
    squares = load_images(subset, size=predictor.preprocessing.size, fit=cast(Fit, predictor.preprocessing.fit))
    order = np.argsort([positions[name] for name in subset.images])
    records = [
        {"image": name, "label": predictions.classes[predictions.labels[row]]}
        for name, row in zip(names, rows, strict=True)
    ]
    return records, squares[order]


def telling_rows(predictions: Predictions) -> list[int]:
    """Rows of the most confident right images, class by class in turn, then of the most confident wrong ones."""
    by_confidence = np.argsort(-predictions.confidence, kind="stable")
    right = predictions.predicted[by_confidence] == predictions.labels[by_confidence]
    right_rows, wrong_rows = by_confidence[right], by_confidence[~right]
    labels = predictions.labels[right_rows]
    turn = np.array([int((labels[:i] == label).sum()) for i, label in enumerate(labels[:5000])], dtype=int)
    first = right_rows[: len(turn)][np.argsort(turn, kind="stable")]
    return [int(row) for row in (*first[:RIGHT], *wrong_rows[:WRONG])]


def _explained(
    predictor: Predictor, squares: UInt8[np.ndarray, "image s s 3"], folder: Path, first: int
) -> list[dict[str, Any]]:
    """Write a panel for each image, numbered from `first`; what the model says of them."""
    probabilities = predictor.probabilities(squares)
    winners = probabilities.argmax(axis=1)
    device = next(predictor.model.parameters()).device
    inputs = predictor.preprocessing.normalize(torch.from_numpy(squares).to(device))
    heats = grad_cam(predictor.model, inputs, torch.from_numpy(winners).to(device)).cpu().numpy()
    said = []
    for number, (square, heat, winner) in enumerate(zip(squares, heats, winners, strict=True), start=first):
        file = folder / f"{number:02d}.png"
        with writing(file) as temporary:
            Image.fromarray(panel(square, heat)).save(temporary, format="PNG")
        confidence = float(probabilities[number - first, winner])
        said.append({"file": file.name, "prediction": predictor.classes[winner], "confidence": confidence})
    return said
