"""Ranking: the runs and the trivial baselines side by side, what tells them apart, and the pick."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from discern.errors import DataError, NotARun
from discern.evaluation.comparison import ALPHA, Comparison, Pair
from discern.evaluation.metrics import score
from discern.evaluation.run_comparison import compare_runs
from discern.report import wording
from discern.report.plots import Dot, interval_plot
from discern.report.subject import SPLIT_NAMES, Subject
from discern.runs.evaluation import SplitScores

_PORTRAITS = 8
"""Runs that get a section of their own, from the best down and the pick: about 3 MB; the table has every run."""

_PAIRS = 300
"""Pairs listed at most: those of 25 models; the table against the best is always whole."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of the table; every value as it is printed, empty where there is none."""

    name: str
    """The run or the baseline."""
    anchor: str
    """Id of the run's own section; empty for a baseline and for a run too many to have one."""
    baseline: bool
    """Stands for comparison only."""
    pick: bool
    """The one to use."""
    n: int
    """Images scored."""
    top1: str
    """Share of images called what they are."""
    top1_range: str
    """Its 95 % interval."""
    macro_f1: str
    """Mean F1 over the classes."""
    macro_f1_range: str
    """Its 95 % interval."""
    loss: str
    """Mean cross-entropy in nats."""
    milliseconds: str
    """Measured time per image."""
    parameters: str
    """Trained numbers in the network."""
    training: str
    """Time the training took."""
    difference: str
    """Top-1 minus that of the best run, percentage points."""
    difference_range: str
    """Its 95 % interval, paired."""
    p: str
    """McNemar's p, corrected by Holm."""


@dataclass(frozen=True, kw_only=True)
class Duel:
    """Two rows of the table on the same images."""

    first: str
    """The one with the higher top-1."""
    second: str
    """The other."""
    only_first: int
    """Images only the first gets right."""
    only_second: int
    """Images only the second gets right."""
    difference: str
    """Of top-1, percentage points."""
    difference_range: str
    """Its 95 % interval, paired."""
    p: str
    """McNemar's exact p."""
    p_holm: str
    """The same, corrected for all pairs."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The comparison section."""

    split: str
    """'test', or 'validation' when no test split was opened."""
    entries: tuple[Entry, ...]
    """From high top-1 to low."""
    plot: Markup
    """The same as dots with intervals."""
    reason: str
    """Why the pick is the pick; empty for one run."""
    problem: str
    """Why the runs cannot be compared; empty when they can."""
    duels: tuple[Duel, ...]
    """Every pair, for several runs."""
    duels_left_out: int
    """Pairs too many to list."""
    notes: tuple[str, ...]
    """What the numbers are and are not."""


def compared(subjects: Sequence[Subject]) -> Comparison | str:
    """The Comparison of the runs with the first one's baselines, or the sentence why there is none."""
    try:
        return compare_runs([subject.run for subject in subjects], split=common_split(subjects))
    except (DataError, NotARun) as error:
        return str(error)


def common_split(subjects: Sequence[Subject]) -> str:
    """The split every run was scored on: 'test' where all have opened it."""
    return "test" if all(subject.split == "test" for subject in subjects) else "val"


def ranking(subjects: Sequence[Subject], comparison: Comparison | str) -> Ranking:
    """The section from the Comparison, or without tests where there is none."""
    split = common_split(subjects)
    by_name = {subject.name: subject for subject in subjects}
    scores = {
        subject.name: subject.evaluation.splits[split] for subject in subjects if split in subject.evaluation.splits
    }
    if isinstance(comparison, Comparison):
        scores |= {name: score(said, split) for name, said in subjects[0].run.baselines().items()}
        names = [row.name for row in comparison.rows]
        against = {pair.second if pair.first == comparison.best else pair.first: pair for pair in _of_best(comparison)}
        pick, best = comparison.pick, comparison.best
    else:
        names, against, pick, best = sorted(scores, key=lambda name: -scores[name].top1), {}, "", ""
    shown = {pick, *[name for name in names if name in by_name][:_PORTRAITS]}
    entries = tuple(
        _entry(
            name,
            scores[name],
            by_name.get(name),
            against.get(name),
            best=best,
            pick=pick if len(subjects) > 1 else "",
            shown=name in shown,
        )
        for name in names
    )
    dots = [
        Dot(
            name=name,
            value=scores[name].top1,
            interval=scores[name].top1_ci,
            strong=name == pick,
            baseline=name not in by_name,
        )
        for name in names
    ]
    several = isinstance(comparison, Comparison) and len(comparison.rows) > 2
    duels = tuple(map(_duel, comparison.pairs)) if several and isinstance(comparison, Comparison) else ()
    return Ranking(
        split=SPLIT_NAMES[split],
        entries=entries,
        plot=interval_plot(dots, label=f"Top-1 on the {SPLIT_NAMES[split]} split with 95% intervals", name="rank"),
        reason=_reason(comparison) if isinstance(comparison, Comparison) and len(subjects) > 1 else "",
        problem="" if isinstance(comparison, Comparison) else comparison,
        duels=duels[:_PAIRS],
        duels_left_out=max(0, len(duels) - _PAIRS),
        notes=_notes(subjects, split, comparison),
    )


