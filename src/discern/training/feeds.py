"""Feeds: what a phase trains, and the inputs it is given - images, or what the frozen part below made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from discern.data import keyed
from discern.data.batches import ALONE, Share, drawn_rows, plain_batches, training_batches
from discern.data.dataset import Dataset
from discern.data.pixels import Pixels
from discern.data.streaming import Stream
from discern.models.cutting import Cut, cuts, folded, joined, shapes
from discern.models.network import Network
from discern.models.preprocessing import Preprocessing
from discern.progress import Progress
from discern.training.frozen import Activations, Frozen, Tap, activations, has_room, key_of
from discern.training.losses import targets_of
from discern.training.recipe import Recipe

if TYPE_CHECKING:
    from discern.training.stages import Job


_PORTION = 4096
"""Rows of activations that are taken from the disk together."""


@dataclass(frozen=True, kw_only=True)
class Fed:
    """One step's inputs, on the device."""

    inputs: Any
    """What the feed's model takes."""
    targets: Float[Tensor, "b classes"]
    """Shares of the classes in each image."""
    labels: Int64[Tensor, " b"]
    """Class indices; of mixed images the larger part's."""
    rows: Int[np.ndarray, " b"]
    """Positions in the Dataset."""
    step_labels: Int64[np.ndarray, " step"]
    """Class indices of all images of the step, those of other processes included."""


class Feed(Protocol):
    """What is trained, and what it is given."""

    @property
    def model(self) -> nn.Module:
        """Inputs to logits."""
        ...

    @property
    def kept(self) -> bool:
        """Whether the inputs are kept activations; an epoch is then quick."""
        ...

    def epoch(self, dataset: Dataset, epoch: int, *, first: int = 0) -> Iterator[Fed]:
        """The training images, shuffled and varied, from a step of the epoch on; of each step this process' share."""
        ...

    def plain(self, dataset: Dataset, count: int) -> Iterator[Any]:
        """The inputs of images as they are, in table order, `count` at a time."""
        ...


@dataclass(frozen=True, kw_only=True)
class ImageFeed:
    """A whole network on images."""

    model: nn.Module
    """The network."""
    pixels: Pixels | Stream
    """Of the images."""
    preprocessing: Preprocessing
    """Images to inputs."""
    recipe: Recipe
    """How they are ordered, varied and mixed, and how many make a step."""
    device: torch.device
    """Where it happens."""
    share: Share = ALONE
    """What of each step this process does."""

    kept: ClassVar[bool] = False

    def epoch(self, dataset: Dataset, epoch: int, *, first: int = 0) -> Iterator[Fed]:
        """Each batch is gathered and warped while the network works on the one before."""
        recipe, side = self.recipe, self.recipe.size_in(epoch)
        for batch in training_batches(
            dataset,
            self.pixels,
            batch_size=recipe.batch_size,
            augmentation=recipe.augment,
            balance=recipe.balance,
            seed=recipe.seed,
            epoch=epoch,
            device=self.device,
            first=first,
            share=self.share,
        ):
            inputs, targets = (
                self.preprocessing.normalize(batch.images),
                targets_of(batch.labels, len(dataset.classes)),
            )
            if side != self.pixels.size:
                inputs = nn.functional.interpolate(inputs, (side, side), mode="bilinear", antialias=True)
            if recipe.mixing:
                inputs, targets = recipe.mixing.mix(inputs, targets, seed=recipe.seed, epoch=epoch, keys=batch.keys)
            yield Fed(
                inputs=inputs,
                targets=targets,
                labels=targets.argmax(1) if recipe.mixing else batch.labels,
                rows=batch.rows,
                step_labels=batch.step_labels,
            )

    def plain(self, dataset: Dataset, count: int) -> Iterator[Tensor]:
        """Normalised images."""
        for images in plain_batches(self.pixels, dataset.index, batch_size=count):
            yield self.preprocessing.normalize(images.to(self.device))


