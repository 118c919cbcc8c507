"""Frozen work, done once: the features of images under a network that does not change, kept in the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from discern.data.batches import plain_batches
from discern.data.dataset import Dataset
from discern.data.pixels import Pixels
from discern.data.scan import DECODER_VERSION
from discern.data.streaming import Stream
from discern.files import cache_folder, writing
from discern.models.backbones import Backbone
from discern.progress import Progress, Silent
from discern.training.runtime import accelerator

_BATCH = 32

_SMALLEST = 96
"""Pixels: smaller images are enlarged to this side, as networks for photos have nothing left of them otherwise."""


def features(
    dataset: Dataset,
    pixels: Pixels | Stream,
    backbone: Backbone,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Float[np.ndarray, "image feature"]:
    """One row for each image, float16, memory-mapped; computed in bfloat16 and cached.

    What is cached is known by the weights, the images' content, and how they were made square.
    """
    side = backbone.size if backbone.fixed_size else max(pixels.size, _SMALLEST)
    means = f"{DECODER_VERSION}|{backbone.name}|{backbone.weights}|{pixels.size}|{pixels.fit}|{side}|"
    key = hashlib.blake2b(means.encode(), digest_size=12)
    key.update("".join(digest or "-" for digest in dataset.table["digest"]).encode())
    path = (cache or cache_folder()) / "features" / f"{key.hexdigest()}.npy"
    if not path.exists():
        found = _computed(dataset, pixels, backbone, side, progress or Silent())
        with writing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, found)
    kept: Float[np.ndarray, "image feature"] = np.load(path, mmap_mode="r")
    return kept


@torch.inference_mode()
def _computed(
    dataset: Dataset, pixels: Pixels | Stream, backbone: Backbone, side: int, progress: Progress
) -> Float[np.ndarray, "image feature"]:
    device = accelerator().device
    network = backbone.network.to(device).to(memory_format=torch.channels_last)
    found = []
    with progress.track(f"Features of {backbone.name}", len(dataset)) as advance:
        for batch in plain_batches(pixels, dataset.index, batch_size=_BATCH):
            images = backbone.normalize(batch.to(device))
            if images.shape[-1] != side:
                images = torch.nn.functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
            with torch.autocast(device.type, torch.bfloat16):
                rows = network(images.contiguous(memory_format=torch.channels_last))
            found.append(rows.float().cpu().numpy().astype(np.float16))
            advance(len(batch), "")
    return np.concatenate(found)
