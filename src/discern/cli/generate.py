"""`discern generate`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from discern.cli.options import answer, json_option


@click.command("generate")
@click.argument("classes", type=click.Path(path_type=Path), required=False)
@click.argument("out", type=click.Path(path_type=Path), default="generated")
@click.option("--batch", type=click.IntRange(min=1), help="Images painted at a time.  [default: 4 on a GPU, else 1]")
@click.option("--example", is_flag=True, help="Print a worked CLASSES file and stop.")
@json_option
def command(classes: Path | None, out: Path, batch: int | None, example: bool, as_json: bool) -> None:
    """Paint a data set from prompts with a text-to-image model, into the folder OUT (`generated` unless named).

    CLASSES is a YAML file: prompts of each class, angles, backgrounds, how many images, the model. The same command
    goes on after an interruption. Every image has a record of how it was made in OUT/.generation/.

    \b
    discern generate --example > classes.yaml
    discern generate classes.yaml parts
    """
    if example:
        from discern.data.generation.specification import example as text

        if as_json:
            answer({"classes": text()})
        else:
            click.echo(text(), nl=False)
        return
    if classes is None:
        raise click.UsageError("Name the CLASSES file; --example prints one to start from.")
    from discern.cli.terminal import Terminal
    from discern.data.generation.generate import generate
    from discern.data.generation.specification import load_generation

    done = generate(load_generation(classes), out, batch=batch, progress=Terminal())
    if as_json:
        answer(
            {
                "folder": str(done.folder),
                "images": done.images,
                "made": done.made,
                "blocked": list(done.blocked),
                "metadata": str(done.metadata),
            }
        )
        return
    click.echo(f"Images   {done.folder} ({done.images}, {done.made} of them made now)")
    click.echo(f"Records  {done.metadata}\nNext     discern train {shlex.quote(str(done.folder))}")
