"""Claims: 1,000 linear heads on kept features of tools are trained within 60 s, each 10 × cheaper than on its own; and
1,000 hidden ones (64 units) within 15 minutes.

    python bench/fused_heads.py --repeats 3

A grid of learning rates, decays, dropouts and seeds on the features that MobileNetV2 gives for data/tools; 20 epochs,
batches of 32, balanced classes, best epoch on validation, in these ways:

- fused: `train_heads` with all of them;
- alone: `train_heads` with one after the other, a sample of them drawn at random;
- plain: a loop over nn.Linear, nn.Dropout and torch.optim.AdamW for the same sample, features in memory as float32, on
  one core or on all, whichever is faster.

Round after round each way runs in a process of its own, in rotating order; the clock starts when the features are
loaded and a head has been trained for one epoch. Ends with an error when fused heads are not what they are alone, or
are less accurate than plain ones. Those draw other batches and masks, so it is the mean of the sample that compares:
it must not be lower by more than two standard errors.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import sys
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import measure
import numpy as np
import pictures
import torch
from torch import nn

from discern.training.heads import Head, Trained, train_heads

WAYS = ("fused", "alone", "plain")

SECONDS, TIMES = {"linear": 60.0, "hidden": 900.0}, 10.0
"""Of the claims: for 1,000 heads; and how many times as much a linear head costs alone, at least."""

EPOCHS, BATCH, UNITS = 20, 32, 64

SAMPLE = {"linear": 50, "hidden": 25}
"""Heads that are trained one after the other."""

SAME_LOSS = 1e-5
"""Relative difference of the lowest validation loss that rounding may make."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one way did once."""

    seconds: float
    """For all of its heads."""
    heads: int
    """How many these were."""
    losses: list[float]
    """Lowest validation loss of each head of the sample."""
    accs: list[float]
    """Accuracy at that."""

    @property
    def each(self) -> float:
        """Milliseconds per head."""
        return self.seconds / self.heads * 1e3


