"""The journal: what people decided about the images of one place, kept beside them and applied on every read.

A journal is a file of JSON lines that only grows: `PHOTOS/.discern/journal.jsonl`, or for a single file
`.discern/X.parquet.journal.jsonl` beside it. No photo is ever deleted, moved or changed.

    {"time": "2026-01-31T12:00:00+00:00", "image": "cat/7.jpg", "decision": "relabel", "label": "dog", "reason": "..."}
    {"time": "2026-01-31T12:05:00+00:00", "undo": 1}

Decisions are numbered from 1 in the order of the file; of several about one image the last that is not undone
stands. Where the photos may not be written, or are a named set or a URL, $DISCERN_JOURNALS names a folder for
journals: the first decision copies the place's own journal there, and from then on that copy is the one that counts.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import polars as pl

from discern.data.dataset import Dataset
from discern.errors import DataError, StorageError, UsageError, storing
from discern.progress import Logged, Progress, Silent

Verdict = Literal["keep", "drop", "relabel"]
"""'keep': it is right as it is; 'drop': use it no more; 'relabel': it shows another class."""
VERDICTS: tuple[str, ...] = get_args(Verdict)


Place = str | os.PathLike[str]
"""What `open_dataset` takes: a path, the name of a set, a URL."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a person decided about one image."""

    image: str
    """Its name in the place: a path relative to it, or `file.parquet#row`."""
    decision: Verdict
    """Keep, drop or relabel."""
    reason: str
    """Why, in the person's words."""
    label: str | None = None
    """The class it shows; for relabel only."""
    who: str | None = None
    """The person's name on this machine, where it is known."""
    time: str = ""
    """When, in ISO 8601; empty until it is written."""
    number: int = 0
    """Place in the journal, from 1; 0 until it is written."""
    undone: bool = False
    """Whether it was taken back."""

    def __str__(self) -> str:
        to = f" to {self.label}" if self.label else ""
        return f"{self.decision} {self.image}{to}, because: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the number and whether it was undone."""
        return {"number": self.number, **_record(self), "undone": self.undone}


@dataclass(frozen=True, kw_only=True)
class Journal:
    """All decisions about one place."""

    file: Path | None
    """Where they stand, once there is one; none for a place that has no room for a journal."""
    decisions: tuple[Decision, ...]
    """In the order they were made, the undone ones too."""

    @property
    def standing(self) -> dict[str, Decision]:
        """The decision that holds for each image that has one."""
        return {each.image: each for each in self.decisions if not each.undone}


def journal_file(place: Place) -> Path:
    """The file that the next decision about `place` is written to.

    Raises StorageError for a place that is not on this disk when there is no folder for journals.
    """
    if folder := os.environ.get("DISCERN_JOURNALS"):
        path = _path(place)
        text = os.fspath(place).lower() if path is None else os.fspath(path)
        name = re.sub(r"[^\w.-]+", "-", text.rpartition("/")[2]) or "journal"
        return Path(folder) / f"{name}-{hashlib.blake2b(os.fsencode(text), digest_size=4).hexdigest()}.jsonl"
    if (own := _own_file(place)) is None:
        raise StorageError(
            f"{os.fspath(place)} is no folder of yours to keep decisions in; name a folder for them in "
            "$DISCERN_JOURNALS, for this and every later command."
        )
    return own


def _own_file(place: Place) -> Path | None:
    """The journal beside the photos; none for photos that are not on this disk."""
    path = _path(place)
    if path is None:
        return None
    if path.is_dir():
        return path / ".discern" / "journal.jsonl"
    return path.parent / ".discern" / f"{path.name}.journal.jsonl"


def _path(place: Place) -> Path | None:
    path = Path(os.fspath(place).removeprefix("file://")).resolve()
    return path if path.exists() else None


def read_journal(place: Place, progress: Progress | None = None) -> Journal:
    """The journal of a place; empty when nobody has decided anything.

    A last line that is cut off (a crash while it was written) holds no decision: it is ignored with a warning.
    Raises DataError for any other line that is not an entry.
    """
    files = [journal_file(place)] if os.environ.get("DISCERN_JOURNALS") else []
    files += [own] if (own := _own_file(place)) is not None else []
    for file in files:
        if (data := _content(file)) is not None:
            whole, tail = _whole(data)
            if tail:
                sentence = f"warning: The last line of {file} is cut off and holds no decision: it is ignored."
                (progress or Logged()).say(sentence)
            return Journal(file=file, decisions=_decisions(whole, file))
    return Journal(file=files[0] if files else None, decisions=())


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"The journal {file} cannot be read ({error.strerror}); change its permissions.") from error


