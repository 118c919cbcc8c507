"""Train: from data and a recipe to a finished Run - trained, predicted, evaluated, explained, reported."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from discern.data.dataset import Dataset
from discern.data.pixels import Pixels
from discern.data.reading import as_on_disk
from discern.data.sources import Data
from discern.data.streaming import Stream, images_of
from discern.errors import DataError, NotARun
from discern.files import write_json
from discern.models import zoo
from discern.models.network import Network
from discern.models.preprocessing import Preprocessing
from discern.progress import Logged, Progress
from discern.report.html import write_report
from discern.runs.run import Run, create_run, open_run, refuse_place, working_on
from discern.steps.continuing import network_of
from discern.steps.explain import explain, mapped
from discern.steps.judge import judge, judging_time
from discern.steps.live import live
from discern.steps.setting import Setting, fresh, job_of, settle, weights_for
from discern.steps.together import agreed, first_alone, heard, is_first
from discern.training.checkpoint import PREVIOUS, last_whole
from discern.training.loop import fit
from discern.training.recipe import Recipe, load_recipe
from discern.training.refit import refit
from discern.training.tracking import refuse_trackers


def train(
    data: Data,
    model: str | None = None,
    *,
    recipe: Recipe | str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = "runs",
    name: str | None = None,
    track: Sequence[str] = (),
    progress: Progress | None = None,
    **changes: Any,
) -> Run:
    """Train one model and judge it; the Run directory it returns holds everything.

    `recipe` is a Recipe, the name of one, or a YAML file; `model` and `changes` (any field of Recipe) replace parts
    of it; `track` names trackers that follow it ('tensorboard', 'wandb', 'mlflow'). Raises DataError for data that
    cannot be used, UsageError for names and values that make no sense.
    """
    progress, start = heard(progress or Logged()), time.perf_counter()
    refuse_trackers(track)
    plan = recipe if isinstance(recipe, Recipe) else load_recipe(os.fspath(recipe)) if recipe else Recipe()
    plan = plan.with_changes({**changes, **({"model": model} if model else {})})
    refuse_place(Path(runs), name)
    with first_alone():
        setting = settle(data, plan, progress, model=model)
    setting = replace(setting, plan=agreed(setting.plan))  # what was measured differs
    run = agreed(_begun(Path(runs), name, setting, track) if is_first() else None)
    with _at_work(run):
        network, plan = setting.network, setting.plan
        return _train_and_judge(run, network, plan, setting.dataset, setting.pixels, progress, start)


def _begun(runs: Path, name: str | None, setting: Setting, track: Sequence[str]) -> Run:
    """A new Run with all that is known before training."""
    tracking: dict[str, Any] = {"tracking": {each: {} for each in track}} if track else {}
    run = create_run(runs, name, setting.plan.model, {**setting.record(), **tracking})
    setting.plan.write(run.recipe_file)
    setting.dataset.write(run.path / "dataset.parquet")
    write_json(run.path / "findings.json", [finding.to_json() for finding in setting.prepared.findings])
    return run


def _at_work(run: Run) -> AbstractContextManager[None]:
    return working_on(run) if is_first() else nullcontext()


def resume(path: str | os.PathLike[str], *, progress: Progress | None = None) -> Run:
    """Go on with an interrupted Run from its last epoch; a finished one is returned as it is.

    Raises DataError when the images are no longer the ones it started with.
    """
    progress, start = heard(progress or Logged()), time.perf_counter()
    run = open_run(path)
    if run.info["status"] == "finished":
        progress.say(f"{run} is finished already; nothing to do.")
        return run
    if not (run.path / "findings.json").exists():  # the last file that is written before training
        raise NotARun(f"{run} was stopped before its training began; remove it and start anew.")
    refuse_trackers(run.info.get("tracking", ()))
    with _at_work(run):
        return _resume(run, progress, start)


def _resume(run: Run, progress: Progress, start: float) -> Run:
    for half_written in run.path.rglob(".*.tmp") if is_first() else ():  # by a process that was killed
        half_written.unlink()
    plan, dataset = load_recipe(str(run.recipe_file)), run.dataset
    listing, size = as_on_disk(dataset), plan.size or 0
    with first_alone():
        scanned, pixels, _ = images_of(listing, size=size, fit=plan.fit, kept=plan.pixels, progress=progress)
    if scanned.fingerprint != dataset.fingerprint:
        raise DataError(
            f"The images below {dataset.root} have changed since {run} began; put them back, or start a new run."
        )
    if last_whole(run.checkpoint("last")):
        network = zoo.from_record(run.info["model"])  # the checkpoint has all weights
    elif plan.begin:
        network = network_of(open_run(plan.begin), dataset.classes, progress)
    else:
        network = fresh(plan, weights_for(plan, progress), classes=len(dataset.classes), size=plan.size or 0)
    return _train_and_judge(run, network, plan, scanned, pixels, progress, start)


def _train_and_judge(
    run: Run,
    network: Network,
    plan: Recipe,
    dataset: Dataset,
    pixels: Pixels | Stream,
    progress: Progress,
    began: float,
) -> Run:
    seconds_before = time.perf_counter() - began
    preprocessing = Preprocessing.from_json(run.info["preprocessing"])
    job = job_of(run, plan, network, dataset, pixels, preprocessing)
    if plan.time_budget is not None:
        job = replace(job, deadline=began + plan.time_budget - judging_time(job))
    try:
        if job.main:
            run.update(status="training")
        with torch.random.fork_rng(), live(job, progress) as shown:
            position = fit(shown, progress)
            refit(job, network, progress)
        if not job.main:
            return run  # the first process judges alone
        start = time.perf_counter()
        run.update(status="judging", epochs=position.epoch)
        judged = judge(run, plan, dataset, pixels, progress)
        if judged != ["train"] and mapped(run):
            explain(run, progress=progress)
        elif judged != ["train"]:
            progress.say(f"{run.model} has no last map of places: there are no heat maps.")
        seconds = seconds_before + position.seconds + time.perf_counter() - start
        run.update(seconds=round(seconds, 2), training_seconds=round(position.seconds, 2))
        if judged != ["train"]:
            write_report([run], run.path / "report.html")
        run.checkpoint(PREVIOUS).unlink(missing_ok=True)
        run.update(status="finished")
    except KeyboardInterrupt as stop:
        raise type(stop)(f"`discern train --resume {run}` goes on where it stopped.") from stop
    return run
