"""Scores: one split of one run in numbers - the confusion matrix, the classes, the pairs it confuses."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

import numpy as np

from discern.evaluation.intervals import wilson
from discern.report import wording
from discern.report.subject import SPLIT_NAMES
from discern.runs.evaluation import Averages, ClassScores, Evaluation, SplitScores

_CONFUSED = 8
"""Sentences about confused pairs: what a person reads before skipping."""

Density = Literal["roomy", "tight", "dense"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Images of one class called one class."""

    count: int
    """How many."""
    share: str
    """Of the row, as percent without decimals; empty for none."""
    shade: str
    """The same in [0, 1] as CSS."""
    strong: bool
    """So dark that the text on it must be light."""
    hit: bool
    """On the diagonal."""
    title: str
    """The cell as a sentence; empty for none."""
    target: str
    """Id of the photos of the cell; empty where none are shown."""


@dataclass(frozen=True, kw_only=True)
class MatrixRow:
    """The images of one true class."""

    name: str
    """The class."""
    cells: tuple[Cell, ...]
    """One per predicted class."""
    support: int
    """Images of the class."""


@dataclass(frozen=True, kw_only=True)
class ClassLine:
    """One class or one average in the table."""

    name: str
    """Class name, or which average."""
    average: bool
    """Set apart from the classes."""
    precision: str
    """Share of the images called this that are it."""
    precision_range: str
    """Its 95 % interval; empty where nothing was called so, and for averages."""
    recall: str
    """Share of the images of this class that are called so."""
    recall_range: str
    """Its 95 % interval; empty for the macro average, which has none."""
    f1: str
    """Their harmonic mean."""
    f1_range: str
    """95 % interval of the macro average; empty elsewhere."""
    support: int
    """Images."""
    bars: tuple[str, str, str]
    """Precision, recall and F1 in [0, 1] as CSS."""
    whisker: tuple[str, str] | None
    """Start and width of the recall interval in [0, 1] as CSS."""


@dataclass(frozen=True, kw_only=True)
class SplitTable:
    """Everything about one split."""

    title: str
    """'Test', 'Validation'."""
    note: str
    """What the scores of this split may be used for."""
    n: int
    """Images scored."""
    top1: str
    """Share of images called what they are."""
    top1_range: str
    """Its 95 % interval."""
    macro_f1: str
    """Mean F1."""
    macro_f1_range: str
    """Its 95 % interval."""
    loss: str
    """Mean cross-entropy in nats."""
    classes: tuple[str, ...]
    """Heads of the matrix's columns."""
    density: Density
    """How much room a cell of the matrix has."""
    matrix: tuple[MatrixRow, ...]
    """True classes."""
    lines: tuple[ClassLine, ...]
    """Classes, then the macro and the weighted average."""
    confused: tuple[str, ...]
    """The most confused pairs as sentences, the largest share of a class first."""


_NOTES = {
    "test": "Opened once, after every choice was made: the scores to quote.",
    "val": "The checkpoint was chosen on these images, so the scores flatter the model a little.",
    "train": "The images it learned from: what it knows by heart.",
}


def split_tables(
    evaluation: Evaluation, anchor: str, with_photos: Container[tuple[int, int]]
) -> tuple[SplitTable, ...]:
    """A table per split, the one that counts first; test cells in `with_photos` point to their photos."""
    order = [split for split in ("test", "val", "train") if split in evaluation.splits]
    return tuple(
        _table(split, evaluation.splits[split], evaluation.classes, anchor, with_photos if split == order[0] else ())
        for split in order
    )


def cell_id(anchor: str, true: int, predicted: int) -> str:
    """Id of the photos of one cell."""
    return f"{anchor}-cell-{true}-{predicted}"


