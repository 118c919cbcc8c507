"""Plots: matplotlib figures as SVG text that takes its colours and fonts from the page around it.

Every figure is drawn in stand-in colours that the SVG then swaps for CSS variables, so one picture serves light,
dark and print. Text stays text (searchable, in the reader's font), ids are numbered from a prefix, and nothing
depends on the time: the same numbers give the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from discern.runs.evaluation import Interval

_THEME = {
    "#010101": "var(--ink)",
    "#020202": "var(--quiet)",
    "#030303": "var(--line)",
    "#040404": "var(--accent)",
    "#050505": "var(--second)",
    "#060606": "var(--third)",
    "#070707": "var(--paper)",
}
"""Stand-in colours, chosen because no plot would use them, and what the page puts in their place."""
_INK, _QUIET, _LINE, _ACCENT, _SECOND, _THIRD, _PAPER = _THEME

_SETTINGS: Any = {  # releases of matplotlib disagree about the type of its keys
    "svg.fonttype": "none",
    "svg.hashsalt": "discern",
    "text.parse_math": False,  # a class may be called $5$
    "font.size": 10.0,
    "text.color": _INK,
    "axes.labelcolor": _QUIET,
    "axes.edgecolor": _LINE,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _QUIET,
    "ytick.labelcolor": _QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
}

_LONGEST = 26  # characters of a name that fit beside a plot on a phone
_RATES = 30  # from this ratio on the smaller learning rates of a linear axis would lie on its bottom
_SHADES = {"train": _THIRD, "val": _SECOND, "test": _ACCENT}


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One model in the interval plot."""

    name: str
    """What stands beside it."""
    value: float
    """The score, a share."""
    interval: Interval
    """Its 95 % interval."""
    strong: bool
    """Drawn in the accent colour: the pick."""
    baseline: bool
    """Drawn quietly, with an open dot."""


def interval_plot(dots: Sequence[Dot], *, label: str, name: str) -> Markup:
    """A dot with its 95 % interval per model, in the given order from the top."""
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(7.6, 0.5 + 0.29 * len(dots)), layout="constrained")
        axes = figure.add_subplot()
        for row, dot in enumerate(dots):
            color = _QUIET if dot.baseline else _ACCENT if dot.strong else _INK
            low, high = dot.interval
            axes.plot([100 * low, 100 * high], [row, row], color=color, linewidth=2.2, solid_capstyle="round")
            axes.plot(
                [100 * dot.value],
                [row],
                linestyle="none",
                marker="o",
                markersize=8 if dot.strong else 7,
                markerfacecolor=_PAPER if dot.baseline else color,
                markeredgecolor=color,
                markeredgewidth=1.8,
            )
        axes.set_yticks(range(len(dots)), [shortened(dot.name) for dot in dots])
        for tick, dot in zip(axes.get_yticklabels(), dots, strict=True):
            tick.set_color(_QUIET if dot.baseline else _ACCENT if dot.strong else _INK)
        axes.set_ylim(len(dots) - 0.5, -0.5)
        # The whole scale unless all scores crowd into its upper part: a cut axis makes small differences look large.
        lowest = min(dot.interval[0] for dot in dots)
        axes.set_xlim(0 if lowest < 0.55 else 50 if lowest < 0.82 else 80, 100)
        axes.xaxis.set_major_formatter("{x:.0f}%")
        axes.grid(visible=True, axis="x")
        _bare(axes, keep=("bottom",))
        return _svg(figure, label=label, name=name)


