"""Evaluation: the scores of one Run, per split, as kept in evaluation.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """How well one class is told from the others."""

    name: str
    """Class name."""
    precision: float
    """Share of the images called this class that are it; 0 when none is called so."""
    recall: float
    """Share of the images of this class that are called so."""
    recall_ci: Interval
    """95 % interval of the recall (Wilson, 1927)."""
    f1: float
    """Harmonic mean of precision and recall."""
    support: int
    """Images of this class."""


@dataclass(frozen=True, kw_only=True)
class Averages:
    """Precision, recall and F1 averaged over the classes."""

    precision: float
    """Mean precision."""
    recall: float
    """Mean recall."""
    f1: float
    """Mean F1."""


@dataclass(frozen=True, kw_only=True)
class SplitScores:
    """The scores on one split."""

    n: int
    """Images scored."""
    top1: float
    """Share of images whose most probable class is the true one."""
    top1_ci: Interval
    """95 % interval of top1 (Wilson, 1927)."""
    macro_f1: float
    """Unweighted mean F1 over the classes."""
    macro_f1_ci: Interval
    """95 % interval of macro F1 (percentile bootstrap over images, stratified by class)."""
    loss: float
    """Mean cross-entropy in nats."""
    macro: Averages
    """Averages with every class weighing the same."""
    weighted: Averages
    """Averages with every class weighing as its support."""
    per_class: tuple[ClassScores, ...]
    """One entry per class, in class order."""
    confusion: tuple[tuple[int, ...], ...]
    """Counts: a row per true class, a column per predicted class."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The scores of one Run on each split it was scored on."""

    classes: tuple[str, ...]
    """Class names, in the order of the confusion matrix."""
    splits: dict[str, SplitScores]
    """Scores by split name: 'val', 'test'."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, as kept in evaluation.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Evaluation:
        """Read back what `to_json` gave."""
        return cls(
            classes=tuple(record["classes"]),
            splits={name: _split_scores(scores) for name, scores in record["splits"].items()},
        )

    def __str__(self) -> str:
        """A small table: what a person wants to see after `print(run.evaluation)`."""
        width = max(len(name) for name in (*self.classes, "weighted"))
        lines = []
        for split, s in self.splits.items():
            low, high = s.top1_ci
            lines.append(
                f"{split}: top-1 {s.top1:.1%} [{low:.1%}, {high:.1%}], macro F1 {s.macro_f1:.3f}, "
                f"loss {s.loss:.4f}, n = {s.n}"
            )
            lines.append(f"  {'class':<{width}}  precision  recall      f1  support")
            rows = [(c.name, c.precision, c.recall, c.f1, c.support) for c in s.per_class]
            rows += [
                (name, a.precision, a.recall, a.f1, s.n) for name, a in (("macro", s.macro), ("weighted", s.weighted))
            ]
            lines += [
                f"  {name:<{width}}  {precision:9.3f}  {recall:6.3f}  {f1:6.3f}  {support:7d}"
                for name, precision, recall, f1, support in rows
            ]
        return "\n".join(lines)


def _split_scores(record: dict[str, Any]) -> SplitScores:
    def interval(name: str) -> Interval:
        low, high = record[name]
        return (low, high)

    return SplitScores(
        n=record["n"],
        top1=record["top1"],
        top1_ci=interval("top1_ci"),
        macro_f1=record["macro_f1"],
        macro_f1_ci=interval("macro_f1_ci"),
        loss=record["loss"],
        macro=Averages(**record["macro"]),
        weighted=Averages(**record["weighted"]),
        per_class=tuple(
            ClassScores(**{**c, "recall_ci": (c["recall_ci"][0], c["recall_ci"][1])}) for c in record["per_class"]
        ),
        confusion=tuple(tuple(row) for row in record["confusion"]),
    )
