"""Curves: how a training goes, as a picture of its own that follows it from epoch to epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from markupsafe import Markup, escape

from discern.report import wording
from discern.report.plots import shortened, training_plot

_MARGIN = 16
"""Of the picture, in its units: a page of its own gives it none."""


def training_curves(lines: Sequence[Mapping[str, Any]], *, name: str) -> str:
    """The lines of metrics.jsonl, at least one, as an SVG file; `name` is the run's."""
    last = lines[-1]
    judged = [line for line in lines if "val_acc" in line]
    said = f"{shortened(name)}, epoch {last['epoch']}: training loss {last['train_loss']:.3f}"
    if judged:
        score = judged[-1]
        of = "" if score is last else f" of epoch {score['epoch']}"
        said += f"; validation{of}: loss {score['val_loss']:.3f}, accuracy {wording.percent(score['val_acc'])}"
    return standalone(training_plot(lines, label=said, name="curves"), title=said)


def standalone(plot: Markup, *, title: str) -> str:
    """A plot of a page as a file that a browser opens alone, light or dark, with the colours that reports have."""
    style = resources.files("discern.report").joinpath("templates/style.css").read_text(encoding="utf-8")
    colours = style.partition("* {")[0]  # the sheet begins with its variables
    head, body = str(plot).partition(">")[::2]
    left, top, width, height = (float(side) for side in head.partition('viewBox="')[2].partition('"')[0].split())
    box = (left - _MARGIN, top - 2 * _MARGIN, width + 2 * _MARGIN, height + 2.5 * _MARGIN)
    view = " ".join(f"{side:g}" for side in box)
    fonts = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'viewBox="{view}" width="{box[2] * 4 / 3:.0f}" '
        'style="max-width: 100%; height: auto; background: var(--paper)">\n'
        f"<title>{escape(title)}</title>\n<style>\n{colours}text {{ font-family: {fonts}; }}\n</style>\n"
        f'<text x="0" y="{-0.5 * _MARGIN:g}" style="font-size: 12px; fill: var(--ink)">{escape(title)}</text>{body}\n'
    )
