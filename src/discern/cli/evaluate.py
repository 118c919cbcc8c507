"""`discern evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from discern.cli.options import answer, json_option


@click.command("evaluate")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("photos", type=click.Path(path_type=str), required=False)
@json_option
def command(run: Path, photos: str | None, as_json: bool) -> None:
    """Score RUN on its own splits, or on labelled PHOTOS it has never seen.

    \b
    discern evaluate runs/cnn-basic-1
    discern evaluate runs/cnn-basic-1 other-photos/ --json
    """
    from discern.cli.terminal import Terminal
    from discern.runs.run import open_run
    from discern.steps.evaluate import evaluate

    opened = open_run(run)
    evaluation = evaluate(opened, photos, progress=Terminal())
    if as_json:
        answer({**opened.summary(), "photos": photos, **evaluation.to_json()})
    else:
        click.echo(evaluation)
