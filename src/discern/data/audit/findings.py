"""Finding: one thing wrong or notable in a Dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
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
    detail: dict[str, Any] = field(default_factory=dict)
    """The numbers of the evidence by name, plain values: given, suggested, probability, property, auc, values."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, as kept in findings.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Finding:
        """Read back what `to_json` gave."""
        return cls(**{**record, "rows": tuple(record["rows"])})


def grouped(findings: Sequence[Finding]) -> list[list[Finding]]:
    """The findings of each kind together, the gravest kinds first."""
    order = {"error": 0, "warning": 1, "note": 2}
    groups: dict[tuple[int, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((order[finding.severity], finding.kind), []).append(finding)
    return [groups[key] for key in sorted(groups)]


def summarise(findings: Sequence[Finding]) -> list[str]:
    """One sentence for each kind that was found, the gravest first."""
    return [
        f"{group[0].severity}: {group[0].kind}: {group[0].evidence}"
        + (f" (and {len(group) - 1} more like it)" if len(group) > 1 else "")
        for group in grouped(findings)
    ]
