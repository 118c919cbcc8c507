"""Verdict: what the page says first - the one sentence to take away, and the alarms that spoil it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from discern.data.audit.findings import Finding
from discern.evaluation.comparison import ALPHA, Comparison, Pair
from discern.evaluation.intervals import wilson
from discern.report import wording
from discern.report.material import passed
from discern.report.ranking import common_split
from discern.report.subject import SPLIT_NAMES, Subject
from discern.runs.run import ON_FEATURES

_SHOWN = 200
"""Clusters listed under an alarm at most; findings.json has them all."""

_NAMES = 20
"""Copies named of one cluster at most."""

_MAJORITY = "majority class"
"""The name training gives the baseline that always answers the most common class."""

_TRAIN_AGAIN = "Train again with --leakage drop before these scores are used: it leaves the copies out of training."
"""What to do about leakage that was allowed; the finding's own remedy is for data not yet trained on."""

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
    reason: str
    """Why it was allowed, as --because said; empty when nobody allowed it."""
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
    """What to know beside it: the baselines, and which copies were kept apart."""


def verdict(subjects: Sequence[Subject], comparison: Comparison | str) -> Verdict:
    """The head of the page for one run or several."""
    split = common_split(subjects)
    models = sorted({str(subject.info["model"]["name"]) for subject in subjects})
    first = subjects[0]
    title = first.name if len(subjects) == 1 else f"{len(subjects)} runs compared"
    occasion = _occasion(first, models)
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
            sentences=(
                "These runs cannot be compared, so there is no pick among them.",
                str(comparison),
                *_kept_apart(subjects),
            ),
        )
    chosen = first
    mood: Mood = "doubtful"
    if isinstance(comparison, Comparison):
        chosen = next(subject for subject in subjects if subject.name == comparison.pick)
        mood, judgement, sentences = _standing(comparison, chosen.name)
    else:
        judgement, sentences = "Not compared with a baseline", [comparison]
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
        sentences=(*sentences, *_kept_apart(subjects)),
    )


def _occasion(first: Subject, models: Sequence[str]) -> str:
    """Models, data and day in a line."""
    parts = (
        wording.listing(tuple(models), 4),
        f"{wording.count(len(first.dataset), 'image')} of {len(first.evaluation.classes)} classes",
        str(first.info.get("started", ""))[:10],
    )
    return " \u00b7 ".join(part for part in parts if part)


def _kept_apart(subjects: Sequence[Subject]) -> tuple[str, ...]:
    """What was done so that copies are in one split, once for all runs it was done for."""
    runs: dict[str, list[str]] = {}
    for subject in subjects:
        if subject.passage is not None and subject.passage.leakage in ("drop", "group"):
            runs.setdefault(passed(subject.passage), []).append(subject.name)
    return tuple(
        sentence if len(names) == len(subjects) else f"{wording.listing(tuple(names), 4)}: {sentence}"
        for sentence, names in runs.items()
    )


def _standing(comparison: Comparison, name: str) -> tuple[Mood, str, list[str]]:
    """How the model stands against each baseline; the trivial ones are the bar, those on features a yardstick."""
    rows = {row.name: row for row in comparison.rows}
    beaten, probed, sentences = list[int](), list[int](), list[str]()
    for row in comparison.rows:
        if not row.baseline:
            continue
        pair = next(pair for pair in comparison.pairs if {pair.first, pair.second} == {name, row.name})
        on_features = row.name.endswith(ON_FEATURES)
        sign = _sign(pair, name)
        (probed if on_features else beaten).append(sign)
        what = {
            _MAJORITY: "Always answering the most common class",
            "color histogram": "Colour alone, without any shape,",
        }.get(row.name, f"The baseline {row.name}")
        if on_features:
            what = f"{row.name.removesuffix(ON_FEATURES).capitalize()} on the same published features"
        gap = row.top1 - rows[name].top1
        distance = f"{abs(100 * gap):.1f} points {'more' if gap > 0 else 'less'}" if gap else "exactly as much"
        # What cannot be told apart is said so, however large the gap looks.
        told = "a significant difference" if sign else "not a significant difference"
        sentences.append(
            f"{what} scores {wording.percent(row.top1)} ({wording.percent_range(row.top1_ci)}, n = {row.n:,}): "
            f"{distance}, {told} ({wording.p_statement(pair.p_holm)})."
        )
    if not beaten:
        return "doubtful", "No baseline to compare with", sentences
    if min(probed, default=0) < 0:
        return "bad", "Worse than an instant baseline", sentences
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


