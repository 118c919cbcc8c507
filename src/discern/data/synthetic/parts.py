"""Five classes of industrial parts, rendered: a labelled image set that needs no download and no licence.

`render` gives one image and its mask, `write` a folder of them, `ensure` the same from a cache. Image i of
a class and split is a pure function of (seed, split, class, index, size, domain): the worker count, the
order and the other images do not matter.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from discern.data.synthetic.plan import plan
from discern.data.synthetic.render import picture
from discern.data.synthetic.specification import DOMAINS, Faults, Parts, check, known_domain, known_size
from discern.data.synthetic.subjects import CLASSES
from discern.data.synthetic.writing import fill
from discern.errors import UnknownName, UsageError, storing
from discern.files import cache_folder

__all__ = ["CLASSES", "DOMAINS", "Faults", "Parts", "ensure", "render", "write"]


def render(
    label: str, *, seed: int, split: str, index: int, size: int = 256, domain: str = "workshop"
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render one image (size, size, 3) RGB and its mask (size, size), 255 on the labelled things' visible pixels.

    Raises UsageError for a class, domain or size that does not exist.
    """
    if label not in CLASSES:
        raise UnknownName("class", label, CLASSES)
    known_domain(domain)
    known_size(size)
    return picture(label, seed=seed, split=split, index=index, size=size, domain=domain)


def write(
    folder: Path,
    parts: Parts,
    *,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render a set into a new folder; `workers` defaults to the cores, `on_progress` gets (done, total).

    Layout: train/<class>/*.jpg and test/<class>/*.jpg; .truth/ holds the masks, truth.parquet and parts.json.
    Everything is written beside the folder and renamed at the end. Raises UsageError when the folder is
    not empty or the specification cannot be rendered, StorageError when the disk refuses.
    """
    folder = Path(folder)
    _checked(parts, workers)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not an empty folder: give a new one, or empty it first.")
    _rendered(folder, parts, workers, on_progress)
    return folder


def ensure(
    parts: Parts,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Give the set's folder in the cache, rendering it the first time; several processes may ask at once.

    The cache is `cache`, else $DISCERN_CACHE/parts, $XDG_CACHE_HOME/discern/parts or ~/.cache/discern/parts.
    """
    _checked(parts, workers)
    folder = (Path(cache) if cache is not None else cache_folder() / "parts") / f"parts-{parts.key()}"
    if not (folder / ".truth" / "parts.json").is_file():
        _rendered(folder, parts, workers, on_progress)
    return folder


def _checked(parts: Parts, workers: int | None) -> None:
    check(parts)
    if workers is not None and workers < 1:
        raise UsageError(f"workers is {workers}; give 1 or more, or leave it out to use every core.")


def _rendered(folder: Path, parts: Parts, workers: int | None, report: Callable[[int, int], None] | None) -> None:
    """Fill a temporary sibling and rename it; if another process was first with the same set, keep theirs."""
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with storing(folder):
            temporary.mkdir(parents=True)
            fill(temporary, plan(parts), parts, workers=workers, report=report)
            try:
                os.replace(temporary, folder)  # an empty folder in its place is replaced as well
            except OSError:
                if not (folder / ".truth" / "parts.json").is_file():
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
