"""The training loop, whole: from fresh or resumed weights to the checkpoints of a Run.

Started as: resume from checkpoints/last, else fresh weights drawn from the recipe's seed. After every epoch the
validation split is scored, the checkpoints are written (best first, `last` last, so that a kill between them
repeats the epoch and writes the same again) and a line goes to metrics.jsonl. The test split is not touched.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor, nn

from discern.data.batches import epoch_length, plain_batches, training_batches
from discern.data.dataset import Dataset
from discern.data.pixels import Pixels
from discern.data.streaming import Stream
from discern.errors import TrainingDiverged
from discern.files import writing
from discern.models.preprocessing import Preprocessing
from discern.progress import Advance, Progress
from discern.runs.run import Run
from discern.training.checkpoint import Position, load_resumable, save_resumable, save_weights
from discern.training.optim import build_optimizer, learning_rate
from discern.training.recipe import Recipe
from discern.training.runtime import Arithmetic

_EVALUATION_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything one training needs, settled before it starts."""

    run: Run
    """Where checkpoints and metrics go."""
    recipe: Recipe
    """Resolved: no automatic choice is left."""
    model: nn.Module
    """With fresh weights, or any weights when it will be resumed."""
    dataset: Dataset
    """Scanned and split."""
    pixels: Pixels | Stream
    """Of the dataset."""
    preprocessing: Preprocessing
    """From the training images."""
    arithmetic: Arithmetic
    """How the network computes."""
    accelerator: Accelerator
    """The device."""


def fit(job: Job, progress: Progress) -> Position:
    """Train to the recipe's end or to its patience's, resuming from checkpoints/last where there is one.

    Raises TrainingDiverged, with the step and the images of the batch, when the loss is not finite.
    """
    recipe, run, device = job.recipe, job.run, job.accelerator.device
    train, val = job.dataset.split("train"), job.dataset.split("val")
    model = job.arithmetic.place(job.model, device)
    model, optimizer = job.accelerator.prepare(model, build_optimizer(model, recipe))
    last = run.checkpoint("last")
    position = load_resumable(last, model, optimizer) if last.exists() else Position()
    metrics = run.metrics[: position.epoch] if position.epoch else []

    total = epoch_length(train, recipe.balance) * (recipe.epochs - position.epoch)
    with progress.track(f"Training {recipe.model}", total) as advance:
        while not finished(position, recipe):
            start = time.perf_counter()
            train_scores = _train_epoch(job, model, optimizer, train, position, advance)
            images_per_second = epoch_length(train, recipe.balance) / (time.perf_counter() - start)
            val_loss, val_acc = _score(job, model, val)
            if not math.isfinite(val_loss):
                raise TrainingDiverged(
                    f"{run}: the validation loss became {val_loss} in epoch {position.epoch + 1}; {_remedy(job)}"
                )
            earned = _earned(position, val_loss, val_acc)
            seconds = position.seconds + time.perf_counter() - start
            position = _advanced(position, recipe, _steps(train, recipe), earned, val_loss, val_acc, seconds)
            metrics.append(
                {
                    "epoch": position.epoch,
                    "step": position.step,
                    **train_scores,
                    "val_loss": val_loss,
                    "val_acc": val_acc,
                    "learning_rate": optimizer.param_groups[0]["lr"],
                    "images_per_second": images_per_second,
                    "seconds": seconds,
                }
            )
            note = {"epoch": position.epoch, "val_loss": val_loss, "val_acc": val_acc}
            for name in earned:
                save_weights(run.checkpoint(name), model, note)
            with writing(run.path / "metrics.jsonl") as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in metrics), encoding="utf-8")
            save_resumable(last, model, optimizer, position, note)
            advance(0, f"epoch {position.epoch}/{recipe.epochs}  val loss {val_loss:.3f}  val acc {val_acc:.1%}")
    return position


def finished(position: Position, recipe: Recipe) -> bool:
    """Whether all epochs are done or patience has run out."""
    waited_out = recipe.patience is not None and position.stale >= recipe.patience
    return position.epoch >= recipe.epochs or waited_out


