"""A factory of whole Run directories, written through the real classes but without training."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.evaluation.metrics import evaluate
from discern.explanation.panels import panel
from discern.files import write_json
from discern.progress import Silent
from discern.runs.predictions import Predictions
from discern.runs.run import create_run
from discern.steps.prepare import prepare
from discern.training.recipe import Recipe


@pytest.fixture
def dataset(photos, rescan):
    """`dataset(["cat", "dog"])`: scanned photos in three splits; the classes can have any names."""

    def make(classes, *, train=3, val=2, test=4, into="photos"):
        folders = [f"c{k:02d}" for k in range(len(classes))]
        counts = {"train": train, "val": val, "test": test}
        root = photos({f"{split}/{each}": n for split, n in counts.items() for each in folders}, into=into)
        return rescan(root, classes)

    return make


@pytest.fixture
def rescan():
    """`rescan(root, classes)`: what is below `root` now, its classes renamed."""

    def make(root, classes):
        table, _ = scan(open_dataset(root), size=16, fit="pad")
        return replace(table, classes=tuple(classes))

    return make


def said(data, *, right, seed=0, splits=("val", "test")):
    """Predictions whose share `right` is right, in a random but fixed choice of images."""
    rng = np.random.default_rng(seed)
    parts = [data.split(split) for split in splits]
    labels = np.concatenate([part.labels for part in parts])
    classes, n = len(data.classes), len(labels)
    guesses = np.where(rng.random(n) < right, labels, (labels + 1 + rng.integers(0, classes - 1, n)) % classes)
    confidence = rng.uniform(0.6, 0.99, n)
    probabilities = np.tile(((1 - confidence) / (classes - 1))[:, None], classes)
    probabilities[np.arange(n), guesses] = confidence
    return Predictions(
        images=tuple(name for part in parts for name in part.images),
        splits=tuple(split for split, part in zip(splits, parts, strict=True) for _ in range(len(part))),
        labels=labels,
        probabilities=probabilities.astype(np.float32),
        classes=data.classes,
    )


@pytest.fixture
def finished_run(tmp_path):
    """`finished_run(data, "name", right=0.9)`: a Run as training leaves it; False leaves a part out.

    Its data pass the gate as in training: copies in several splits need a `leakage`.
    """

    def make(
        data,
        name="net-1",
        *,
        right=0.8,
        seed=0,
        cost=1.0,
        baseline=0.3,
        metrics=True,
        explained=True,
        splits=("val", "test"),
        leakage=None,
        because=None,
    ):
        recipe = Recipe(model="mini-cnn", epochs=5, precision="float32", leakage=leakage, because=because)
        prepared = prepare(data, recipe, size=16, progress=Silent())
        data = prepared.dataset
        run = create_run(
            tmp_path / "runs",
            name,
            "net",
            {
                "started": "2026-11-20T10:00:00+00:00",
                "command": ["/home/me/bin/discern", "train", "my photos"],
                "model": {"name": "mini-cnn", "parameters": 98307},
                "classes": list(data.classes),
                "seed": seed,
                "checkpoint": "best_val_loss",
                "preprocessing": {"size": 16, "fit": "pad", "mean": [0.5] * 3, "std": [0.2] * 3},
                "dataset": {"root": str(data.root), "fingerprint": data.fingerprint, **data.split_counts()},
                "gate": prepared.passage.to_json(),
                "device": "cpu",
                "epochs": 3,
                "milliseconds_per_image": cost,
                "training_seconds": 75.0,
                "test_openings": 1,
                "status": "finished",
            },
        )
        recipe.write(run.recipe_file)
        data.write(run.path / "dataset.parquet")
        write_json(run.path / "findings.json", [finding.to_json() for finding in prepared.findings])
        predictions = said(data, right=right, seed=seed, splits=splits)
        predictions.write(run.path / "predictions.parquet")
        write_json(run.path / "evaluation.json", evaluate(predictions).to_json())
        said(data, right=baseline, seed=99, splits=splits).write(run.path / "baselines" / "majority class.parquet")
        if metrics:
            lines = [(1.2, 0.4, 1.1, 0.5), (0.8, 0.7, 0.9, 0.6), (0.5, 0.9, 1.0, 0.55)]
            keys = ("train_loss", "train_acc", "val_loss", "val_acc")
            records = [{"epoch": i, **dict(zip(keys, line, strict=True))} for i, line in enumerate(lines, 1)]
            (run.path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        if explained:
            explain(run, predictions.split("test"))
        return run

    return make


def explain(run, test):
    """A right and a wrong panel, as far as there are such images."""
    folder, records = run.path / "explanations", []
    folder.mkdir()
    for hit in (True, False):
        for row in np.flatnonzero((test.predicted == test.labels) == hit)[:1]:
            photo = np.random.default_rng(int(row)).integers(0, 256, (16, 16, 3), np.uint8)
            file = f"{len(records):02d}.png"
            Image.fromarray(panel(photo, photo[:, :, 0] / 255)).save(folder / file)
            records.append(
                {
                    "file": file,
                    "image": test.images[row],
                    "label": test.classes[test.labels[row]],
                    "prediction": test.classes[test.predicted[row]],
                    "confidence": float(test.confidence[row]),
                }
            )
    write_json(folder / "explanations.json", records)
