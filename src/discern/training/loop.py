"""The training loop, whole: from fresh, published or resumed weights to the checkpoints of a Run.

Started as: resume from checkpoints/last, else published weights where the recipe names some, else fresh weights drawn
from the recipe's seed. A recipe has one phase or several; each begins with the best weights so far. After every epoch
the validation split is scored, the checkpoints are written (best first, `last` last, so that a kill between them
repeats the epoch and writes the same again) and a line goes to metrics.jsonl; when epochs take less than a moment,
after some; when they take long, `last` is written on the way, too. The test split is not touched.

Of many processes each does its share of every step and of every validation; the first one writes.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from discern.data.batches import epoch_length
from discern.data.dataset import Dataset
from discern.errors import TrainingDiverged
from discern.files import write_json, writing
from discern.models.cutting import inference_norms
from discern.progress import Advance, Progress
from discern.stopping import Asked, asked_to_stop
from discern.training.averaging import Averages, Lookahead
from discern.training.checkpoint import (
    Position,
    last_whole,
    load_resumable,
    load_weights,
    note_of,
    position_of,
    save_resumable,
    save_weights,
)
from discern.training.exact import Solver, decay_of
from discern.training.feeds import Fed, KeptFeed, share_of
from discern.training.losses import batch_loss
from discern.training.optim import build_optimizer, groups_of, learning_rate
from discern.training.phases import Phase
from discern.training.recipe import Recipe
from discern.training.scoring import Scores, beyond_chance, class_weights, gathered, scored
from discern.training.stages import Job, Stage, stage_of

__all__ = ["Job", "fit"]

_EVALUATION_BATCH = 128

_PAUSE = 5.0
"""Seconds between checkpoints while epochs are quick: what a kill may cost."""

_LONG = 300.0
"""Seconds after which a checkpoint is written in the middle of an epoch."""


def fit(job: Job, progress: Progress) -> Position:
    """Train phase after phase to each one's end or patience, resuming from checkpoints/last where there is one.

    Raises TrainingDiverged, with the step and the images of the batch, when the loss is not finite. The first Ctrl-C
    or SIGTERM is answered at the end of a step, with everything kept.
    """
    network = job.model
    job.arithmetic.place(network, job.accelerator.device)
    learnable = frozenset(name for name, value in network.named_parameters() if value.requires_grad)
    kept = last_whole(job.run.checkpoint("last"))
    position = position_of(kept) if kept else Position()
    if kept:
        load_weights(kept, network)
    phases = job.recipe.phases or (Phase(),)
    while True:
        phase = phases[position.phase]
        if position.phase:  # a resumed one, too: its frozen work is about what the phases before have trained
            load_weights(job.run.checkpoint(_chosen(job)), network)
        if len(phases) > 1:
            progress.say(f"Phase {position.phase + 1} of {len(phases)}: {_called(job.recipe, phase)}.")
        start = time.perf_counter()
        stage = stage_of(job, network, phases[position.phase :], learnable, progress)
        position = _fit_phase(stage, phase, position, progress, spent=time.perf_counter() - start)
        job.accelerator.wait_for_everyone()  # the checkpoints are written
        if job.recipe.phases and job.main:
            _note_phase(job, phase, position, time.perf_counter() - start)
        if position.phase == len(phases) - 1 or _agreed(job, Asked())[1]:
            if len(phases) > 1 and job.main:
                _say_which(job, len(phases), progress)
            return position
        began = {"phase_epoch": position.epoch, "phase_step": position.step}
        position = replace(position, phase=position.phase + 1, stale=0, drops=0, flat=0, limit=None, **began)


def _late(job: Job) -> bool:
    """Whether the time for training is over."""
    return job.deadline is not None and time.perf_counter() > job.deadline


def _chosen(job: Job) -> str:
    """The checkpoint that validation chooses, and the last one where there is none to validate on."""
    return f"best_{job.recipe.monitor}" if len(job.dataset.split("val")) else "last"


def _note_phase(job: Job, phase: Phase, position: Position, seconds: float) -> None:
    """What a phase came to, frozen work included; of this sitting where it was resumed."""
    told = {"train": phase.train, "epochs": position.epoch - position.phase_epoch, "seconds": round(seconds, 2)}
    job.run.update(phases=[*job.run.info.get("phases", [])[: position.phase], told])


def _say_which(job: Job, phases: int, progress: Progress) -> None:
    """Which of several phases the chosen checkpoint is of."""
    note = note_of(job.run.checkpoint(_chosen(job)))
    job.run.update(chosen_phase=note["phase"], chosen_epoch=note["epoch"])
    if "val_loss" not in note:
        return
    later = "" if note["phase"] == phases else " What came later was not better on validation by more than chance."
    progress.say(
        f"Chosen: phase {note['phase']} of {phases}, epoch {note['epoch']} (validation loss {note['val_loss']:.3f}, "
        f"accuracy {note['val_acc']:.1%}).{later}"
    )


@dataclass(kw_only=True)
class _Trainer:
    """What moves while a phase is trained."""

    stage: Stage
    train: Dataset
    val: Dataset
    model: nn.Module
    """What is trained, wrapped for many processes."""
    optimizer: torch.optim.Optimizer | None
    """None where the head is solved for."""
    solver: Solver | None
    """What does that."""
    average: Averages | None
    """What is validated and chosen instead of the weights."""
    lookahead: Lookahead | None
    weights: Float[Tensor, " class"]
    """Of the classes in the loss, on the device."""
    per_epoch: int
    """Steps of an epoch."""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """The lines of metrics.jsonl."""
    best: dict[str, tuple[dict[str, Tensor], dict[str, Any]]] = field(default_factory=dict)
    """Checkpoints that are not yet written."""
    note: dict[str, Any] = field(default_factory=dict)
    """What the last checkpoint says of itself."""
    written: float = field(default_factory=time.perf_counter)
    """When checkpoints were."""

    @property
    def beside(self) -> dict[str, dict[str, Tensor]]:
        """The averages that a checkpoint keeps."""
        kept = {"average": self.average.followed} if self.average else {}
        return kept | ({"slow": self.lookahead.slow} if self.lookahead else {})

    def write(self, position: Position) -> None:
        """Put on disk all that there is."""
        run = self.stage.job.run
        if self.stage.job.main:
            for name, (state, note) in self.best.items():
                save_weights(run.checkpoint(name), state, note)
            with writing(run.path / "metrics.jsonl") as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in self.metrics), encoding="utf-8")
            network = self.stage.network
            save_resumable(run.checkpoint("last"), network, self.optimizer, position, self.note, self.beside)
            self.stage.job.watch(run)
        self.best, self.written = {}, time.perf_counter()


def _trainer(stage: Stage, phase: Phase) -> _Trainer:
    job, recipe = stage.job, stage.recipe
    train, val = job.dataset.split("train"), job.dataset.split("val")
    groups = groups_of(stage.network, stage.trained, recipe, layer_decay=phase.layer_decay)
    model, optimizer, solver = stage.feed.model, None, None
    if stage.exact:
        solver = _solver(stage, train)
    else:
        model, optimizer = job.accelerator.prepare(model, build_optimizer(groups, recipe))
    trained = {name: value for name, value in stage.live().items() if name in stage.trained}
    return _Trainer(
        stage=stage,
        train=train,
        val=val,
        model=model,
        optimizer=optimizer,
        solver=solver,
        average=Averages(stage.live()) if recipe.ema or recipe.swa else None,
        lookahead=Lookahead(trained) if recipe.lookahead else None,
        weights=class_weights(train, recipe).to(job.accelerator.device),
        per_epoch=-(-epoch_length(train, recipe.balance) // recipe.batch_size),
    )


def _solver(stage: Stage, train: Dataset) -> Solver:
    """Nothing is drawn, so that a balance by drawing becomes one by weights."""
    recipe, feed = stage.recipe, stage.feed
    assert isinstance(feed, KeptFeed), "of a stage that is exact"
    balanced = replace(recipe, balance="none" if recipe.balance == "none" else "weights")
    weights = class_weights(train, balanced).to(stage.job.accelerator.device)
    return Solver(stage.network, feed, train, weights=weights, smoothing=recipe.label_smoothing)


def _fit_phase(stage: Stage, phase: Phase, position: Position, progress: Progress, *, spent: float) -> Position:
    """One phase, from its beginning or from where checkpoints/last left it; `spent` are seconds of frozen work."""
    job, recipe = stage.job, stage.recipe
    trainer = _trainer(stage, phase)
    if position.epoch > position.phase_epoch or position.batch:
        kept = last_whole(job.run.checkpoint("last"))
        if kept is not None:
            position = load_resumable(kept, stage.network, trainer.optimizer, trainer.beside)
            trainer.note = note_of(kept)
    if not finished(position, recipe):
        position = replace(position, seconds=position.seconds + spent)
    trainer.metrics = job.run.metrics[: position.epoch] if position.epoch else []
    bar = _bar(trainer, position) if position.phase and len(trainer.val) else None
    length = epoch_length(trainer.train, recipe.balance)
    total = length * (position.phase_epoch + recipe.epochs - position.epoch) - position.batch * recipe.batch_size
    with progress.track(f"Training {_called(job.recipe, phase)}", total) as advance, asked_to_stop() as asked:
        while not finished(position, recipe):
            began, seen = time.perf_counter(), position.batch
            position = (_solve if stage.exact else _train_epoch)(trainer, position, advance, asked)
            seconds = time.perf_counter() - began
            taught = min(length, position.batch * recipe.batch_size)  # fewer where the time was over
            line = {
                "epoch": position.epoch + 1,
                "step": position.step,
                "phase": position.phase + 1,
                "train_loss": position.loss_sum / taught,
                "train_acc": position.right_sum / taught,
            }
            position, scores, state = _validated(trainer, position, bar)
            if scores is not None:
                line |= {"val_loss": scores.loss, "val_acc": scores.accuracy}
            position = replace(position, seconds=position.seconds + time.perf_counter() - began)
            trainer.metrics.append(
                {
                    **line,
                    **_told(trainer, position),
                    "images_per_second": (taught - seen * recipe.batch_size) / seconds,
                    "seconds": position.seconds,
                }
            )
            trainer.note = {key: line[key] for key in ("epoch", "phase", "val_loss", "val_acc") if key in line}
            trainer.best |= {name: (values, trainer.note) for name, values in state.items()}
            position = _within_budget(trainer, position, time.perf_counter() - began)
            if not stage.feed.kept or finished(position, recipe) or time.perf_counter() - trainer.written > _PAUSE:
                trainer.write(position)
            done = position.epoch - position.phase_epoch
            said = f"  val loss {scores.loss:.3f}  val acc {scores.accuracy:.1%}" if scores else ""
            advance(0, f"epoch {done}/{min(recipe.epochs, position.limit or recipe.epochs)}{said}")
    if trainer.average and not len(trainer.val):
        _take_average(trainer, position)
    return position


def _take_average(trainer: _Trainer, position: Position) -> None:
    """Without validation the last weights are what counts: where there is an average of them, that."""
    _, state = _averaged(trainer, position)
    trainer.stage.network.load_state_dict(state)
    trainer.write(position)


def finished(position: Position, recipe: Recipe) -> bool:
    """Whether all epochs of the phase are done, or its patience or the time for it has run out."""
    epochs = position.epoch - position.phase_epoch
    waited_out = recipe.patience is not None and position.stale >= recipe.patience
    return epochs >= recipe.epochs or waited_out or (position.limit is not None and epochs >= position.limit)


def _called(recipe: Recipe, phase: Phase) -> str:
    """What is trained, for people."""
    if phase.train == "all":
        return recipe.model
    return f"the head of {recipe.model}" if phase.train == "head" else f"the last layers of {recipe.model}"


def _told(trainer: _Trainer, position: Position) -> dict[str, float]:
    """What an epoch had for itself: its last learning rate, or its decay."""
    if trainer.optimizer:
        return {"learning_rate": trainer.optimizer.param_groups[0]["lr"]}
    return {"weight_decay": decay_of(trainer.stage.phase, position.epoch - position.phase_epoch - 1)}


def _solve(trainer: _Trainer, position: Position, advance: Advance, asked: Asked) -> Position:
    """The best head for the next decay; loss and accuracy are its own."""
    stage, recipe = trainer.stage, trainer.stage.recipe
    if _agreed(stage.job, asked)[0]:
        trainer.write(position)
        asked.leave()
    decay = decay_of(stage.phase, position.epoch - position.phase_epoch)
    assert trainer.solver is not None, "of a stage that is exact"
    loss, right = trainer.solver.solve(decay)
    length = epoch_length(trainer.train, recipe.balance)
    advance(length, f"decay {decay:.2g}  loss {loss:.3f}")
    solved = replace(position, loss_sum=loss * length, right_sum=round(right * length))
    return replace(solved, step=position.step + 1, batch=trainer.per_epoch)


def _train_epoch(trainer: _Trainer, position: Position, advance: Advance, asked: Asked) -> Position:
    """What is left of a pass over the training images; loss and accuracy as they were on the way."""
    stage, recipe, optimizer = trainer.stage, trainer.stage.recipe, trainer.optimizer
    assert optimizer is not None, "in steps"
    trainer.model.train()
    inference_norms(stage.network, stage.learning_norms)
    epochs = min(recipe.epochs, position.limit or recipe.epochs)
    for fed in stage.feed.epoch(trainer.train, position.epoch, first=position.batch):
        step = position.step - position.phase_step
        rate = learning_rate(replace(recipe, epochs=epochs), step, trainer.per_epoch, drops=position.drops)
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * rate
        torch.manual_seed(_step_seed(recipe.seed, position.step))  # dropout, the same whether or not it was resumed
        loss, right = _step(trainer, fed, position)
        position = replace(
            position,
            step=position.step + 1,
            batch=position.batch + 1,
            loss_sum=position.loss_sum + loss * len(fed.step_labels),
            right_sum=position.right_sum + right,
        )
        done = position.epoch - position.phase_epoch + 1
        advance(len(fed.step_labels), f"epoch {done}/{epochs}  loss {loss:.3f}")
        stop, late = _agreed(stage.job, asked)
        long_ago = not stage.feed.kept and time.perf_counter() - trainer.written > _LONG
        if stop or long_ago:
            trainer.write(position)
        if stop:
            asked.leave()
        if late:
            return replace(position, limit=done)
    return position


def _step(trainer: _Trainer, fed: Fed, position: Position) -> tuple[float, int]:
    """One step of the optimiser: the mean loss of its images, and how many were right; over all processes."""
    stage, recipe, accelerator = trainer.stage, trainer.stage.recipe, trainer.stage.job.accelerator
    assert trainer.optimizer is not None, "in steps"
    labels = torch.from_numpy(fed.step_labels).to(trainer.weights.device)
    total = trainer.weights[labels].sum() / accelerator.num_processes  # gradients of processes are averaged
    counts = float(accelerator.process_index < len(fed.step_labels))
    trainer.optimizer.zero_grad(set_to_none=True)
    sums = torch.zeros(2, dtype=torch.float64)
    parts = min(recipe.accumulate, len(fed.rows))
    for inputs, targets, truth in _parts(fed, parts):
        with stage.autocast():
            logits = trainer.model(inputs).float()
            loss = counts * batch_loss(
                logits,
                targets,
                weights=trainer.weights,
                total=total,
                smoothing=recipe.label_smoothing,
                focus=recipe.focus if recipe.loss == "focal" else 0.0,
            )
            loss = loss + stage.network.penalty() / parts
        if not torch.isfinite(loss):
            raise TrainingDiverged(_diverged(trainer, fed, position.step, loss.item()))
        accelerator.backward(loss)
        sums += torch.tensor([loss.item(), counts * (logits.argmax(1) == truth).sum().item()])
    if recipe.clip is not None:
        nn.utils.clip_grad_norm_(trainer.model.parameters(), recipe.clip)
    trainer.optimizer.step()
    if trainer.lookahead and (position.step - position.phase_step + 1) % recipe.lookahead == 0:
        trainer.lookahead.meet()
    if trainer.average and recipe.ema:
        step = position.step - position.phase_step
        trainer.average.follow(1 - min(recipe.ema, (1 + step) / (10 + step)))  # what came first soon weighs little
    if accelerator.num_processes > 1:
        sums = accelerator.reduce(sums.to(accelerator.device), "sum").cpu()
        sums[0] /= accelerator.num_processes
    return float(sums[0]), round(float(sums[1]))


def _parts(fed: Fed, parts: int) -> list[tuple[Any, Tensor, Tensor]]:
    """A step's inputs, targets and labels in so many portions."""
    if parts == 1:
        return [(fed.inputs, fed.targets, fed.labels)]
    several = isinstance(fed.inputs, tuple)
    inputs: list[Any] = [each.tensor_split(parts) for each in (fed.inputs if several else (fed.inputs,))]
    portions: list[Any] = list(zip(*inputs, strict=True)) if several else list(inputs[0])
    return list(zip(portions, fed.targets.tensor_split(parts), fed.labels.tensor_split(parts), strict=True))


