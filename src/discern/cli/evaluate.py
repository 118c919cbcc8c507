"""`discern evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from discern.cli.options import answer, json_option


@click.command("evaluate")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("photos", type=click.Path(path_type=str), required=False)
@click.option(
    "--checkpoint", metavar="WHICH", help="best_val_loss, best_val_acc, last or refit.  [default: the chosen one]"
)
@click.option(
    "--leakage", metavar="WAY", help="Photos the model has seen, also edited ones: drop or allow.  [default: refuse]"
)
@click.option("--because", metavar="REASON", help="Why they are allowed; kept with the scores.")
@json_option
def command(
    run: Path, photos: str | None, checkpoint: str | None, leakage: str | None, because: str | None, as_json: bool
) -> None:
    """Score RUN on its own splits, or on labelled PHOTOS it has never seen.

    \b
    discern evaluate runs/cnn-basic-1
    discern evaluate runs/cnn-basic-1 --checkpoint last
    discern evaluate runs/cnn-basic-1 other-photos/ --json
    discern evaluate runs/cnn-basic-1 other-photos/ --leakage drop     when it has seen some
    """
    from discern.cli.terminal import Terminal
    from discern.runs.run import open_run
    from discern.steps.evaluate import evaluate, score_photos

    opened, progress = open_run(run), Terminal()
    if photos is None:
        evaluation = evaluate(opened, checkpoint=checkpoint, leakage=leakage, because=because, progress=progress)
        record = {"photos": None, **evaluation.to_json()}
    else:
        scored = score_photos(
            opened, photos, checkpoint=checkpoint, leakage=leakage, because=because, progress=progress
        )
        evaluation, record = scored.evaluation, scored.to_json()
    if as_json:
        answer({**opened.summary(), **record})
    else:
        click.echo(evaluation)