def _table(
    split: str, scores: SplitScores, classes: tuple[str, ...], anchor: str, with_photos: Container[tuple[int, int]]
) -> SplitTable:
    confusion = np.array(scores.confusion, dtype=np.int64)
    called = confusion.sum(axis=0)
    lines = [_class_line(each, int(called[k]), int(confusion[k, k])) for k, each in enumerate(scores.per_class)]
    return SplitTable(
        title=SPLIT_NAMES[split].capitalize(),
        note=_NOTES[split],
        n=scores.n,
        top1=wording.percent(scores.top1),
        top1_range=wording.percent_range(scores.top1_ci),
        macro_f1=wording.score(scores.macro_f1),
        macro_f1_range=wording.score_range(scores.macro_f1_ci),
        loss=wording.score(scores.loss),
        classes=classes,
        density="roomy" if len(classes) <= 10 else "tight" if len(classes) <= 30 else "dense",
        matrix=tuple(
            MatrixRow(
                name=name,
                cells=tuple(
                    _cell(
                        (int(confusion[true, guess]), int(confusion[true].sum())),
                        (name, classes[guess]),
                        true == guess,
                        cell_id(anchor, true, guess) if (true, guess) in with_photos else "",
                    )
                    for guess in range(len(classes))
                ),
                support=int(confusion[true].sum()),
            )
            for true, name in enumerate(classes)
        ),
        lines=(
            *lines,
            _average_line("macro average", scores.macro, scores, wording.score_range(scores.macro_f1_ci), ""),
            # The weighted mean of recall is top-1, and so is its interval.
            _average_line("weighted average", scores.weighted, scores, "", wording.percent_range(scores.top1_ci)),
        ),
        confused=_confused(confusion, classes),
    )


def _cell(counts: tuple[int, int], names: tuple[str, str], hit: bool, target: str) -> Cell:
    count, support = counts
    share = count / support if support else 0.0
    if not count:
        return Cell(count=0, share="", shade="0", strong=False, hit=hit, title="", target="")
    called = "called so" if hit else f"called {names[1]}"
    return Cell(
        count=count,
        share=f"{100 * share:.0f}%",
        shade=f"{share:.2f}",
        strong=share > 0.8,  # from here on light text is the easier to read
        hit=hit,
        title=f"{count:,} of {support:,} {names[0]} {called}",
        target=target,
    )


def _class_line(scores: ClassScores, called: int, hits: int) -> ClassLine:
    low, high = scores.recall_ci
    return ClassLine(
        name=scores.name,
        average=False,
        precision=wording.percent(scores.precision),
        precision_range=wording.percent_range(wilson(hits, called)) if called else "never called",
        recall=wording.percent(scores.recall),
        recall_range=wording.percent_range(scores.recall_ci),
        f1=wording.score(scores.f1),
        f1_range="",
        support=scores.support,
        bars=(_css(scores.precision), _css(scores.recall), _css(scores.f1)),
        whisker=(_css(low), _css(high - low)),
    )


def _average_line(name: str, means: Averages, scores: SplitScores, f1_range: str, recall_range: str) -> ClassLine:
    return ClassLine(
        name=name,
        average=True,
        precision=wording.percent(means.precision),
        precision_range="",
        recall=wording.percent(means.recall),
        recall_range=recall_range,
        f1=wording.score(means.f1),
        f1_range=f1_range,
        support=scores.n,
        bars=(_css(means.precision), _css(means.recall), _css(means.f1)),
        whisker=None,
    )


def _css(share: float) -> str:
    return f"{share:.3f}"


def _confused(confusion: np.ndarray[tuple[int, int], np.dtype[np.int64]], classes: tuple[str, ...]) -> tuple[str, ...]:
    """The cells off the diagonal that take the largest share of their class."""
    support = confusion.sum(axis=1)
    wrong = [(int(i), int(j)) for i, j in np.argwhere(confusion) if i != j]
    wrong.sort(key=lambda cell: (-confusion[cell] / support[cell[0]], -confusion[cell], cell))
    sentences = []
    for i, j in wrong[:_CONFUSED]:
        hits, n = int(confusion[i, j]), int(support[i])
        share = f"{wording.percent(hits / n)}, {wording.percent_range(wilson(hits, n))}"
        sentences.append(f"{hits:,} of {n:,} {classes[i]} called {classes[j]} ({share})")
    return tuple(sentences)
