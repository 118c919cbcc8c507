"""`discern demo`."""

from __future__ import annotations

from pathlib import Path

import click

from discern.cli.options import answer, json_option


@click.command("demo")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="demo", show_default=True)
@json_option
def command(out: Path, as_json: bool) -> None:
    """Run the whole job on built-in data: audit, split, train two models, evaluate, compare, explain, report.

    \b
    discern demo
    """
    from discern.cli.compare import print_comparison
    from discern.cli.terminal import Terminal
    from discern.steps.demo import demo

    done = demo(out, progress=Terminal())
    if as_json:
        answer(
            {
                "photos": str(done.photos),
                "runs": [run.summary() for run in done.runs],
                "comparison": done.comparison.to_json(),
                "report": str(done.report),
            }
        )
        return
    print_comparison(done.comparison)
    click.echo(f"\nImages  {done.photos}\nReport  {done.report}")
    click.echo(f"Next    discern train YOUR-PHOTOS    discern predict {out}/runs/{done.comparison.pick} IMAGES...")