def curve_plot(
    train: Sequence[float], val: Sequence[float], *, chosen: int | None, unit: str, label: str, name: str
) -> Markup:
    """A score per epoch on the training and the validation images, with the chosen epoch (from 1) marked."""
    epochs = np.arange(1, len(train) + 1)
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(5.1, 2.9), layout="constrained")
        axes = figure.add_subplot()
        scale = 100 if unit == "%" else 1
        marker = "o" if len(train) <= 12 else ""
        for values, color, line in ((train, _THIRD, "--"), (val, _SECOND, "-")):
            heights = np.array(values, dtype=float) * scale
            axes.plot(epochs, heights, line, color=color, linewidth=2, marker=marker, markersize=4)
        if chosen is not None:
            axes.axvline(chosen, color=_QUIET, linewidth=1, linestyle=(0, (2, 2)))
            axes.plot(
                [chosen],
                [val[chosen - 1] * scale],
                linestyle="none",
                marker="o",
                markersize=9,
                markerfacecolor="none",
                markeredgecolor=_ACCENT,
                markeredgewidth=2,
            )
        axes.set_xlim(0.6, len(train) + 0.4)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch")
        if unit == "%":
            axes.yaxis.set_major_formatter("{x:.0f}%")
        else:
            axes.set_ylim(bottom=0)
        axes.grid(visible=True, axis="y")
        _bare(axes, keep=("bottom",))
        return _svg(figure, label=label, name=name)


def rate_plot(rates: Sequence[float], losses: Sequence[float], *, chosen: float, label: str, name: str) -> Markup:
    """Loss by learning rate on a logarithmic axis, with the suggested rate marked."""
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(7.6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(rates, losses, color=_ACCENT, linewidth=2)
        axes.axvline(chosen, color=_QUIET, linewidth=1, linestyle=(0, (2, 2)))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss, smoothed")
        axes.grid(visible=True, axis="y")
        _bare(axes, keep=("bottom",))
        return _svg(figure, label=label, name=name)


def training_plot(lines: Sequence[Mapping[str, Any]], *, label: str, name: str) -> Markup:
    """Loss, accuracy and rate or decay by epoch from lines of metrics.jsonl, a thin line where a later phase begins.

    Validation scores are drawn where a line has them.
    """
    with mpl.rc_context(_SETTINGS):
        # Laid out by hand: it is drawn again and again, and finding a layout takes as long as drawing.
        figure = Figure(figsize=(7.6, 5.9))
        figure.subplots_adjust(left=0.09, right=0.99, bottom=0.08, top=0.91, hspace=0.27)
        loss, accuracy, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1))
        for key, color, style in (
            ("train_loss", _THIRD, "--"),
            ("val_loss", _SECOND, "-"),
            ("train_acc", _THIRD, "--"),
            ("val_acc", _SECOND, "-"),
            ("weight_decay", _QUIET, ":"),
            ("learning_rate", _QUIET, "-"),
        ):
            axes, scale = (loss, 1) if "loss" in key else (accuracy, 100) if "acc" in key else (rate, 1)
            points = [(line["epoch"], line[key] * scale) for line in lines if key in line]
            if points:
                marker = "o" if len(points) <= 12 else ""
                x, y = zip(*points, strict=True)
                called = "training" if "train" in key else "validation"
                axes.plot(x, y, style, color=color, linewidth=2, marker=marker, markersize=4, label=called)
        begins = [line["epoch"] for before, line in pairwise(lines) if line.get("phase", 1) > before.get("phase", 1)]
        third = [
            words
            for key, words in (("weight_decay", "weight decay"), ("learning_rate", "learning rate"))
            if any(key in line for line in lines)
        ]
        for axes, title in ((loss, "Loss"), (accuracy, "Accuracy"), (rate, ", then ".join(third).capitalize())):
            for epoch in begins:
                axes.axvline(epoch - 0.5, color=_QUIET, linewidth=0.8)
            axes.set_title(title, loc="left", fontsize=10, color=_INK)
            axes.grid(visible=True, axis="y")
            _bare(axes, keep=("bottom",))
        for number, epoch in enumerate(begins, 2):
            loss.annotate(
                f"phase {number}",
                (epoch - 0.5, 1),
                xycoords=("data", "axes fraction"),
                xytext=(4, -2),
                textcoords="offset points",
                va="top",
                color=_QUIET,
                fontsize=9,
            )
        loss.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0.2)
        loss.set_ylim(0, 1.06 * loss.dataLim.y1)
        accuracy.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True))
        accuracy.yaxis.set_major_formatter("{x:.0f}%")
        low, high = rate.dataLim.y0, rate.dataLim.y1
        if 0 < low < high / _RATES:
            rate.set_yscale("log")
            rate.set_ylim(0.6 * low, 1.6 * high)
            rate.yaxis.set_major_locator(LogLocator(numticks=3))
            rate.yaxis.set_minor_locator(NullLocator())
        else:
            rate.set_ylim(0, 1.15 * high or 1)
            rate.yaxis.set_major_locator(MaxNLocator(nbins=2, steps=[1, 2, 5, 10]))
        rate.yaxis.set_major_formatter("{x:g}")
        rate.set_xlim(0.6, lines[-1]["epoch"] + 0.4)
        rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        rate.set_xlabel("epoch")
        return _svg(figure, label=label, name=name)


