"""`discern lr-find`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from discern.cli.options import answer, json_option, settings


@click.command("lr-find")
@click.argument("photos", type=click.Path(path_type=str))
@click.option("--model", help="Network, see `discern models`.  [default: the recipe's]")
@click.option("--recipe", help="Recipe by name (see `discern recipes`) or a YAML file.")
@click.option("--weights", metavar="WHICH", help="Published weights: auto, none, a folder, a file, owner/name.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Any other key of the recipe.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="lr-find.svg",
    show_default=True,
    help="The curve.",
)
@json_option
def command(
    photos: str,
    model: str | None,
    recipe: str | None,
    weights: str | None,
    changes: tuple[str, ...],
    out: Path,
    as_json: bool,
) -> None:
    """Try ever higher learning rates on PHOTOS for a moment, and suggest the one at which the loss falls fastest.

    \b
    discern lr-find photos/ --model cnn-basic
    discern lr-find photos/ --model mobilenetv2 --set optimizer=sgd --out rates.svg
    """
    from discern.cli.terminal import Terminal
    from discern.data.sources import open_dataset
    from discern.steps.lr_find import lr_find
    from discern.training.recipe import Recipe, load_recipe

    given = settings(changes)
    if weights is not None:
        given["network"] = {**given.get("network", {}), "weights": weights}
    plan = (load_recipe(recipe) if recipe else Recipe()).with_changes(
        {**({"model": model} if model else {}), **given}, place="the command line"
    )
    data = open_dataset(photos, group_by=plan.group_by, progress=Terminal())
    found = lr_find(data, recipe=plan, out=out, progress=Terminal())
    if as_json:
        answer(
            {
                "suggestion": found.suggestion,
                "rates": found.rates.tolist(),
                "losses": found.losses.tolist(),
                "curve": str(out),
            }
        )
        return
    click.echo(f"Rate    {found.suggestion:g}   the loss falls fastest there")
    click.echo(f"Curve   {out}")
    named = f" --model {plan.model}" if recipe is None else f" --recipe {shlex.quote(recipe)}"
    click.echo(f"Next    discern train {shlex.quote(photos)}{named} --set learning_rate={found.suggestion:g}")
