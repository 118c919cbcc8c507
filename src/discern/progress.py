"""The seam between long work and whoever watches it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int, str], None]
"""Called with how many more items are done and a short note such as 'loss 0.41'."""


class Progress(Protocol):
    """What long work tells: how far it is, and sentences worth reading."""

    def track(self, label: str, total: int, unit: str = "images") -> AbstractContextManager[Advance]:
        """Follow `total` items of work for the length of the block."""
        ...

    def say(self, message: str) -> None:
        """Pass on one sentence."""
        ...


class Silent:
    """A Progress that nobody watches."""

    @contextmanager
    def track(self, label: str, total: int, unit: str = "images") -> Iterator[Advance]:
        """Follow nothing."""
        yield lambda done, note: None

    def say(self, message: str) -> None:
        """Drop the sentence."""


class Logged(Silent):
    """What Python callers get: sentences go to the logger 'discern', warnings and errors as such, so they are seen."""

    def say(self, message: str) -> None:
        """Log the sentence at the level it begins with."""
        level = {"error": logging.ERROR, "warning": logging.WARNING}.get(message.partition(":")[0], logging.INFO)
        logging.getLogger("discern").log(level, message)