def _of_best(comparison: Comparison) -> list[Pair]:
    return [pair for pair in comparison.pairs if comparison.best in (pair.first, pair.second)]


def _entry(
    name: str, scores: SplitScores, subject: Subject | None, pair: Pair | None, *, best: str, pick: str, shown: bool
) -> Entry:
    difference, interval = 0.0, (0.0, 0.0)
    if pair is not None:
        # The pair is higher minus lower; the table says row minus best, and a baseline can stand above the best.
        difference, interval = pair.difference, pair.difference_ci
        if pair.first == best:
            difference, interval = -difference, (-interval[1], -interval[0])
    info = subject.info if subject else {}
    return Entry(
        name=name,
        anchor=subject.anchor if subject and shown else "",
        baseline=subject is None,
        pick=name == pick,
        n=scores.n,
        top1=wording.percent(scores.top1),
        top1_range=wording.percent_range(scores.top1_ci),
        macro_f1=wording.score(scores.macro_f1),
        macro_f1_range=wording.score_range(scores.macro_f1_ci),
        loss=wording.score(scores.loss),
        milliseconds=_known(info, "milliseconds_per_image", wording.milliseconds),
        parameters=f"{info['model']['parameters']:,}" if subject else "",
        training=_known(info, "training_seconds", wording.duration),
        difference="" if pair is None else wording.points(difference),
        difference_range="" if pair is None else wording.points_range(interval),
        p="best" if name == best else "" if pair is None else wording.p_value(pair.p_holm),
    )


def _known(info: dict[str, Any], key: str, written: Callable[[float], str]) -> str:
    return written(float(info[key])) if info.get(key) is not None else ""


def _duel(pair: Pair) -> Duel:
    return Duel(
        first=pair.first,
        second=pair.second,
        only_first=pair.only_first,
        only_second=pair.only_second,
        difference=wording.points(pair.difference),
        difference_range=wording.points_range(pair.difference_ci),
        p=wording.p_value(pair.p),
        p_holm=wording.p_value(pair.p_holm),
    )


def _reason(comparison: Comparison) -> str:
    costs = {row.name: wording.milliseconds(row.cost) for row in comparison.rows}
    pick, best = comparison.pick, comparison.best
    fair = [
        row.name
        for row in comparison.rows
        if not row.baseline and not any(p.second == row.name and p.p_holm < ALPHA for p in _of_best(comparison))
    ]
    if pick == best and len(fair) == 1:
        return f"{pick} has the highest top-1, and every other run is significantly worse."
    if pick == best:
        return (
            f"{pick} has the highest top-1 and is also the fastest ({costs[pick]} ms per image) of the {len(fair)} "
            "runs that the test cannot tell apart from it."
        )
    pair = next(pair for pair in _of_best(comparison) if pick in (pair.first, pair.second))
    return (
        f"{pick} is the fastest run ({costs[pick]} ms per image against {costs[best]} ms) that is not significantly "
        f"worse than {best}, the one with the highest top-1 ({wording.p_statement(pair.p_holm)})."
    )


def _notes(subjects: Sequence[Subject], split: str, comparison: Comparison | str) -> tuple[str, ...]:
    notes = [
        "Intervals are 95%: Wilson's for shares of images, a bootstrap stratified by class for macro F1. They "
        "cover the choice of the images, not what another training seed would have given."
    ]
    if isinstance(comparison, Comparison):
        pairs = wording.count(len(comparison.pairs), "pair")
        notes.append(
            "Differences are paired (the same images): Newcombe's interval of each pair on its own, p from "
            f"McNemar's exact test, corrected for {pairs} by Holm's method; below 0.05 counts as significant."
        )
        if len(subjects) > 1:
            notes.append(
                "The pick is the run that takes the least time per image among those not significantly worse than "
                "the best. Not significantly worse is not the same as equally good: with few images, large "
                "differences stay undetected."
            )
    if split == "test":
        # A run with test scores has opened the split at least once, whether or not it counted.
        total = sum(int(subject.info.get("test_openings", 1)) for subject in subjects)
        times = "once" if total == 1 else f"{total} times in all"
        chosen = (
            "no epoch or setting was chosen on it. The pick is, so its score flatters it a little, the more so the "
            "more runs are compared on the same images."
            if len(subjects) > 1
            else "nothing was chosen on it. Every further look at the same images makes a score more flattering."
        )
        notes.append(f"The test split was opened {times} for the {wording.count(len(subjects), 'run')} here; {chosen}")
    else:
        notes.append(
            "These are validation scores: the checkpoint was chosen on the same images, so they flatter the model."
        )
    notes.append("Time per image was measured once, on the machine named below, in batches, without reading the file.")
    return tuple(notes)
