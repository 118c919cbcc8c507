"""`discern explain`."""

from __future__ import annotations

from pathlib import Path

import click

from discern.cli.options import answer, json_option


@click.command("explain")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, type=click.Path(path_type=Path))
@json_option
def command(run: Path, images: tuple[Path, ...], as_json: bool) -> None:
    """Draw heat maps (Grad-CAM) of RUN for IMAGES, or for a telling few of its test images.

    Each picture shows the photo, the evidence for the predicted class, and both together.

    \b
    discern explain runs/cnn-basic-1
    discern explain runs/cnn-basic-1 photo.jpg
    """
    from discern.cli.terminal import Terminal, percent, table
    from discern.steps.explain import explain

    records = explain(run, images or None, progress=Terminal())
    if as_json:
        answer({"run": str(run), "explanations": records})
        return
    rows = [(r["path"], r["image"], r["label"] or "", r["prediction"], percent(r["confidence"])) for r in records]
    table("", ("heat map", "image", "label", "prediction", " confidence"), rows)
