"""Options that several commands share, and how results leave: words for people or one JSON object."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")

runs_option = click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: Path(os.environ.get("DISCERN_RUNS", "runs")),
    show_default="runs, or $DISCERN_RUNS",
    help="Folder that holds the runs.",
)

# Places of photos stay as they were typed: a Path would make one slash of the two in s3://bucket.
test_option = click.option("--test", type=click.Path(path_type=str), help="Separate place of test images.")
val_option = click.option("--val", type=click.Path(path_type=str), help="Separate place of validation images.")


leakage_option = click.option(
    "--leakage",
    type=click.Choice(["group", "drop", "allow"]),
    help="Copies of a photo in several splits: group, drop or allow them.  [default: refuse]",
)
because_option = click.option("--because", metavar="REASON", help="Why they are allowed; printed in the report.")
group_option = click.option(
    "--group-by",
    metavar="REGEX|COLUMN",
    help="Images in whose names it finds the same, or with the same in that column, stay in one split.",
)


class Brief(click.Command):
    """A command with many options: --help shows the `usual` ones, --help-all every one."""

    usual: tuple[str, ...] = ()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The usual options, and where the others are, unless all are asked for."""
        params, everything = self.params, bool(ctx.meta.get(_ALL))
        self.params = [each for each in params if everything or each.opts[0] in self.usual]
        try:
            super().format_options(ctx, formatter)
        finally:
            self.params = params
        if not everything:
            formatter.write_paragraph()
            formatter.write_text(f"{len(params) - len(self.usual) - 1} more options: {ctx.command_path} --help-all")


_ALL = "discern.help-all"


def _show_all(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.meta[_ALL] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


help_all_option = click.option(
    "--help-all",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_all,
    help="Show every option and exit.",
)


def answer(value: Any) -> None:
    """Print the one JSON object of a command."""
    click.echo(json.dumps(value, ensure_ascii=False))


def parse_setting(text: str) -> tuple[str, Any]:
    """`key=value` from --set, the value read as YAML; `augment.flip=0` reaches inside."""
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"'{text}' is not KEY=VALUE, such as batch_size=64.", param_hint="--set")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise click.BadParameter(f"'{value}' is not a YAML value; quote it.", param_hint="--set") from error


def settings(texts: tuple[str, ...]) -> dict[str, Any]:
    """All --set options as changes of a recipe."""
    changes: dict[str, Any] = {}
    for text in texts:
        key, value = parse_setting(text)
        outer, dot, inner = key.partition(".")
        place, name = (changes.setdefault(outer, {}), inner) if dot else (changes, key)
        if not isinstance(place, dict) or name in place:
            raise click.BadParameter(f"'{outer}' is set twice; set it once.", param_hint="--set")
        place[name] = value
    return changes
