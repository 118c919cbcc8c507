"""`discern models`."""

from __future__ import annotations

import click

from discern.cli.options import answer, json_option


@click.command("models")
@click.argument("name", required=False)
@click.option("--classes", type=click.IntRange(2), default=10, show_default=True, help="Classes to tell apart.")
@click.option("--size", type=click.IntRange(4), help="Input size, pixels.  [default: the network's own]")
@json_option
def command(name: str | None, classes: int, size: int | None, as_json: bool) -> None:
    """List the networks, or describe the one called NAME.

    `keras_count` also counts batch norm's running means and variances, as Keras does.

    \b
    discern models
    discern models cnn-basic --classes 3 --json
    """
    from discern.cli.terminal import table
    from discern.models import zoo

    described = [zoo.describe(n, classes=classes, size=size) for n in ([name] if name else zoo.MODELS)]
    if as_json:
        answer(described[0] if name else {"models": described})
        return
    rows = [
        (d["name"], f"{d['parameters']:,}", f"{d['keras_count']:,}", str(d["input_size"]), d["about"])
        for d in described
    ]
    table(f"For {classes} classes", ("model", " parameters", " Keras count", " pixels", "about"), rows)