def decide(place: Place, decisions: Sequence[Decision]) -> Journal:
    """Add decisions to the journal of a place, all or none; several processes may do so at once.

    Image and class names are taken as they come (`discern.steps.relabel` checks them).
    Raises UsageError for a decision without a reason, StorageError when the journal cannot be written.
    """
    for each in decisions:
        if not each.reason.strip():
            raise UsageError(f"The decision to {each.decision} {each.image} has no reason; say why (--because).")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    who = os.environ.get("USER") or os.environ.get("USERNAME") or None
    stamped = [replace(each, time=each.time or now, who=each.who or who) for each in decisions]
    with _appending(place) as (journal, append):
        append([_record(each) for each in stamped])
        first = len(journal.decisions) + 1
    new = tuple(replace(each, number=number) for number, each in enumerate(stamped, start=first))
    return replace(journal, decisions=journal.decisions + new)


def undo(place: Place, number: int | None = None) -> Decision:
    """Take back the decision of that number, or the last one that stands; gives the decision.

    Raises UsageError when there is none, StorageError when the journal cannot be written.
    """
    if not read_journal(place, Silent()).decisions:  # asked first, so that no file is made for nothing
        raise UsageError(f"There is no decision to undo: {os.fspath(place)} has none.")
    with _appending(place) as (journal, append):
        left = [each for each in journal.decisions if not each.undone]
        if number is None:
            if not left:
                raise UsageError(f"There is no decision to undo: all of {journal.file} are undone.")
            chosen = left[-1]
        else:
            if not 1 <= number <= len(journal.decisions):
                raise UsageError(
                    f"There is no decision {number} in {journal.file}, which has {len(journal.decisions)}; "
                    "`discern relabel PHOTOS --list` numbers them."
                )
            chosen = journal.decisions[number - 1]
            if chosen.undone:
                raise UsageError(f"Decision {number} in {journal.file} is undone already.")
        append([{"time": datetime.now(UTC).isoformat(timespec="seconds"), "undo": chosen.number}])
    return replace(chosen, undone=True)


def applied(dataset: Dataset, journal: Journal, progress: Progress | None = None) -> Dataset:
    """The listed images of a place as people decided: dropped ones gone, labels changed, `decision` filled in.

    A class that is new comes after the others; one that decisions leave empty is no class any more. Decisions about
    images that are gone change nothing, and a warning counts them. Raises DataError when nothing is left.
    """
    standing = journal.standing
    if not standing:
        return dataset
    gone = standing.keys() - set(dataset.images)
    if gone:
        about = "1 image that is" if len(gone) == 1 else f"{len(gone)} images that are"
        sentence = f"warning: {journal.file} decides about {about} no longer there, such as {min(gone)}."
        (progress or Logged()).say(sentence)
    names = {d.image: d.label for d in standing.values() if d.label is not None and d.image not in gone}
    classes = (*dataset.classes, *sorted({*names.values()} - {*dataset.classes}))
    verdicts = pl.Series(
        "decision", [d.decision if (d := standing.get(i)) else None for i in dataset.images], pl.String
    )
    old = [dataset.classes[label] if label >= 0 else None for label in dataset.labels]
    labels = [names.get(image, label) for image, label in zip(dataset.images, old, strict=True)]
    table = dataset.table.with_columns(verdicts, pl.Series("label", labels, pl.String))
    table = table.filter(pl.col("decision").ne_missing("drop"))
    if table.is_empty():
        raise DataError(f"{journal.file} drops every image of {dataset.root}: undo some of its decisions.")
    emptied = {*old} - {*table["label"]}
    classes = tuple(name for name in classes if name not in emptied)
    index: dict[str | None, int] = {name: number for number, name in enumerate(classes)}
    table = table.with_columns(
        pl.Series("label", [index.get(label, -1) for label in table["label"]], pl.Int32),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("index"),
    )
    return replace(dataset, classes=classes, table=table)


