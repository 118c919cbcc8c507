"""Page: the sections of a report, in the order a person who decides reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from discern.errors import UsageError
from discern.evaluation.comparison import Comparison
from discern.report.material import Material, materials
from discern.report.portrait import Portrait, portrait
from discern.report.provenance import Provenance, provenance
from discern.report.ranking import Ranking, compared, ranking
from discern.report.subject import subjects
from discern.report.verdict import Alarm, Verdict, alarms, verdict
from discern.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that the templates may print."""

    verdict: Verdict
    """Title and the sentence to take away."""
    alarms: tuple[Alarm, ...]
    """What spoils it."""
    ranking: Ranking
    """Runs and baselines side by side."""
    portraits: tuple[Portrait, ...]
    """The best runs on their own, and the pick."""
    portraits_left_out: int
    """Runs that stand in the table only."""
    materials: tuple[Material, ...]
    """The data."""
    provenance: tuple[Provenance, ...]
    """How to repeat it."""
    version: str
    """Of Discern, as the first run recorded it."""


def page(runs: Sequence[Run]) -> Page:
    """Read the runs and put the page together.

    Raises UsageError without a run, NotARun for one that has not got as far as its scores.
    """
    if not runs:
        raise UsageError("There is nothing to report: name at least one run; `discern runs` lists them.")
    read = subjects(runs)
    comparison = compared(read)
    pick = comparison.pick if isinstance(comparison, Comparison) else read[0].name
    ranked = ranking(read, comparison)
    by_name = {subject.name: subject for subject in read}
    shown = [by_name[entry.name] for entry in ranked.entries if entry.anchor]
    return Page(
        verdict=verdict(read, comparison),
        alarms=alarms(read, comparison),
        ranking=ranked,
        portraits=tuple(portrait(each, sharers=len(shown), unfolded=each.name == pick) for each in shown),
        portraits_left_out=len(read) - len(shown),
        materials=materials(read),
        provenance=provenance(shown),
        version=str(read[0].info.get("software", {}).get("discern-vision") or ""),
    )
