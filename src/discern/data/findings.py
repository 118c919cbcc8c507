"""Finding: one thing wrong or notable in a Dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found, where, how it is known and what to do about it."""

    kind: str
    """'unreadable', 'exact_duplicate', 'label_conflict', 'leakage', 'tiny', 'imbalance', ..."""
    severity: Severity
    """'error': results would mislead; 'warning': look at it; 'note': good to know."""
    rows: tuple[str, ...]
    """Names of the images concerned; for the duplicate kinds one cluster of copies."""
    evidence: str
    """How it is known, with the numbers."""
    remedy: str
    """What to do."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, as kept in findings.json."""
        return asdict(self)


def summarise(findings: Sequence[Finding]) -> list[str]:
    """One sentence for each kind that was found, the gravest first."""
    order = {"error": 0, "warning": 1, "note": 2}
    counts = Counter((finding.severity, finding.kind) for finding in findings)
    lines = []
    for (severity, kind), count in sorted(counts.items(), key=lambda item: (order[item[0][0]], item[0][1])):
        first = next(f for f in findings if (f.severity, f.kind) == (severity, kind))
        more = f" (and {count - 1} more like it)" if count > 1 else ""
        lines.append(f"{severity}: {kind}: {first.evidence}{more}")
    return lines
