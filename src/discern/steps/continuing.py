"""Continuing: training begins with what an earlier Run has learned, on other data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl
from torch import nn

from discern.data.dataset import Dataset
from discern.data.duplicates.overlap import overlap
from discern.data.pixels import Pixels
from discern.data.split import refuse_missing_classes
from discern.data.streaming import Stream
from discern.errors import DataError, UsageError
from discern.models import zoo
from discern.models.configuration import options
from discern.models.network import Network
from discern.progress import Progress
from discern.runs.run import REFIT, Run
from discern.training.recipe import Recipe, load_recipe


def continued(plan: Recipe, before: Run, *, model: str | None) -> Recipe:
    """The plan for the network of an earlier run, which sees images as it did."""
    known = load_recipe(str(before.recipe_file))
    if model not in (None, known.model):
        raise UsageError(f"{before} has trained {known.model}, not {model}: leave out the model, or --begin.")
    published = {"weights": "none"} if "weights" in options(zoo.configured(known.model)) else {}
    return replace(
        plan,
        model=known.model,
        network={**known.network, **published},
        size=known.size,
        fit=known.fit,
        normalize=known.normalize,
        phases=plan.phases or known.phases,
    )


def network_of(before: Run, classes: Sequence[str], progress: Progress) -> Network:
    """The earlier run's network with its chosen weights; the last layer is new where the classes are others."""
    record = before.info["model"]
    network = zoo.from_record({**record, "classes": len(classes)})
    state = zoo.restore(record, before.checkpoint()).state_dict()
    if tuple(classes) != before.classes:
        last = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)][-1]
        fresh = network.state_dict()
        state |= {key: fresh[key] for key in fresh if key.startswith(f"{last}.")}
        progress.say(f"The classes are others than those of {before}: the last layer begins anew.")
    network.load_state_dict(state)
    return network


def unseen(dataset: Dataset, pixels: Pixels | Stream, before: Run, plan: Recipe, progress: Progress) -> Dataset:
    """The data without validation and test images that the earlier run was trained or chosen with.

    Raises DataError when there are some, unless the plan's `leakage` says to 'drop' or to 'allow' them.
    """
    if isinstance(pixels, Stream) or plan.leakage == "allow":
        return dataset
    judged = dataset.filter(pl.col("split").is_in(["val", "test"]))
    known = before.dataset.filter(pl.col("split") != "test")
    found = overlap(judged, pixels, known, fit=plan.fit, progress=progress)
    # What chose a checkpoint before may choose one again, unless it was learned from; it must not test.
    learned = ("train", "val") if before.info["checkpoint"] == REFIT else ("train",)
    tested = set(judged.split("test").images)
    names = [copy.photo for copy in found.copies if copy.split in learned or copy.photo in tested]
    if not names:
        return dataset
    which = f"{len(names):,} of {len(judged):,} validation and test images, such as {names[0]}, are photos that"
    if plan.leakage != "drop":
        raise DataError(
            f"Leakage: {which} {before} was trained or chosen with: give others, or go on with --leakage drop (leave "
            'them out) or --leakage allow --because "...".'
        )
    progress.say(f"{which} {before} was trained or chosen with: they are left out.")
    rest = dataset.filter(~pl.col("image").is_in(names) | (pl.col("split") == "train"))
    refuse_missing_classes(rest, [split for split in ("train", "val", "test") if split in dataset.split_counts()])
    return rest
