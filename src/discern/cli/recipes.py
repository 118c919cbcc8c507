"""`discern recipes`."""

from __future__ import annotations

from dataclasses import asdict

import click

from discern.cli.options import answer, json_option


@click.command("recipes")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the recipes, or print the one called NAME (or that file) with every key.

    \b
    discern recipes
    discern recipes cifar-simple-cnn > mine.yaml
    """
    from discern.cli.terminal import table
    from discern.training.recipe import about_recipe, load_recipe, recipe_names

    if name is None:
        if as_json:
            answer({"recipes": recipe_names()})
        else:
            table("", ("recipe", "about"), [(recipe, about_recipe(recipe)) for recipe in recipe_names()])
        return
    recipe = load_recipe(name)
    if as_json:
        answer(asdict(recipe))
    else:
        click.echo(recipe.to_yaml(), nl=False)
