"""Stopping in an orderly way: Ctrl-C and a scheduler's SIGTERM wait for the end of a step, so that it can be kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from discern.errors import Terminated

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises Terminated for the length of the block, as Ctrl-C raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


class Asked:
    """Whether a signal has come that is being held back."""

    def __init__(self) -> None:
        self.by: int | None = None

    def leave(self) -> None:
        """What the signal would have raised; of a process that others have told to stop, KeyboardInterrupt."""
        raise Terminated if self.by == signal.SIGTERM else KeyboardInterrupt


@contextmanager
def asked_to_stop() -> Iterator[Asked]:
    """The first of either signal is held back, to be asked for; a second one is not."""
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def hold(number: int, frame: FrameType | None) -> None:
        asked.by = number
        _restore(before)

    for number in _SIGNALS:
        signal.signal(number, hold)
    try:
        yield asked
    finally:
        _restore(before)


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
