"""Sections: every kind of finding with the pictures it names, the gravest kind first."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from discern.data.audit.findings import Finding
from discern.data.dataset import SPLITS, Dataset
from discern.data.pixels import Pixels
from discern.report import wording
from discern.report.audit_charts import Chart, chart, measured
from discern.report.audit_pictures import Picture, pictures

CLUSTERS = 40
"""Clusters of copies shown per kind: what a person looks through before writing a rule instead."""

COPIES = 4
"""Pictures of one cluster at most: one of each split and label comes first."""

GRID = 36
"""Pictures shown of a kind that names single images: two screens."""

FILES = 100
"""Lines in the table of unreadable files."""

CHARTS = 12
"""Findings of one kind drawn as charts."""

_EVIDENCE = 260
"""Characters of evidence beside pictures that already carry their names."""

_CLUSTERED = ("leakage", "label_conflict", "near_duplicate", "exact_duplicate")
_CHARTED = ("giveaway", "shift", "imbalance")

_KINDS = {  # every kind with what it does, in the order in which a person should look at them
    "leakage": "One photo stands in two splits. A model is then asked what it was told, and its score flatters it.",
    "label_conflict": "One photo stands in the data with different labels. At least one of them is wrong: in training "
    "it teaches a mistake, in a score it counts as one.",
    "unreadable": "These files cannot be decoded.",
    "label_suspect": "To a model that learned from the other photos these look like another class. Some are wrong "
    "labels, some only unusual: look before you change one.",
    "giveaway": "Something that has nothing to do with what is shown tells the classes apart. A model can learn it "
    "instead of the object, and fails where it is missing.",
    "shift": "The splits differ in something that can be measured: a score on one says less about the other.",
    "near_duplicate": "Nearly the same picture more than once. Copies weigh double in training and in every score.",
    "exact_duplicate": "The same file more than once. Copies weigh double in training and in every score.",
    "imbalance": "The classes differ in size: a model that ignores the small ones still looks accurate.",
    "outlier": "Unlike every other image of the data: often not a photo of anything in the list of classes.",
    "tiny": "Too few pixels to show an object.",
    "odd_aspect": "Much longer than wide, or wider than long: fitted to a square, little of the object is left.",
    "blurred": "Out of focus, or enlarged from a small picture.",
    "dark": "So dark that little can be seen.",
    "bright": "So bright that little can be seen.",
    "low_information": "Hardly any detail: an even surface, a drawing, an empty scan.",
}

_MEASURES = {  # what a kind is judged by, so that its pictures can carry the number
    "dark": ("high", "95% of pixels below {:.2f}"),
    "bright": ("low", "95% of pixels above {:.2f}"),
    "blurred": ("sharpness", "sharpness {:.2f}"),
    "low_information": ("entropy", "entropy {:.1f} bits"),
    "odd_aspect": ("aspect", "{:.1f} : 1"),
    "tiny": ("shorter_side", "shorter side {:.0f} pixels"),
}


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A picture with what is said about it."""

    picture: Picture
    """The image."""
    said: str
    """The measured value; empty when there is none."""
    suggested: str
    """The class it looks like; empty unless its label is in doubt."""
    probability: str
    """How sure the model is of that class; empty when unknown."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Copies of one photo."""

    evidence: str
    """How they are known to be copies; empty when the section says it for all."""
    copies: tuple[Picture, ...]
    """Side by side."""
    disagree: bool
    """Whether their labels differ."""
    left_out: int
    """Copies that are not shown."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """All findings of one kind and severity."""

    anchor: str
    """Id in the page."""
    kind: str
    """As in the findings."""
    title: str
    """In words."""
    severity: str
    """'error', 'warning' or 'note'."""
    findings: int
    """How many."""
    images: int
    """Images concerned."""
    tally: str
    """Both in words."""
    meaning: str
    """What this kind does; empty for one that this page does not know."""
    remedy: str
    """What to do."""
    sentences: tuple[str, ...]
    """Evidence that holds for the section as a whole."""
    clusters: tuple[Cluster, ...]
    """For copies."""
    exhibits: tuple[Exhibit, ...]
    """For single images, the worst first."""
    files: tuple[Picture, ...]
    """For images that cannot be shown."""
    charts: tuple[Chart, ...]
    """For findings about the data as a whole."""
    left_out: str
    """What is not shown and where it is; empty when all is."""


def sections(
    findings: Sequence[Finding], dataset: Dataset, pixels: Pixels, scores: pl.DataFrame | None, table: Path | None
) -> tuple[Section, ...]:
    """A Section per kind and severity; `table` is the file that `scores` were written to."""
    groups: dict[tuple[int, int, str], list[Finding]] = {}
    for finding in findings:
        place = list(_KINDS).index(finding.kind) if finding.kind in _KINDS else len(_KINDS)
        groups.setdefault((_GRAVITY[finding.severity], place, finding.kind), []).append(finding)
    return tuple(_section(groups[key], dataset, pixels, scores, table) for key in sorted(groups))


_GRAVITY = {"error": 0, "warning": 1, "note": 2}


def _section(
    group: Sequence[Finding], dataset: Dataset, pixels: Pixels, scores: pl.DataFrame | None, table: Path | None
) -> Section:
    first = group[0]
    kind, names = first.kind, tuple(dict.fromkeys(name for finding in group for name in finding.rows))
    clusters: tuple[Cluster, ...] = ()
    exhibits: tuple[Exhibit, ...] = ()
    files: tuple[Picture, ...] = ()
    charts: tuple[Chart, ...] = ()
    sentences: tuple[str, ...] = ()
    if kind in _CLUSTERED:
        clusters, sentences = _clusters(group, dataset, pixels)
        missing = _missing(len(group), len(clusters), "cluster")
    elif kind in _CHARTED or not names:
        charts = tuple(chart(each, dataset, name=f"{kind}-{n}") for n, each in enumerate(group[:CHARTS], 1))
        missing = _missing(len(group), len(charts), "finding")
    elif kind == "unreadable":
        found = pictures(dataset, pixels, names[:FILES])
        files = tuple(found[name] for name in names[:FILES] if name in found)
        missing = _missing(len(names), len(files), "file")
    else:
        exhibits = _exhibits(group, names, dataset, pixels, scores)
        missing = _missing(len(names), len(exhibits), "image")
        # One finding about many images says something about all; one per image would fill the page with sentences.
        sentences = (first.evidence,) if len(group) == 1 and len(names) > 1 else ()
    return Section(
        anchor=f"{first.severity}-{kind}",
        kind=kind,
        title=kind.replace("_", " ").capitalize(),
        severity=first.severity,
        findings=len(group),
        images=len(names),
        tally=_tally(kind, len(group), len(names)),
        meaning=_KINDS.get(kind, ""),
        remedy=first.remedy,
        sentences=sentences,
        clusters=clusters,
        exhibits=exhibits,
        files=files,
        charts=charts,
        left_out=f"{missing} {_elsewhere(kind, dataset, scores, table)}" if missing else "",
    )


def _elsewhere(kind: str, dataset: Dataset, scores: pl.DataFrame | None, table: Path | None) -> str:
    """Where all of a kind can be found."""
    if scores is not None and table is not None and f"is_{kind}" in scores.columns:
        return f"The column is_{kind} of {table} marks every image."
    return f"`discern audit {shlex.quote(str(dataset.root))} --json` lists every finding."


def _tally(kind: str, findings: int, images: int) -> str:
    concerned = wording.count(images, "image") if images else ""
    if kind in _CLUSTERED:
        return f"{wording.count(findings, 'cluster')} of {concerned}"
    return concerned or wording.count(findings, "finding")


def _missing(all_: int, shown: int, noun: str) -> str:
    hidden = all_ - shown
    return f"{wording.count(hidden, f'more {noun} is', f'more {noun}s are')} not shown here." if hidden > 0 else ""


def _clusters(
    group: Sequence[Finding], dataset: Dataset, pixels: Pixels
) -> tuple[tuple[Cluster, ...], tuple[str, ...]]:
    """The first clusters; a sentence that is the same for every cluster of the kind stands once, above them."""
    told = [_evidence(finding) for finding in group]
    shared = (told[0],) if len(set(told)) == 1 and len(told) > 1 else ()
    wanted = {name for finding in group[:CLUSTERS] for name in finding.rows}
    where = {
        name: (split, label)
        for name, split, label in dataset.table.filter(pl.col("image").is_in(list(wanted)))
        .select("image", "split", "label")
        .iter_rows()
    }
    chosen = [_chosen(finding.rows, where) for finding in group[:CLUSTERS]]
    found = pictures(dataset, pixels, {name for names in chosen for name in names})
    return tuple(
        Cluster(
            evidence="" if shared else sentence,
            copies=tuple(found[name] for name in names),
            disagree=len({where[name][1] for name in finding.rows if name in where}) > 1,
            left_out=len(finding.rows) - len(names),
        )
        for finding, sentence, names in zip(group, told, chosen, strict=False)
    ), shared


def _chosen(names: Sequence[str], where: dict[str, tuple[str | None, int]]) -> list[str]:
    """Copies to show: every split and label that occurs before a second of any; training stands first."""
    seen: Counter[tuple[str | None, int]] = Counter()
    turns = []
    for name in names:
        if name in where:
            seen[where[name]] += 1
            turns.append((seen[where[name]], name))
    kept = [name for _, name in sorted(turns, key=lambda turn: turn[0])[:COPIES]]
    return sorted(kept, key=lambda name: SPLITS.index(where[name][0] or SPLITS[0]))


def _evidence(finding: Finding) -> str:
    """The sentence without the list of files that stands below the pictures anyway."""
    sentence = finding.evidence.replace(f": {', '.join(finding.rows)}", "")
    return sentence if len(sentence) <= _EVIDENCE else f"{sentence[:_EVIDENCE].rstrip()}\u2026"


def _exhibits(
    group: Sequence[Finding],
    names: Sequence[str],
    dataset: Dataset,
    pixels: Pixels,
    scores: pl.DataFrame | None,
) -> tuple[Exhibit, ...]:
    """The worst images of a kind, each with the number it is judged by."""
    kind = group[0].kind
    details = {finding.rows[0]: finding.detail for finding in group if finding.detail and len(finding.rows) == 1}
    doubts = {name: detail for name, detail in details.items() if "suggested" in detail}
    judged = _scores(kind, scores)
    order = sorted(names, key=lambda name: (-_probability(doubts.get(name)), judged.get(name, 1.0)))[:GRID]
    found = pictures(dataset, pixels, order)
    values = _values(kind, dataset, order)
    shown = []
    for name in (name for name in order if name in found):
        doubt = doubts.get(name, {})
        score = f"score {judged[name]:.2f}" if name in judged and kind not in _MEASURES and not doubt else ""
        shown.append(
            Exhibit(
                picture=found[name],
                said=values.get(name, score),
                suggested=str(doubt.get("suggested", "")),
                probability=wording.percent(float(doubt["probability"])) if "probability" in doubt else "",
            )
        )
    return tuple(shown)


def _probability(detail: dict[str, object] | None) -> float:
    return float(str((detail or {}).get("probability", 0.0)))


def _scores(kind: str, scores: pl.DataFrame | None) -> dict[str, float]:
    """How bad each image is: 0 is worst."""
    column = f"{kind}_score"
    if scores is None or column not in scores.columns:
        return {}
    return dict(scores.select("image", pl.col(column).fill_nan(None)).drop_nulls().iter_rows())


def _values(kind: str, dataset: Dataset, names: Sequence[str]) -> dict[str, str]:
    """The measured value of each image in words."""
    property_, words = _MEASURES.get(kind, ("", ""))
    some = dataset.filter(pl.col("image").is_in(list(names)))
    values = measured(some, property_)
    if values is None:
        return {}
    told = zip(some.images, values, strict=True)
    return {
        name: f"1 : {1 / value:.1f}" if property_ == "aspect" and value < 1 else words.format(value)
        for name, value in told
        if value is not None
    }
