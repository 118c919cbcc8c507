"""`discern predict`."""

from __future__ import annotations

from pathlib import Path

import click

from discern.cli.options import answer, json_option


@click.command("predict")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--csv", type=click.Path(dir_okay=False, path_type=Path), help="Write a table with every probability.")
@json_option
def command(run: Path, images: tuple[Path, ...], csv: Path | None, as_json: bool) -> None:
    """Classify IMAGES (files, or folders of them) with RUN.

    \b
    discern predict runs/cnn-basic-1 photo.jpg
    discern predict runs/cnn-basic-1 new-photos/ --csv predictions.csv
    """
    from discern.cli.terminal import Terminal, percent, table
    from discern.files import writing
    from discern.steps.predict import predict

    answers = predict(run, images, progress=Terminal())
    predictions = answers.predictions
    if csv:
        with writing(csv) as temporary:
            # As text, because polars hides why a file cannot be written (a full disk).
            temporary.write_text(predictions.to_table().drop("split", "label").write_csv(), encoding="utf-8")
    if as_json:
        answer(
            {
                "run": str(run),
                "predictions": [
                    {
                        "image": image,
                        "prediction": predictions.classes[winner],
                        "confidence": float(probabilities[winner]),
                        "probabilities": dict(
                            zip(predictions.classes, (float(p) for p in probabilities), strict=True)
                        ),
                    }
                    for image, winner, probabilities in zip(
                        predictions.images, predictions.predicted, predictions.probabilities, strict=True
                    )
                ],
                "unreadable": [{"image": image, "problem": why} for image, why in answers.unreadable.items()],
            }
        )
    elif csv:
        click.echo(f"{len(predictions)} predictions in {csv}")
    else:
        order = predictions.probabilities.argsort(axis=1)[:, ::-1][:, :3]
        rows = [
            (image, *(f"{predictions.classes[k]} {percent(float(predictions.probabilities[i, k]))}" for k in ranked))
            for i, (image, ranked) in enumerate(zip(predictions.images, order, strict=True))
        ]
        table("", ("image", "first", "second", "third")[: 1 + order.shape[1]], rows)