def applied_from_above(dataset: Dataset, place: Place) -> Dataset:
    """The Dataset as people decided about its files in the journals of other folders that these lie in.

    A manifest names files of a folder that has a journal, and a folder of photos may be read through the one above or
    below: a decision about a file holds however it is come by.
    """
    own = _path(place)
    parents = {dataset.root / parent for parent in {os.path.dirname(file) for file in dataset.table["file"]}}
    for folder in sorted({folder for parent in parents for folder in (parent, *parent.parents)} - {own}):
        if not (folder / ".discern" / "journal.jsonl").is_file():
            continue
        files = [dataset.root / file for file in dataset.table["file"]]
        below = [str(file.relative_to(folder)) if file.is_relative_to(folder) else "" for file in files]
        renamed = dataset.with_columns(
            pl.Series("image", below, dtype=pl.String), dataset.table["image"].alias("its own name")
        )
        decided = applied(renamed, read_journal(folder), Silent())
        table = decided.table.with_columns(image="its own name").drop("its own name")
        dataset = replace(decided, table=table)
    return dataset


def _record(decision: Decision) -> dict[str, Any]:
    """One line of the file."""
    record = {"time": decision.time, "image": decision.image, "decision": decision.decision}
    optional = {"label": decision.label, "reason": decision.reason, "who": decision.who}
    return record | {name: value for name, value in optional.items() if value is not None}


def _whole(data: bytes) -> tuple[bytes, bytes]:
    """The lines that were written to their end, and what follows; a person's editor may leave out the last newline."""
    end = data.rfind(b"\n") + 1
    try:
        json.loads(data[end:])
    except ValueError:
        return data[:end], data[end:].strip()
    return data, b""


def _decisions(data: bytes, file: Path) -> tuple[Decision, ...]:
    found: list[Decision] = []
    for line, text in enumerate(data.splitlines(), start=1):
        if not text.strip():
            continue
        try:
            _enter(json.loads(text), found)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise DataError(f"Line {line} of the journal {file} is not a decision; mend it or take it out.") from error
    return tuple(found)


def _enter(entry: dict[str, Any], found: list[Decision]) -> None:
    """Add one line to what the lines before it say; a line that makes no sense raises."""
    if "undo" in entry:
        number = entry["undo"]
        if not isinstance(number, int) or number < 1:
            raise ValueError(number)
        found[number - 1] = replace(found[number - 1], undone=True)
        return
    verdict, label = entry["decision"], entry.get("label")
    texts = [entry["image"], entry.get("reason", ""), *([label] if verdict == "relabel" else [])]
    if verdict not in VERDICTS or not all(isinstance(text, str) for text in texts):
        raise ValueError(entry)
    found.append(
        Decision(
            image=entry["image"],
            decision=verdict,
            reason=entry.get("reason", ""),
            label=label if verdict == "relabel" else None,
            who=entry.get("who"),
            time=str(entry.get("time", "")),
            number=len(found) + 1,
        )
    )


@contextmanager
def _appending(place: Place) -> Iterator[tuple[Journal, Any]]:
    """The journal, and a function that adds lines to it, while no other process can."""
    file = journal_file(place)
    with _writable(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        with _writable(file):
            fcntl.flock(handle, fcntl.LOCK_EX)  # until the file is closed
            own = _own_file(place)
            if own is not None and own != file and os.fstat(handle).st_size == 0:
                _write(handle, _content(own) or b"")
            data = _read_all(handle)
            whole, tail = _whole(data)
            if tail:  # what a crash left of a line holds no decision, and the next line would join it
                os.ftruncate(handle, len(whole))
            elif whole and not whole.endswith(b"\n"):
                _write(handle, b"\n")

            def append(entries: list[dict[str, Any]]) -> None:
                _write(handle, "".join(json.dumps(e, ensure_ascii=False) + "\n" for e in entries).encode())

            yield Journal(file=file, decisions=_decisions(whole, file)), append
    finally:
        os.close(handle)


def _read_all(handle: int) -> bytes:
    os.lseek(handle, 0, os.SEEK_SET)
    with os.fdopen(os.dup(handle), "rb") as file:
        return file.read()


def _write(handle: int, data: bytes) -> None:
    """Append all of `data` and wait for the disk; nothing of it stays when the disk refuses."""
    size = os.fstat(handle).st_size
    try:
        while data:
            data = data[os.write(handle, data) :]
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, size)
        raise


@contextmanager
def _writable(file: Path) -> Iterator[None]:
    """As `storing`, with the way on for photos that may not be written."""
    try:
        with storing(file):
            yield
    except StorageError as error:
        raise StorageError(
            f"{str(error).rstrip('.')}; to keep decisions away from the photos, name a folder of yours in "
            "$DISCERN_JOURNALS, for this and every later command."
        ) from error
