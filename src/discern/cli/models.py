"""`discern models`."""

from __future__ import annotations

import json
from typing import Any

import click

from discern.cli.options import answer, json_option


@click.command("models")
@click.argument("name", required=False)
@click.option("--classes", type=click.IntRange(2), default=10, show_default=True, help="Classes to tell apart.")
@click.option("--size", type=click.IntRange(4), help="Input size, pixels.  [default: the network's own]")
@json_option
def command(name: str | None, classes: int, size: int | None, as_json: bool) -> None:
    """List the networks, or describe the one called NAME and what a recipe may change of it.

    `keras_count` also counts batch norm's running means and variances, as Keras does.

    \b
    discern models
    discern models flexible-cnn --classes 3
    discern models cnn-basic --json
    """
    from discern.cli.terminal import table
    from discern.models import zoo

    described = [zoo.describe(n, classes=classes, size=size) for n in ([name] if name else zoo.MODELS)]
    if as_json:
        answer(described[0] if name else {"models": described})
        return
    columns = ("model", "family", "weights", " parameters", " Keras count", " pixels", "about")
    table(f"For {classes} classes", columns, [_row(each) for each in described])
    if name:
        options = described[0]["config"].items()
        table("Options", ("option", "value"), [(option, json.dumps(value)) for option, value in options])
        click.echo(f"Change them with `discern train ... --model {name} --set network.OPTION=VALUE`, or in a recipe.")


def _row(described: dict[str, Any]) -> tuple[str, ...]:
    counts = (f"{described[key]:,}" for key in ("parameters", "keras_count"))
    words = (described[key] for key in ("name", "family", "weights"))
    return (*words, *counts, str(described["input_size"]), described["about"])
