"""`discern runs`."""

from __future__ import annotations

from pathlib import Path

import click

from discern.cli.options import answer, json_option, runs_option


@click.command("runs")
@runs_option
@json_option
def command(runs: Path, as_json: bool) -> None:
    """List the runs in a folder, oldest first.

    \b
    discern runs
    discern runs --runs elsewhere/ --json
    """
    from discern.cli.terminal import Terminal, interval, percent, table
    from discern.errors import NotARun
    from discern.runs.run import list_runs

    if not runs.is_dir():
        raise NotARun(f"No folder {runs}: train a model first (`discern train PHOTOS`), or name another with --runs.")
    found = []
    for run in list_runs(runs, progress=Terminal()):
        try:
            found.append(run.summary())
        except NotARun as error:
            Terminal().say(f"warning: {error}")
    if as_json:
        answer({"runs": found})
        return
    if not found:
        click.echo(f"No runs in {runs}: train a model first (`discern train PHOTOS`).")
        return
    rows = []
    for summary in found:
        test = summary["splits"].get("test")
        rows.append(
            (
                summary["run"],
                summary["model"],
                "finished" if summary["status"] == "finished" else "unfinished",
                str(summary["epochs"] or ""),
                f"{summary['seconds']:,.0f}",
                percent(test["top1"]) if test else "",
                interval(test["top1_ci"]) if test else "",
                str(test["n"]) if test else "",
            )
        )
    table("", ("run", "model", "status", " epochs", " seconds", " test top-1", "95 %", " n"), rows)
