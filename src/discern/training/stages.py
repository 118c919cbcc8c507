"""Stages: a training during one of its phases - what is trained, on what inputs, in which arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from accelerate import Accelerator
from torch import Tensor

from discern.data.dataset import Dataset
from discern.data.pixels import Pixels
from discern.data.streaming import Stream
from discern.models.layers import trained
from discern.models.network import Network
from discern.models.preprocessing import Preprocessing
from discern.progress import Progress
from discern.runs.run import Run
from discern.training.exact import solvable
from discern.training.feeds import Feed, image_feed, kept_feed
from discern.training.phases import IN_STEPS, Phase
from discern.training.recipe import Recipe
from discern.training.runtime import Arithmetic


def _nobody(run: Run) -> None:
    """Watches nothing."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything one training needs, settled before it starts."""

    run: Run
    """Where checkpoints and metrics go."""
    recipe: Recipe
    """Resolved: no automatic choice is left."""
    model: Network
    """With fresh or published weights, or any weights when it will be resumed."""
    dataset: Dataset
    """Scanned and split."""
    pixels: Pixels | Stream
    """Of the dataset."""
    preprocessing: Preprocessing
    """From the training images, or with the weights."""
    arithmetic: Arithmetic
    """How the network computes."""
    accelerator: Accelerator
    """The device, and which of how many processes this is."""
    deadline: float | None = None
    """When training must be over, in the seconds of time.perf_counter."""
    watch: Callable[[Run], None] = _nobody
    """Called when an epoch's line is in metrics.jsonl."""

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return bool(self.accelerator.is_main_process)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A Job during one phase."""

    job: Job
    recipe: Recipe
    """As it is during the phase."""
    network: Network
    """All of it."""
    trained: frozenset[str]
    """Its parameters that change."""
    learning_norms: frozenset[str]
    """Parameters of the batch norms whose statistics change, among others."""
    feed: Feed
    """What is trained of it, and the inputs."""
    phase: Phase
    """What was asked for."""

    @property
    def exact(self) -> bool:
        """Whether the head is solved for, and not trained in steps."""
        return self.recipe.optimizer == "lbfgs"

    def autocast(self) -> AbstractContextManager[None]:
        """The job's arithmetic; a head alone is quick enough to be trained exactly."""
        whole = any(name.startswith("features.") for name in self.trained)
        arithmetic = self.job.arithmetic if whole else replace(self.job.arithmetic, precision="float32")
        return arithmetic.autocast(self.job.accelerator.device)

    def live(self) -> dict[str, Tensor]:
        """The weights that change, and all buffers: not copies."""
        frozen = {name for name, _ in self.network.named_parameters()} - self.trained
        return {name: value for name, value in self.network.state_dict().items() if name not in frozen}

    def state(self) -> dict[str, Tensor]:
        """All weights and buffers as they are now; what does not change is not copied."""
        live = self.live()
        state = self.network.state_dict()
        return {name: value.detach().clone() if name in live else value for name, value in state.items()}


def stage_of(
    job: Job, network: Network, phases: Sequence[Phase], learnable: frozenset[str], progress: Progress
) -> Stage:
    """The first of the phases that are left.

    Everything below what is trained is frozen: computed once and kept, where there is room for it.
    """
    phase, names = phases[0], trained(network, phases[0].train) & learnable
    for name, value in network.named_parameters():
        value.requires_grad_(name in names)
    feed: Feed | None = None
    if names < learnable and job.recipe.views:
        later, changed = list[frozenset[str]](), names
        for each in phases[1:]:
            others = trained(network, each.train) & learnable
            if changed <= others < learnable:  # what is below them will still be as it is now
                later.append(others)
            changed |= others
        feed = kept_feed(job, network, names, later, progress)
    if feed is None:
        feed = image_feed(job, network)
    elif job.recipe.mixing:
        progress.say("Mixup and CutMix need images: they are left out where frozen work is kept (--set views=0).")
    learning = names if phase.norms == "learn" else frozenset(name for name in names if name.startswith("head."))
    recipe = job.recipe.in_phase(phase)
    if recipe.optimizer == "lbfgs" and not solvable(network, feed, recipe, job.dataset):
        progress.say("The head is trained in steps: there is more to it than a linear layer on features in memory.")
        recipe = job.recipe.in_phase(IN_STEPS)
    if recipe.optimizer == "lbfgs" and phase.weight_decay is not None:
        recipe = replace(recipe, epochs=1)
    return Stage(
        job=job, recipe=recipe, network=network, trained=names, learning_norms=learning, feed=feed, phase=phase
    )
