"""Compare: several Runs on the same images, with the trivial baselines beside them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from discern.evaluation.comparison import Comparison
from discern.evaluation.run_comparison import compare_runs
from discern.runs.run import Run, open_run


def compare(runs: Sequence[Run | str | os.PathLike[str]], *, split: str = "test") -> Comparison:
    """Scores with intervals, paired tests corrected for their number, and the pick.

    Raises NotARun for a directory that is none or is not finished, DataError when the runs were not scored on the
    same images.
    """
    return compare_runs([run if isinstance(run, Run) else open_run(run) for run in runs], split=split)
