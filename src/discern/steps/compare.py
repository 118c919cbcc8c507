"""Compare: several Runs on the same images, with the trivial baselines beside them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from discern.errors import UsageError
from discern.evaluation import comparison
from discern.evaluation.comparison import Comparison
from discern.runs.run import Run, open_run


def compare(runs: Sequence[Run | str | os.PathLike[str]], *, split: str = "test") -> Comparison:
    """Scores with intervals, paired tests corrected for their number, and the pick.

    The cost of a run is its measured milliseconds per image. The baselines are the first run's: all runs must be
    scored on the same images, or a DataError says which are not.
    """
    opened = [run if isinstance(run, Run) else open_run(run) for run in runs]
    if not opened:
        raise UsageError("There is nothing to compare: name at least one run; `discern runs` lists them.")
    names = distinct_names(opened)
    predictions = {name: run.predictions for name, run in zip(names, opened, strict=True)}
    cost = {name: float(run.info["milliseconds_per_image"]) for name, run in zip(names, opened, strict=True)}
    baselines = opened[0].baselines()
    return comparison.compare(
        predictions | baselines,
        cost | dict.fromkeys(baselines, 0.0),
        split=split,
        baselines=frozenset(baselines),
    )


def distinct_names(runs: Sequence[Run]) -> list[str]:
    """Directory names, or whole paths where two directories have one name."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]
