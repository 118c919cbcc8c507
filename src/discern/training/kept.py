"""Kept: rows of numbers about images, in the cache, each computed once.

    values.f16   one row after the other, float16
    names        what each row is about, a line of fixed length for each: the image's digest and the view

A row counts when its line is whole, and lines are written after their rows; a process that is killed loses the rows
it had not yet named.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from discern.errors import storing

_LINE = 37  # bytes: 32 of a digest, a blank, three digits of the view, a newline

Values = Float[np.ndarray, "row width"]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A folder of rows of one width."""

    folder: Path
    """Where they are."""
    width: int
    """Numbers in a row."""

    def places(self, names: Sequence[str]) -> Int[np.ndarray, " name"]:
        """The row of each name; -1 for one that is not there."""
        place = {name: row for row, name in enumerate(self._names())}
        return np.array([place.get(name, -1) for name in names], np.int64)

    def values(self) -> Values:
        """All rows, memory-mapped."""
        count = len(self._names())
        if not count:
            return np.zeros((0, self.width), np.float16)
        return np.memmap(self.folder / "values.f16", np.float16, "r", shape=(count, self.width))

    @contextmanager
    def adding(self) -> Iterator[Adding]:
        """Add rows, alone among all processes."""
        with storing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / "lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                count = len(self._names())
                with open(self.folder / "values.f16", "ab") as values, open(self.folder / "names", "ab") as names:
                    values.truncate(count * self.width * 2)  # of a process that was killed between the two
                    names.truncate(count * _LINE)
                    yield Adding(self, values, names)

    def _names(self) -> list[str]:
        """The rows that are whole."""
        values, names = self.folder / "values.f16", self.folder / "names"
        if not values.exists() or not names.exists():
            return []
        text = names.read_bytes()
        count = min(len(text) // _LINE, values.stat().st_size // (2 * self.width))
        return [text[at * _LINE : (at + 1) * _LINE - 1].decode() for at in range(count)]


class Adding:
    """Rows being added to Kept."""

    def __init__(self, kept: Kept, values: object, names: object) -> None:
        self._kept, self._values, self._names = kept, values, names

    def add(self, names: Sequence[str], rows: Values) -> None:
        """Write rows, then what they are about."""
        with storing(self._kept.folder):
            for file, data in (
                (self._values, np.ascontiguousarray(rows, np.float16).tobytes()),
                (self._names, "".join(f"{name}\n" for name in names).encode()),
            ):
                file.write(data)  # type: ignore[attr-defined]
                file.flush()  # type: ignore[attr-defined]


def name_of(digest: str, view: int) -> str:
    """A row's name: an image by its content, and which view of it."""
    return f"{digest:>32} {view:03d}"
