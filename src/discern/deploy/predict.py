"""Predictor: a Run's model on images, the same numbers for an image whatever stands beside it.

Evaluation and prediction both go through here. Images pass in batches of one fixed shape, the last one filled up
with black, because matrix kernels round differently for different shapes; in float32, because the training
arithmetic is chosen for speed. So `discern predict` repeats an evaluation's probabilities bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import nn

from discern.data.decode import Fit, decode
from discern.data.pixels import Pixels
from discern.data.sources.folder import images_below
from discern.data.streaming import Stream
from discern.errors import UnreadableImage, UsageError
from discern.models import zoo
from discern.models.preprocessing import Preprocessing
from discern.progress import Progress, Silent
from discern.runs.run import Run

BATCH = {"cpu": 16, "cuda": 256}
"""Images at a time: on a CPU few enough that one image alone does not pay for many."""


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A trained network with its preprocessing and class names."""

    model: nn.Module
    """In inference mode, on its device."""
    preprocessing: Preprocessing
    """The record it was trained with."""
    classes: tuple[str, ...]
    """Class names in the order of its outputs."""

    @torch.no_grad()
    def logits(self, images: UInt8[np.ndarray, "image size size 3"]) -> Float[np.ndarray, "image class"]:
        """float32 logits of fitted images."""
        device = next(self.model.parameters()).device
        batch = BATCH.get(device.type, 16)
        result = np.empty((len(images), len(self.classes)), np.float32)
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            full = torch.zeros((batch, *part.shape[1:]), dtype=torch.uint8)
            full[: len(part)] = torch.from_numpy(part)
            output = self.model(self.preprocessing.normalize(full.to(device)))
            result[start : start + len(part)] = output[: len(part)].cpu().numpy()
        return result

    def probabilities(self, images: UInt8[np.ndarray, "image size size 3"]) -> Float[np.ndarray, "image class"]:
        """Softmax of the logits, float32."""
        return softmax(self.logits(images))

    def over(
        self, pixels: Pixels | Stream, index: Int[np.ndarray, " image"], progress: Progress | None = None
    ) -> Float[np.ndarray, "image class"]:
        """Probabilities of the images at `index` of Pixels, a portion at a time."""
        step, parts = 512, [np.empty((0, len(self.classes)), np.float32)]
        with (progress or Silent()).track("Predicting", len(index)) as advance:
            for images in pixels.in_order(index, step):
                parts.append(self.probabilities(images))
                advance(len(parts[-1]), "")
        return np.concatenate(parts)

    def decode(self, path: Path) -> UInt8[np.ndarray, "size size 3"]:
        """Read an image file as this model was taught to see images; UnreadableImage says why it cannot."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
        try:
            fit = cast(Fit, self.preprocessing.fit)
            return decode(data, size=self.preprocessing.size, fit=fit).image
        except UnreadableImage as error:
            raise UnreadableImage(f"{path} cannot be used: {error}.") from error


def softmax(logits: Float[np.ndarray, "image class"]) -> Float[np.ndarray, "image class"]:
    """Row-wise softmax in float32; a row's result does not depend on the other rows."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Float[np.ndarray, "image class"] = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def load_predictor(run: Run, checkpoint: str | None = None, device: torch.device | None = None) -> Predictor:
    """The Run's model, with the checkpoint that validation chose unless another is named."""
    info = run.info
    model = zoo.restore(info["model"], run.checkpoint(checkpoint))
    return Predictor(
        model=model.to(device or best_device()),
        preprocessing=Preprocessing.from_json(info["preprocessing"]),
        classes=tuple(info["classes"]),
    )


def best_device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def image_files(places: Sequence[Path]) -> list[Path]:
    """The files named, and every image file below the folders named; UsageError when one does not exist."""
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise UsageError(f"No such file or folder: {place}; check the path.")
        found += images_below(place) if place.is_dir() else [place]
    if not found:
        raise UsageError(f"No image files in {', '.join(map(str, places))}; name image files or folders with some.")
    return found
