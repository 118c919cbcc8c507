"""Train: from data and a recipe to a finished Run - trained, predicted, evaluated, explained, reported."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int

from discern.data.augment import Augmentation
from discern.data.dataset import Dataset
from discern.data.pixels import Pixels
from discern.data.reading import as_on_disk
from discern.data.sources import Data, listed
from discern.data.streaming import Stream, images_of
from discern.deploy.predict import load_predictor
from discern.errors import DataError, NotARun, UsageError
from discern.evaluation.metrics import evaluate
from discern.files import write_json
from discern.models import baselines, zoo
from discern.models.backbones import Published
from discern.models.cutting import cut, shapes
from discern.models.layers import trained
from discern.models.network import Network, keras_count, parameter_count
from discern.models.preprocessing import Preprocessing
from discern.progress import Logged, Progress
from discern.report.html import write_report
from discern.runs.predictions import Predictions
from discern.runs.run import Run, create_run, open_run, refuse_place, working_on
from discern.steps.continuing import continued, network_of, unseen
from discern.steps.explain import explain
from discern.steps.prepare import prepare
from discern.steps.probe import probed
from discern.training.loop import Job, fit
from discern.training.phases import TRANSFER, Phase
from discern.training.recipe import Recipe, load_recipe, resolved
from discern.training.runtime import Arithmetic, accelerator, choose_arithmetic, refuse_large

JUDGED_SPLITS = ("val", "test")

_TIMED = 16
"""Images by which the time for judging is estimated."""

_REPORT, _EXPLAINED = 8.0, 150
"""Seconds for baselines and a report, and as many images' time for heat maps."""

_LOOKED_AT = 2_000
"""Training images, spread evenly, from which a network learns what its inputs are like."""