def _agreed(job: Job, asked: Asked) -> tuple[bool, bool]:
    """Whether any process is asked to stop, and whether the time is over for the first one."""
    told = torch.tensor([float(asked.by is not None), float(job.main and _late(job))])
    if job.accelerator.num_processes > 1:
        told = job.accelerator.reduce(told.to(job.accelerator.device), "sum").cpu()
    return bool(told[0] > 0), bool(told[1] > 0)


def _validated(
    trainer: _Trainer, position: Position, bar: Scores | None
) -> tuple[Position, Scores | None, dict[str, dict[str, Tensor]]]:
    """The position after an epoch, its scores where it is validated, and the weights of checkpoints it is best for."""
    recipe = trainer.stage.recipe
    position = replace(position, epoch=position.epoch + 1, batch=0, loss_sum=0.0, right_sum=0)
    done = position.epoch - position.phase_epoch
    if trainer.average and recipe.swa:
        _average_epoch(trainer, position)
    due = done % recipe.validate_every == 0 or done >= min(recipe.epochs, position.limit or recipe.epochs)
    due = due or trainer.stage.job.deadline is not None  # any epoch may turn out to be the last
    if not len(trainer.val):
        return position, None, {}
    if not due:
        return position, None, {}
    scores, state = _scores(trainer, position)
    if not math.isfinite(scores.loss):
        raise TrainingDiverged(
            f"{trainer.stage.job.run}: the validation loss became {scores.loss} in epoch {position.epoch}; "
            f"{_remedy(trainer)}"
        )
    earned = _earned(position, scores, bar)
    return _judged(position, recipe, earned, scores), scores, dict.fromkeys(earned, state)


