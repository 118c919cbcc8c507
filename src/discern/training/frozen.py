"""Frozen work, done once: what a part of a network that does not change gives for images, kept in the cache.

Every image is seen plain, and in some views: varied as training would vary it, the same for every run with the same
augmentation. Rows are known by the weights, the preprocessing, the augmentation and the image's content, so that runs,
sweeps and audits share them, and a few new images cost a few rows.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8, UInt64
from torch import Tensor, nn
from torch.fx import GraphModule

from discern.data.augment import Augmentation, warp_cpu
from discern.data.dataset import Dataset
from discern.data.pixels import Images, Pixels
from discern.data.scan import DECODER_VERSION
from discern.data.streaming import Stream
from discern.files import cache_folder
from discern.models.backbones import Backbone, digest_of
from discern.progress import Progress, Silent
from discern.training.kept import Kept, name_of
from discern.training.runtime import accelerator, forward_arithmetic

PLAIN = Augmentation()

_IMAGES = 64
"""Images whose views are made, and kept, together."""

_TRIAL = 8
"""Images at a time for one core of a CPU: what they need stays in its cache."""

_LARGEST = 65_504.0  # that float16 holds

_SMALLEST = 96
"""Pixels: smaller images are enlarged to this side for an audit, as networks for photos have nothing left of them
otherwise."""

Keys = UInt64[np.ndarray, " b"]
Normalize = Callable[[UInt8[Tensor, "b s s 3"]], Float[Tensor, "b 3 s s"]]


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """A part of a network that does not change."""

    part: nn.Module
    """Normalised images to one tensor, or a tuple of them; in inference mode, on its device."""
    name: str
    """For progress."""
    key: str
    """Tells its weights and where it ends."""
    normalize: Normalize
    """Images to what the part takes."""
    preprocessing: str
    """Tells what `normalize` does."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows that are kept, and which of them are about which image."""

    values: Float[np.ndarray, "row width"]
    """float16, memory-mapped."""
    at: Int[np.ndarray, "image view"]
    """The row of each image in each view."""


@dataclass(frozen=True, kw_only=True)
class Activations:
    """What a frozen part gave for some images, a flat row for each view."""

    plain: Rows
    """One for each image."""
    varied: Rows
    """One for each image and view."""
    shapes: tuple[tuple[int, ...], ...]
    """Of the tensors that a row holds, one after the other."""

    @property
    def views(self) -> int:
        """Of each image, besides the plain one."""
        return int(self.varied.at.shape[1])

    def take(self, images: Int[np.ndarray, " b"], views: Int[np.ndarray, " b"]) -> tuple[Tensor, ...]:
        """The tensors of some images as float32, each image in one view; 0 is the plain one."""
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        flat = np.empty((len(images), sum(sizes)), np.float16)
        plain = views == 0
        flat[plain] = self.plain.values[self.plain.at[images[plain], 0]]
        flat[~plain] = self.varied.values[self.varied.at[images[~plain], views[~plain] - 1]]
        parts = torch.split(torch.from_numpy(flat).float(), sizes, dim=1)
        return tuple(part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True))


