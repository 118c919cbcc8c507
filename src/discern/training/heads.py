"""Fused heads: hundreds of classifiers on the same frozen features, trained together, each as if it were alone.

A step of one head is so little work that asking for it costs ten times as much as doing it. Heads of one seed see the
same batches, so they are trained as a bank: weights stacked, batches and dropout made once, a call for all heads where
there was one for each, and a bank on each core. None depends on its neighbours: on a CPU, to the last bit (bank.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from threading import Lock

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from discern.errors import DataError, TrainingDiverged, UsageError
from discern.progress import Advance, Progress, Silent
from discern.training.bank import ROWS, Task, class_weights, fresh_bank, score, state_of, train_epoch
from discern.training.runtime import accelerator

_AT_ONCE = 1_000_000
"""Numbers in the first layer of a bank at most; gradients, AdamW's two moments and the best so far take as many each.
A third of it takes a tenth longer (64 units, 1,280 features); three times as much gains a twentieth, and leaves fewer
banks for the cores."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """A classifier of features, and how it is trained."""

    learning_rate: float
    """At the top of the schedule: a linear rise for one epoch, then a cosine to zero."""
    weight_decay: float = 0.01
    """Decoupled, as in AdamW; the recipe's default."""
    dropout: float = 0.0
    """Share of the last layer's inputs left out in training: features of a linear head, else units. Linear heads
    train together only with those of the same share, so take it from a few values."""
    hidden: int | None = None
    """Units (ReLU) of one hidden layer; none is a linear head."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes (Szegedy et al., 2016)."""
    seed: int = 0
    """Of the initial weights, the order of the images, their views and dropout."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A head after training, with the weights of its best epoch: the one with the lowest validation loss."""

    head: Head
    """What was asked for."""
    weights: dict[str, Tensor]
    """The state of `network()`, float32, on the CPU."""
    best_epoch: int
    """Counted from 1; the first of equals."""
    val_losses: tuple[float, ...]
    """Mean cross-entropy after each epoch, classes weighted when balanced."""
    val_accs: tuple[float, ...]
    """Accuracy after each epoch."""

    @property
    def val_loss(self) -> float:
        """Of the best epoch."""
        return self.val_losses[self.best_epoch - 1]

    @property
    def val_acc(self) -> float:
        """Of the best epoch."""
        return self.val_accs[self.best_epoch - 1]

    def network(self) -> nn.Sequential:
        """The head as a module, in evaluation mode: Linear, or Linear, ReLU, Dropout, Linear."""
        width, features = self.weights["0.weight"].shape
        layers: list[nn.Module] = [nn.Linear(features, width)]
        if self.head.hidden is not None:
            classes = len(self.weights["3.bias"])
            layers += [nn.ReLU(), nn.Dropout(self.head.dropout), nn.Linear(width, classes)]
        network = nn.Sequential(*layers)
        network.load_state_dict(self.weights)
        return network.eval()

    @torch.no_grad()
    def logits(self, features: Float[np.ndarray, "image feature"]) -> Float[np.ndarray, "image class"]:
        """What the head says of images, float32."""
        network, starts = self.network(), range(0, len(features), ROWS)
        parts = [network(torch.from_numpy(features[start : start + ROWS].astype(np.float32))) for start in starts]
        found: Float[np.ndarray, "image class"] = torch.cat(parts).numpy()
        return found


def train_heads(
    features: Float[np.ndarray, "view image feature"],
    labels: Int[np.ndarray, " image"],
    val_features: Float[np.ndarray, "val feature"],
    val_labels: Int[np.ndarray, " val"],
    heads: Sequence[Head],
    *,
    classes: int,
    epochs: int = 20,
    batch_size: int = 32,
    balance: bool = True,
    progress: Progress | None = None,
) -> list[Trained]:
    """Train every head, each with the result it would have alone, in the order of `heads`.

    Features may be memory-mapped; in every epoch an image shows one of its views. `balance` lets every class weigh the
    same in the loss. Raises UsageError, DataError and TrainingDiverged.
    """
    _refuse_impossible(heads, labels, val_labels, classes)
    device = accelerator().device
    truth, val_truth = (torch.as_tensor(each, dtype=torch.long, device=device) for each in (labels, val_labels))
    task = Task(
        features=np.asarray(features),
        labels=truth,
        weights=class_weights(truth, classes, balance),
        val_features=np.asarray(val_features),
        val_labels=val_truth,
        val_weights=class_weights(val_truth, classes, balance),
        epochs=epochs,
        batch_size=batch_size,
    )
    found: dict[int, Trained] = {}
    label, total, lock = f"Training {len(heads):,} heads", len(heads) * epochs, Lock()
    with (progress or Silent()).track(label, total, "epochs") as advance, _single_threads() as threads:

        def tell(done: int, note: str) -> None:
            with lock:
                advance(done, note)

        banks = list(_banks(heads, task))
        jobs = [threads.submit(_train_bank, task, [heads[row] for row in rows], tell) for rows in banks]
        for rows, job in zip(banks, jobs, strict=True):
            found |= zip(rows, job.result(), strict=True)
    return [found[row] for row in range(len(heads))]


