"""The training loop, whole: from fresh, published or resumed weights to the checkpoints of a Run.

Started as: resume from checkpoints/last, else published weights where the recipe names some, else fresh weights drawn
from the recipe's seed. A recipe has one phase or several; each begins with the best weights so far. After every epoch
the validation split is scored, the checkpoints are written (best first, `last` last, so that a kill between them
repeats the epoch and writes the same again) and a line goes to metrics.jsonl; when epochs take less than a moment,
after some. The test split is not touched.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor, nn

from discern.data.batches import epoch_length
from discern.data.dataset import Dataset
from discern.data.pixels import Pixels
from discern.data.streaming import Stream
from discern.errors import TrainingDiverged
from discern.files import write_json, writing
from discern.models.cutting import inference_norms
from discern.models.layers import trained
from discern.models.network import Network
from discern.models.preprocessing import Preprocessing
from discern.progress import Advance, Progress
from discern.runs.run import Run
from discern.training.checkpoint import (
    Position,
    load_resumable,
    load_weights,
    note_of,
    position_of,
    save_resumable,
    save_weights,
)
from discern.training.feeds import Feed, image_feed, kept_feed
from discern.training.optim import build_optimizer, groups_of, learning_rate
from discern.training.phases import Phase
from discern.training.recipe import Recipe
from discern.training.runtime import Arithmetic

_EVALUATION_BATCH = 128

_PAUSE = 5.0
"""Seconds between checkpoints while epochs are quick: what a kill may cost."""


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
    """The device."""


@dataclass(frozen=True, kw_only=True)
class _Stage:
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

    def autocast(self) -> AbstractContextManager[None]:
        """The job's arithmetic; a head alone is quick enough to be trained exactly."""
        whole = any(name.startswith("features.") for name in self.trained)
        arithmetic = self.job.arithmetic if whole else replace(self.job.arithmetic, precision="float32")
        return arithmetic.autocast(self.job.accelerator.device)

    def state(self) -> dict[str, Tensor]:
        """All weights and buffers as they are now; what does not change is not copied."""
        frozen = {name for name, _ in self.network.named_parameters()} - self.trained
        state = self.network.state_dict()
        return {name: value if name in frozen else value.detach().clone() for name, value in state.items()}


def fit(job: Job, progress: Progress) -> Position:
    """Train phase after phase to each one's end or patience, resuming from checkpoints/last where there is one.

    Raises TrainingDiverged, with the step and the images of the batch, when the loss is not finite.
    """
    network = job.model
    job.arithmetic.place(network, job.accelerator.device)
    learnable = frozenset(name for name, value in network.named_parameters() if value.requires_grad)
    position = position_of(job.run.checkpoint("last"))
    phases = job.recipe.phases or (Phase(),)
    while True:
        phase = phases[position.phase]
        if position.phase:  # a resumed one, too: its frozen work is about what the phases before have trained
            load_weights(job.run.checkpoint(f"best_{job.recipe.monitor}"), network)
        start = time.perf_counter()
        stage = _stage(job, network, phases[position.phase :], learnable, progress)
        position = _fit_phase(stage, phase, position, progress)
        if job.recipe.phases:
            _note_phase(job.run, phase, position, time.perf_counter() - start)
        if position.phase == len(phases) - 1:
            _say_which(job, len(phases), progress)
            return position
        began = {"phase_epoch": position.epoch, "phase_step": position.step}
        position = replace(position, phase=position.phase + 1, stale=0, **began)


def _note_phase(run: Run, phase: Phase, position: Position, seconds: float) -> None:
    """What a phase came to, frozen work included; of this sitting where it was resumed."""
    told = {"train": phase.train, "epochs": position.epoch - position.phase_epoch, "seconds": round(seconds, 2)}
    run.update(phases=[*run.info.get("phases", [])[: position.phase], told])


def _say_which(job: Job, phases: int, progress: Progress) -> None:
    """Which of several phases the chosen checkpoint is of."""
    if phases < 2:
        return
    note = note_of(job.run.checkpoint(f"best_{job.recipe.monitor}"))
    job.run.update(chosen_phase=note["phase"], chosen_epoch=note["epoch"])
    later = "" if note["phase"] == phases else " What came later was not better on validation by more than chance."
    progress.say(
        f"Chosen: phase {note['phase']} of {phases}, epoch {note['epoch']} (validation loss {note['val_loss']:.3f}, "
        f"accuracy {note['val_acc']:.1%}).{later}"
    )


def _stage(
    job: Job, network: Network, phases: Sequence[Phase], learnable: frozenset[str], progress: Progress
) -> _Stage:
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
    learning = names if phase.norms == "learn" else frozenset(name for name in names if name.startswith("head."))
    recipe = job.recipe.in_phase(phase)
    return _Stage(job=job, recipe=recipe, network=network, trained=names, learning_norms=learning, feed=feed)