def _scores(trainer: _Trainer, position: Position) -> tuple[Scores, dict[str, Tensor]]:
    """Of the average where there is one, and the weights that were scored."""
    if trainer.average is None or (trainer.stage.recipe.swa and not _averaging(trainer.stage.recipe, position)):
        return _score(trainer), trainer.stage.state()
    scores, state = _averaged(trainer, position)
    assert scores is not None, "there are validation images"
    return scores, state


def _averaged(trainer: _Trainer, position: Position) -> tuple[Scores | None, dict[str, Tensor]]:
    """The average's weights, with batch norms that fit them, and its scores where there is something to score."""
    average = trainer.average
    assert average is not None
    with average.in_place():
        if trainer.stage.recipe.swa:
            _learn_norms_anew(trainer, position)
        return _score(trainer) if len(trainer.val) else None, trainer.stage.state()


def _score(trainer: _Trainer) -> Scores:
    """Of the validation split; of many processes each scores its share, no image twice."""
    stage, share = trainer.stage, share_of(trainer.stage.job.accelerator)
    val = trainer.val.with_rows(np.arange(share.rank, len(trainer.val), share.world))
    scores = scored(
        trainer.model,
        stage.feed.plain(val, _EVALUATION_BATCH),
        val,
        class_weights(trainer.val, stage.recipe),
        count=_EVALUATION_BATCH,
        autocast=stage.autocast(),
    )
    return scores if share.world == 1 else gathered(scores, len(trainer.val), share.world)