def train(
    data: Data,
    model: str | None = None,
    *,
    recipe: Recipe | str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = "runs",
    name: str | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> Run:
    """Train one model and judge it; the Run directory it returns holds everything.

    `recipe` is a Recipe, the name of one, or a YAML file; `model` and `changes` (any field of Recipe) replace parts
    of it. Raises DataError for data that cannot be used, UsageError for names and values that make no sense.
    """
    progress, start = progress or Logged(), time.perf_counter()
    plan = recipe if isinstance(recipe, Recipe) else load_recipe(os.fspath(recipe)) if recipe else Recipe()
    plan = _alone(plan.with_changes({**changes, **({"model": model} if model else {})}))
    before = open_run(plan.begin) if plan.begin else None
    if before is not None:
        plan = continued(plan, before, model=model)
    device = accelerator().device
    refuse_place(Path(runs), name)
    listing = listed(data, group_by=plan.group_by)
    published = None if before else weights_for(plan, progress)
    size = plan.size or _size(plan, published, gpu=device.type != "cpu")
    phases = plan.phases or (_transfer(plan) if published else ())
    outline = zoo.outline(plan.model, classes=len(listing.classes), size=size, changes=plan.network)
    refuse_large(outline, phases, device=device)
    # First, as it may refuse the size.
    network = (
        network_of(before, listing.classes, progress)
        if before
        else _fresh(plan, published, classes=len(listing.classes), size=size)
    )
    _refuse_growing(plan, network, size)
    prepared = prepare(listing, plan, size=size, progress=progress)
    dataset, pixels = prepared.dataset, prepared.pixels
    if before is not None:
        dataset = unseen(dataset, pixels, before, plan, progress)
    progress.say(f"Data: {dataset}")

    arithmetic = _arithmetic(plan, phases, network, size=size, device=device)
    order = "channels last" if arithmetic.channels_last else "channels first"
    halved = plan.size is None and published is None and size < zoo.find(plan.model).config.input_size
    why = " (half its own size, as there is no GPU; --size changes it)" if halved else ""
    progress.say(f"Training {plan.model} at {size} pixels{why} on {device.type} in {arithmetic.precision}, {order}.")
    plan = resolved(
        plan,
        size=size,
        precision=arithmetic.precision,
        channels_last=arithmetic.channels_last,
        normalize=_normalize(plan, published),
        phases=phases,
    )
    run = create_run(
        Path(runs),
        name,
        plan.model,
        {
            "model": {
                "name": plan.model,
                "parameters": parameter_count(network),
                "keras_count": keras_count(network),
                **network.record(),
            },
            "classes": list(dataset.classes),
            "seed": plan.seed,
            "checkpoint": f"best_{plan.monitor}" if len(dataset.split("val")) else "last",
            "weights": _record(published),
            "preprocessing": before.info["preprocessing"]
            if before
            else _preprocessing(plan, published, dataset, pixels).to_json(),
            "dataset": {"root": str(dataset.root), "fingerprint": dataset.fingerprint, **dataset.split_counts()},
            "gate": prepared.passage.to_json(),
            "device": device.type,
        },
    )
    plan.write(run.recipe_file)
    dataset.write(run.path / "dataset.parquet")
    write_json(run.path / "findings.json", [finding.to_json() for finding in prepared.findings])
    with working_on(run):
        return _train_and_judge(run, network, plan, dataset, pixels, progress, start)


def resume(path: str | os.PathLike[str], *, progress: Progress | None = None) -> Run:
    """Go on with an interrupted Run from its last epoch; a finished one is returned as it is.

    Raises DataError when the images are no longer the ones it started with.
    """
    progress, start = progress or Logged(), time.perf_counter()
    run = open_run(path)
    if run.info["status"] == "finished":
        progress.say(f"{run} is finished already; nothing to do.")
        return run
    if not (run.path / "findings.json").exists():  # the last file that is written before training
        raise NotARun(f"{run} was stopped before its training began; remove it and start anew.")
    with working_on(run):
        return _resume(run, progress, start)


def _resume(run: Run, progress: Progress, start: float) -> Run:
    for half_written in run.path.rglob(".*.tmp"):  # by a process that was killed
        half_written.unlink()
    plan, dataset = load_recipe(str(run.recipe_file)), run.dataset
    listing = as_on_disk(dataset)
    scanned, pixels, _ = images_of(listing, size=plan.size or 0, fit=plan.fit, kept=plan.pixels, progress=progress)
    if scanned.fingerprint != dataset.fingerprint:
        raise DataError(
            f"The images below {dataset.root} have changed since {run} began; put them back, or start a new run."
        )
    if plan.begin:
        network = network_of(open_run(plan.begin), dataset.classes, progress)
    else:
        network = _fresh(plan, weights_for(plan, progress), classes=len(dataset.classes), size=plan.size or 0)
    return _train_and_judge(run, network, plan, scanned, pixels, progress, start)


def weights_for(plan: Recipe, progress: Progress) -> Published | None:
    """The weights to begin with, once their licence is known and accepted."""
    published = zoo.published_for(plan.model, plan.network, trust_pickle=plan.trust_pickle)
    if published is None:
        return None
    licence = published.licence or "not stated"
    if not published.free and not plan.accept_license:
        raise UsageError(
            f"The weights {published.source} are under the licence {licence}, which does not allow every use: "
            "read it, and give --accept-license if it allows yours."
        )
    progress.say(f"Weights: {published.source} (licence: {licence})")
    return published


def _alone(plan: Recipe) -> Recipe:
    """To learn a few images by heart nothing is varied, mixed, smoothed or held back."""
    if plan.overfit is None:
        return plan
    still: dict[str, Any] = {"augment": Augmentation(), "mixup": 0.0, "cutmix": 0.0, "label_smoothing": 0.0}
    return replace(plan, **still, weight_decay=0.0, ema=0.0, swa=0.0)


def _refuse_growing(plan: Recipe, network: Network, size: int) -> None:
    """Raise UsageError when training is to begin with smaller images than the network can take."""
    if plan.start_size is None:
        return
    if not getattr(network.config, "any_size", False):
        raise UsageError(f"{plan.model} takes images of one size alone: leave out start_size.")
    try:
        zoo.outline(plan.model, classes=network.classes, size=plan.start_size, changes=plan.network)
    except UsageError as error:
        raise UsageError(f"start_size = {plan.start_size}: {error}") from error
    if plan.start_size > size:
        raise UsageError(f"start_size = {plan.start_size} is larger than the size of the images, {size}.")


def _judging_time(job: Job) -> float:
    """Seconds that will be needed after training: predictions, heat maps and the report, by a look at some images."""
    judged = job.dataset.filter(pl.col("split").is_in(JUDGED_SPLITS))
    few = job.dataset.index[:_TIMED]
    network = job.arithmetic.place(job.model, job.accelerator.device).eval()
    with torch.no_grad():
        for images in job.pixels.in_order(few, len(few)):
            inputs = job.preprocessing.normalize(torch.from_numpy(images).to(job.accelerator.device))
            network(inputs)
            start = time.perf_counter()
            network(inputs)
    each = (time.perf_counter() - start) / len(few)
    return _REPORT + each * (1.5 * len(judged) + _EXPLAINED)


def _transfer(plan: Recipe) -> tuple[Phase, ...]:
    """The usual phases; a number of epochs that was asked for is the most for each."""
    if plan.epochs == Recipe.epochs:
        return TRANSFER
    return tuple(replace(phase, epochs=min(phase.epochs or plan.epochs, plan.epochs)) for phase in TRANSFER)


def _arithmetic(
    plan: Recipe, phases: Sequence[Phase], network: Network, *, size: int, device: torch.device
) -> Arithmetic:
    """What trains the part of the network fastest that takes longest: the last phase's."""
    last = trained(network, phases[-1].train if phases else "all")
    found = cut(network.eval(), last) if phases else None
    if found is None:
        return choose_arithmetic(plan, network, size=size, device=device)
    return choose_arithmetic(plan, found.tail, size=size, device=device, crossing=shapes(found.frozen, size))


def _record(published: Published | None) -> dict[str, Any] | None:
    """What a run remembers of them."""
    return {"source": published.source, "licence": published.licence} if published else None


def _size(plan: Recipe, published: Published | None, *, gpu: bool) -> int:
    """What the network was designed for; more than that for weights that were trained on random crops."""
    return published.best_size if published else zoo.default_size(plan.model, gpu=gpu, changes=plan.network)


def _normalize(plan: Recipe, published: Published | None) -> str:
    if plan.normalize == "published" and published is None:
        raise UsageError("normalize 'published' needs published weights: choose 'dataset' or 'none'.")
    return plan.normalize if plan.normalize != "auto" else "published" if published else "dataset"


def _fresh(plan: Recipe, published: Published | None, *, classes: int, size: int) -> Network:
    """The network with weights drawn from the recipe's seed; the caller's generator is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        return zoo.build(plan.model, classes=classes, size=size, changes=plan.network, published=published)


def _preprocessing(
    plan: Recipe, published: Published | None, dataset: Dataset, pixels: Pixels | Stream
) -> Preprocessing:
    """Its statistics are the training images' alone: validation and test must not leak into the inputs."""
    mean, std = np.zeros(3), np.ones(3)
    if plan.normalize == "published" and published is not None:
        mean, std = np.array(published.mean), np.array(published.std)
    if plan.normalize == "dataset":
        mean, std = pixels.statistics(dataset.split("train").index)
        std = np.maximum(std, 1e-3)  # uniformly coloured images would divide by zero
    return Preprocessing.from_json({"size": pixels.size, "fit": plan.fit, "mean": mean.tolist(), "std": std.tolist()})


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
    job = Job(
        run=run,
        recipe=plan,
        model=network,
        dataset=dataset,
        pixels=pixels,
        preprocessing=Preprocessing.from_json(run.info["preprocessing"]),
        arithmetic=Arithmetic(precision=plan.precision, channels_last=bool(plan.channels_last)),
        accelerator=accelerator(),
        deadline=None,
    )
    if plan.time_budget is not None:
        job = replace(job, deadline=began + plan.time_budget - _judging_time(job))
    try:
        run.update(status="training")
        if network.learns_inputs:
            index = dataset.split("train").index
            some = index[np.linspace(0, len(index) - 1, min(len(index), _LOOKED_AT)).astype(np.int64)]
            for images in pixels.in_order(some, len(some)):
                network.fit_inputs(job.preprocessing.normalize(torch.from_numpy(images)))
        with torch.random.fork_rng():
            position = fit(job, progress)
        start = time.perf_counter()
        run.update(status="judging", epochs=position.epoch)
        judged = _judge(run, plan, dataset, pixels, progress)
        if judged != ["train"]:
            explain(run, progress=progress)
        seconds = seconds_before + position.seconds + time.perf_counter() - start
        run.update(seconds=round(seconds, 2), training_seconds=round(position.seconds, 2))
        if judged != ["train"]:
            write_report([run], run.path / "report.html")
        run.update(status="finished")
    except KeyboardInterrupt as stop:
        raise type(stop)(f"`discern train --resume {run}` goes on where it stopped.") from stop
    return run


def _histograms(pixels: Pixels | Stream, index: Int[np.ndarray, " image"]) -> Float[np.ndarray, "image 64"]:
    """A portion at a time, as all validation and test images may not fit in memory."""
    return np.concatenate([baselines.color_histograms(images) for images in pixels.in_order(index, 512)])


def _judge(run: Run, plan: Recipe, dataset: Dataset, pixels: Pixels | Stream, progress: Progress) -> list[str]:
    """Open the test split, once: predictions of the chosen checkpoint and of the baselines, and scores.

    The names of the splits that were judged.
    """
    run.update(test_openings=run.info.get("test_openings", 0) + (plan.overfit is None))
    predictor = load_predictor(run)
    judged = {split: dataset.split(split) for split in (JUDGED_SPLITS if plan.overfit is None else ("train",))}
    judged = {split: part for split, part in judged.items() if len(part)}
    index = np.concatenate([part.index for part in judged.values()])
    start = time.perf_counter()
    model_says = predictor.over(pixels, index, progress)
    milliseconds = (time.perf_counter() - start) * 1000 / len(index)

    train_part = dataset.split("train")
    labels, classes = train_part.labels, len(dataset.classes)
    few = baselines.spread(len(labels))
    histograms = [_histograms(pixels, rows) for rows in (train_part.index[few], index)]
    says = {
        "predictions.parquet": model_says,
        "baselines/majority class.parquet": baselines.majority(labels, len(index), classes),
        "baselines/color histogram.parquet": baselines.color_histogram_model(
            histograms[0], labels[few], histograms[1], classes
        ),
    }
    rows = np.concatenate([np.flatnonzero(dataset.table["split"].to_numpy() == split) for split in judged])
    for name, said in probed(plan, dataset, pixels, predictor.preprocessing, rows, progress).items():
        says[f"baselines/{name}.parquet"] = said
    for file, probabilities in says.items():
        Predictions(
            images=tuple(name for part in judged.values() for name in part.images),
            splits=tuple(split for split, part in judged.items() for _ in range(len(part))),
            labels=np.concatenate([part.labels for part in judged.values()]),
            probabilities=probabilities,
            classes=dataset.classes,
        ).write(run.path / file)
    beside = {name: evaluate(said).to_json()["splits"] for name, said in run.baselines().items()}
    write_json(run.path / "evaluation.json", {**evaluate(run.predictions).to_json(), "baselines": beside})
    run.update(milliseconds_per_image=round(milliseconds, 4))
    return list(judged)
