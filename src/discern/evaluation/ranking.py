"""Several Runs side by side: their names, their cost, the baselines, and the Comparison of all of them."""

from __future__ import annotations

from collections.abc import Sequence

from discern.errors import NotARun, UsageError
from discern.evaluation.comparison import Comparison, compare
from discern.runs.run import Run


def compare_runs(runs: Sequence[Run], *, split: str = "test") -> Comparison:
    """Scores with intervals, paired tests corrected for their number, and the pick.

    The cost of a run is its measured milliseconds per image. The baselines are the first run's. Raises UsageError
    without a run or with one named twice, NotARun for one that is not finished, DataError when they were not
    scored on the same images.
    """
    if not runs:
        raise UsageError("There is nothing to compare: name at least one run; `discern runs` lists them.")
    names = distinct_names(runs)
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"The run {twice} is named twice; name each run once.")
    baselines = runs[0].baselines()
    return compare(
        {name: run.predictions for name, run in zip(names, runs, strict=True)} | baselines,
        {name: _cost(run) for name, run in zip(names, runs, strict=True)} | dict.fromkeys(baselines, 0.0),
        split=split,
        baselines=frozenset(baselines),
    )


def distinct_names(runs: Sequence[Run]) -> list[str]:
    """Directory names, or whole paths where two directories have one name."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _cost(run: Run) -> float:
    cost = run.info.get("milliseconds_per_image")
    if cost is None:
        raise NotARun(f"The run {run} has no measured time per image: finish it with `discern train --resume {run}`.")
    return float(cost)
