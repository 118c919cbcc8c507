"""`discern split`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from discern.cli.options import (
    answer,
    because_option,
    group_option,
    json_option,
    leakage_option,
    test_option,
    val_option,
)


@click.command("split")
@click.argument("photos")
@click.argument("out", type=click.Path(path_type=Path))
@test_option
@val_option
@click.option("--folds", type=int, metavar="K", help="Cross-validation: K manifests in the folder OUT.")
@click.option(
    "--val-share", type=float, default=0.15, show_default=True, help="Of the training images, for validation."
)
@click.option("--seed", type=int, default=0, show_default=True)
@group_option
@leakage_option
@because_option
@json_option
def command(
    photos: str,
    out: Path,
    test: str | None,
    val: str | None,
    folds: int | None,
    val_share: float,
    seed: int,
    group_by: str | None,
    leakage: str | None,
    because: str | None,
    as_json: bool,
) -> None:
    """Split PHOTOS into train, val and test, stratified and seeded, and write that as the manifest OUT.

    Copies of one photo, and images of one group, stay together. Splits that PHOTOS have already are kept. With
    --folds every image is tested once: train on each of the K manifests.

    \b
    discern split photos/ split.csv
    discern split scans/ split.csv --group-by "patient(\\d+)"
    discern split photos/ folds/ --folds 5
    """
    from discern.cli.terminal import Terminal, table
    from discern.data.sources import open_dataset
    from discern.steps.split import split

    listing = open_dataset(photos, val=val, test=test, group_by=group_by, progress=Terminal())
    divided = split(
        listing,
        out,
        count=folds,
        seed=seed,
        val_share=val_share,
        leakage=leakage,
        because=because,
        progress=Terminal(),
    )
    if as_json:
        answer(divided.to_json())
        return
    for file, counts in zip(divided.files, divided.counts, strict=True):
        classes = list(next(iter(counts.values())))
        rows = [(name, *(str(counts[split_][name]) for split_ in counts)) for name in classes]
        table(str(file), ("class", *(f" {split_}" for split_ in counts)), rows)
    if divided.passage.leakage:
        click.echo(str(divided.passage))
    click.echo(f"Next    discern train {shlex.quote(str(divided.files[0]))}")