def _averaging(recipe: Recipe, position: Position) -> int:
    """Epochs whose ends are in the average, with `swa`."""
    done, epochs = position.epoch - position.phase_epoch, min(recipe.epochs, position.limit or recipe.epochs)
    return max(0, done - (epochs - max(1, round(recipe.swa * epochs))))


def _average_epoch(trainer: _Trainer, position: Position) -> None:
    """Take the end of an epoch into the mean of them."""
    if (count := _averaging(trainer.stage.recipe, position)) and trainer.average:
        trainer.average.follow(1 / count)


@torch.no_grad()
def _learn_norms_anew(trainer: _Trainer, position: Position) -> None:
    """Averaged weights make other activations: batch norms take their statistics from the training images."""
    stage = trainer.stage
    trainer.model.train()
    inference_norms(stage.network, stage.learning_norms)
    norms = [layer for layer in stage.network.modules() if isinstance(layer, _BatchNorm) and layer.training]
    if not norms:
        return
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # all batches count alike
    with stage.autocast():
        for fed in stage.feed.epoch(trainer.train, position.epoch - 1):
            trainer.model(fed.inputs)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum


def _earned(position: Position, scores: Scores, bar: Scores | None) -> list[str]:
    """The checkpoints for which this epoch is the best so far.

    In a later phase it must also be better than what the phase began with by more than chance: on a small validation
    split one epoch of ten is, whatever it learned.
    """
    loss_improved, acc_improved = scores.loss < position.best_val_loss, scores.accuracy > position.best_val_acc
    if bar is not None:
        loss_improved = loss_improved and beyond_chance(bar.losses - scores.losses)
        acc_improved = acc_improved and beyond_chance(scores.right - bar.right)
    return ["best_val_loss"] * loss_improved + ["best_val_acc"] * acc_improved


