"""Portrait: one run on its own - what it is, how it learned, what it can and cannot tell apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from markupsafe import Markup

from discern.report import wording
from discern.report.gallery import Gallery, gallery, photographed
from discern.report.plots import curve_plot
from discern.report.scores import SplitTable, split_tables
from discern.report.subject import Subject

_CHECKPOINTS = {
    "best_val_loss": "lowest validation loss",
    "best_val_acc": "highest validation accuracy",
    "last": "the last epoch",
    "refit": "the chosen head, trained once more on training and validation images",
}


@dataclass(frozen=True, kw_only=True)
class Curves:
    """How the run learned."""

    loss: Markup
    """Loss per epoch."""
    accuracy: Markup
    """Accuracy per epoch."""
    sentence: str
    """The chosen epoch and the gap between training and validation in it."""


@dataclass(frozen=True, kw_only=True)
class Portrait:
    """The section of one run."""

    name: str
    """The run."""
    anchor: str
    """Its id in the page."""
    summary: str
    """Top-1 with interval and n: what its folded section shows."""
    open: bool
    """Unfolded at first."""
    facts: tuple[tuple[str, str], ...]
    """Name and value of what determined it."""
    curves: Curves | None
    """How it learned."""
    no_curves: str
    """Why there are no curves; empty when there are."""
    tables: tuple[SplitTable, ...]
    """Its scores, test first."""
    gallery: Gallery
    """Its photos."""


def portrait(subject: Subject, *, sharers: int, unfolded: bool) -> Portrait:
    """The section of one of `sharers` runs."""
    photos = gallery(subject, sharers=sharers)
    classes = subject.evaluation.classes
    tables = split_tables(subject.evaluation, subject.anchor, photographed(photos, subject.anchor, len(classes)))
    curves, no_curves = _curves(subject)
    first = tables[0]
    return Portrait(
        name=subject.name,
        anchor=subject.anchor,
        summary=f"{first.title} top-1 {first.top1} ({first.top1_range}, n = {first.n:,})",
        open=unfolded,
        facts=_facts(subject),
        curves=curves,
        no_curves=no_curves,
        tables=tables,
        gallery=photos,
    )


def _facts(subject: Subject) -> tuple[tuple[str, str], ...]:
    info, preprocessing = subject.info, subject.info["preprocessing"]
    fits = {
        "pad": "padded: nothing cut away, nothing stretched",
        "squash": "squashed: nothing cut away, but stretched",
        "crop": "cropped to the centre: the edges are not seen",
    }
    splits = ", ".join(f"{split} {number:,}" for split, number in subject.dataset.split_counts().items())
    facts = [
        ("Model", f"{info['model']['name']}, {info['model']['parameters']:,} parameters"),
        ("Input", f"{preprocessing['size']} \u00d7 {preprocessing['size']} pixels, {fits[preprocessing['fit']]}"),
        ("Images", splits),
        ("Data root", str(subject.dataset.root)),
        ("Fingerprint", str(info["dataset"]["fingerprint"])),
        ("Seed", str(info["seed"])),
    ]
    recipe = _recipe(subject)
    phases = (recipe or {}).get("phases") or []
    if info.get("weights"):
        licence = info["weights"]["licence"] or "not stated"
        facts.append(("Began with", f"{info['weights']['source']} (licence: {licence})"))
    if recipe:
        facts.append(("Arithmetic", f"{recipe['precision']} on {info.get('device', 'cpu')}"))
        usual = recipe["learning_rate"]
        solved = [phase.get("optimizer") == "lbfgs" for phase in phases]
        rates = [phase.get("learning_rate") or usual for phase in phases] or [usual]
        rate = ", then ".join(f"{rate:g}" for rate, exact in zip(rates, solved or [False], strict=True) if not exact)
        in_steps = f"{recipe['optimizer']}, rate {rate}, {recipe['schedule']}" if rate else ""
        facts.append(("Optimiser", ", then ".join(filter(None, ["L-BFGS" if any(solved) else "", in_steps]))))
    if phases:
        facts += _phases(phases, info)
    elif info.get("epochs") is not None:
        planned = f" of at most {recipe['epochs']}" if recipe and recipe["epochs"] != info["epochs"] else ""
        facts.append(("Epochs", f"{info['epochs']}{planned}"))
    facts.append(("Checkpoint", _CHECKPOINTS.get(info["checkpoint"], info["checkpoint"])))
    if info.get("training_seconds") is not None:
        facts.append(("Training took", wording.duration(float(info["training_seconds"]))))
    if info.get("milliseconds_per_image") is not None:
        facts.append(("Time per image", f"{wording.milliseconds(float(info['milliseconds_per_image']))} ms"))
    return tuple(facts)


def _phases(phases: list[dict[str, Any]], info: dict[str, Any]) -> list[tuple[str, str]]:
    """What was trained when, and which phase was kept."""
    done = info.get("phases", [])
    lines = [("Phase" if len(phases) == 1 else f"Phase {number}", _phase(told)) for number, told in enumerate(done, 1)]
    if len(phases) > 1 and info.get("chosen_phase"):
        lines.append(("Kept", f"phase {info['chosen_phase']}, epoch {info['chosen_epoch']} of all"))
    if "refit" in info:
        told = info["refit"]
        epochs = wording.count(told["epochs"], "epoch")
        lines.append(
            (
                "Refit",
                f"the head anew on all {wording.count(told['images'], 'image')} but the test's, {epochs}; validation "
                "scores are those of the head before",
            )
        )
    return lines


def _phase(told: dict[str, Any]) -> str:
    """One phase in words."""
    what = told["train"]
    if isinstance(what, float):
        part = f"the last {what:.0%} of the layers"
    elif isinstance(what, int):
        part = f"the last {wording.count(what, 'layer')}"
    else:
        part = {"head": "the head", "all": "everything"}.get(str(what), "named layers")
    return f"{part}, {wording.count(told['epochs'], 'epoch')}, {wording.duration(float(told['seconds']))}"


def _recipe(subject: Subject) -> dict[str, Any]:
    """The recipe as written; empty when the run has none."""
    file = subject.run.recipe_file
    return dict(yaml.safe_load(file.read_text(encoding="utf-8"))) if file.exists() else {}


def _curves(subject: Subject) -> tuple[Curves | None, str]:
    if not (subject.run.path / "metrics.jsonl").exists():
        return None, "This run has no metrics.jsonl, so how it learned cannot be shown."
    records = subject.run.metrics
    if not records:
        return None, "This run's metrics.jsonl is empty, so how it learned cannot be shown."
    checkpoint = subject.info.get("validated", subject.info["checkpoint"])
    chosen = subject.info.get("chosen_epoch") or _chosen(records, checkpoint)
    record = records[chosen - 1]
    epochs = wording.count(len(records), "epoch")
    sentence = (
        f"Epoch {record['epoch']} of {epochs} was chosen ({_CHECKPOINTS.get(checkpoint, 'last')}). In "
        f"it, accuracy on the training images was {wording.percent(record['train_acc'])}"
    )
    if "val_acc" in record:
        gap = record["train_acc"] - record["val_acc"]
        relation = "above" if gap >= 0 else "below"
        sentence += (
            f" and on the validation images {wording.percent(record['val_acc'])}: a generalisation gap of "
            f"{wording.points(gap)} points (training {relation} validation). Training accuracy is measured on the "
            "way, on varied images and while the weights still change, so the true gap is probably larger."
        )
    else:
        sentence += ". There were no validation images: all were trained on."
    plots = [
        curve_plot(
            [each[f"train_{key}"] for each in records],
            [each.get(f"val_{key}", math.nan) for each in records],
            chosen=chosen,
            unit=unit,
            label=f"{words} per epoch, training and validation, epoch {record['epoch']} chosen",
            name=f"{subject.anchor}-{key}",
        )
        for key, unit, words in (("loss", "", "Loss"), ("acc", "%", "Accuracy"))
    ]
    return Curves(loss=plots[0], accuracy=plots[1], sentence=sentence), ""


def _chosen(records: Sequence[dict[str, Any]], checkpoint: str) -> int:
    """The epoch (from 1) whose weights the checkpoint holds: of equals the first, as in training."""
    if checkpoint == "best_val_acc":
        best = max(range(len(records)), key=lambda i: records[i].get("val_acc", -math.inf))
    elif checkpoint == "best_val_loss":
        best = min(range(len(records)), key=lambda i: records[i].get("val_loss", math.inf))
    else:
        best = len(records) - 1
    return best + 1
