"""`discern train`."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from discern.cli.options import (
    Brief,
    answer,
    because_option,
    group_option,
    help_all_option,
    json_option,
    leakage_option,
    runs_option,
    settings,
    test_option,
    val_option,
)

_BY_HEART = 0.99

if TYPE_CHECKING:
    from discern.runs.run import Run
    from discern.training.recipe import Recipe


class Train(Brief):
    """`discern train`, with what most people need of it."""

    usual = (
        "--test",
        "--model",
        "--recipe",
        "--weights",
        "--epochs",
        "--time-budget",
        "--leakage",
        "--set",
        "--resume",
        "--json",
    )


@click.command("train", cls=Train)
@click.argument("photos", type=click.Path(path_type=str), required=False)
@click.option("--model", help="Network, see `discern models`.  [default: the recipe's]")
@click.option("--recipe", help="Recipe by name (see `discern recipes`) or a YAML file.")
@click.option("--epochs", type=int, help="Passes over the training images at most.")
@click.option("--size", type=int, help="Side of the square images are fitted to, pixels.")
@click.option("--seed", type=int, help="Of split, weights, order and augmentation.")
@click.option(
    "--balance",
    type=click.Choice(["none", "weights", "sampler", "oversample"]),
    help="Help for small classes: none, weights, sampler or oversample.  [default: weights]",
)
@click.option("--weights", metavar="WHICH", help="Published weights: auto, none, a folder, a file, owner/name.")
@click.option("--accept-license", is_flag=True, default=None, help="Of weights that do not allow every use.")
@click.option("--trust-pickle", is_flag=True, default=None, help="Read tensors from a .pth or .bin file.")
@click.option("--begin", type=click.Path(path_type=str), metavar="RUN", help="Go on from what a run has learned.")
@click.option("--time-budget", metavar="TIME", help="End within it, judging included: 90s, 10m, 1.5h.")
@click.option("--final", is_flag=True, default=None, help="Train on the validation images too.")
@click.option("--overfit", type=int, metavar="N", help="Learn N images by heart: a check that it can learn.")
@click.option("--processes", type=click.IntRange(1, 4096), help="Train in so many processes on this machine.")
@leakage_option
@because_option
@group_option
@test_option
@val_option
@click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Any key of the recipe, see `discern recipes`."
)
@runs_option
@click.option("--name", help="Name of the run.  [default: MODEL-1, MODEL-2, ...]")
@click.option(
    "--track",
    multiple=True,
    type=click.Choice(["tensorboard", "wandb", "mlflow"]),
    help="Follow it with tensorboard, wandb or mlflow; several may be given.",
)
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN", help="Go on with an interrupted run.")
@json_option
@help_all_option
def command(
    photos: str | None,
    test: str | None,
    val: str | None,
    runs: Path,
    name: str | None,
    track: tuple[str, ...],
    resume: Path | None,
    changes: tuple[str, ...],
    as_json: bool,
    **common: Any,
) -> None:
    """Train and judge a model on PHOTOS.

    PHOTOS is a folder with one sub-folder per class, or with train/ [val/] test/ of such folders; a list of files and
    labels (.csv, .tsv, .jsonl, .parquet); Hugging Face image Parquet or what `datasets` saved to disk; WebDataset
    shards (.tar, also s3://...); IDX or CIFAR binary files; or the name of a known set: cifar10, cifar100, mnist,
    fashion-mnist, flowers, pets, stl10, svhn. Missing splits are made: 70 / 15 / 15, stratified, seeded.

    \b
    discern train photos/
    discern train photos/ --test more-photos/ --model cnn-basic --epochs 30
    discern train photos/ --model efficientnetv2-b0             published weights: its head, then more of it
    discern train photos/ --model mobilenetv2 --weights weights/mobilenetv2_100
    discern train photos/ --test more-photos/ --leakage drop    when photos are in both
    discern train scans/ --group-by "patient(\\d+)"              one patient, one split
    discern train photos/ --time-budget 10m                     the best that can be had in ten minutes
    discern train more-photos/ --begin runs/cnn-basic-1         go on from what was learned before
    discern train cifar10/ --recipe cifar-simple-cnn --set batch_size=128 --set augment.flip=0.5
    discern train photos/ --track tensorboard --track wandb     followed there, too
    discern train --resume runs/cnn-basic-1
    """
    if (processes := common.pop("processes")) and processes > 1 and "WORLD_SIZE" not in os.environ:
        from discern.cli.launcher import launch

        raise click.exceptions.Exit(launch(sys.argv[1:], processes))
    from discern.cli.terminal import Terminal
    from discern.steps import train as step
    from discern.steps.together import is_first

    given = {key: value for key, value in common.items() if value is not None}
    if resume is not None:
        _refuse_beside_resume(photos, test, val, name, changes, {**given, **({"track": track} if track else {})})
        run = step.resume(resume, progress=Terminal())
    elif photos is None:
        raise click.UsageError("Name the PHOTOS to train on, or the run to --resume.")
    else:
        from discern.data.sources import open_dataset

        recipe = _recipe(given.pop("recipe", None), given.pop("weights", None), given, settings(changes))
        data = open_dataset(photos, val=val, test=test, group_by=recipe.group_by, progress=Terminal())
        run = step.train(data, recipe=recipe, runs=runs, name=name, track=track, progress=Terminal())
    if not is_first():
        return
    if as_json:
        answer(run.summary())
        return
    click.echo(run.evaluation)
    if "test" not in run.evaluation.splits:
        click.echo(f"\nRun     {run}\n{_learned(run)}")
        return
    for baseline, splits in run.baseline_scores.items():
        low, high = splits["test"]["top1_ci"]
        click.echo(f"Baseline on test: {baseline} {splits['test']['top1']:.1%} [{low:.1%}, {high:.1%}]")
    click.echo(f"\nRun     {run}\nReport  {run.path / 'report.html'}")
    folder, path = shlex.quote(str(run.path.parent)), shlex.quote(str(run))
    click.echo(f"Next    discern compare {folder}/*    discern predict {path} IMAGES...")


def _learned(run: Run) -> str:
    """Whether a few images were learned by heart, and what to do."""
    right = run.evaluation.splits["train"].top1
    if right > _BY_HEART:
        return "It learns a few images by heart, as it should: train on all of them, without --overfit."
    return "It does not even learn a few images by heart: raise the learning rate or the epochs, or take a larger net."


def _recipe(recipe: str | None, weights: str | None, common: dict[str, Any], changes: dict[str, Any]) -> Recipe:
    """The recipe that the options spell out; one key given in two ways is refused."""
    from discern.training.recipe import Recipe, load_recipe

    network = changes.get("network", {})
    if weights is not None and isinstance(network, dict):
        if "weights" in network:
            raise click.UsageError("'weights' is given twice, as --weights and with --set; give it once.")
        changes = {**changes, "network": {**network, "weights": weights}}
    twice = sorted(set(common) & set(changes))
    if twice:
        word = twice[0].replace("_", "-")
        raise click.UsageError(f"'{twice[0]}' is given twice, as --{word} and with --set; give it once.")
    return (load_recipe(recipe) if recipe else Recipe()).with_changes({**common, **changes}, place="the command line")


def _refuse_beside_resume(
    photos: str | None,
    test: str | None,
    val: str | None,
    name: str | None,
    changes: tuple[str, ...],
    given: dict[str, Any],
) -> None:
    """A run goes on as it began: nothing that would change it may stand beside --resume."""
    beside = {"PHOTOS": photos, "--test": test, "--val": val, "--name": name, "--set": changes or None}
    beside |= {f"--{key.replace('_', '-')}": value for key, value in given.items()}
    words = [word for word, value in beside.items() if value is not None]
    if words:
        raise click.UsageError(f"--resume goes on with a run as it began: leave out {', '.join(words)}.")