@dataclass(frozen=True, kw_only=True)
class KeptFeed:
    """What is behind a cut, on kept activations; the view of an image is drawn by (seed, epoch, image)."""

    model: nn.Module
    """The tail."""
    activations: Activations
    """Of all images of the run."""
    place: Int[np.ndarray, " index"]
    """By an image's `index`, its position among the activations."""
    recipe: Recipe
    """How the images are ordered, and how many make a step."""
    device: torch.device
    """Where it happens."""
    share: Share = ALONE
    """What of each step this process does."""

    kept: ClassVar[bool] = True

    def epoch(self, dataset: Dataset, epoch: int, *, first: int = 0) -> Iterator[Fed]:
        """The activations of a shuffled epoch."""
        recipe, labels = self.recipe, dataset.labels
        for rows, keys, step in drawn_rows(
            dataset,
            recipe.balance,
            recipe.batch_size,
            seed=recipe.seed,
            epoch=epoch,
            first=first,
            share=self.share,
        ):
            draws = keyed.uniform(recipe.seed, epoch, keys, 1)[:, 0]
            views = (draws * (self.activations.views + 1)).astype(np.int64)
            mine = torch.from_numpy(labels[rows]).to(self.device)
            yield Fed(
                inputs=self._taken(self.place[dataset.index[rows]], views),
                targets=targets_of(mine, len(dataset.classes)),
                labels=mine,
                rows=rows,
                step_labels=labels[step],
            )

    def plain(self, dataset: Dataset, count: int) -> Iterator[tuple[Tensor, ...]]:
        """The activations of the plain images."""
        places = self.place[dataset.index]
        for start in range(0, len(places), count):
            some = places[start : start + count]
            yield self._taken(some, np.zeros(len(some), np.int64))

    def every_view(self, dataset: Dataset) -> Float[Tensor, "row feature"]:
        """The first of the activations of every image, plain ones first, then view after view."""
        places = self.place[dataset.index]
        views = range(self.activations.views + 1)
        width = sum(math.prod(shape) for shape in self.activations.shapes)
        rows = torch.empty((len(views) * len(places), width), device=self.device)
        for view in views:
            for start in range(0, len(places), _PORTION):
                some = places[start : start + _PORTION]
                at = view * len(places) + start
                rows[at : at + len(some)] = self._taken(some, np.full(len(some), view))[0]
        return rows

    def _taken(self, images: Int[np.ndarray, " b"], views: Int[np.ndarray, " b"]) -> tuple[Tensor, ...]:
        return tuple(each.to(self.device) for each in self.activations.take(images, views))


def image_feed(job: Job, network: Network) -> ImageFeed:
    """The whole network on the job's images."""
    return ImageFeed(
        model=network,
        pixels=job.pixels,
        preprocessing=job.preprocessing,
        recipe=job.recipe,
        device=job.accelerator.device,
        share=share_of(job.accelerator),
    )


def share_of(accelerator: Accelerator) -> Share:
    """What of each step this process does."""
    return Share(accelerator.process_index, accelerator.num_processes)


def kept_feed(
    job: Job, network: Network, trained: frozenset[str], later: Sequence[frozenset[str]], progress: Progress
) -> KeptFeed | None:
    """What is behind the first trained parameter, on kept activations of what is before it.

    What is trained in `later` phases has its activations kept in the same pass. None where nothing is before the
    trained parameters, where the network cannot be cut there, or where the activations have no room.
    """
    recipe = job.recipe
    found, *others = cuts(network.eval(), [trained, *later])
    if found is None:
        progress.say(f"{recipe.model} cannot be followed below its trained layers, so all of it runs in every step.")
        return None
    used = job.dataset.table["split"].is_in(["train", "val"]).to_numpy()
    taught = job.dataset.table["split"].to_numpy() == "train"
    frozen = frozen_of([found, *filter(None, others)], recipe.model, job.preprocessing)
    count = int(used.sum()) + recipe.views * int(taught.sum())
    if not has_room(frozen.taps[0].width, count):
        progress.say(f"There is no room to keep what {recipe.model} gives below its trained layers: it runs whole.")
        return None
    if not has_room(sum(tap.width for tap in frozen.taps), count):
        frozen = frozen_of([found], recipe.model, job.preprocessing)
    with job.accelerator.main_process_first():  # which computes what is not kept; the others then find it
        kept = activations(
            job.dataset.with_rows(np.flatnonzero(used)),
            job.pixels,
            frozen,
            augmentation=recipe.augment,
            views=recipe.views if recipe.augment else 0,
            varied=taught[used],
            progress=progress,
        )
    place = np.full(int(job.dataset.index.max()) + 1, -1, np.int64)
    place[job.dataset.index[used]] = np.arange(int(used.sum()))
    return KeptFeed(
        model=found.tail,
        activations=kept,
        place=place,
        recipe=recipe,
        device=job.accelerator.device,
        share=share_of(job.accelerator),
    )


def frozen_of(several: Sequence[Cut], name: str, preprocessing: Preprocessing) -> Frozen:
    """What is before some cuts of a network, ready to be computed once."""
    size = preprocessing.size
    return Frozen(
        part=folded(joined(several)),
        taps=tuple(Tap(key=key_of(each.frozen), shapes=tuple(shapes(each.frozen, size))) for each in several),
        name=name,
        normalize=preprocessing.normalize,
        preprocessing=f"{preprocessing.mean}|{preprocessing.std}",
    )