def alarms(subjects: Sequence[Subject], comparison: Comparison | str) -> tuple[Alarm, ...]:
    """One Alarm per kind of error in the data of any run, leakage first; the same data is told of once."""
    pick = comparison.pick if isinstance(comparison, Comparison) else ""
    found: list[Alarm] = []
    seen: set[str] = set()
    for subject in subjects:
        fingerprint = str(subject.info["dataset"]["fingerprint"])
        if fingerprint not in seen:
            seen.add(fingerprint)
            sharing = [s for s in subjects if s.info["dataset"]["fingerprint"] == fingerprint]
            whose = "" if len(sharing) == len(subjects) else wording.listing(tuple(s.name for s in sharing), 4)
            # One run stands for all in the effect: the one that would be used.
            found += _alarms(next((s for s in sharing if s.name == pick), sharing[0]), whose, _reason(sharing))
    # Data that differ only in what leakage did to them have all else in common.
    return tuple(sorted(dict.fromkeys(found), key=lambda alarm: alarm.kind != "leakage"))


def _reason(subjects: Sequence[Subject]) -> str:
    """Why leakage was allowed in runs on the same data; empty when it was not."""
    runs: dict[str, list[str]] = {}
    for subject in subjects:
        if subject.passage is not None and subject.passage.because:
            runs.setdefault(subject.passage.because, []).append(subject.name)
    if len(runs) < 2:
        return "".join(runs)
    return "; ".join(f"{because} ({wording.listing(tuple(names), 4)})" for because, names in runs.items())


def _alarms(subject: Subject, whose: str, reason: str) -> Iterator[Alarm]:
    """The alarms of one dataset, their effect shown on one run.

    For leakage alone it counts whose data they are, empty for those of every run, and the reason it was allowed.
    """
    errors = [finding for finding in subject.findings if finding.severity == "error"]
    for kind in dict.fromkeys(finding.kind for finding in errors):
        group = [finding for finding in errors if finding.kind == kind]
        title, effect = _told(kind, group, subject, whose)
        allowed = reason if kind == "leakage" else ""
        yield Alarm(
            kind=kind,
            title=title,
            effect=effect,
            reason=allowed,
            remedy=_TRAIN_AGAIN if allowed else str(group[0].remedy),
            files=tuple(_some(finding.rows) for finding in group[:_SHOWN]),
            left_out=max(0, len(group) - _SHOWN),
        )


def _some(names: Sequence[str]) -> tuple[str, ...]:
    more = len(names) - _NAMES
    return (*names[:_NAMES], f"{more:,} more") if more > 0 else tuple(names)


def _told(kind: str, group: list[Finding], subject: Subject, whose: str) -> tuple[str, str]:
    """What is wrong and what it does."""
    if kind == "leakage":
        return _leakage(group, subject, whose)
    if kind == "label_conflict":
        photos = wording.count(len(group), "photo stands", "photos stand")
        return (
            f"{photos} in the data with two different labels",
            "At least one of the labels is wrong; in training it teaches a mistake, in a score it counts as one.",
        )
    return f"{kind.replace('_', ' ').capitalize()}: {wording.count(len(group), 'finding')}", str(group[0].evidence)


def _leakage(group: list[Finding], subject: Subject, whose: str) -> tuple[str, str]:
    """How many judged images were seen in training, and the score without them."""
    where = dict(subject.dataset.table.select("image", "split").iter_rows())
    known = {"train": set[str](), "val": set[str]()}  # test images by the split that holds a copy
    copied = set[str]()  # validation images with a copy in training
    for finding in group:
        splits = {where.get(name) for name in finding.rows}
        for name in finding.rows:
            if where.get(name) == "test" and splits & {"train", "val"}:
                known["train" if "train" in splits else "val"].add(name)
            elif where.get(name) == "val" and "train" in splits:
                copied.add(name)
    told = [
        wording.count(len(names), f"{judged} image is", f"{judged} images are") + f" in the {SPLIT_NAMES[home]} data"
        for judged, home, names in (
            ("test", "train", known["train"]),
            ("test", "val", known["val"]),
            ("validation", "train", copied),
        )
        if names
    ]
    what = ", ".join(told) or wording.count(len(group), "cluster of copies", "clusters of copies")
    title = f"Leakage{f' in {whose}' if whose else ''}: {what}"
    leaked = known["train"] | known["val"]
    if not leaked:
        return title, "The checkpoint was chosen by a score that rewards learning by heart."
    flattered = f"A model can answer these from memory: the test scores below flatter {whose or 'every model'}."
    return title, f"{flattered} {_without(subject, leaked)}"


def _without(subject: Subject, leaked: set[str]) -> str:
    """The score on the test images that were not leaked."""
    test = subject.predictions.split("test")
    clean = test.take(np.array([i for i, name in enumerate(test.images) if name not in leaked], dtype=np.int64))
    clean = clean.take(np.flatnonzero(clean.labels >= 0))
    if not len(clean):
        return f"No test image of {subject.name} is left without them."
    hits = int((clean.predicted == clean.labels).sum())
    interval = wording.percent_range(wilson(hits, len(clean)))
    score = wording.percent(hits / len(clean))
    return f"Without them {subject.name} scores {score} ({interval}, n = {len(clean):,})."
