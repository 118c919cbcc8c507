"""Curate: decide which images go into a prepared copy, into which split, and how often each is varied.

The order is what keeps the test honest: copies of one photo are settled first, the test images are held out before
anything else is done, then classes are capped, then validation is taken, and only what is left for training is varied.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int

from discern.data.dataset import Dataset
from discern.data.split import units, with_splits
from discern.errors import DataError

REASONS = {
    "dropped": "dropped by a decision in the journal",
    "unreadable": "cannot be decoded",
    "two_labels": "one photo with two labels",
    "other_label": "a copy whose other label a person has confirmed",
    "crosses": "the same thing stands in a split that is judged by",
    "duplicate": "a copy of another image",
    "over_cap": "more than --max-per-class",
}
"""Why an image is not in the copy, in the order of asking."""

_STRENGTH = {"test": 0, "val": 1, "train": 2, None: 2}
"""What stands in several splits stays in the first of these: test images are the scarce ones."""

_LEAST_LEFT = 2
"""Images of a class that holding out must leave: one to train with and one to validate with."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """One image that does not go into the copy."""

    image: str
    """Its name in the source."""
    reason: str
    """A key of REASONS."""
    detail: str
    """What exactly: the image it is a copy of, the labels, the person's words."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What goes into a prepared copy."""

    dataset: Dataset
    """The images that stay, every one with its split."""
    copies: Int[np.ndarray, " image"]
    """How many varied copies each gives, in table order; 0 outside training."""
    left_out: tuple[LeftOut, ...]
    """The images that do not, in the order of REASONS."""
    short: dict[str, int]
    """Held-out test images that a class lacks because groups that must stay together would not fit."""


def plan(
    dataset: Dataset,
    clusters: Sequence[Sequence[int]],
    *,
    test_per_class: int | None = None,
    max_per_class: int | None = None,
    keep_duplicates: bool = False,
    oversample: bool = False,
    seed: int = 0,
) -> Plan:
    """What to do with every image of a scanned, readable Dataset; `clusters` are positions of copies of one photo.

    `test_per_class` images of each class are held out in addition to a test split that is there already; what is
    still missing is taken as `with_splits` does, validation last. `max_per_class` bounds what a class has for training
    and validation together, or for training alone where the source has a validation split. Everything depends on the
    seed and the images' content alone.
    Raises DataError when a class has too few images.
    """
    left_out: dict[int, tuple[str, str]] = {}
    rows = dataset.table.select("image", "label", "split", "group", "decision", "width", "height", "bytes").to_dicts()
    for cluster in clusters:
        left_out |= dict(_resolved(cluster, rows, dataset.classes, keep_duplicates))
    left_out |= dict(_crossing_groups(rows, left_out))
    stays = {p: number for number, p in enumerate(p for p in range(len(rows)) if p not in left_out)}
    kept = dataset.filter(pl.int_range(pl.len()).is_in([*stays]))
    unit = units(kept, [[stays[p] for p in cluster if p in stays] for cluster in clusters])
    alone = pl.Series([None] * len(kept), dtype=pl.String)
    kept = kept.with_columns(unit.zip_with(unit.is_duplicated(), alone).alias("group"))
    kept, short = _tested(kept, test_per_class, seed)
    kept, over = _capped(kept, max_per_class, seed)
    kept = with_splits(kept, seed=seed)
    named = [LeftOut(image=rows[p]["image"], reason=reason, detail=detail) for p, (reason, detail) in left_out.items()]
    return Plan(
        dataset=kept,
        copies=_copies(kept, seed) if oversample else np.zeros(len(kept), np.int64),
        left_out=tuple(sorted([*named, *over], key=lambda each: (list(REASONS).index(each.reason), each.image))),
        short=short,
    )


def _resolved(
    cluster: Sequence[int], rows: list[dict[str, Any]], classes: tuple[str, ...], keep_duplicates: bool
) -> Iterator[tuple[int, tuple[str, str]]]:
    """The members of one cluster that must go, with the reason: one label, one split, one image stay."""
    members = sorted(cluster, key=lambda p: rows[p]["image"])
    confirmed = {rows[p]["label"] for p in members if rows[p]["decision"] is not None}
    labels = {rows[p]["label"] for p in members}
    if len(labels) > 1 and len(confirmed) != 1:
        named = " and ".join(sorted(classes[label] for label in labels))
        together = " = ".join(rows[p]["image"] for p in members)
        for p in members:
            yield p, ("two_labels", f"{named}: {together}")
        return
    if len(labels) > 1:
        (right,) = confirmed
        for p in members:
            if rows[p]["label"] != right:
                yield p, ("other_label", f"confirmed as {classes[right]}")
        members = [p for p in members if rows[p]["label"] == right]
    first = min(members, key=lambda p: _rank(rows[p]))
    for p in members:
        if _STRENGTH[rows[p]["split"]] != _STRENGTH[rows[first]["split"]]:
            yield p, ("crosses", f"a copy of {rows[first]['image']} in {rows[first]['split']}")
        elif p != first and not keep_duplicates:
            yield p, ("duplicate", f"of {rows[first]['image']}")


