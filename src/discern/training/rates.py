"""Finding a learning rate: some steps at ever higher rates, and what the loss did (Smith, 2017)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch
from jaxtyping import Float

from discern.errors import DataError
from discern.models.cutting import inference_norms
from discern.progress import Progress
from discern.training.feeds import Fed
from discern.training.losses import batch_loss
from discern.training.optim import build_optimizer, groups_of
from discern.training.phases import Phase
from discern.training.scoring import class_weights
from discern.training.stages import Job, Stage, stage_of

LOWEST, HIGHEST, STEPS = 1e-6, 3.0, 120

_MEMORY = 0.9
"""Share of the loss before that a smoothed loss keeps."""

_WORSE = 3.0
"""Times the lowest smoothed loss at which higher rates need not be tried."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What the loss did as the rate rose."""

    rates: Float[np.ndarray, " step"]
    """Learning rate of each step."""
    losses: Float[np.ndarray, " step"]
    """Smoothed loss before each step was taken."""
    suggestion: float
    """Where the loss fell fastest."""


def find_rate(job: Job, progress: Progress) -> Rates:
    """Train the first phase's part of the network for a short while; its weights are spent afterwards.

    Raises DataError when even the lowest rates give no loss.
    """
    network, phase = job.model, (job.recipe.phases or (Phase(),))[0]
    if phase.optimizer == "lbfgs":  # it has no rate; the recipe's optimiser has
        phase = replace(phase, optimizer=None, weight_decay=None)
    job.arithmetic.place(network, job.accelerator.device)
    learnable = frozenset(name for name, value in network.named_parameters() if value.requires_grad)
    stage = stage_of(job, network, [phase], learnable, progress)
    train = job.dataset.split("train")
    weights = class_weights(train, stage.recipe).to(job.accelerator.device)
    groups = groups_of(network, stage.trained, stage.recipe, layer_decay=phase.layer_decay)
    optimizer = build_optimizer(groups, stage.recipe)
    stage.feed.model.train()
    inference_norms(network, stage.learning_norms)
    rates, losses, smooth = list[float](), list[float](), 0.0
    with progress.track(f"Rates for {job.recipe.model}", STEPS, "steps") as advance, torch.random.fork_rng():
        torch.manual_seed(stage.recipe.seed)
        for step, fed in zip(range(STEPS), _endless(stage), strict=False):
            rate = LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))
            for group in optimizer.param_groups:
                group["lr"] = group["factor"] * rate
            with stage.autocast():
                logits = stage.feed.model(fed.inputs).float()
            labels = torch.from_numpy(fed.step_labels).to(weights.device)
            loss = batch_loss(logits, fed.targets, weights=weights, total=weights[labels].sum())
            if not torch.isfinite(loss):
                break
            smooth = _MEMORY * smooth + (1 - _MEMORY) * loss.item()
            rates.append(rate)
            losses.append(smooth / (1 - _MEMORY ** (step + 1)))
            if losses[-1] > _WORSE * min(losses) and step > STEPS // 10:
                break
            optimizer.zero_grad(set_to_none=True)
            job.accelerator.backward(loss)
            optimizer.step()
            advance(1, f"rate {rate:.2g}  loss {loss.item():.3f}")
    if len(losses) < 3:
        raise DataError(f"The loss of {job.recipe.model} on {job.dataset.root} is not finite, whatever the rate.")
    return Rates(rates=np.array(rates), losses=np.array(losses), suggestion=steepest(rates, losses))


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The rate at which the loss falls fastest on a logarithmic scale, before its minimum; rounded to two digits."""
    lowest = max(2, int(np.argmin(losses)) + 1)
    slopes = np.gradient(np.asarray(losses[:lowest]), np.log(rates[:lowest]))
    rate = float(rates[int(np.argmin(slopes))])
    return round(rate, 1 - math.floor(math.log10(rate)))


def _endless(stage: Stage) -> Iterator[Fed]:
    train = stage.job.dataset.split("train")
    for epoch in count():
        yield from stage.feed.epoch(train, epoch)
