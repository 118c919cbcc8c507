"""The gate: data whose splits share copies of one picture is refused, unless it is told which way to go on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from discern.data.dataset import SPLITS, Dataset
from discern.data.split import units
from discern.errors import DataError, UsageError

Leakage = Literal["group", "drop", "allow"]
"""What to do with copies in several splits: 'group' moves a whole cluster into the most held-out split it touches,
'drop' leaves its copies out of the other splits, 'allow' goes on as if nothing were."""
WAYS: tuple[str, ...] = get_args(Leakage)

_SHOWN, _NAMED = 12, 4
"""Clusters named in the refusal, and images of each; the audit names all."""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """How data came through the gate; kept in the Run and printed in its report."""

    leakage: str | None
    """The way that was chosen; none when there was nothing to choose."""
    clusters: int
    """Clusters of copies that lay in several splits."""
    dropped: tuple[str, ...] = ()
    """Images left out."""
    moved: tuple[str, ...] = ()
    """Images moved to another split."""
    because: str | None = None
    """The reason given for 'allow'."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, as kept in run.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Passage:
        """Read back what `to_json` gave."""
        return cls(**{**record, "dropped": tuple(record["dropped"]), "moved": tuple(record["moved"])})

    def __str__(self) -> str:
        crossing = "1 photo is" if self.clusters == 1 else f"{self.clusters:,} photos are"
        if self.leakage == "drop":
            return f"{crossing} in several splits: {_count(self.dropped)} left out of training and validation."
        if self.leakage == "group":
            return f"{crossing} in several splits: {_count(self.moved)} moved to the split of their held-out copy."
        if self.leakage == "allow":
            return f"{crossing} in several splits and stay there, because: {self.because}"
        return "No photo is in two splits."


def through_gate(
    dataset: Dataset,
    clusters: Sequence[Sequence[int]],
    *,
    leakage: str | None = None,
    because: str | None = None,
) -> tuple[Dataset, Passage]:
    """The Dataset that may go on, and how. `clusters` are rows of copies, exact and near.

    Images of one group count as copies do. Raises DataError with the clusters and the three ways on when they cross
    splits and none was chosen; UsageError for a way that does not exist, or 'allow' without a reason.
    """
    refuse_way(leakage, because)
    splits = dataset.table["split"].to_list()
    crossing = [unit for unit in _together(dataset, clusters) if len({splits[row] for row in unit} - {None}) > 1]
    if not crossing:
        return dataset, Passage(leakage=None, clusters=0)
    if leakage is None:
        raise DataError(_refusal(dataset, crossing))
    if leakage == "allow":
        return dataset, Passage(leakage="allow", clusters=len(crossing), because=because)
    held_out = {row: _most_held_out(splits[r] for r in cluster) for cluster in crossing for row in cluster}
    elsewhere = [row for row, split in held_out.items() if splits[row] != split]
    names = tuple(dataset.images[row] for row in sorted(elsewhere))
    if leakage == "drop":
        kept = np.setdiff1d(np.arange(len(dataset)), elsewhere)
        rest = dataset.with_rows(kept)
        return rest, Passage(leakage="drop", clusters=len(crossing), dropped=names)
    moved = [held_out.get(row, split) for row, split in enumerate(splits)]
    grouped = dataset.with_columns(pl.Series("split", moved, dtype=pl.String))
    return grouped, Passage(leakage="group", clusters=len(crossing), moved=names)


def _together(dataset: Dataset, clusters: Sequence[Sequence[int]]) -> list[list[int]]:
    """Rows that belong in one split: copies of one photo, and images of one group."""
    rows = dataset.table.select(unit=units(dataset, clusters)).with_row_index("at")
    found = rows.group_by("unit", maintain_order=True).agg("at").filter(pl.col("at").list.len() > 1)
    return [list(unit) for unit in found["at"].to_list()]


def _most_held_out(splits: Iterable[str | None]) -> str:
    return max((split for split in splits if split is not None), key=SPLITS.index)


def refuse_way(leakage: str | None, because: str | None, ways: Sequence[str] = WAYS) -> None:
    """Raise UsageError for a way on that is none of `ways` or is not complete."""
    if leakage is not None and leakage not in ways:
        raise UsageError(f"--leakage {leakage} does not exist here: choose {', '.join(ways[:-1])} or {ways[-1]}.")
    if leakage == "allow" and not (because or "").strip():
        raise UsageError('--leakage allow needs a reason, which stands in the report: --because "...".')
    if leakage != "allow" and because is not None:
        raise UsageError("--because is the reason for --leakage allow; leave it out, or add that.")


def _refusal(dataset: Dataset, crossing: Sequence[Sequence[int]]) -> str:
    splits, images = dataset.table["split"].to_list(), dataset.images
    shown = [_named(cluster, images, splits) for cluster in crossing[:_SHOWN]]
    more = f"\n  and {len(crossing) - _SHOWN} more" if len(crossing) > _SHOWN else ""
    grouped = dataset.table["group"].null_count() < len(dataset)
    photos = "photos or groups" if grouped else "photos"
    if len(crossing) == 1:
        photos = "photo or group" if grouped else "photo"
    return (
        f"Leakage: {len(crossing)} {photos} {'is' if len(crossing) == 1 else 'are'} in more than one split of "
        f"{dataset.root}, and a model that has seen a test image is not tested by it:\n  "
        + "\n  ".join(shown)
        + more
        + "\nGo on with --leakage drop (leave the copies out of training), --leakage group (move each photo to one "
        'split) or --leakage allow --because "..." (recorded, and printed in red in the report).'
    )


def _named(cluster: Sequence[int], images: Sequence[str], splits: Sequence[str | None]) -> str:
    """A few of its images, of every split one at least."""
    first = {splits[row]: row for row in reversed(cluster)}.values()
    some = sorted({*first, *cluster[:_NAMED]})
    more = f" and {len(cluster) - len(some)} more" if len(cluster) > len(some) else ""
    return " = ".join(f"{images[row]} ({splits[row]})" for row in some) + more


def _count(images: Sequence[str]) -> str:
    return "1 copy was" if len(images) == 1 else f"{len(images):,} copies were"
