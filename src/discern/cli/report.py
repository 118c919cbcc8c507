"""`discern report`."""

from __future__ import annotations

from pathlib import Path

import click

from discern.cli.options import answer, json_option


@click.command("report")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default="report.html", show_default=True)
@json_option
def command(runs: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Write one self-contained page about RUNS: comparison, curves, errors, heat maps, findings.

    \b
    discern report runs/cnn-basic-1 runs/mini-cnn-1 --out compare.html
    """
    from discern.report.html import write_report
    from discern.runs.run import open_run

    write_report([open_run(run) for run in runs], out)
    if as_json:
        answer({"report": str(out), "runs": [str(run) for run in runs]})
    else:
        click.echo(f"Report  {out}")
