"""`discern audit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from discern.cli.options import answer, json_option, test_option, val_option

if TYPE_CHECKING:
    from discern.data.dataset import Dataset


@click.command("audit")
@click.argument("photos")
@test_option
@val_option
@click.option("--backbone", metavar="NAME", help="Pretrained timm network that tells wrong labels and outliers.")
@click.option(
    "--weights", default="auto", show_default=True, metavar="PATH", help="Of the backbone: auto, a folder, a file."
)
@click.option(
    "--suspects",
    type=click.Choice(["own", "cleanlab"]),
    default="own",
    show_default=True,
    help="Who says which labels are suspect: a stricter rule of our own, or the cleanlab package.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="audit",
    show_default=True,
    help="Folder for audit.html, scores.parquet and findings.json.",
)
@click.option("--self-check", is_flag=True, help="Put known faults into a copy of the table and see what is found.")
@click.option("--seed", type=int, help="Of the faults of --self-check; 0 unless given.")
@json_option
def command(
    photos: str,
    test: str | None,
    val: str | None,
    backbone: str | None,
    weights: str,
    suspects: str,
    out: Path,
    self_check: bool,
    seed: int | None,
    as_json: bool,
) -> None:
    """Find what is wrong with PHOTOS: copies, leakage, wrong labels, bad pictures, properties that give a class away.

    PHOTOS is a folder with one sub-folder per class or train/ [val/] test/ of such folders, a CSV, TSV, JSON-lines or
    Parquet manifest, Hugging Face images (Parquet or saved to disk), WebDataset shards, IDX or CIFAR binary files, or
    a named set such as cifar10. Every image is read once; a second audit of the same images takes no time.

    \b
    discern audit photos/
    discern audit photos/ --test more-photos/ --json
    discern audit photos/ --backbone mobilenetv2_100 --weights weights/mobilenetv2_100
    discern audit photos/ --self-check
    """
    from discern.cli.terminal import Terminal, table
    from discern.data.audit.findings import grouped
    from discern.data.sources import open_dataset

    if seed is not None and not self_check:
        raise click.UsageError("--seed chooses the faults of --self-check; an audit itself needs none.")
    listing = open_dataset(photos, val=val, test=test, progress=Terminal())
    if self_check:
        means = {"backbone": backbone, "weights": weights, "suspects": suspects, "seed": seed or 0}
        _self_check(listing, means, as_json)
        return
    from discern.steps.audit import audit

    found = audit(listing, backbone=backbone, weights=weights, suspects=suspects, out=out, progress=Terminal())
    if as_json:
        answer(found.to_json())
        return
    click.echo(found.dataset)
    if found.findings:
        groups = grouped(found.findings)
        table(
            f"{len(found.findings)} findings; --json lists each",
            ("severity", "kind", " findings", "evidence of the first", "remedy"),
            [(g[0].severity, g[0].kind, str(len(g)), _short(g[0].evidence), g[0].remedy) for g in groups],
        )
    else:
        click.echo("No findings.")
    click.echo(f"Page    {out / 'audit.html'}\nTable   {out / 'scores.parquet'}   a score per image and kind")
    click.echo(f"Next    discern relabel {photos} IMAGE --drop --because ...    discern train {photos}")


def _short(evidence: str) -> str:
    """A cluster of copies can name thousands of files."""
    return evidence if len(evidence) <= 200 else f"{evidence[:200].rstrip()}..."


def _self_check(listing: Dataset, means: dict[str, Any], as_json: bool) -> None:
    from discern.cli.terminal import Terminal, table
    from discern.steps.self_check import self_check

    checked = self_check(listing, **means, progress=Terminal())
    if as_json:
        answer(checked.to_json())
        return
    table(
        f"What the audit finds of faults that were put in (seed {checked.seed})",
        ("fault", " put in", " recall", " precision", " AUPRC"),
        [
            (row.fault, str(row.count), _share(row.recall), _share(row.precision), _share(row.auprc))
            for row in checked.rows
        ],
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
