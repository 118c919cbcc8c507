"""Together: what of a training the first of many processes does alone, and what all must agree on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate.utils import broadcast_object_list

from discern.progress import Progress, Silent
from discern.training.runtime import accelerator


def is_first() -> bool:
    """Whether this process writes and tells."""
    return bool(accelerator().is_main_process)


def heard(progress: Progress) -> Progress:
    """The progress of the first process; the others say nothing."""
    return progress if is_first() else Silent()


def agreed(value: Any) -> Any:
    """The first process' value, in all of them."""
    if accelerator().num_processes == 1:
        return value
    (told,) = broadcast_object_list([value])
    return told


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process goes through the block, then the others, who find in the cache what it has done."""
    with accelerator().main_process_first():
        yield
