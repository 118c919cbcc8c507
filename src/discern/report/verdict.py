"""Verdict: what the page says first - the one sentence to take away, and the alarms that spoil it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from discern.evaluation.comparison import ALPHA, Comparison, Pair
from discern.evaluation.intervals import wilson
from discern.report import wording
from discern.report.ranking import common_split
from discern.report.subject import SPLIT_NAMES, Subject

_SHOWN = 200
"""Clusters listed under an alarm at most; findings.json has them all."""

_MAJORITY = "majority class"
"""The name training gives the baseline that always answers the most common class."""

Mood = Literal["good", "doubtful", "bad"]


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """Findings of severity error of one kind: the scores below mislead."""

    kind: str
    """As in findings.json."""
    title: str
    """What is wrong, with the number."""
    effect: str
    """What it does to the scores, measured where it can be."""
    remedy: str
    """What to do."""
    files: tuple[tuple[str, ...], ...]
    """The images concerned, one group per finding."""
    left_out: int
    """Groups too many to list."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The head of the page."""

    title: str
    """What the page is about."""
    occasion: str
    """Day, data and number of images in a line."""
    name: str
    """The model the sentence is about; empty when runs cannot be compared."""
    choice: str
    """How it came to be the one: 'Of 3 runs, pick' or nothing."""
    top1: str
    """Its top-1."""
    top1_range: str
    """The 95 % interval."""
    n: int
    """Images scored."""
    split: str
    """Their split, in words."""
    mood: Mood
    """How it stands against the baselines."""
    judgement: str
    """The same in a few words."""
    sentences: tuple[str, ...]
    """What to know beside it: the baselines, and the score without leaked images."""


def verdict(subjects: Sequence[Subject], comparison: Comparison | str) -> Verdict:
    """The head of the page for one run or several."""
    split = common_split(subjects)
    models = sorted({str(subject.info["model"]["name"]) for subject in subjects})
    first = subjects[0]
    title = first.name if len(subjects) == 1 else f"{len(subjects)} runs compared"
    started = str(first.info.get("started", ""))[:10]
    occasion = " \u00b7 ".join(
        part
        for part in (
            wording.listing(tuple(models), 4),
            f"{wording.count(len(first.dataset), 'image')} of {len(first.evaluation.classes)} classes",
            started,
        )
        if part
    )
    if not isinstance(comparison, Comparison) and len(subjects) > 1:
        return Verdict(
            title=title,
            occasion=occasion,
            name="",
            choice="",
            top1="",
            top1_range="",
            n=0,
            split=SPLIT_NAMES[split],
            mood="doubtful",
            judgement="No pick",
            sentences=("These runs cannot be compared, so there is no pick among them.", str(comparison)),
        )
    chosen = first
    mood: Mood = "doubtful"
    judgement, sentences = "Not compared with a baseline", []
    if isinstance(comparison, Comparison):
        chosen = next(subject for subject in subjects if subject.name == comparison.pick)
        mood, judgement, sentences = _standing(comparison, chosen.name)
    else:
        sentences = [comparison]
    scores = chosen.evaluation.splits[split]
    return Verdict(
        title=title,
        occasion=occasion,
        name=chosen.name,
        choice=f"Of {len(subjects)} runs, the pick is " if len(subjects) > 1 else "",
        top1=wording.percent(scores.top1),
        top1_range=wording.percent_range(scores.top1_ci),
        n=scores.n,
        split=SPLIT_NAMES[split],
        mood=mood,
        judgement=judgement,
        sentences=tuple(sentences),
    )


def _standing(comparison: Comparison, name: str) -> tuple[Mood, str, list[str]]:
    """How the model stands against each trivial baseline."""
    rows = {row.name: row for row in comparison.rows}
    beaten, sentences = [], []
    for row in comparison.rows:
        if not row.baseline:
            continue
        pair = next(pair for pair in comparison.pairs if {pair.first, pair.second} == {name, row.name})
        beaten.append(_sign(pair, name))
        what = {
            _MAJORITY: "Always answering the most common class",
            "color histogram": "Colour alone, without any shape,",
        }.get(row.name, f"The baseline {row.name}")
        gap = wording.points(rows[name].top1 - row.top1)
        # What cannot be told apart is said so, however large the gap looks.
        told = {1: "significantly better", 0: "not a significant difference", -1: "significantly worse"}[beaten[-1]]
        sentences.append(
            f"{what} scores {wording.percent(row.top1)} ({wording.percent_range(row.top1_ci)}, n = {row.n}): the "
            f"model is {gap} points from it, {told} ({wording.p_statement(pair.p_holm)})."
        )
    if not beaten:
        return "doubtful", "No baseline to compare with", sentences
    if min(beaten) > 0:
        return "good", "Better than every trivial baseline", sentences
    if max(beaten) < 0:
        return "bad", "Worse than the trivial baselines", sentences
    worst = "Worse than a trivial baseline" if min(beaten) < 0 else "Not better than every trivial baseline"
    return ("bad" if min(beaten) < 0 else "doubtful"), worst, sentences