def _fit_phase(stage: _Stage, phase: Phase, position: Position, progress: Progress) -> Position:
    """One phase, from its beginning or from where checkpoints/last left it."""
    job, recipe, network, run = stage.job, stage.recipe, stage.network, stage.job.run
    train, val = job.dataset.split("train"), job.dataset.split("val")
    groups = groups_of(network, stage.trained, phase.layer_decay)
    model, optimizer = job.accelerator.prepare(stage.feed.model, build_optimizer(groups, recipe))
    if position.epoch > position.phase_epoch:
        position = load_resumable(run.checkpoint("last"), network, optimizer)
    metrics = run.metrics[: position.epoch] if position.epoch else []
    bar = _bar(stage, model, val, position) if position.phase else None
    best: dict[str, tuple[dict[str, Tensor], dict[str, Any]]] = {}  # not yet written
    written = time.perf_counter()

    total = epoch_length(train, recipe.balance) * (position.phase_epoch + recipe.epochs - position.epoch)
    with progress.track(f"Training {_called(job.recipe, phase)}", total) as advance:
        while not finished(position, recipe):
            start = time.perf_counter()
            train_scores = _train_epoch(stage, model, optimizer, train, position, advance)
            images_per_second = epoch_length(train, recipe.balance) / (time.perf_counter() - start)
            scores = _score(stage, model, val)
            val_loss, val_acc = scores.loss, scores.accuracy
            if not math.isfinite(val_loss):
                raise TrainingDiverged(
                    f"{run}: the validation loss became {val_loss} in epoch {position.epoch + 1}; {_remedy(stage)}"
                )
            earned = _earned(position, scores, bar)
            seconds = position.seconds + time.perf_counter() - start
            position = _advanced(position, recipe, _steps(train, recipe), earned, val_loss, val_acc, seconds)
            metrics.append(
                {
                    "epoch": position.epoch,
                    "step": position.step,
                    "phase": position.phase + 1,
                    **train_scores,
                    "val_loss": val_loss,
                    "val_acc": val_acc,
                    "learning_rate": optimizer.param_groups[0]["lr"],
                    "images_per_second": images_per_second,
                    "seconds": seconds,
                }
            )
            note = {"epoch": position.epoch, "phase": position.phase + 1, "val_loss": val_loss, "val_acc": val_acc}
            best |= {name: (stage.state(), note) for name in earned}
            if not stage.feed.kept or finished(position, recipe) or time.perf_counter() - written > _PAUSE:
                for name, (state, its_note) in best.items():
                    save_weights(run.checkpoint(name), state, its_note)
                with writing(run.path / "metrics.jsonl") as temporary:
                    temporary.write_text("".join(json.dumps(line) + "\n" for line in metrics), encoding="utf-8")
                save_resumable(run.checkpoint("last"), network, optimizer, position, note)
                best, written = {}, time.perf_counter()
            done = position.epoch - position.phase_epoch
            advance(0, f"epoch {done}/{recipe.epochs}  val loss {val_loss:.3f}  val acc {val_acc:.1%}")
    return position


def finished(position: Position, recipe: Recipe) -> bool:
    """Whether all epochs of the phase are done or its patience has run out."""
    waited_out = recipe.patience is not None and position.stale >= recipe.patience
    return position.epoch - position.phase_epoch >= recipe.epochs or waited_out


def _called(recipe: Recipe, phase: Phase) -> str:
    """What is trained, for people."""
    if phase.train == "all":
        return recipe.model
    return f"the head of {recipe.model}" if phase.train == "head" else f"the last layers of {recipe.model}"


@dataclass(frozen=True, kw_only=True)
class _Scores:
    """What a network says of a split."""

    loss: float
    """Mean cross-entropy."""
    accuracy: float
    """Share of images that are right."""
    losses: Float[Tensor, " image"]
    """Of each image, weighted by its class."""
    right: Float[Tensor, " image"]
    """1 for each image that is right."""


def _earned(position: Position, scores: _Scores, bar: _Scores | None) -> list[str]:
    """The checkpoints for which this epoch is the best so far.

    In a later phase it must also be better than what the phase began with by more than chance: on a small validation
    split one epoch of ten is, whatever it learned.
    """
    loss_improved, acc_improved = scores.loss < position.best_val_loss, scores.accuracy > position.best_val_acc
    if bar is not None:
        loss_improved = loss_improved and _beyond_chance(bar.losses - scores.losses)
        acc_improved = acc_improved and _beyond_chance(scores.right - bar.right)
    return ["best_val_loss"] * loss_improved + ["best_val_acc"] * acc_improved


def _bar(stage: _Stage, model: nn.Module, val: Dataset, position: Position) -> _Scores:
    """What a later phase began with; kept, as a resumed run has other weights."""
    file = stage.job.run.path / "checkpoints" / f"phase-{position.phase + 1}.json"
    if position.epoch == position.phase_epoch:
        scores = _score(stage, model, val)
        write_json(file, {"losses": scores.losses.tolist(), "right": scores.right.tolist()})
        return scores
    kept = {name: torch.tensor(values) for name, values in json.loads(file.read_text(encoding="utf-8")).items()}
    loss, accuracy = kept["losses"].mean().item(), kept["right"].mean().item()
    return _Scores(loss=loss, accuracy=accuracy, losses=kept["losses"], right=kept["right"])


