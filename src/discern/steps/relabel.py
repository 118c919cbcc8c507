"""Relabel: a person's decisions about images, checked against the place they are in and written to its journal."""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from discern.data.journal import VERDICTS, Decision, Journal, Place, decide
from discern.data.sources import as_listed, found_at
from discern.errors import UnknownName, UsageError
from discern.progress import Silent

COLUMNS = ("image", "decision", "label", "reason")
"""Of a table of decisions; others are left alone, so that any table with names of images can be filled in."""


def relabel(
    photos: Place, decisions: Sequence[Decision], *, new_classes: bool = False
) -> tuple[Journal, tuple[Decision, ...]]:
    """Write decisions about images in `photos` to its journal: the journal, and the decisions as they were written.

    Images may be named as the audit names them or by a path. Raises UsageError or UnknownName, and writes nothing,
    when an image is not there, a class does not exist (and `new_classes` is not given) or a reason is missing.
    """
    place = found_at(photos, Silent())
    listed = as_listed(place, Silent())
    known = frozenset(listed.images)
    checked = []
    for each in decisions:
        if each.decision == "relabel" and not each.label:
            raise UsageError(f"The decision to relabel {each.image} names no class; say which (--to CLASS).")
        if each.label and not new_classes and each.label not in listed.classes:
            raise UnknownName("class", each.label, listed.classes, place=f"{photos} (--new-class makes a new one)")
        checked.append(replace(each, image=_known_image(each.image, known, listed.root)))
    journal = decide(place, checked)
    return journal, journal.decisions[len(journal.decisions) - len(checked) :]


def read_decisions(table: Path, *, reason: str | None = None) -> list[Decision]:
    """The decisions in a CSV file with the COLUMNS, such as a spreadsheet saves; rows without a decision are skipped.

    `reason` stands in where a row gives none. Raises UsageError for a row that makes no sense, with its line.
    """
    try:
        text = table.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"No such file: {table}; check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{table} cannot be read ({error}); save it as CSV in UTF-8.") from error
    # Spreadsheets of half the world write semicolons, because their comma is the decimal one.
    separator = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    missing = [name for name in ("image", "decision") if name not in (reader.fieldnames or ())]
    if missing:
        raise UsageError(f"{table} has no column '{missing[0]}'; its first line must name {', '.join(COLUMNS)}.")
    found = [_decision(row, f"{table}, line {reader.line_num}", reason) for row in reader]
    return [each for each in found if each is not None]


def _decision(row: dict[str, str | None], where: str, reason: str | None) -> Decision | None:
    image, verdict, label, because = ((row.get(name) or "").strip() for name in COLUMNS)
    verdict = verdict.lower()
    if not verdict and not label:
        return None
    if verdict not in VERDICTS:
        raise UsageError(f"{where}: the decision is '{verdict}'; write {', '.join(VERDICTS)}, or nothing at all.")
    if verdict == "relabel" and not label:
        raise UsageError(f"{where}: relabel {image} to what? Fill in the column 'label'.")
    if not (because or reason):
        raise UsageError(f"{where}: no reason is given; fill in the column 'reason', or give one with --because.")
    return Decision(
        image=image,
        decision="relabel" if verdict == "relabel" else "drop" if verdict == "drop" else "keep",
        label=label if verdict == "relabel" else None,
        reason=because or reason or "",
    )


def _known_image(name: str, known: frozenset[str], root: Path) -> str:
    """The image's name below the root; `name` may be that, a path, or start in any folder above, as in joined data."""
    if name in known:
        return name
    for above in (Path.cwd(), *root.parents):
        path = Path(os.path.abspath(above / name))
        if path.is_relative_to(root) and (inside := path.relative_to(root).as_posix()) in known:
            return inside
    raise UsageError(f"No image '{name}' in {root}{_nearest(name, known)}")


def _nearest(name: str, known: Iterable[str]) -> str:
    """What was probably meant: a file of that name elsewhere, or a name with a letter or two other."""
    file = name.rpartition("/")[2]
    called = sorted(image for image in known if image.rpartition("/")[2] == file)
    near = difflib.get_close_matches(name, called, n=1, cutoff=0) or difflib.get_close_matches(
        name, sorted(known), n=1
    )
    return f"; did you mean '{near[0]}'?" if near else ": name it by its path there."
