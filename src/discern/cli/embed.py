"""`discern embed`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from discern.cli.options import answer, json_option


@click.command("embed")
@click.argument("photos", type=click.Path(path_type=str))
@click.option("--model", required=True, help="A network with published weights, see `discern models`.")
@click.option("--weights", metavar="WHICH", help="auto, a folder, a file, owner/name.  [default: auto]")
@click.option("--size", type=click.IntRange(16, 4096), help="Side of the images, pixels.  [default: the weights' own]")
@click.option(
    "--fit", type=click.Choice(["pad", "squash", "crop"]), default="pad", show_default=True, help="Into a square."
)
@click.option("--accept-license", is_flag=True, help="Of weights that do not allow every use.")
@click.option("--trust-pickle", is_flag=True, help="Read tensors from a .pth or .bin file.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="embeddings.parquet",
    show_default=True,
    help="The table.",
)
@json_option
def command(
    photos: str,
    model: str,
    weights: str | None,
    size: int | None,
    fit: str,
    accept_license: bool,
    trust_pickle: bool,
    out: Path,
    as_json: bool,
) -> None:
    """Write the features of a published network for every image in PHOTOS: image, label, split, embedding.

    What training on the same photos has computed already is not computed again.

    \b
    discern embed photos/ --model mobilenetv2
    discern embed photos/ --model resnet18 --weights weights/resnet18 --out features.parquet
    """
    from typing import cast

    from discern.cli.terminal import Terminal
    from discern.data.decode import Fit
    from discern.steps.embed import embed

    table = embed(
        photos,
        model,
        out,
        weights=weights,
        size=size,
        fit=cast(Fit, fit),
        accept_license=accept_license,
        trust_pickle=trust_pickle,
        progress=Terminal(),
    )
    width = table.schema["embedding"].shape[0]  # type: ignore[attr-defined]
    if as_json:
        answer({"table": str(out), "images": len(table), "features": width})
        return
    click.echo(f"Table   {out}   {len(table):,} images, {width:,} features each")
    named = f" --weights {shlex.quote(weights)}" if weights else ""
    click.echo(
        f"Next    discern train {shlex.quote(photos)} --model {model}{named}    its head learns from the same features"
    )
