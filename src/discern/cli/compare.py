"""`discern compare`."""

from __future__ import annotations

from pathlib import Path

import click

from discern.cli.options import answer, json_option
from discern.evaluation.comparison import Comparison


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(["test", "val"]), default="test", show_default=True)
@json_option
def command(runs: tuple[Path, ...], split: str, as_json: bool) -> None:
    """Compare RUNS scored on the same images.

    Every score has its 95 % interval, every pair a paired test (McNemar, corrected by Holm). The pick is the fastest
    model that is not significantly worse than the best one.

    \b
    discern compare runs/cnn-basic-1 runs/mini-cnn-1
    """
    from discern.cli.terminal import Terminal
    from discern.steps.compare import compare

    comparison = compare(runs, split=split, progress=Terminal())
    if as_json:
        answer(comparison.to_json())
    else:
        print_comparison(comparison)


def print_comparison(comparison: Comparison) -> None:
    """The table, the tests against the best, and the pick."""
    from discern.cli.terminal import interval, percent, table

    against = {
        (pair.second if pair.first == comparison.best else pair.first): pair
        for pair in comparison.pairs
        if comparison.best in (pair.first, pair.second)
    }
    rows = []
    for row in comparison.rows:
        pair = against.get(row.name)
        sign = 1 if pair is None or pair.first == comparison.best else -1
        rows.append(
            (
                f"{row.name} (baseline)" if row.baseline else row.name,
                percent(row.top1),
                interval(row.top1_ci),
                f"{row.macro_f1:.3f}",
                f"{row.loss:.3f}",
                "" if row.baseline else f"{row.cost:.2f}",
                "best" if pair is None else f"{0.0 - 100 * sign * pair.difference:+.1f}",
                "" if pair is None else _p(pair.p_holm),
            )
        )
    title = f"{comparison.rows[0].n} {comparison.split} images"
    table(title, ("model", " top-1", "95 %", " macro F1", " loss", " ms/image", " to best", " p (Holm)"), rows)
    because = (
        "the best, and none that is faster is as good"
        if comparison.pick == comparison.best
        else f"the fastest that is not significantly worse than {comparison.best}"
    )
    click.echo(f"Pick: {comparison.pick} - {because}.")
    if unbeaten := comparison.unbeaten():
        click.echo(f"But it is not significantly better than a trivial baseline: {', '.join(unbeaten)}.")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
