"""`discern models`."""

from __future__ import annotations

import json
from typing import Any

import click

from discern.cli.options import answer, json_option


@click.command("models")
@click.argument("pattern", metavar="[NAME|PATTERN]", default="*")
@click.option("--classes", type=click.IntRange(2), default=10, show_default=True, help="Classes to tell apart.")
@click.option("--size", type=click.IntRange(4), help="Input size, pixels.  [default: the network's own]")
@click.option(
    "--measure/--no-measure", default=None, help="The speed on this machine, once.  [default: of what is named]"
)
@json_option
def command(pattern: str, classes: int, size: int | None, measure: bool | None, as_json: bool) -> None:
    """List the networks that PATTERN fits, or describe the one called NAME and what a recipe may change of it.

    Without a pattern only Discern's own names are listed; with one, every published network of timm too. Milliseconds
    are of one image without training, in batches, on this machine. `keras_count` also counts batch norm's running
    means and variances, as Keras does.

    \b
    discern models
    discern models 'resnet*'
    discern models flexible-cnn --classes 3
    discern models cnn-basic --json
    """
    from discern.cli.terminal import Terminal, table
    from discern.steps import models as step

    names = step.networks(pattern)
    found = [step.described(name, classes=classes, size=size) for name in names]
    measure = pattern != "*" if measure is None else measure
    if measure and len(names) > step.MEASURED:
        click.echo(f"{len(names)} networks: a narrower pattern shows their speed, too.", err=True)
    elif measure:
        for each in found:
            each["milliseconds"] = step.milliseconds(each["name"], size=each["input_size"], progress=Terminal())
    one = found[0] if len(found) == 1 else None
    if as_json:
        answer(one if one else {"models": found})
        return
    columns = ("model", "family", "weights", "licence", " parameters", " Keras count", " pixels", " ms/image", "about")
    table(f"For {classes} classes", columns, [_row(each) for each in found])
    if one:
        options = one["config"].items()
        table("Options", ("option", "value"), [(option, json.dumps(value)) for option, value in options])
        click.echo(f"Change them with `discern train ... --model {one['name']} --set network.OPTION=VALUE`.")


def _row(described: dict[str, Any]) -> tuple[str, ...]:
    counts = (f"{described[key]:,}" for key in ("parameters", "keras_count"))
    words = (described[key] for key in ("name", "family", "weights"))
    milliseconds = described.get("milliseconds")
    speed = "" if milliseconds is None else f"{milliseconds:.3g}"
    return (
        *words,
        described["licence"] or "",
        *counts,
        str(described["input_size"]),
        speed,
        described["about"],
    )