def count_plot(counts: Mapping[str, Sequence[int]], classes: Sequence[str], *, label: str, name: str) -> Markup:
    """Images per class as one bar each, its parts the splits; `counts` has a number per class for every split."""
    rows = np.arange(len(classes))
    with mpl.rc_context(_SETTINGS):
        height = 0.28 if len(classes) <= 30 else 0.17
        figure = Figure(figsize=(7.6, 0.7 + height * len(classes)), layout="constrained")
        axes = figure.add_subplot()
        start: Float[np.ndarray, " class"] = np.zeros(len(classes))
        for split, numbers in counts.items():
            axes.barh(
                rows,
                numbers,
                left=start,
                height=0.68,
                color=_SHADES.get(split, _QUIET),
                edgecolor=_PAPER,
                linewidth=0.8,
            )
            start = start + np.asarray(numbers)
        for row, total in zip(rows, start, strict=True):
            axes.annotate(
                f"{int(total):,}",
                (float(total), float(row)),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9 if len(classes) <= 30 else 7,
                color=_QUIET,
            )
        size = 10 if len(classes) <= 30 else 7.5
        axes.set_yticks(rows, [shortened(each) for each in classes], fontsize=size, color=_INK)
        axes.set_ylim(len(classes) - 0.4, -0.6)
        axes.set_xlim(0, float(start.max()) * 1.1 if start.any() else 1)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(visible=True, axis="x")
        _bare(axes, keep=())
        return _svg(figure, label=label, name=name)


def side_plot(sides: Sequence[int], *, model_side: int, label: str, name: str) -> Markup:
    """How many images have which shorter side (pixels, logarithmic), with the side the model sees marked."""
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(7.6, 2.0), layout="constrained")
        axes = figure.add_subplot()
        low, high = min((*sides, model_side)), max((*sides, model_side))
        edges = np.geomspace(max(low / 1.15, 0.5), high * 1.15, 41)
        axes.hist(sides, bins=edges.tolist(), color=_THIRD)
        axes.axvline(model_side, color=_ACCENT, linewidth=1.8)
        axes.annotate(
            f"model sees {model_side}",
            (model_side, 1),
            xycoords=("data", "axes fraction"),
            xytext=(5 if model_side**2 < low * high else -5, -2),
            textcoords="offset points",
            ha="left" if model_side**2 < low * high else "right",
            va="top",
            color=_ACCENT,
        )
        axes.set_xscale("log")
        ticks = [tick for tick in _ROUND_SIDES if edges[0] <= tick <= edges[-1]]
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("shorter side, pixels")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        axes.grid(visible=True, axis="y")
        _bare(axes, keep=("bottom",))
        return _svg(figure, label=label, name=name)