def _earned(position: Position, val_loss: float, val_acc: float) -> list[str]:
    """The checkpoints for which this epoch is the best so far."""
    loss_improved, acc_improved = val_loss < position.best_val_loss, val_acc > position.best_val_acc
    return ["best_val_loss"] * loss_improved + ["best_val_acc"] * acc_improved


def _advanced(
    position: Position,
    recipe: Recipe,
    steps: int,
    earned: list[str],
    val_loss: float,
    val_acc: float,
    seconds: float,
) -> Position:
    return Position(
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
    job: Job,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Dataset,
    position: Position,
    advance: Advance,
) -> dict[str, float]:
    """One pass over the training images; loss and accuracy as they were on the way."""
    recipe, device, steps_per_epoch = job.recipe, job.accelerator.device, _steps(train, job.recipe)
    weights = _class_weights(train, recipe).to(device)
    loss_function = nn.CrossEntropyLoss(weight=weights, label_smoothing=recipe.label_smoothing)
    model.train()
    total_loss, total_right, step = 0.0, 0, position.step
    batches = training_batches(
        train,
        job.pixels,
        batch_size=recipe.batch_size,
        augmentation=recipe.augment,
        balance=recipe.balance,
        seed=recipe.seed,
        epoch=position.epoch,
        device=device,
    )
    for batch in batches:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, steps_per_epoch)
        torch.manual_seed(_step_seed(recipe.seed, step))  # dropout, the same whether or not the run was resumed
        with job.arithmetic.autocast(device):
            logits = model(job.preprocessing.normalize(batch.images)).float()
            loss = loss_function(logits, batch.labels)
        if not torch.isfinite(loss):
            raise TrainingDiverged(_diverged(job, train, batch.rows, step, loss.item()))
        optimizer.zero_grad(set_to_none=True)
        job.accelerator.backward(loss)
        optimizer.step()
        total_loss += loss.item() * len(batch.rows)
        total_right += int((logits.argmax(1) == batch.labels).sum())
        step += 1
        advance(len(batch.rows), f"epoch {position.epoch + 1}/{recipe.epochs}  loss {loss.item():.3f}")
    seen = epoch_length(train, recipe.balance)
    return {"train_loss": total_loss / seen, "train_acc": total_right / seen}


@torch.no_grad()
def _score(job: Job, model: nn.Module, dataset: Dataset) -> tuple[float, float]:
    """Mean cross-entropy, classes weighted as in training, and accuracy over a split, in training arithmetic."""
    device = job.accelerator.device
    weights = _class_weights(dataset, job.recipe)
    model.eval()
    total_loss, right = 0.0, 0
    labels = torch.split(torch.from_numpy(dataset.labels), _EVALUATION_BATCH)
    batches = plain_batches(job.pixels, dataset.index, batch_size=_EVALUATION_BATCH)
    for images, truth in zip(batches, labels, strict=True):
        with job.arithmetic.autocast(device):
            logits = model(job.preprocessing.normalize(images.to(device))).float().cpu()
        total_loss += nn.functional.cross_entropy(logits, truth, weight=weights, reduction="sum").item()
        right += int((logits.argmax(1) == truth).sum())
    return total_loss / len(dataset), right / len(dataset)


def _class_weights(dataset: Dataset, recipe: Recipe) -> Float[Tensor, " class"]:
    """N / (classes x class size), as scikit-learn's 'balanced'; ones when the recipe does not balance."""
    counts = torch.bincount(torch.from_numpy(dataset.labels), minlength=len(dataset.classes)).float()
    return counts.sum() / (len(counts) * counts) if recipe.balance == "weights" else torch.ones_like(counts)


def _step_seed(seed: int, step: int) -> int:
    digest = hashlib.blake2b(f"{seed}|{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _diverged(job: Job, train: Dataset, rows: Int[np.ndarray, " b"], step: int, loss: float) -> str:
    names = ", ".join(train.images[row] for row in rows[:3])
    return f"{job.run}: the loss became {loss} at step {step} (batch with {names}, ...); {_remedy(job)}"


def _remedy(job: Job) -> str:
    kept = (
        "the checkpoints of the epochs before are kept" if job.run.checkpoint("last").exists() else "nothing is kept"
    )
    return f"lower the learning rate ({job.recipe.learning_rate}); {kept}."
