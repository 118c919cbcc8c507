"""Frozen work, done once: what a part of a network that does not change gives for images, kept in the cache.

Every image is seen plain, and in some views: varied as training would vary it, the same for every run with the same
augmentation. Rows are known by the weights, the preprocessing, the augmentation and the image's content, so that runs,
sweeps and audits share them, and a few new images cost a few rows.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8, UInt64
from torch import Tensor, nn
from torch.fx import GraphModule

from discern.data.augment import Augmentation
from discern.data.dataset import Dataset
from discern.data.pixels import Images, Pixels
from discern.data.scan import DECODER_VERSION
from discern.data.streaming import Stream
from discern.files import cache_folder, read_json, write_json
from discern.models.backbones import Backbone, digest_of
from discern.progress import Progress, Silent
from discern.training.kept import Kept, name_of
from discern.training.runtime import Arithmetic, accelerator, forward_arithmetic

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
class Tap:
    """A place of a network where activations are kept."""

    key: str
    """Tells the weights before it and where it is."""
    shapes: tuple[tuple[int, ...], ...]
    """Of the tensors there, for one image."""

    @property
    def width(self) -> int:
        """Numbers for one image."""
        return sum(math.prod(shape) for shape in self.shapes)


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """A part of a network that does not change."""

    part: nn.Module
    """Normalised images to a tuple of tensors for each tap; in inference mode."""
    taps: tuple[Tap, ...]
    """What is kept of it."""
    name: str
    """For progress."""
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
        sizes = [math.prod(shape) for shape in self.shapes]
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
    augmentation: Augmentation = PLAIN,
    views: int = 0,
    varied: Bool[np.ndarray, " image"] | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Activations:
    """What the first tap gives for every image, and in `views` views for those to be `varied` (unless given, all).

    What is not kept is computed, and what the other taps give is kept along with it.
    """
    folder = (cache or cache_folder()) / "features"
    every = np.ones(len(dataset), bool)
    job = _Job(
        dataset=dataset,
        pixels=pixels,
        frozen=frozen,
        folder=folder,
        arithmetic=_quickest(dataset, pixels, frozen, folder),
        progress=progress or Silent(),
    )
    return Activations(
        plain=job.rows(PLAIN, range(1), every),
        varied=job.rows(augmentation, range(1, views + 1), every if varied is None else varied),
        shapes=frozen.taps[0].shapes,
    )


def has_room(width: int, count: int, *, cache: Path | None = None) -> bool:
    """Whether so many rows of this width would take less than half of what is free on the disk of the cache."""
    folder = cache or cache_folder()
    free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free
    return 2 * count * width < free / 2


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
        part=_OneTap(backbone.network),
        taps=(Tap(key=f"{backbone.name}|{backbone.weights}", shapes=((backbone.width,),)),),
        name=backbone.name,
        normalize=normalize,
        preprocessing=f"{backbone.mean}|{backbone.std}|{side}",
    )
    found = activations(dataset, pixels, frozen, cache=cache, progress=progress).plain
    rows: Float[np.ndarray, "image feature"] = found.values[found.at[:, 0]]
    return rows


def key_of(part: GraphModule) -> str:
    """Tells a part's weights and what it does with them, layers without weights (a pool) included."""
    does = hashlib.blake2b(f"{part!r}|{part.code}".encode(), digest_size=12).hexdigest()
    return f"{digest_of(part)}|{does}"


