"""Subject: a Run as the report sees it, every file read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from discern.data.audit.findings import Finding
from discern.data.dataset import Dataset
from discern.data.duplicates.gate import Passage
from discern.evaluation.run_comparison import distinct_names
from discern.runs.evaluation import Evaluation
from discern.runs.predictions import Predictions
from discern.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One Run with what it left, and the name the page gives it."""

    run: Run
    """The directory."""
    name: str
    """Directory name, or the whole path where two have one name."""
    anchor: str
    """Start of every id that belongs to it in the page."""
    info: dict[str, Any]
    """run.json."""
    evaluation: Evaluation
    """Its scores per split."""
    predictions: Predictions
    """What it said about every image it was scored on."""
    dataset: Dataset
    """The rows it saw."""
    findings: tuple[Finding, ...]
    """What the audit found in them."""
    passage: Passage | None
    """How they came through the gate; none for a run made before there was one."""

    @property
    def split(self) -> str:
        """The split that counts: test, or validation while the test split has not been opened."""
        return "test" if "test" in self.evaluation.splits else "val"


def subjects(runs: Sequence[Run]) -> tuple[Subject, ...]:
    """Read every Run; NotARun when one has not got as far as its scores."""
    return tuple(
        Subject(
            run=run,
            name=name,
            anchor=f"m{number}",
            info=run.info,
            evaluation=run.evaluation,
            predictions=run.predictions,
            dataset=run.dataset,
            findings=tuple(run.findings),
            passage=run.passage,
        )
        for number, (run, name) in enumerate(zip(runs, distinct_names(runs), strict=True), start=1)
    )


SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
"""How a split is called in a sentence."""
