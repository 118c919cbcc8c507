"""Demo: the whole main job on the built-in images, with two models to compare."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from discern.data.synthetic.parts import Parts, ensure
from discern.evaluation.comparison import Comparison
from discern.progress import Logged, Progress
from discern.report.html import write_report
from discern.runs.run import Run
from discern.steps.compare import compare
from discern.steps.train import train

RECIPES = ("demo-parts-cnn", "demo-mini-cnn")


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """What the demo leaves."""

    photos: Path
    """The rendered images."""
    runs: tuple[Run, ...]
    """One per recipe."""
    comparison: Comparison
    """Of the runs, on the test split."""
    report: Path
    """One page about all of it."""


def demo(folder: str | os.PathLike[str], *, progress: Progress | None = None) -> Demonstration:
    """Run the main job below `folder`; the images are rendered once and kept in the cache."""
    progress, folder = progress or Logged(), Path(folder)
    parts = Parts()
    total = (parts.per_class + parts.test_per_class) * 5
    with progress.track("Rendering parts", total) as advance:
        photos = ensure(parts, on_progress=lambda done, total: advance(1, ""))
    runs = tuple(train(photos, recipe=recipe, runs=folder / "runs", progress=progress) for recipe in RECIPES)
    report = folder / "report.html"
    write_report(runs, report)
    return Demonstration(photos=photos, runs=runs, comparison=compare(runs), report=report)