class _OneTap(nn.Module):
    """A network that gives one tensor, as a part with one tap."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[tuple[Tensor]]:
        return ((self.network(images),),)


_Forward = Callable[
    [Images, Keys, Bool[np.ndarray, "b view"]],
    Iterator[tuple[int, Int[np.ndarray, " some"], list[Float[np.ndarray, "some width"]]]],
]
"""Images, their keys, and which of them are wanted in which views, to a few of them in one view and their rows."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    """Rows to be found for a Dataset."""

    dataset: Dataset
    pixels: Pixels | Stream
    frozen: Frozen
    folder: Path
    arithmetic: Arithmetic
    progress: Progress

    def rows(self, augmentation: Augmentation, views: range, wanted: Bool[np.ndarray, " image"]) -> Rows:
        """Of the first tap, for the wanted images in these views, computed where not kept; -1 for the others."""
        taps = [Kept(folder=self._place(augmentation, tap), width=tap.width) for tap in self.frozen.taps]
        images, digests = np.flatnonzero(wanted), self.dataset.table["digest"]
        names = [name_of(digest, view) for digest in digests.gather(images) for view in views]
        if names and (taps[0].places(names) < 0).any():
            with ExitStack() as alone:
                order = sorted(range(len(taps)), key=lambda number: taps[number].folder)  # one among all processes
                adding = {number: alone.enter_context(taps[number].adding()) for number in order}
                missing = [(tap.places(names) < 0).reshape(-1, len(views)) for tap in taps]
                for rows, view, found in self._computed(images, augmentation, views, missing[0]):
                    for number in order:
                        lacking = missing[number][rows, view]
                        of = [name_of(digest, views[view]) for digest in digests.gather(images[rows[lacking]])]
                        adding[number].add(of, found[number][lacking])
        at = np.full((len(self.dataset), len(views)), -1, np.int64)
        at[images] = taps[0].places(names).reshape(len(images), len(views))
        return Rows(values=taps[0].values(), at=at)

    def _place(self, augmentation: Augmentation, tap: Tap) -> Path:
        pixels, frozen = self.pixels, self.frozen
        way = [DECODER_VERSION, pixels.size, pixels.fit, tap.key, frozen.preprocessing, self.arithmetic.precision]
        text = json.dumps([*way, asdict(augmentation)])
        return self.folder / hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    def _computed(
        self,
        images: Int[np.ndarray, " image"],
        augmentation: Augmentation,
        views: range,
        wanted: Bool[np.ndarray, "image view"],
    ) -> Iterator[tuple[Int[np.ndarray, " some"], int, list[Float[np.ndarray, "some width"]]]]:
        """Of the images at these rows: places among them, the place of a view, and what each tap gives.

        Every content is computed once, and every image is read once.
        """
        digests = self.dataset.table["digest"].gather(images).to_numpy()
        once = np.sort(np.unique(digests, return_index=True)[1])
        once = once[wanted[once].any(axis=1)]
        index, keys = self.dataset.index[images[once]], self.dataset.keys[images[once]]
        label, total = f"Features of {self.frozen.name}", int(wanted[once].sum())
        with self.progress.track(label, total) as advance, self._forward(index, augmentation, views) as forward:
            for start, some in enumerate(self.pixels.in_order(index, _IMAGES)):
                portion = slice(start * _IMAGES, start * _IMAGES + len(some))
                for view, few, found in forward(some, keys[portion], wanted[once[portion]]):
                    yield once[portion][few], view, found
                    advance(len(few), "")

    @contextmanager
    def _forward(
        self, index: Int[np.ndarray, " image"], augmentation: Augmentation, views: range
    ) -> Iterator[_Forward]:
        """The part on some images in several views.

        On a CPU every core works on a few images of its own, which is quicker than all of them on many together.
        """
        device = accelerator().device
        part = self.frozen.part.to(device).to(memory_format=torch.channels_last)

        @torch.inference_mode()
        def rows(images: Images, keys: Keys, view: int) -> list[Float[np.ndarray, "b width"]]:
            varied = _varied(images, augmentation, view, keys, device)
            with self.arithmetic.autocast(device):
                inputs = self.frozen.normalize(varied)
                taps = part(inputs.contiguous(memory_format=torch.channels_last))
            return [_as_kept(torch.cat([each.flatten(1) for each in tap], dim=1)) for tap in taps]

        threads, workers = torch.get_num_threads(), 1 if device.type == "cuda" else torch.get_num_threads()
        together = _IMAGES if device.type == "cuda" else _TRIAL
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:

            def forward(images: Images, keys: Keys, wanted: Bool[np.ndarray, "b view"]) -> Any:
                lists = [(view, np.flatnonzero(wanted[:, view])) for view in range(len(views))]
                jobs = [(v, some[at : at + together]) for v, some in lists for at in range(0, len(some), together)]
                found = pool.map(lambda job: rows(images[job[1]], keys[job[1]], views[job[0]]), jobs)
                return ((view, few, each) for (view, few), each in zip(jobs, found, strict=True))

            try:
                yield forward
            finally:
                torch.set_num_threads(threads)


def _quickest(dataset: Dataset, pixels: Pixels | Stream, frozen: Frozen, folder: Path) -> Arithmetic:
    """The part's arithmetic: measured the first time, and from then on what it was, or rows would differ by it."""
    device, known = accelerator().device, folder / "arithmetic.json"
    names = [f"{device.type}|{pixels.size}|{tap.key}" for tap in frozen.taps]
    told: dict[str, str] = read_json(known) if known.exists() else {}
    precision = next((told[name] for name in names if name in told), None)
    if precision is None:
        part = frozen.part.to(device).to(memory_format=torch.channels_last)
        trial = next(pixels.in_order(dataset.index[:_TRIAL], _TRIAL))
        precision = forward_arithmetic(part, frozen.normalize(torch.from_numpy(trial).to(device))).precision
    if lacking := [name for name in names if name not in told]:  # taps of one pass have one arithmetic
        write_json(known, {**(read_json(known) if known.exists() else {}), **dict.fromkeys(lacking, precision)})
    return Arithmetic(precision=precision, channels_last=True)


def _as_kept(rows: Float[Tensor, "b width"]) -> Float[np.ndarray, "b width"]:
    values: Float[np.ndarray, "b width"] = rows.float().clamp_(-_LARGEST, _LARGEST).half().cpu().numpy()
    return values


def _varied(
    images: Images, augmentation: Augmentation, view: int, keys: Keys, device: torch.device
) -> UInt8[Tensor, "b s s 3"]:
    """The images in a view, on the device: drawn by its number and the images' content, by no run's seed."""
    return (augmentation if view else PLAIN).apply(images, seed=0, epoch=view, keys=keys, device=device)
