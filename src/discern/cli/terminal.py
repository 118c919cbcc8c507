"""Progress and tables for people, on standard error, so that standard output stays for results."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from discern.progress import Advance

console = Console(stderr=True, highlight=False)


class _Rate(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        unit = task.fields.get("unit", "images")
        return Text(f"{task.speed:,.0f} {unit}/s" if task.speed else "", style="cyan")


class Terminal:
    """A Progress that a person watches: bars on a terminal, plain lines in a log."""

    @contextmanager
    def track(self, label: str, total: int, unit: str = "images") -> Iterator[Advance]:
        """Show a bar with items per second and time left; advance(0, note) leaves the note as a line."""
        if not console.is_terminal:
            yield lambda done, note: self.say(note) if done == 0 else None
            return
        columns = (
            TextColumn("{task.description:<20}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            _Rate(),
            TimeRemainingColumn(compact=True),
            TextColumn("[dim]{task.fields[note]}"),
        )
        with Progress(*columns, console=console, transient=True) as bars:
            task = bars.add_task(label, total=total, unit=unit, note="")

            def advance(done: int, note: str) -> None:
                bars.update(task, advance=done, note=note)
                if done == 0 and note:
                    console.print(note, markup=False)

            yield advance

    def say(self, message: str) -> None:
        """Print one sentence, errors red and warnings yellow."""
        style = {"error": "bold red", "warning": "yellow"}.get(message.partition(":")[0], "")
        console.print(Text(message, style=style), soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on standard output; columns whose name begins with a space are numbers, set flush right."""
    drawn = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        drawn.add_column(column.strip(), justify="right" if column.startswith(" ") else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    width = None if sys.stdout.isatty() else 140
    Console(highlight=False, width=width).print(drawn)


def percent(value: float) -> str:
    """A share with the decimals that are worth reading."""
    return f"{100 * value:.1f} %"


def interval(bounds: tuple[float, float]) -> str:
    """A 95 % interval of a share."""
    return f"[{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]"
