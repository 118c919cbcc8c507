"""Models: what networks there are, and how fast each is on this machine."""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from typing import Any

import torch

from discern.errors import UnknownName
from discern.files import cache_folder, write_json
from discern.models import zoo
from discern.models.backbones import architectures, licence_of
from discern.models.cutting import cut, folded
from discern.models.layers import trained
from discern.progress import Progress
from discern.training.runtime import accelerator, forward_arithmetic

MEASURED = 40
"""Networks of a list that are measured; more would take minutes."""

_BATCH, _BUDGET = 8, 0.3  # images at a time, and seconds for each network


def networks(pattern: str = "*") -> list[str]:
    """Names of the zoo that a pattern with wildcards fits, and of timm unless it is '*'.

    Raises UnknownName, with the nearest right name, when there is none.
    """
    from fnmatch import filter as fitting

    found = fitting(zoo.MODELS, pattern)
    if pattern != "*":
        found += [name for name in architectures(pattern) if name not in found]
    if not found:
        zoo.find(pattern)  # says what is nearest
        raise UnknownName("model", pattern, zoo.MODELS)
    return found


def described(name: str, *, classes: int, size: int | None = None, changes: Any = None) -> dict[str, Any]:
    """What `zoo.describe` says, and the licence of the weights it begins with."""
    found = zoo.describe(name, classes=classes, size=size, changes=changes)
    published = found["weights"] == "published"
    return {**found, "licence": licence_of(str(zoo.find(name).config.architecture)) if published else None}  # type: ignore[union-attr]


def milliseconds(name: str, *, size: int, progress: Progress) -> float | None:
    """Of one image on this machine, without training, in the fastest way; measured once and remembered.

    None for a network that cannot be run here.
    """
    device = accelerator().device
    about = "|".join([torch.__version__, platform.processor() or platform.machine(), str(device), str(size), name])
    file = cache_folder() / "speeds.json"
    known = _known(file)
    if about not in known:
        progress.say(f"Measuring {name} ...")
        try:
            known = {**_known(file), about: _measured(name, size, device)}
        except (RuntimeError, AssertionError, ValueError, MemoryError):
            return None
        write_json(file, known)
    return known[about]


def _known(file: Path) -> dict[str, float]:
    try:
        known: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known


def _measured(name: str, size: int, device: torch.device) -> float:
    config = zoo.find(name).config
    changes = {"weights": "none"} if hasattr(config, "weights") else {}
    network = zoo.build(name, classes=10, size=size, changes=changes).eval()
    found = cut(network, trained(network, "head"))
    part = folded(found.frozen) if found else network
    part.to(device).to(memory_format=torch.channels_last)
    images = torch.rand(_BATCH, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    arithmetic, best, began = forward_arithmetic(part, images), float("inf"), time.perf_counter()
    with torch.inference_mode(), arithmetic.autocast(device):
        while time.perf_counter() - began < _BUDGET:
            start = time.perf_counter()
            part(images)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - start)
    return round(1000 * best / _BATCH, 3)
