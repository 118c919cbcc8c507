"""`discern train`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from discern.cli.options import answer, json_option, runs_option, settings, test_option, val_option


@click.command("train")
@click.argument("photos", type=click.Path(path_type=Path), required=False)
@click.option("--model", help="Network, see `discern models`.  [default: the recipe's]")
@click.option("--recipe", help="Recipe by name (see `discern recipes`) or a YAML file.")
@click.option("--epochs", type=int, help="Passes over the training images at most.")
@click.option("--size", type=int, help="Side of the square images are fitted to, pixels.")
@click.option("--seed", type=int, help="Of split, weights, order and augmentation.")
@test_option
@val_option
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Any other key of the recipe.")
@runs_option
@click.option("--name", help="Name of the run.  [default: MODEL-1, MODEL-2, ...]")
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN", help="Go on with an interrupted run.")
@json_option
def command(
    photos: Path | None,
    test: Path | None,
    val: Path | None,
    runs: Path,
    name: str | None,
    resume: Path | None,
    changes: tuple[str, ...],
    as_json: bool,
    **common: Any,
) -> None:
    """Train and judge a model on PHOTOS.

    PHOTOS is a folder with one sub-folder per class, a folder with train/ [val/] test/ of such folders, or a Parquet
    file or folder in the Hugging Face image layout. Missing splits are made: 70 / 15 / 15, stratified, seeded.

    \b
    discern train photos/
    discern train photos/ --test more-photos/ --model cnn-basic --epochs 30
    discern train cifar10/ --recipe cifar-simple-cnn --set batch_size=128 --set augment.flip=0.5
    discern train --resume runs/cnn-basic-1
    """
    from discern.cli.terminal import Terminal
    from discern.steps import train as step

    if (photos is None) == (resume is None):
        raise click.UsageError("Name the PHOTOS to train on, or the run to --resume: one of the two.")
    if resume is not None:
        run = step.resume(resume, progress=Terminal())
    else:
        from discern.data.sources import open_dataset

        run = step.train(
            open_dataset(photos or "", val=val, test=test),
            runs=runs,
            name=name,
            progress=Terminal(),
            recipe=common.pop("recipe"),
            **settings(changes),
            **{key: value for key, value in common.items() if value is not None},
        )
    if as_json:
        answer(run.summary())
        return
    click.echo(run.evaluation)
    baselines = {name: said.split("test") for name, said in run.baselines().items()}
    beside = [f"{name} {(said.predicted == said.labels).mean():.1%}" for name, said in baselines.items()]
    click.echo(f"Trivial baselines on the test split: {', '.join(beside)}.")
    click.echo(f"\nRun     {run}\nReport  {run.path / 'report.html'}")
    folder, path = shlex.quote(str(run.path.parent)), shlex.quote(str(run))
    click.echo(f"Next    discern compare {folder}/*    discern predict {path} IMAGES...")
