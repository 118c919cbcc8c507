"""Compare: several Runs on the same images, with the trivial baselines beside them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from discern.errors import NotARun
from discern.evaluation.comparison import Comparison
from discern.evaluation.run_comparison import compare_runs
from discern.progress import Logged, Progress
from discern.runs.run import Run, open_run


def compare(
    runs: Sequence[Run | str | os.PathLike[str]], *, split: str = "test", progress: Progress | None = None
) -> Comparison:
    """Scores with intervals, paired tests corrected for their number, and the pick.

    Unfinished runs are left out, and that is said. Raises NotARun for a directory that is none, or when no run is
    finished; DataError when the runs were not scored on the same images.
    """
    progress = progress or Logged()
    opened = [run if isinstance(run, Run) else open_run(run) for run in runs]
    finished = [run for run in opened if run.info["status"] == "finished"]
    if opened and not finished:
        raise NotARun(f"No run is finished: `discern train --resume {opened[0]}` goes on with the first.")
    for run in opened:
        if run not in finished:
            progress.say(f"warning: {run} is unfinished and left out; `discern train --resume {run}` goes on with it.")
    return compare_runs(finished, split=split)