def _beyond_chance(gains: Float[Tensor, " image"]) -> bool:
    """Whether the mean gain of an image is larger than its standard error."""
    return bool(gains.mean() > gains.std() / math.sqrt(len(gains)))


def _advanced(
    position: Position,
    recipe: Recipe,
    steps: int,
    earned: list[str],
    val_loss: float,
    val_acc: float,
    seconds: float,
) -> Position:
    return replace(
        position,
        epoch=position.epoch + 1,
        step=position.step + steps,
        best_val_loss=min(val_loss, position.best_val_loss),
        best_val_acc=max(val_acc, position.best_val_acc),
        stale=0 if f"best_{recipe.monitor}" in earned else position.stale + 1,
        seconds=seconds,
    )


def _steps(train: Dataset, recipe: Recipe) -> int:
    return -(-epoch_length(train, recipe.balance) // recipe.batch_size)


def _train_epoch(
    stage: _Stage,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Dataset,
    position: Position,
    advance: Advance,
) -> dict[str, float]:
    """One pass over the training images; loss and accuracy as they were on the way."""
    recipe, device, steps_per_epoch = stage.recipe, stage.job.accelerator.device, _steps(train, stage.recipe)
    weights = _class_weights(train, recipe).to(device)
    loss_function = nn.CrossEntropyLoss(weight=weights, label_smoothing=recipe.label_smoothing)
    model.train()
    inference_norms(stage.network, stage.learning_norms)
    total_loss, total_right, step = 0.0, 0, position.step
    for batch in stage.feed.epoch(train, position.epoch):
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * learning_rate(recipe, step - position.phase_step, steps_per_epoch)
        torch.manual_seed(_step_seed(recipe.seed, step))  # dropout, the same whether or not the run was resumed
        with stage.autocast():
            logits = model(batch.inputs).float()
            loss = loss_function(logits, batch.labels) + stage.network.penalty()
        if not torch.isfinite(loss):
            raise TrainingDiverged(_diverged(stage, train, batch.rows, step, loss.item()))
        optimizer.zero_grad(set_to_none=True)
        stage.job.accelerator.backward(loss)
        optimizer.step()
        total_loss += loss.item() * len(batch.rows)
        total_right += int((logits.argmax(1) == batch.labels).sum())
        step += 1
        done = position.epoch - position.phase_epoch + 1
        advance(len(batch.rows), f"epoch {done}/{recipe.epochs}  loss {loss.item():.3f}")
    seen = epoch_length(train, recipe.balance)
    return {"train_loss": total_loss / seen, "train_acc": total_right / seen}


@torch.no_grad()
def _score(stage: _Stage, model: nn.Module, dataset: Dataset) -> _Scores:
    """Cross-entropy, classes weighted as in training, and accuracy over a split, in training arithmetic."""
    weights = _class_weights(dataset, stage.recipe)
    model.eval()
    total_loss, losses, right = 0.0, list[Tensor](), list[Tensor]()
    labels = torch.split(torch.from_numpy(dataset.labels), _EVALUATION_BATCH)
    for inputs, truth in zip(stage.feed.plain(dataset, _EVALUATION_BATCH), labels, strict=True):
        with stage.autocast():
            logits = model(inputs).float().cpu()
        total_loss += nn.functional.cross_entropy(logits, truth, weight=weights, reduction="sum").item()
        losses.append(nn.functional.cross_entropy(logits, truth, weight=weights, reduction="none"))
        right.append((logits.argmax(1) == truth).float())
    hits = torch.cat(right)
    return _Scores(
        loss=total_loss / len(dataset),
        accuracy=int(hits.sum()) / len(dataset),
        losses=torch.cat(losses),
        right=hits,
    )


def _class_weights(dataset: Dataset, recipe: Recipe) -> Float[Tensor, " class"]:
    """N / (classes x class size), as scikit-learn's 'balanced'; ones when the recipe does not balance."""
    counts = torch.bincount(torch.from_numpy(dataset.labels), minlength=len(dataset.classes)).float()
    return counts.sum() / (len(counts) * counts) if recipe.balance == "weights" else torch.ones_like(counts)


def _step_seed(seed: int, step: int) -> int:
    digest = hashlib.blake2b(f"{seed}|{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _diverged(stage: _Stage, train: Dataset, rows: Int[np.ndarray, " b"], step: int, loss: float) -> str:
    names = ", ".join(train.images[row] for row in rows[:3])
    return f"{stage.job.run}: the loss became {loss} at step {step} (batch with {names}, ...); {_remedy(stage)}"


def _remedy(stage: _Stage) -> str:
    some = stage.job.run.checkpoint("last").exists()
    kept = "the checkpoints of the epochs before are kept" if some else "nothing is kept"
    return f"lower the learning rate ({stage.recipe.learning_rate}); {kept}."