def _sign(pair: Pair, name: str) -> int:
    if pair.p_holm >= ALPHA:
        return 0
    return 1 if pair.first == name else -1


def alarms(subjects: Sequence[Subject]) -> tuple[Alarm, ...]:
    """One Alarm per kind of error in the data of any run, leakage first; the same data is told of once."""
    found: list[Alarm] = []
    seen: set[str] = set()
    for subject in subjects:
        fingerprint = str(subject.info["dataset"]["fingerprint"])
        if fingerprint not in seen:
            seen.add(fingerprint)
            sharing = [s for s in subjects if s.info["dataset"]["fingerprint"] == fingerprint]
            found += _alarms(sharing)
    return tuple(sorted(found, key=lambda alarm: alarm.kind != "leakage"))


def _alarms(sharing: Sequence[Subject]) -> Iterator[Alarm]:
    """The alarms of runs that share one dataset."""
    errors = [finding for finding in sharing[0].findings if finding["severity"] == "error"]
    for kind in dict.fromkeys(finding["kind"] for finding in errors):
        group = [finding for finding in errors if finding["kind"] == kind]
        title, effect = _told(kind, group, sharing)
        yield Alarm(
            kind=kind,
            title=title,
            effect=effect,
            remedy=str(group[0]["remedy"]),
            files=tuple(tuple(finding["rows"]) for finding in group[:_SHOWN]),
            left_out=max(0, len(group) - _SHOWN),
        )


def _told(kind: str, group: list[dict[str, Any]], sharing: Sequence[Subject]) -> tuple[str, str]:
    if kind == "leakage":
        return _leakage(group, sharing)
    if kind == "label_conflict":
        photos = wording.count(len(group), "photo stands", "photos stand")
        return (
            f"{photos} in the data with two different labels",
            "At least one of the labels is wrong; in training it teaches a mistake, in a score it counts as one.",
        )
    return f"{kind.replace('_', ' ').capitalize()}: {wording.count(len(group), 'finding')}", str(group[0]["evidence"])


def _leakage(group: list[dict[str, Any]], sharing: Sequence[Subject]) -> tuple[str, str]:
    """How many judged images were seen in training, and the scores without them."""
    first = sharing[0]
    where = dict(first.dataset.table.select("image", "split").iter_rows())
    leaked = {
        split: {
            name
            for finding in group
            for name in finding["rows"]
            if where.get(name) == split and any(where.get(other) != split for other in finding["rows"])
        }
        for split in ("test", "val")
    }
    if not leaked["test"]:
        photos = wording.count(len(leaked["val"]), "validation image is", "validation images are")
        return (
            f"Leakage: {photos} in the training data",
            "The checkpoint was chosen by a score that rewards learning by heart.",
        )
    photos = wording.count(len(leaked["test"]), "test image is", "test images are")
    title = f"Leakage: {photos} in the training data"
    said = [without for subject in sharing if (without := _without(subject, leaked["test"]))]
    flattered = "A model can answer these from memory: the test scores below flatter every model."
    return title, " ".join([flattered, *said])


def _without(subject: Subject, leaked: set[str]) -> str:
    """The score on the test images that were not leaked."""
    test = subject.predictions.split("test")
    clean = test.take(np.array([i for i, name in enumerate(test.images) if name not in leaked], dtype=np.int64))
    clean = clean.take(np.flatnonzero(clean.labels >= 0))
    if not len(clean):
        return f"No test image of {subject.name} is left without them."
    hits = int((clean.predicted == clean.labels).sum())
    interval = wording.percent_range(wilson(hits, len(clean)))
    return f"Without them {subject.name} scores {wording.percent(hits / len(clean))} ({interval}, n = {len(clean)})."
