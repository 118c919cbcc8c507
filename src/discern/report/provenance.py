"""Provenance: how each run came about and how to have it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.report.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The section of one run."""

    name: str
    """The run."""
    started: str
    """Day and time, as recorded."""
    command: str
    """What was typed."""
    recipe_file: str
    """Where the recipe lies."""
    software: tuple[tuple[str, str], ...]
    """Package and version."""
    hardware: tuple[tuple[str, str], ...]
    """The machine."""
    recipe: str
    """recipe.yaml; empty when the run has none."""


def provenance(subjects: Sequence[Subject]) -> tuple[Provenance, ...]:
    """How every run came about."""
    return tuple(_provenance(subject) for subject in subjects)


def _provenance(subject: Subject) -> Provenance:
    info, file = subject.info, subject.run.recipe_file
    words = [str(word) for word in info.get("command", [])]
    # Where the program lies says more about the writer's home than about the run.
    command = shlex.join([Path(words[0]).name, *words[1:]]) if words else ""
    return Provenance(
        name=subject.name,
        started=str(info.get("started", "")).replace("T", " ").replace("+00:00", " UTC"),
        command=command,
        recipe_file=shlex.quote(str(file)),
        software=_pairs(info.get("software", {})),
        hardware=_pairs(info.get("hardware", {}) | ({"device": info["device"]} if "device" in info else {})),
        recipe=file.read_text(encoding="utf-8") if file.exists() else "",
    )


def _pairs(record: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((key, str(value)) for key, value in record.items() if value is not None)
