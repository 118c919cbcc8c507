"""Find a learning rate for a network on one's photos."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from discern.data.sources import Data
from discern.files import writing
from discern.progress import Logged, Progress
from discern.report.curves import standalone
from discern.report.plots import rate_plot
from discern.runs.run import Run
from discern.steps.setting import job_of, settle
from discern.training.rates import Rates, find_rate
from discern.training.recipe import Recipe, load_recipe


def lr_find(
    data: Data,
    model: str | None = None,
    *,
    recipe: Recipe | str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> Rates:
    """Losses at ever higher learning rates, and the rate at which they fell fastest; the curve as SVG at `out`.

    `recipe`, `model` and `changes` as for `train`, whose checks of the data are made, too; nothing is kept.
    """
    progress = progress or Logged()
    plan = recipe if isinstance(recipe, Recipe) else load_recipe(os.fspath(recipe)) if recipe else Recipe()
    plan = plan.with_changes({**changes, **({"model": model} if model else {})})
    setting = settle(data, plan, progress, model=model)
    with tempfile.TemporaryDirectory() as folder:
        run, preprocessing = Run(Path(folder)), setting.preprocessing
        job = job_of(run, setting.plan, setting.network, setting.dataset, setting.pixels, preprocessing)
        found = find_rate(job, progress)
    if out is not None:
        said = f"{setting.plan.model}: the loss falls fastest at a learning rate of {found.suggestion:g}"
        rates, losses = found.rates.tolist(), found.losses.tolist()
        plot = rate_plot(rates, losses, chosen=found.suggestion, label=said, name="rates")
        with writing(Path(out)) as temporary:
            temporary.write_text(standalone(plot, title=said), encoding="utf-8")
    return found
