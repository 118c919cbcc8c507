"""Every way Discern says no.

    DiscernError               exit 1   something in Discern failed
    ├── UsageError             exit 2   the request cannot be carried out as given
    │   ├── UnknownName                 a model, recipe, key or class that does not exist; the nearest is named
    │   ├── NotARun                     a directory that is not a Run, or misses the file that was asked for
    │   ├── MissingExtra                an optional package is not installed; the install command is given
    │   └── StorageError                a file cannot be written: permission, full disk
    ├── DataError              exit 3   the images or labels cannot be used honestly
    │   └── UnreadableImage             one image that cannot be decoded (collected as a finding, rarely raised)
    └── TrainingDiverged       exit 1   the loss became NaN or infinite
    KeyboardInterrupt          exit 130 Ctrl-C
    └── Terminated             exit 75  SIGTERM: a scheduler wants the machine, and may start the same again later

Every message is one sentence that says what is wrong, where, and what to do.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_NAMED = 30
"""Known names that a message lists at most."""


class DiscernError(Exception):
    """The root of the tree; `exit_code` is what the command line leaves with."""

    exit_code = 1


class UsageError(DiscernError):
    """The request cannot be carried out as given."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that does not exist, with the nearest one that does."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, place: str = "") -> None:
        known = sorted(known)
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        some = ", ".join(known[:_NAMED]) + (f" and {len(known) - _NAMED:,} more" if len(known) > _NAMED else "")
        hint = f"did you mean '{nearest[0]}'?" if nearest else f"known: {some}."
        super().__init__(f"Unknown {kind} '{name}'{f' in {place}' if place else ''}: {hint}")
        self.nearest = nearest[0] if nearest else None


class NotARun(UsageError):
    """A directory that is not a Run, or a Run without the file that was asked for."""


class MissingExtra(UsageError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"'{package}' is not installed: run `pip install 'discern-vision[{extra}]'`, then try again.")


class StorageError(UsageError):
    """A file cannot be written."""


class DataError(DiscernError):
    """The images or labels cannot be used honestly."""

    exit_code = 3


class UnreadableImage(DataError):
    """One image that cannot be decoded."""


class TrainingDiverged(DiscernError):
    """The loss became NaN or infinite."""


class Terminated(KeyboardInterrupt):
    """The process was told to end; what it did is kept."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing `path` into one clear StorageError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"The disk is full: {path} could not be written; free some space and run the same command again."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(
                f"No permission to write {path}; choose another place for it or change its permissions."
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            raise StorageError(
                f"{path} cannot be written: a file or folder of another kind is in its place; choose another name."
            ) from error
        raise StorageError(f"{path} cannot be written ({error.strerror}); choose another place for it.") from error
