"""`discern curate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from discern.cli.options import answer, json_option, test_option, val_option

if TYPE_CHECKING:
    from discern.data.decode import Fit
    from discern.steps.curate import Curated


@click.command("curate")
@click.argument("photos", type=click.Path(path_type=str))
@click.argument("out", type=click.Path(path_type=Path))
@test_option
@val_option
@click.option(
    "--test-per-class",
    type=click.IntRange(min=1),
    metavar="N",
    help="Hold out N images of each class for testing, before anything else.",
)
@click.option(
    "--max-per-class", type=click.IntRange(min=1), metavar="N", help="Use at most N images of a class for training."
)
@click.option("--keep-duplicates", is_flag=True, help="Keep copies of one photo, all in one split.")
@click.option(
    "--size", type=click.IntRange(8, 4096), help="Resize to this side, pixels; without, files stay as they are."
)
@click.option(
    "--fit",
    type=click.Choice(["pad", "squash", "crop"]),
    help="How a photo becomes a square: black borders (the default), stretched, its centre.",
)
@click.option(
    "--balance",
    type=click.Choice(["none", "oversample"]),
    default="none",
    show_default=True,
    help="Fill up every class to the largest with varied copies, in training only.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def command(
    photos: str,
    out: Path,
    test: str | None,
    val: str | None,
    test_per_class: int | None,
    max_per_class: int | None,
    keep_duplicates: bool,
    size: int | None,
    fit: Fit | None,
    balance: Literal["none", "oversample"],
    seed: int,
    as_json: bool,
) -> None:
    """Write a prepared copy of PHOTOS to the new folder OUT: cleaned, split, resized, balanced. PHOTOS stays as it is.

    Unreadable files, copies and photos with two labels are left out and listed, decisions of `discern relabel`
    followed. OUT gets train/, val/ and test/, and curation/ with pictures and the source of every file.

    \b
    discern curate photos/ prepared/ --test-per-class 30 --max-per-class 1500
    discern curate photos/ prepared/ --size 224 --balance oversample
    """
    from discern.cli.terminal import Terminal
    from discern.steps.curate import curate

    if fit is not None and size is None:
        raise click.UsageError("--fit says how to resize: give --size too.")
    curated = curate(
        photos,
        out,
        val=val,
        test=test,
        test_per_class=test_per_class,
        max_per_class=max_per_class,
        keep_duplicates=keep_duplicates,
        size=size,
        fit=fit or "pad",
        balance=balance,
        seed=seed,
        progress=Terminal(),
    )
    if as_json:
        answer({"folder": str(curated.folder), "page": str(curated.page), **curated.to_json()})
        return
    _print(curated)


def _print(curated: Curated) -> None:
    import shlex
    from collections import Counter

    from discern.cli.terminal import table
    from discern.data.curation.curate import REASONS

    counts = curated.counts()
    copies = Counter(curated.outputs.filter(curated.outputs["copy"] > 0)["label"])
    rows = [
        (name, *(f"{counts[split].get(name, 0):,}" for split in counts), f"{copies[name]:,}" if copies[name] else "")
        for name in sorted(set().union(*counts.values()))
    ]
    table("", ("class", " train", " val", " test", " of train, varied copies"), rows)
    for reason, count in Counter(each.reason for each in curated.left_out).items():
        click.echo(f"Left out {count:,}: {REASONS[reason]}")
    quoted = shlex.quote(str(curated.folder))
    click.echo(f"\nImages   {curated.folder}\nPage     {curated.page}\nNext     discern train {quoted}")
