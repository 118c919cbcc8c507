"""Refit: a head that validation has chosen learns once more, from the validation images as well.

On frozen work that costs seconds, and where images are few each one counts. How long it learns is what validation
chose; the scores on validation images stay those of the head that had not seen them.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace

import torch

from discern.files import write_json
from discern.models.network import Network
from discern.progress import Progress
from discern.runs.run import REFIT, Run
from discern.training.checkpoint import load_weights, note_of, save_weights
from discern.training.exact import decay_of
from discern.training.loop import fit
from discern.training.phases import Phase
from discern.training.stages import Job


def refit(job: Job, network: Network, progress: Progress) -> None:
    """Train the chosen head anew on training and validation images, for as many epochs as it was chosen after.

    Nothing is done where more than a head was chosen, where nothing frozen is kept, where the recipe does not want it,
    or where the time is over. Killed in the middle it is begun again, or gone on with, by the next call.
    """
    run, start = job.run, time.perf_counter()
    phase = _wanted(job)
    if phase is None or (job.deadline is not None and start > job.deadline):
        return
    load_weights(run.checkpoint(f"best_{job.recipe.monitor}"), network)
    with torch.random.fork_rng():
        torch.manual_seed(job.recipe.seed)
        for layer in network.head.modules():
            getattr(layer, "reset_parameters", lambda: None)()
    dataset = job.dataset.with_columns(job.dataset.table["split"].replace({"val": "train"}))
    beside = Run(run.path / REFIT)
    if job.main and not beside.path.exists():
        write_json(beside.path / "run.json", {})
    job.accelerator.wait_for_everyone()
    progress.say("Refit: the head learns once more, from the validation images as well (--set refit=false: not).")
    recipe = replace(job.recipe, phases=(phase,))
    fit(replace(job, run=beside, recipe=recipe, dataset=dataset, model=network, watch=_nobody), progress)
    if job.main:
        save_weights(run.checkpoint(REFIT), network.state_dict(), {"epoch": phase.epochs})
        told = {"epochs": phase.epochs, "images": len(dataset.split("train"))}
        shutil.rmtree(beside.path)
        seconds = round(time.perf_counter() - start, 2)
        run.update(checkpoint=REFIT, validated=run.info["checkpoint"], refit={**told, "seconds": seconds})
    job.accelerator.wait_for_everyone()


def _wanted(job: Job) -> Phase | None:
    """What is to be trained once more."""
    recipe, run = job.recipe, job.run
    val = len(job.dataset.split("val"))
    if (
        not (recipe.refit and recipe.phases and recipe.views and val)
        or recipe.overfit
        or run.info["checkpoint"] == REFIT
    ):
        return None
    note = note_of(run.checkpoint(f"best_{recipe.monitor}"))
    number, epochs = int(note["phase"]), int(note["epoch"])
    phase = recipe.phases[number - 1]
    if phase.train != "head":
        return None
    epochs -= sum(told["epochs"] for told in run.info["phases"][: number - 1])
    if phase.optimizer == "lbfgs":
        return replace(phase, epochs=1, weight_decay=decay_of(phase, epochs - 1), patience=None)
    return replace(phase, epochs=epochs, patience=None)


def _nobody(run: Run) -> None:
    """Its curves are not the run's."""
