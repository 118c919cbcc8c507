"""One self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from discern.runs.run import Run


def write_report(runs: Sequence[Run], path: Path) -> None:
    """Placeholder until the report room is built."""