def distribution_plot(
    groups: Mapping[str, Sequence[float]],
    *,
    splits: Sequence[str] = (),
    logarithmic: bool,
    unit: str,
    label: str,
    name: str,
) -> Markup:
    """A small histogram per group, each to its own height, with its median marked; `splits` colours groups as such."""
    values: Float[np.ndarray, " image"] = np.concatenate([np.asarray(each, dtype=float) for each in groups.values()])
    low, high = float(values.min()), float(values.max())
    margin = 0.02 * (high - low) or 0.02 * abs(high) or 1.0
    edges = np.geomspace(low / 1.08, high * 1.08, 49) if logarithmic else np.linspace(low - margin, high + margin, 49)
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(5.1, 0.62 + 0.42 * len(groups)), layout="constrained")
        axes = figure.add_subplot()
        colors = [_SHADES[split] for split in splits] or [_THIRD] * len(groups)
        for row, (members, color) in enumerate(zip(groups.values(), colors, strict=True)):
            numbers, _ = np.histogram(members, edges)
            # The axis is turned so that the first group stands on top: minus is up.
            axes.stairs(row - 0.82 * numbers / numbers.max(), edges, baseline=row, fill=True, color=color, linewidth=0)
            axes.plot([float(np.median(members))] * 2, [row - 0.86, row], color=_INK, linewidth=1.6)
        axes.set_yticks(np.arange(len(groups)) - 0.35, [shortened(group) for group in groups], color=_INK)
        axes.set_ylim(len(groups) - 0.92, -1)
        if logarithmic:
            axes.set_xscale("log")
            ticks = _round_ticks(low, high)
            axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
            axes.set_xticks([], minor=True)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(unit)
        axes.grid(visible=True, axis="x")
        _bare(axes, keep=("bottom",))
        return _svg(figure, label=label, name=name)


def _round_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten in a range, or the powers alone where that is too many."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks: list[float] = []
    for steps in ((1, 2, 5), (1,)):
        ticks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(ticks) <= _TICKS:
            break
    return ticks[:: 1 + len(ticks) // (_TICKS + 1)] if len(ticks) > 1 else sorted({low, high})


_TICKS = 7  # numbers such as 10,000 that stand side by side below a plot of half the page
_ROUND_SIDES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


def shortened(name: str) -> str:
    """A name with its middle left out where it is too long to stand beside a plot."""
    half = _LONGEST // 2
    name = " ".join(name.split())
    return name if len(name) <= _LONGEST else f"{name[: half - 1]}\u2026{name[-half:]}"


def _bare(axes: Axes, *, keep: tuple[str, ...]) -> None:
    for side, spine in axes.spines.items():
        spine.set_visible(side in keep)
    axes.tick_params(length=0)


def _svg(figure: Figure, *, label: str, name: str) -> Markup:
    """The figure as an <svg> element: described by `label`, its ids starting with `name`, coloured by the page."""
    buffer = io.StringIO()
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    with warnings.catch_warnings():
        # Text is laid out with matplotlib's own font but drawn by the browser, which has the letters it lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = _prefixed(body, name)
    for stand_in, variable in _THEME.items():
        body = body.replace(f": {stand_in}", f": {variable}")
    # Sizes are kept, the family is the page's; old releases of matplotlib write both as one property.
    body = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", body)
    body = re.sub(r" font-family: [^;\"]*;?| transform=\"rotate\(-?0 [^)]*\)\"", "", body)
    body = re.sub(r"\n\s*", "\n", body)
    width, height = (float(side) * 72 for side in figure.get_size_inches())
    return Markup(
        f'<svg class="plot" role="img" aria-label="{escape(label)}" viewBox="0 0 {width:g} {height:g}" '
        f'style="width:{width * 4 / 3:.0f}px">{body.strip()}</svg>'
    )


def _prefixed(body: str, name: str) -> str:
    """Ids made unique in the page, those that nothing refers to left out."""
    used = {*re.findall(r'href="#([^"]+)"', body), *re.findall(r"url\(#([^)]+)\)", body)}

    def renamed(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    body = re.sub(r' id="([^"]+)"', renamed, body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', body)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