def activations(
    dataset: Dataset,
    pixels: Pixels | Stream,
    frozen: Frozen,
    *,
    shapes: Sequence[tuple[int, ...]],
    augmentation: Augmentation = PLAIN,
    views: int = 0,
    varied: Bool[np.ndarray, " image"] | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Activations:
    """What the frozen part gives for every image, and in `views` views for those to be `varied` (unless given, all).

    What is not kept is computed.
    """
    folder = (cache or cache_folder()) / "features"
    every = np.ones(len(dataset), bool)
    width = sum(int(np.prod(shape)) for shape in shapes)
    job = _Job(
        dataset=dataset, pixels=pixels, frozen=frozen, width=width, folder=folder, progress=progress or Silent()
    )
    return Activations(
        plain=job.rows(PLAIN, range(1), every),
        varied=job.rows(augmentation, range(1, views + 1), every if varied is None else varied),
        shapes=tuple(shapes),
    )


def has_room(shapes: Sequence[tuple[int, ...]], count: int, *, cache: Path | None = None) -> bool:
    """Whether the disk of the cache would stay half free with so many rows of these shapes on it."""
    folder = cache or cache_folder()
    free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free
    return 2 * count * sum(int(np.prod(shape)) for shape in shapes) < free / 2


def features(
    dataset: Dataset,
    pixels: Pixels | Stream,
    backbone: Backbone,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Float[np.ndarray, "image feature"]:
    """One row for each image under a whole backbone, float16; computed in bfloat16 and cached."""
    side = backbone.size if backbone.fixed_size else max(pixels.size, _SMALLEST)

    def normalize(images: UInt8[Tensor, "b s s 3"]) -> Float[Tensor, "b 3 s s"]:
        found = backbone.normalize(images)
        if found.shape[-1] != side:
            found = nn.functional.interpolate(found, (side, side), mode="bilinear", antialias=True)
        return found

    frozen = Frozen(
        part=backbone.network,
        name=backbone.name,
        key=f"{backbone.name}|{backbone.weights}",
        normalize=normalize,
        preprocessing=f"{backbone.mean}|{backbone.std}|{side}",
    )
    found = activations(dataset, pixels, frozen, shapes=[(backbone.width,)], cache=cache, progress=progress).plain
    rows: Float[np.ndarray, "image feature"] = found.values[found.at[:, 0]]
    return rows


def key_of(part: GraphModule) -> str:
    """Tells a part's weights and what it does with them, layers without weights (a pool) included."""
    does = hashlib.blake2b(f"{part!r}|{part.code}".encode(), digest_size=12).hexdigest()
    return f"{digest_of(part)}|{does}"


_Forward = Callable[[Images, Augmentation, range, Keys], list[Any]]


@dataclass(frozen=True, kw_only=True)
class _Job:
    """Rows to be found for a Dataset."""

    dataset: Dataset
    pixels: Pixels | Stream
    frozen: Frozen
    width: int
    folder: Path
    progress: Progress

    def rows(self, augmentation: Augmentation, views: range, wanted: Bool[np.ndarray, " image"]) -> Rows:
        """Of the wanted images in these views, computed where they are not kept; -1 for the others."""
        kept = Kept(folder=self._place(augmentation), width=self.width)
        at = np.full((len(self.dataset), len(views)), -1, np.int64)
        digests = self.dataset.table["digest"].gather(np.flatnonzero(wanted))
        names = [name_of(digest, view) for digest in digests for view in views]
        if names and (kept.places(names) < 0).any():
            with kept.adding() as adding:
                missing = (kept.places(names) < 0).reshape(-1, len(views)).any(axis=1)
                self._compute(np.flatnonzero(wanted)[missing], augmentation, views, adding.add)
        at[wanted] = kept.places(names).reshape(int(wanted.sum()), len(views))
        return Rows(values=kept.values(), at=at)

    def _place(self, augmentation: Augmentation) -> Path:
        pixels, frozen = self.pixels, self.frozen
        way = [DECODER_VERSION, pixels.size, pixels.fit, frozen.key, frozen.preprocessing]
        text = json.dumps([*way, asdict(augmentation)])
        return self.folder / hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    def _compute(
        self,
        images: Int[np.ndarray, " image"],
        augmentation: Augmentation,
        views: range,
        keep: Callable[[Sequence[str], Float[np.ndarray, "row width"]], None],
    ) -> None:
        """All views of the images at these rows, a few images at a time, each image once."""
        digests, keys = self.dataset.table["digest"], self.dataset.keys
        images = np.sort(images[np.unique(digests.gather(images).to_numpy(), return_index=True)[1]])
        index = self.dataset.index[images]
        label = f"Features of {self.frozen.name}"
        total = len(images) * len(views)
        with self.progress.track(label, total) as advance, self._forward(index) as forward:
            for start, some in enumerate(self.pixels.in_order(index, _IMAGES)):
                rows = images[start * _IMAGES : start * _IMAGES + len(some)]
                names = digests.gather(rows).to_list()
                for view, found in zip(views, forward(some, augmentation, views, keys[rows]), strict=True):
                    keep([name_of(digest, view) for digest in names], found)
                    advance(len(rows), "")

    @contextmanager
    def _forward(self, index: Int[np.ndarray, " image"]) -> Iterator[_Forward]:
        """The part on some images in several views.

        On a CPU every core works on a few images of its own, which is quicker than all of them on many together.
        """
        device = accelerator().device
        part = self.frozen.part.to(device).to(memory_format=torch.channels_last)
        trial = next(self.pixels.in_order(index[:_TRIAL], _TRIAL))
        arithmetic = forward_arithmetic(part, self.frozen.normalize(torch.from_numpy(trial).to(device)))

        @torch.inference_mode()
        def one(images: Images) -> Float[np.ndarray, "b width"]:
            with arithmetic.autocast(device):
                inputs = self.frozen.normalize(torch.from_numpy(images).to(device))
                found = part(inputs.contiguous(memory_format=torch.channels_last))
            tensors = (found,) if isinstance(found, Tensor) else found
            flat = torch.cat([each.float().flatten(1) for each in tensors], dim=1)
            return flat.clamp_(-_LARGEST, _LARGEST).cpu().numpy().astype(np.float16)

        threads, workers = torch.get_num_threads(), 1 if device.type == "cuda" else torch.get_num_threads()
        together = _IMAGES if device.type == "cuda" else _TRIAL
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:

            def forward(images: Images, augmentation: Augmentation, views: range, keys: Keys) -> list[Any]:
                starts = range(0, len(images), together)
                jobs = [(view, slice(start, start + together)) for view in views for start in starts]
                parts = pool.map(lambda job: one(_varied(images[job[1]], augmentation, job[0], keys[job[1]])), jobs)
                each = list(parts)
                return [np.concatenate(each[at : at + len(starts)]) for at in range(0, len(each), len(starts))]

            try:
                yield forward
            finally:
                torch.set_num_threads(threads)


def _varied(images: Images, augmentation: Augmentation, view: int, keys: Keys) -> Images:
    """The images in a view: drawn by its number and the images' content, by no run's seed."""
    if not augmentation or view == 0:
        return images
    return warp_cpu(images, augmentation.affine(seed=0, epoch=view, keys=keys, size=images.shape[1]))
