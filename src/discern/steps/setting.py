"""Settle: what a training will be, before anything is written - network, data, size, arithmetic, phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from discern.data.augment import Augmentation
from discern.data.dataset import Dataset
from discern.data.pixels import Pixels
from discern.data.sources import Data, listed
from discern.data.streaming import Stream
from discern.errors import UsageError
from discern.models import zoo
from discern.models.backbones import Published
from discern.models.cutting import cut, shapes
from discern.models.layers import trained
from discern.models.network import Network, keras_count, parameter_count
from discern.models.preprocessing import Preprocessing
from discern.progress import Progress
from discern.runs.run import Run, open_run
from discern.steps.continuing import continued, network_of, unseen
from discern.steps.prepare import Prepared, prepare
from discern.training.phases import IN_STEPS, TRANSFER, Phase
from discern.training.recipe import Recipe, resolved
from discern.training.runtime import Arithmetic, accelerator, choose_arithmetic, refuse_large
from discern.training.stages import Job

_LOOKED_AT = 2_000
"""Training images, spread evenly, from which a network learns what its inputs are like."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A training that can begin."""

    plan: Recipe
    """Resolved: no automatic choice is left."""
    network: Network
    """With the weights it begins with."""
    prepared: Prepared
    """The data, what the audit found in them, and how they came through the gate."""
    preprocessing: Preprocessing
    """Images to inputs."""
    published: Published | None
    """The weights it begins with, where they are published ones."""

    @property
    def dataset(self) -> Dataset:
        """Readable images, scanned and split."""
        return self.prepared.dataset

    @property
    def pixels(self) -> Pixels | Stream:
        """Of the dataset."""
        return self.prepared.pixels

    def record(self) -> dict[str, Any]:
        """What run.json says of it."""
        plan, dataset, network = self.plan, self.dataset, self.network
        published = self.published
        return {
            "model": {
                "name": plan.model,
                "parameters": parameter_count(network),
                "keras_count": keras_count(network),
                **network.record(),
            },
            "classes": list(dataset.classes),
            "seed": plan.seed,
            "checkpoint": f"best_{plan.monitor}" if len(dataset.split("val")) else "last",
            "weights": {"source": published.source, "licence": published.licence} if published else None,
            "preprocessing": self.preprocessing.to_json(),
            "dataset": {"root": str(dataset.root), "fingerprint": dataset.fingerprint, **dataset.split_counts()},
            "gate": self.prepared.passage.to_json(),
            "device": accelerator().device.type,
        }


def settle(data: Data, plan: Recipe, progress: Progress, *, model: str | None = None) -> Setting:
    """Everything that a plan leaves open is chosen, and what cannot be done is refused; nothing is written.

    `model` is the network that was asked for by name, if one was.
    """
    plan, device = _alone(plan), accelerator().device
    before = open_run(plan.begin) if plan.begin else None
    if before is not None:
        plan = continued(plan, before, model=model)
    listing = listed(data, group_by=plan.group_by)
    plan = _found(plan)
    published = None if before else weights_for(plan, progress)
    size = plan.size or _size(plan, published, gpu=device.type != "cpu")
    phases = plan.phases
    if not phases and published:
        phases = _transfer(plan)
    outline = zoo.outline(plan.model, classes=len(listing.classes), size=size, changes=plan.network)
    refuse_large(outline, phases, device=device)
    if before is not None:
        network = network_of(before, listing.classes, progress)
    else:
        network = fresh(plan, published, classes=len(listing.classes), size=size)  # first, as it may refuse the size
    if not plan.phases:
        phases = _distinct(phases, network)
    _refuse_growing(plan, network, size)
    prepared = prepare(listing, plan, size=size, progress=progress)
    if before is not None:
        dataset = unseen(prepared.dataset, prepared.pixels, before, plan, progress)
        prepared = replace(prepared, dataset=dataset)
    progress.say(f"Data: {prepared.dataset}")

    arithmetic = _arithmetic(plan, phases, network, size=size, device=device)
    order = "channels last" if arithmetic.channels_last else "channels first"
    halved = plan.size is None and published is None and size < zoo.find(plan.model).config.input_size
    why = " (half its own size, as there is no GPU; --size changes it)" if halved else ""
    progress.say(f"Training {plan.model} at {size} pixels{why} on {device.type} in {arithmetic.precision}, {order}.")
    plan = resolved(
        plan,
        size=size,
        precision=arithmetic.precision,
        channels_last=arithmetic.channels_last,
        normalize=_normalize(plan, published),
        phases=phases,
    )
    if before is not None:
        preprocessing = Preprocessing.from_json(before.info["preprocessing"])
    else:
        preprocessing = _preprocessing(plan, published, prepared.dataset, prepared.pixels)
    return Setting(plan=plan, network=network, prepared=prepared, preprocessing=preprocessing, published=published)


def job_of(
    run: Run,
    plan: Recipe,
    network: Network,
    dataset: Dataset,
    pixels: Pixels | Stream,
    preprocessing: Preprocessing,
) -> Job:
    """The training of a resolved plan; a network that looks at its inputs before the first step has done so."""
    if network.learns_inputs and plan.begin is None:
        index = dataset.split("train").index
        some = index[np.linspace(0, len(index) - 1, min(len(index), _LOOKED_AT)).astype(np.int64)]
        for images in pixels.in_order(some, len(some)):
            network.fit_inputs(preprocessing.normalize(torch.from_numpy(images)))
    return Job(
        run=run,
        recipe=plan,
        model=network,
        dataset=dataset,
        pixels=pixels,
        preprocessing=preprocessing,
        arithmetic=Arithmetic(precision=plan.precision, channels_last=bool(plan.channels_last)),
        accelerator=accelerator(),
    )