def _rank(row: dict[str, Any]) -> tuple[int, bool, int, int, str]:
    """The one of several copies to keep comes first: judged by, confirmed by a person, largest."""
    area = row["width"] * row["height"]
    return _STRENGTH[row["split"]], row["decision"] is None, -area, -row["bytes"], row["image"]


def _crossing_groups(
    rows: list[dict[str, Any]], left_out: dict[int, tuple[str, str]]
) -> Iterator[tuple[int, tuple[str, str]]]:
    """Members of a group that the source itself spreads over splits, all but those in the strongest."""
    strongest: dict[object, int] = {}
    for p, row in enumerate(rows):
        strength = _STRENGTH[row["split"] if p not in left_out else None]
        strongest[row["group"]] = min(strongest.get(row["group"], strength), strength)
    for p, row in enumerate(rows):
        if row["group"] is not None and p not in left_out and _STRENGTH[row["split"]] > strongest[row["group"]]:
            yield (
                p,
                ("crosses", f"its group '{row['group']}' is in {'test' if not strongest[row['group']] else 'val'}"),
            )


def _tested(dataset: Dataset, per_class: int | None, seed: int) -> tuple[Dataset, dict[str, int]]:
    """The Dataset with its test images; the validation split, if it has none, is left to be taken later."""
    if per_class is None:
        tested = with_splits(dataset, seed=seed).table["split"] == "test"
        short: dict[str, int] = {}
    else:
        held, short = _held_out(dataset, per_class, seed)
        tested = pl.Series(held) | dataset.table["split"].eq_missing("test")
    test = pl.Series("split", ["test"] * len(dataset)).zip_with(tested, dataset.table["split"].fill_null("train"))
    return dataset.with_columns(test.alias("split")), short


def _held_out(dataset: Dataset, per_class: int, seed: int) -> tuple[list[bool], dict[str, int]]:
    """Which training images are held out, by units in an order that content and seed decide; and who lacks some."""
    pool = dataset.filter(pl.col("split").fill_null("train") == "train")
    for name, count in pool.class_counts().items():
        if count < per_class + _LEAST_LEFT:
            raise DataError(
                f"The class '{name}' has {count} images: with {per_class} held out too few are left to train and "
                f"validate with; give --test-per-class {max(count - _LEAST_LEFT, 1)} or less, or add images."
            )
    together: dict[str, list[int]] = {}
    for p, (image, group, split) in enumerate(dataset.table.select("image", "group", "split").iter_rows()):
        if split in (None, "train"):
            together.setdefault(group or image, []).append(p)
    order = _order(dataset, seed, "hold out")
    quotas = dict.fromkeys(range(len(dataset.classes)), per_class)
    labels, held = dataset.labels, [False] * len(dataset)
    for members in sorted(together.values(), key=lambda unit: min(order[p] for p in unit)):
        wanted = Counter(int(labels[p]) for p in members)
        if all(quotas[label] >= n for label, n in wanted.items()):
            for p in members:
                held[p] = True
            for label, n in wanted.items():
                quotas[label] -= n
    return held, {dataset.classes[label]: n for label, n in quotas.items() if n}


def _capped(dataset: Dataset, limit: int | None, seed: int) -> tuple[Dataset, list[LeftOut]]:
    """At most `limit` training images per class, and those beyond."""
    if limit is None:
        return dataset, []
    table = dataset.table.with_columns(pl.Series("order", _order(dataset, seed, "cap")))
    rank = pl.struct("order", "image").rank("ordinal").over("label", "split")
    beyond = table.select((pl.col("split") == "train") & (rank > limit)).to_series()
    over = [LeftOut(image=image, reason="over_cap", detail=f"over {limit}") for image in table.filter(beyond)["image"]]
    return dataset.filter(~pl.lit(beyond)), over


def _copies(dataset: Dataset, seed: int) -> Int[np.ndarray, " image"]:
    """Copies that make every class as large in training as the largest, spread evenly over its photos."""
    copies = np.zeros(len(dataset), np.int64)
    train = dataset.table.with_row_index("position").filter(pl.col("split") == "train")
    largest = max(dataset.split("train").class_counts().values())
    order = _order(dataset, seed, "copies")
    for _, rows in train.group_by("label", maintain_order=True):
        # Byte-identical photos would give identical copies, so one of them stands for all.
        sources = rows.unique("digest", keep="first", maintain_order=True)["position"].to_list()
        sources.sort(key=lambda p: order[p])
        each, rest = divmod(largest - rows.height, len(sources))
        copies[sources] = each
        copies[sources[:rest]] += 1
    return copies


def _order(dataset: Dataset, seed: int, purpose: str) -> list[int]:
    """A number per image to sort by: random to look at, the same for the same content, other for another purpose."""
    texts = (f"{seed}|{purpose}|{digest}".encode() for digest in dataset.table["digest"])
    return [int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big") for text in texts]