def _bar(trainer: _Trainer, position: Position) -> Scores:
    """What a later phase began with; kept, as a resumed run has other weights."""
    file = trainer.stage.job.run.path / "checkpoints" / f"phase-{position.phase + 1}.json"
    if position.epoch == position.phase_epoch and not position.batch:
        scores = _score(trainer)
        if trainer.stage.job.main:
            write_json(file, {"losses": scores.losses.tolist(), "right": scores.right.tolist()})
        return scores
    kept = {name: torch.tensor(values) for name, values in json.loads(file.read_text(encoding="utf-8")).items()}
    loss, accuracy = kept["losses"].mean().item(), kept["right"].mean().item()
    return Scores(loss=loss, accuracy=accuracy, losses=kept["losses"], right=kept["right"])


def _judged(position: Position, recipe: Recipe, earned: list[str], scores: Scores) -> Position:
    """The position after a validation: the best so far, and how long ago it was."""
    gain = (
        position.best_val_loss - scores.loss
        if recipe.monitor == "val_loss"
        else scores.accuracy - position.best_val_acc
    )
    improved = f"best_{recipe.monitor}" in earned and gain > recipe.min_delta
    waited = (position.epoch - position.phase_epoch) % recipe.validate_every or recipe.validate_every
    stale, flat, drops = (
        (0, 0, position.drops) if improved else (position.stale + waited, position.flat + waited, position.drops)
    )
    if flat > recipe.plateau_epochs:
        flat, drops = 0, drops + 1
    return replace(
        position,
        best_val_loss=scores.loss if "best_val_loss" in earned else position.best_val_loss,
        best_val_acc=scores.accuracy if "best_val_acc" in earned else position.best_val_acc,
        stale=stale,
        flat=flat,
        drops=drops,
    )


def _within_budget(trainer: _Trainer, position: Position, seconds: float) -> Position:
    """As many epochs as there is time for, by how long the last one took; the schedule then ends with them."""
    deadline, done = trainer.stage.job.deadline, position.epoch - position.phase_epoch
    if deadline is None:
        return position
    (more,) = broadcast_object_list([int((deadline - time.perf_counter()) / seconds)])  # the first process decides
    fitting, known = done + max(0, more), position.limit or trainer.stage.recipe.epochs
    return replace(position, limit=min(known, fitting)) if fitting < known else position


def _step_seed(seed: int, step: int) -> int:
    digest = hashlib.blake2b(f"{seed}|{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _diverged(trainer: _Trainer, fed: Fed, step: int, loss: float) -> str:
    names, run = ", ".join(trainer.train.images[row] for row in fed.rows[:3]), trainer.stage.job.run
    return f"{run}: the loss became {loss} at step {step} (batch with {names}, ...); {_remedy(trainer)}"


def _remedy(trainer: _Trainer) -> str:
    some = trainer.stage.job.run.checkpoint("last").exists()
    kept = "the checkpoints of the epochs before are kept" if some else "nothing is kept"
    return f"lower the learning rate ({trainer.stage.recipe.learning_rate}); {kept}."