def weights_for(plan: Recipe, progress: Progress) -> Published | None:
    """The weights to begin with, once their licence is known and accepted."""
    published = zoo.published_for(plan.model, plan.network, trust_pickle=plan.trust_pickle)
    if published is None:
        return None
    licence = published.licence or "not stated"
    if not published.free and not plan.accept_license:
        raise UsageError(
            f"The weights {published.source} are under the licence {licence}, which does not allow every use: "
            "read it, and give --accept-license if it allows yours."
        )
    progress.say(f"Weights: {published.source} (licence: {licence})")
    return published


def _found(plan: Recipe) -> Recipe:
    """Weights and runs to begin with by their whole path: the recipe is good from other folders, too."""
    if plan.begin is not None:
        plan = replace(plan, begin=str(Path(plan.begin).absolute()))
    named = plan.network.get("weights")
    if not isinstance(named, str) or not Path(named).expanduser().exists():
        return plan
    return replace(plan, network={**plan.network, "weights": str(Path(named).expanduser().absolute())})


def _alone(plan: Recipe) -> Recipe:
    """To learn a few images by heart nothing is varied, mixed, smoothed or held back."""
    if plan.overfit is None:
        return plan
    still: dict[str, Any] = {"augment": Augmentation(), "mixup": 0.0, "cutmix": 0.0, "label_smoothing": 0.0}
    return replace(plan, **still, weight_decay=0.0, ema=0.0, swa=0.0)


def _refuse_growing(plan: Recipe, network: Network, size: int) -> None:
    """Raise UsageError when training is to begin with smaller images than the network can take."""
    if plan.start_size is None:
        return
    if not getattr(network.config, "any_size", False):
        raise UsageError(f"{plan.model} takes images of one size alone: leave out start_size.")
    try:
        zoo.outline(plan.model, classes=network.classes, size=plan.start_size, changes=plan.network)
    except UsageError as error:
        raise UsageError(f"start_size = {plan.start_size}: {error}") from error
    if plan.start_size > size:
        raise UsageError(f"start_size = {plan.start_size} is larger than the size of the images, {size}.")


def _transfer(plan: Recipe) -> tuple[Phase, ...]:
    """The usual phases, with what the plan says of epochs (the most for each), rate (the first's) and patience."""
    usual, phases = Recipe(), list(TRANSFER)
    if (plan.learning_rate, plan.optimizer) != (usual.learning_rate, usual.optimizer):
        phases[0] = IN_STEPS
    if plan.epochs != usual.epochs:
        phases = [replace(phase, epochs=min(phase.epochs or plan.epochs, plan.epochs)) for phase in phases]
    if plan.learning_rate != usual.learning_rate:
        factor = plan.learning_rate / (phases[0].learning_rate or plan.learning_rate)
        phases = [replace(phase, learning_rate=(phase.learning_rate or 0.0) * factor) for phase in phases]
    if plan.patience != usual.patience:
        most = max(phase.epochs or plan.epochs for phase in phases)
        phases = [replace(phase, patience=plan.patience or most) for phase in phases]
    return tuple(phases)


def _distinct(phases: Sequence[Phase], network: Network) -> tuple[Phase, ...]:
    """Without phases that would train once more what the one before trained: where the layers below are fixed."""
    learnable = {name for name, value in network.named_parameters() if value.requires_grad}
    parts = [frozenset(trained(network, phase.train) & learnable) for phase in phases]
    return tuple(phase for k, phase in enumerate(phases) if k == 0 or parts[k] != parts[k - 1])


def _arithmetic(
    plan: Recipe, phases: Sequence[Phase], network: Network, *, size: int, device: torch.device
) -> Arithmetic:
    """What trains the part of the network fastest that takes longest: the last phase's."""
    last = trained(network, phases[-1].train if phases else "all")
    found = cut(network.eval(), last) if phases else None
    if found is None:
        return choose_arithmetic(plan, network, size=size, device=device)
    return choose_arithmetic(plan, found.tail, size=size, device=device, crossing=shapes(found.frozen, size))


def _size(plan: Recipe, published: Published | None, *, gpu: bool) -> int:
    """What the network was designed for; more than that for weights that were trained on random crops."""
    return published.best_size if published else zoo.default_size(plan.model, gpu=gpu, changes=plan.network)


def _normalize(plan: Recipe, published: Published | None) -> str:
    if plan.normalize == "published" and published is None:
        raise UsageError("normalize 'published' needs published weights: choose 'dataset' or 'none'.")
    return plan.normalize if plan.normalize != "auto" else "published" if published else "dataset"


def fresh(plan: Recipe, published: Published | None, *, classes: int, size: int) -> Network:
    """The network with weights drawn from the recipe's seed; the caller's generator is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        return zoo.build(plan.model, classes=classes, size=size, changes=plan.network, published=published)


def _preprocessing(
    plan: Recipe, published: Published | None, dataset: Dataset, pixels: Pixels | Stream
) -> Preprocessing:
    """Its statistics are the training images' alone: validation and test must not leak into the inputs."""
    mean, std = np.zeros(3), np.ones(3)
    if plan.normalize == "published" and published is not None:
        mean, std = np.array(published.mean), np.array(published.std)
    if plan.normalize == "dataset":
        mean, std = pixels.statistics(dataset.split("train").index)
        std = np.maximum(std, 1e-3)  # uniformly coloured images would divide by zero
    return Preprocessing.from_json({"size": pixels.size, "fit": plan.fit, "mean": mean.tolist(), "std": std.tolist()})
