"""Predictions: what a model said about every image of the splits it was scored on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from discern.errors import DataError
from discern.files import write_table

Labels = Int[np.ndarray, " image"]
Probabilities = Float[np.ndarray, "image class"]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """A row per image: which one, its split, its true label and a probability for every class."""

    images: tuple[str, ...]
    """Names of the images, as the Dataset names them."""
    splits: tuple[str, ...]
    """The split of each image: 'train', 'val' or 'test'."""
    labels: Labels
    """True class indices; -1 where the truth is unknown."""
    probabilities: Probabilities
    """float32, each row sums to one."""
    classes: tuple[str, ...]
    """Class names, in the order of the probability columns."""

    def __post_init__(self) -> None:
        expected = (len(self.images), len(self.classes))
        lengths = {len(self.images), len(self.labels), len(self.splits)}
        if self.probabilities.shape != expected or len(lengths) > 1:
            raise DataError(
                f"Predictions do not fit together: probabilities have shape {self.probabilities.shape}, "
                f"expected {expected} for {len(self.images)} images and {len(self.classes)} classes, with "
                f"{len(self.labels)} labels and {len(self.splits)} splits; give one of each per image."
            )
        if len(set(self.classes)) != len(self.classes):
            # One column per class name: the second of a pair would overwrite the first on disk.
            twice = next(name for name in self.classes if self.classes.count(name) > 1)
            raise DataError(f"Two classes are called '{twice}'; rename one.")
        if len(self) and not -1 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise DataError(
                f"The labels run from {self.labels.min()} to {self.labels.max()}: give 0 .. "
                f"{len(self.classes) - 1} for the {len(self.classes)} classes and -1 for an unknown truth."
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def predicted(self) -> Labels:
        """Index of the most probable class of every image."""
        winners: Labels = self.probabilities.argmax(axis=1)
        return winners

    @property
    def confidence(self) -> Float[np.ndarray, " image"]:
        """Probability of the predicted class."""
        highest: Float[np.ndarray, " image"] = self.probabilities.max(axis=1)
        return highest

    def split(self, name: str) -> Predictions:
        """Only the images of one split, in the same order."""
        keep = np.flatnonzero(np.array(self.splits, dtype=str) == name)
        return self.take(keep)

    def take(self, rows: Int[np.ndarray, " row"]) -> Predictions:
        """Only the given rows, in the given order."""
        return Predictions(
            images=tuple(self.images[i] for i in rows),
            splits=tuple(self.splits[i] for i in rows),
            labels=self.labels[rows],
            probabilities=self.probabilities[rows],
            classes=self.classes,
        )

    def to_table(self) -> pl.DataFrame:
        """Columns: image, split, label, prediction, confidence, then `p(<class>)` for every class."""
        names = np.array([*self.classes, None], dtype=object)  # index -1 is the unknown truth
        columns: dict[str, object] = {
            "image": list(self.images),
            "split": list(self.splits),
            "label": names[self.labels].tolist(),
            "prediction": names[self.predicted].tolist(),
            "confidence": self.confidence,
        }
        columns |= {f"p({c})": self.probabilities[:, k] for k, c in enumerate(self.classes)}
        # Without a type, a column of no or only unknown values would not be text.
        text = dict.fromkeys(("image", "split", "label", "prediction"), pl.String)
        return pl.DataFrame(columns, schema_overrides=text)

    def write(self, path: Path) -> None:
        """Write the table as Parquet, whole or not at all."""
        write_table(path, self.to_table())

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read back what `write` wrote."""
        table = pl.read_parquet(path)
        classes = tuple(c[2:-1] for c in table.columns if c.startswith("p("))
        index = {name: k for k, name in enumerate(classes)}
        return cls(
            images=tuple(table["image"]),
            splits=tuple(table["split"]),
            labels=np.array([index.get(label, -1) for label in table["label"]], dtype=np.int64),
            probabilities=table.select([f"p({c})" for c in classes]).to_numpy().astype(np.float32),
            classes=classes,
        )
