"""Audit page: what is wrong with the data as one self-contained HTML file, for the person who decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import polars as pl

from discern.data.audit.findings import Finding
from discern.data.dataset import SPLITS, Dataset
from discern.data.pixels import Pixels
from discern.files import writing
from discern.report import wording
from discern.report.audit_charts import Nature, nature
from discern.report.audit_sections import Section, sections
from discern.report.html import filled
from discern.report.subject import SPLIT_NAMES


@dataclass(frozen=True, kw_only=True)
class Head:
    """What the page says first."""

    title: str
    """The name of the folder."""
    root: str
    """Where it is."""
    verdict: tuple[str, str]
    """The sentence to take away: its strong beginning, and the rest."""
    mood: Literal["good", "doubtful", "bad"]
    """By the gravest finding."""
    judgement: str
    """What follows for training, in a few words."""
    facts: tuple[tuple[str, str], ...]
    """Counts of images, classes, splits, unreadable files and images concerned."""


@dataclass(frozen=True, kw_only=True)
class AuditPage:
    """All that the template may print."""

    head: Head
    """Title and the sentence to take away."""
    sections: tuple[Section, ...]
    """Every kind of finding, the gravest first; the table of kinds shows the same."""
    clean: str
    """Kinds that were looked for and not found; empty when that is not known."""
    nature: Nature
    """What the images are like."""
    table: str
    """The file with a row of scores per image; empty when there is none."""
    version: str
    """Of Discern."""


def write_audit_page(
    path: Path,
    *,
    dataset: Dataset,
    pixels: Pixels,
    findings: Sequence[Finding],
    scores: pl.DataFrame | None = None,
    table: Path | None = None,
) -> None:
    """Write the page to `path`, whole or not at all; the same findings give the same bytes.

    `dataset` is scanned, `pixels` are its Pixels, `scores` has a row per image with `<kind>_score` and
    `is_<kind>`, and `table` names the file that holds them. Raises StorageError when `path` cannot be written.
    """
    page = audit_page(dataset, pixels, findings, scores, table)
    text = filled("audit.html", page=page)
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def audit_page(
    dataset: Dataset, pixels: Pixels, findings: Sequence[Finding], scores: pl.DataFrame | None, table: Path | None
) -> AuditPage:
    """Put the page together."""
    return AuditPage(
        head=_head(dataset, findings),
        sections=sections(findings, dataset, pixels, scores, table),
        clean=_clean(findings, scores),
        nature=nature(dataset),
        table=str(table) if table is not None and scores is not None else "",
        version=version("discern-vision"),
    )


def _head(dataset: Dataset, findings: Sequence[Finding]) -> Head:
    severities = Counter(finding.severity for finding in findings)
    errors = [finding for finding in findings if finding.severity == "error"]
    rest = wording.listing(
        tuple(wording.count(severities[each], each) for each in ("warning", "note") if severities[each])
    )
    everything = wording.count(len(dataset), "image")
    mood: Literal["good", "doubtful", "bad"]
    if errors:
        leaks = any(finding.kind == "leakage" for finding in errors)
        verdict = (wording.count(len(errors), "error"), f": {wording.listing(_told(errors, dataset))}")
        mood, judgement = "bad", "Training would be refused" if leaks else "Scores on this data would mislead"
        judgement += f"; beside {'them' if len(errors) > 1 else 'it'} {rest}" if rest else ""
    elif severities["warning"]:
        verdict = ("No errors", f" in {everything}, but {rest}")
        mood, judgement = "doubtful", "It can be trained on; look at the warnings first"
    else:
        verdict = ("Nothing wrong", f" was found in {everything}" + (f"; {rest} to know" if rest else ""))
        mood, judgement = "good", "It can be trained on"
    return Head(
        title=dataset.root.name or str(dataset.root),
        root=str(dataset.root),
        verdict=verdict,
        mood=mood,
        judgement=judgement,
        facts=_facts(dataset, findings),
    )


def _told(errors: Sequence[Finding], dataset: Dataset) -> tuple[str, ...]:
    """What the errors are, leakage first, counted in photos."""
    kinds = Counter(finding.kind for finding in errors)
    told = []
    for splits, number in _crossings(errors, dataset).items():
        both = f"both {splits}" if splits.count(" and ") == 1 and "," not in splits else splits
        told.append(f"{wording.count(number, 'photo is', 'photos are')} in {both}")
    if conflicts := kinds["label_conflict"]:
        told.append(f"{wording.count(conflicts, 'photo has', 'photos have')} more than one label")
    told += [
        f"{wording.count(number, 'finding')} of {kind.replace('_', ' ')}"
        for kind, number in kinds.items()
        if kind not in ("leakage", "label_conflict")
    ]
    return tuple(told)


def _crossings(errors: Sequence[Finding], dataset: Dataset) -> Counter[str]:
    """How many leaked photos are in which splits."""
    leaks = [finding for finding in errors if finding.kind == "leakage"]
    names = [name for finding in leaks for name in finding.rows]
    rows = dataset.table.filter(pl.col("image").is_in(names)).select("image", "split")
    where = dict(rows.iter_rows())
    crossed = ({where.get(name) for name in finding.rows} for finding in leaks)
    return Counter(wording.listing(tuple(SPLIT_NAMES[each] for each in SPLITS if each in some)) for some in crossed)


def _facts(dataset: Dataset, findings: Sequence[Finding]) -> tuple[tuple[str, str], ...]:
    unreadable = dataset.table["problem"].drop_nulls().len()
    counts = dataset.split_counts()
    splits = [f"{SPLIT_NAMES[split]} {number:,}" for split, number in counts.items()]
    if counts and (unsplit := len(dataset) - sum(counts.values())):
        splits.append(f"none {unsplit:,}")
    grave = {name for finding in findings if finding.severity == "error" for name in finding.rows}
    concerned = {name for finding in findings for name in finding.rows}
    unlabelled = int((dataset.labels < 0).sum())
    return (
        ("Images", f"{len(dataset):,}"),
        ("Classes", f"{len(dataset.classes):,}" + (f", {unlabelled:,} images without" if unlabelled else "")),
        ("Splits", ", ".join(splits) or "not made yet"),
        ("Unreadable", f"{unreadable:,}" if unreadable else "none"),
        ("Images with an error", _of_all(len(grave), len(dataset))),
        ("Images with any finding", _of_all(len(concerned), len(dataset))),
    )


def _of_all(number: int, images: int) -> str:
    return f"{number:,} ({wording.percent(number / images)})" if number else "none"


def _clean(findings: Sequence[Finding], scores: pl.DataFrame | None) -> str:
    """The kinds with a column in the scores and without a finding."""
    found = {finding.kind for finding in findings}
    looked_for = [column[3:] for column in (scores.columns if scores is not None else ()) if column.startswith("is_")]
    return wording.listing(tuple(kind.replace("_", " ") for kind in looked_for if kind not in found), 30)