@contextmanager
def _single_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that compute each on one core: steps are so short that cores which share one wait for each other."""
    cores = torch.get_num_threads()
    threads = ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)


def _refuse_impossible(
    heads: Sequence[Head], labels: Int[np.ndarray, " image"], val_labels: Int[np.ndarray, " val"], classes: int
) -> None:
    for head in heads:
        shares = 0 <= head.dropout < 1 and 0 <= head.label_smoothing < 1
        sizes = math.isfinite(head.learning_rate) and head.learning_rate > 0 and head.weight_decay >= 0
        if not (shares and sizes and (head.hidden is None or head.hidden > 0)):
            raise UsageError(
                f"{head} cannot be trained: give a learning rate above 0, a decay of at least 0, dropout and label "
                "smoothing from 0 to below 1, and at least one hidden unit or none."
            )
    known, taught, asked = set(range(classes)), set(labels.tolist()), set(val_labels.tolist())
    if taught != known or not asked or asked - known:
        raise DataError(
            f"Heads of {classes} classes cannot be trained on labels {sorted(taught)} and judged by {sorted(asked)}: "
            "give training images of each class, some validation images, and none of other classes."
        )


def _banks(heads: Sequence[Head], task: Task) -> Iterator[list[int]]:
    """Rows of heads that share their batches, and linear ones their dropout; not too many for a bank."""

    def kind(row: int) -> tuple[int, int, float]:
        head = heads[row]
        return head.seed, head.hidden or 0, 0.0 if head.hidden else head.dropout

    inputs = max(task.features.shape[2], task.batch_size, ROWS)  # of few features, the logits take more
    for (_, hidden, _), together in groupby(sorted(range(len(heads)), key=kind), kind):
        rows, most = list(together), max(1, _AT_ONCE // (inputs * (hidden or len(task.weights))))
        yield from (rows[start : start + most] for start in range(0, len(rows), most))


def _train_bank(task: Task, heads: Sequence[Head], advance: Advance) -> list[Trained]:
    """All epochs of heads that belong to one bank."""
    bank = fresh_bank(task, heads)
    optimizer = torch.optim.AdamW(bank.weights, lr=1.0, weight_decay=0.0, fused=True)
    best = [weight.clone() for weight in bank.weights]
    lowest = torch.full((len(heads),), math.inf, dtype=torch.float64)
    losses, accs = [], []
    for epoch in range(task.epochs):
        train_epoch(task, bank, optimizer, epoch)
        loss, acc = score(task, bank)
        if not loss.isfinite().all():
            head = heads[int(loss.isfinite().int().argmin())]
            raise TrainingDiverged(
                f"The validation loss of {head} became infinite or NaN in epoch {epoch + 1}: lower its learning rate, "
                "and check that all features are finite."
            )
        improved = loss < lowest
        lowest = torch.minimum(loss, lowest)
        for kept, weight in zip(best, bank.weights, strict=True):
            kept[improved] = weight[improved]
        losses.append(loss)
        accs.append(acc)
        advance(len(heads), f"val loss {loss.min().item():.3f}")
    return [
        Trained(
            head=head,
            weights=state_of(task, [weight[k] * bank.rates[k] for weight in best]),
            best_epoch=min(range(task.epochs), key=lambda epoch: losses[epoch][k]) + 1,
            val_losses=tuple(loss[k].item() for loss in losses),
            val_accs=tuple(acc[k].item() for acc in accs),
        )
        for k, head in enumerate(heads)
    ]