def main() -> None:
    """Measure linear and hidden heads."""
    parser = argparse.ArgumentParser(description="Cost of heads trained together, one after the other, and by torch.")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--quick", action="store_true", help="100 heads, 10 of them alone, one round, no RESULTS.md")
    parser.add_argument("--child", nargs=4, metavar=("WAY", "KIND", "MATERIAL", "ANSWER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        way, kind, material, answer = asked.child
        Path(answer).write_text(json.dumps(vars(trained(way, kind, Path(material), quick=asked.quick))))
        return
    setting = measure.setting()
    turns: dict[str, dict[str, list[Turn]]] = {kind: {way: [] for way in WAYS} for kind in SECONDS}
    with measure.scratch() as folder:
        np.savez(folder / "material.npz", **material_of_tools())
        for round_, kind in product(range(1 if asked.quick else asked.repeats), SECONDS):
            for k in range(len(WAYS)):
                way, answer = WAYS[(round_ + k) % len(WAYS)], folder / "answer.json"
                child = [sys.executable, __file__, "--child", way, kind, folder / "material.npz", answer]
                measure.run([*child, *["--quick"] * asked.quick])
                turns[kind][way].append(Turn(**json.loads(answer.read_text())))
                print(f"round {round_ + 1}, {kind}, {way}: {turns[kind][way][-1].each:.1f} ms per head", flush=True)
    measure.publish("Fused heads", section(turns), setting, quick=asked.quick)
    wrong = [kind for kind, of in turns.items() if not same(of)]
    if wrong:
        sys.exit(f"Fused {' and '.join(wrong)} heads are not as good as others: the speeds do not compare.")


def material_of_tools() -> dict[str, np.ndarray]:
    """Features and labels of training and validation images."""
    from discern.data.scan import scan
    from discern.data.split import with_splits
    from discern.models.backbones import load_backbone
    from discern.steps.audit import size_for
    from discern.training.frozen import features

    dataset = pictures.tools()
    dataset, pixels = scan(dataset, size=size_for(dataset), fit="pad")
    dataset = with_splits(dataset, seed=0)
    weights = pictures.data() / "weights" / "mobilenetv2_100.imagenet"
    rows, split = features(dataset, pixels, load_backbone("mobilenetv2_100", str(weights))), dataset.table["split"]
    train, val = (split.to_numpy() == name for name in ("train", "val"))
    return {
        "features": np.asarray(rows)[train][None],
        "labels": dataset.labels[train],
        "val_features": np.asarray(rows)[val],
        "val_labels": dataset.labels[val],
    }


def grid(kind: str, *, quick: bool) -> tuple[list[Head], list[int]]:
    """All heads, and which of them are the sample."""
    rates, decays = np.logspace(-4, -2, 10).tolist(), (0.0, 1e-3, 1e-2, 1e-1, 1.0)
    dropouts, seeds = ((0.0, 0.4), range(1)) if quick else ((0.0, 0.2, 0.4, 0.6), range(5))
    units = UNITS if kind == "hidden" else None
    heads = [
        Head(learning_rate=rate, weight_decay=decay, dropout=dropout, hidden=units, seed=seed)
        for rate, decay, dropout, seed in product(rates, decays, dropouts, seeds)
    ]
    sample = np.random.default_rng(0).choice(len(heads), 10 if quick else SAMPLE[kind], replace=False)
    return heads, sorted(sample.tolist())


def trained(way: str, kind: str, file: Path, *, quick: bool) -> Turn:
    """Train the heads of a kind in one of the ways."""
    heads, sample = grid(kind, quick=quick)
    material, threads = dict(np.load(file)), torch.get_num_threads()
    if way == "plain":
        seconds = {count: clock(way, material, heads[:1], epochs=2, threads=count)[0] for count in (1, threads)}
        threads = min(seconds, key=seconds.__getitem__)
    clock(way, material, heads[:1], epochs=1, threads=threads)
    some = heads if way == "fused" else [heads[k] for k in sample]
    seconds_, scores = clock(way, material, some, epochs=EPOCHS, threads=threads)
    scores = [scores[k] for k in sample] if way == "fused" else scores
    losses, accs = zip(*scores, strict=True)
    return Turn(seconds=seconds_, heads=len(some), losses=list(losses), accs=list(accs))


def clock(
    way: str, material: dict[str, np.ndarray], heads: list[Head], *, epochs: int, threads: int
) -> tuple[float, list[tuple[float, float]]]:
    """Seconds, and lowest validation loss and accuracy of each head."""
    torch.set_num_threads(threads)
    classes = int(material["labels"].max()) + 1

    def together(some: list[Head]) -> list[Trained]:
        return train_heads(**material, heads=some, classes=classes, epochs=epochs, batch_size=BATCH, balance=True)

    began = time.perf_counter()
    if way == "plain":
        inputs = [torch.from_numpy(material[name]).float() for name in ("features", "val_features")]
        labels = [torch.from_numpy(material[name]).long() for name in ("labels", "val_labels")]
        scores = [plain(inputs[0][0], labels[0], inputs[1], labels[1], head, classes, epochs) for head in heads]
    else:
        found = together(heads) if way == "fused" else [one for head in heads for one in together([head])]
        scores = [(each.val_loss, each.val_acc) for each in found]
    return time.perf_counter() - began, scores


def plain(
    inputs: torch.Tensor,
    labels: torch.Tensor,
    val_inputs: torch.Tensor,
    val_labels: torch.Tensor,
    head: Head,
    classes: int,
    epochs: int,
) -> tuple[float, float]:
    """Lowest validation loss, and accuracy at that, of a head trained as everybody does it."""
    torch.manual_seed(head.seed)
    width = inputs.shape[1]
    layers = [nn.Linear(width, head.hidden), nn.ReLU()] if head.hidden else []
    network = nn.Sequential(*layers, nn.Dropout(head.dropout), nn.Linear(head.hidden or width, classes))
    optimizer = torch.optim.AdamW(network.parameters(), lr=head.learning_rate, weight_decay=head.weight_decay)
    steps = math.ceil(len(inputs) / BATCH)

    def factor(step: int) -> float:
        rest = (step - steps) / max(1, (epochs - 1) * steps)
        return (step + 1) / (steps + 1) if step < steps else 0.5 * (1 + math.cos(math.pi * min(1.0, rest)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    loss = nn.CrossEntropyLoss(balanced(labels, classes), label_smoothing=head.label_smoothing)
    val_loss = nn.CrossEntropyLoss(balanced(val_labels, classes))
    best, lowest, state = (math.inf, 0.0), math.inf, None
    for _ in range(epochs):
        network.train()
        for rows in torch.randperm(len(inputs)).split(BATCH):
            optimizer.zero_grad()
            loss(network(inputs[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            logits = network(val_inputs)
            now = val_loss(logits, val_labels).item()
            if now < lowest:
                lowest, state = now, copy.deepcopy(network.state_dict())
                best = now, (logits.argmax(dim=1) == val_labels).float().mean().item()
    assert state is not None
    return best


def balanced(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """What each class weighs."""
    counts = torch.bincount(labels, minlength=classes)
    return len(labels) / (classes * counts)


def same(turns: dict[str, list[Turn]]) -> bool:
    """Whether fused heads are what they are alone, and as accurate as plain ones."""
    gain, error = gained(turns)
    return difference(turns) <= SAME_LOSS and gain >= -2 * error


def difference(turns: dict[str, list[Turn]]) -> float:
    """The largest relative difference of a fused head's loss to the same head's alone."""
    fused, alone = (np.array([turn.losses for turn in turns[way]]) for way in ("fused", "alone"))
    return float(np.abs(fused / alone - 1).max())


def gained(turns: dict[str, list[Turn]]) -> tuple[float, float]:
    """Mean of a fused head's accuracy less a plain one's, and its standard error; the rounds are the same."""
    fused, plain = (np.array(turns[way][0].accs) for way in ("fused", "plain"))
    return float((fused - plain).mean()), float((fused - plain).std(ddof=1) / math.sqrt(len(fused)))


def section(turns: dict[str, dict[str, list[Turn]]]) -> str:
    """The cost of a head in each way, and the same accuracy."""
    costs, scores = [], []
    for kind, of in turns.items():
        times = {way: [a.each / b.each for a, b in zip(of[way], of["fused"], strict=True)] for way in WAYS[1:]}
        costs.append(
            [
                kind,
                f"{of['fused'][0].heads:,}",
                measure.spread([turn.seconds for turn in of["fused"]], 1),
                *(measure.spread([turn.each for turn in of[way]], 1) for way in WAYS),
                *(measure.spread(each, 1) for each in times.values()),
            ]
        )
        (gain, error), means = gained(of), [f"{statistics.mean(of[way][0].accs):.4f}" for way in WAYS]
        scores.append(
            [kind, f"{of['alone'][0].heads}", f"{difference(of):.1e}", *means, f"{gain:+.4f} ± {2 * error:.4f}"]
        )
    columns = ["heads", "fused", "seconds", *(f"{way}: ms per head" for way in WAYS), "alone ÷ fused", "plain ÷ fused"]
    rounds = len(turns["linear"]["fused"])
    return (
        f"MobileNetV2 features of data/tools, {EPOCHS} epochs, batches of {BATCH}, hidden heads of {UNITS} units; "
        f"rounds: {rounds}, median and range. Claimed for 1,000 heads: linear ones in {SECONDS['linear']:.0f} s and "
        f"{TIMES:.0f} × cheaper than alone, hidden ones in {SECONDS['hidden'] / 60:.0f} minutes.\n\n"
        f"{measure.table(columns, costs)}\n\n"
        "Of the sample that was trained in every way, the largest relative difference of a validation loss, fused and "
        "alone; mean validation accuracy of the best epochs; and its gain with two standard errors:\n\n"
        f"{measure.table(['heads', 'sample', 'loss differs by', *WAYS, 'fused − plain'], scores)}"
    )


if __name__ == "__main__":
    main()
