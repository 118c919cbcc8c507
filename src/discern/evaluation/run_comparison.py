"""Several Runs side by side: their names, their cost, the baselines, and the Comparison of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from discern.errors import NotARun, UsageError
from discern.evaluation.comparison import Comparison, compare
from discern.runs.predictions import Predictions
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
    same = _content_names(runs[0])
    baselines = {name: _renamed(said, runs[0], same) for name, said in runs[0].baselines().items()}
    return compare(
        {name: _renamed(run.predictions, run, same) for name, run in zip(names, runs, strict=True)} | baselines,
        {name: _cost(run) for name, run in zip(names, runs, strict=True)} | dict.fromkeys(baselines, 0.0),
        split=split,
        baselines=frozenset(baselines),
    )


def distinct_names(runs: Sequence[Run]) -> list[str]:
    """Directory names, or whole paths where two directories have one name."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _content_names(run: Run) -> dict[tuple[str, int], str]:
    """The run's name for every image by its content: digest, and which copy of it."""
    table = run.dataset.table
    return dict(zip(_contents(table["digest"].to_list()), table["image"].to_list(), strict=True))


def _renamed(predictions: Predictions, run: Run, same: dict[tuple[str, int], str]) -> Predictions:
    """With images of one content under one name, whatever folder each run found them in."""
    digests = dict(run.dataset.table.select("image", "digest").iter_rows())
    contents = _contents([digests[image] for image in predictions.images])
    # A content that the first run lacks keeps a name that says so, in case it is shown.
    names = [
        same.get(content, f"{image} (other content)")
        for content, image in zip(contents, predictions.images, strict=True)
    ]
    return replace(predictions, images=tuple(names))


def _contents(digests: list[str]) -> list[tuple[str, int]]:
    seen: Counter[str] = Counter()
    keys = []
    for digest in digests:
        keys.append((digest, seen[digest]))
        seen[digest] += 1
    return keys


def _cost(run: Run) -> float:
    cost = run.info.get("milliseconds_per_image")
    if cost is None:
        raise NotARun(f"The run {run} has no measured time per image: finish it with `discern train --resume {run}`.")
    return float(cost)
