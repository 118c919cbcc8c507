"""Splits and folds: stratified by class, seeded, images that belong together kept together."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import polars as pl
from jaxtyping import Int

from discern.data.dataset import SPLITS, Dataset
from discern.errors import DataError, UsageError

SHARE = 0.15
"""Of the images that are there for training, what a missing split takes."""

Clusters = Iterable[Sequence[int]]
"""Rows of the Dataset that are copies of each other, cluster by cluster."""


def with_splits(dataset: Dataset, *, seed: int, val_share: float = SHARE, clusters: Clusters = ()) -> Dataset:
    """The scanned Dataset with train, val and test; splits it already has are kept as they are.

    What is missing is taken from the training images, class by class, in an order that depends only on the seed
    and on the files' content: renaming moves none, and a new image moves none but a few at the edges of the shares,
    because those are kept to the nearest image. Copies (`clusters`, and byte-identical files) and images of one
    `group` go to one side.
    Raises DataError when a class is too small to stand in every split, or is missing from a given one.
    """
    table = dataset.table.with_columns(pl.col("split").fill_null("train"), unit=units(dataset, clusters))
    shares = {"val": val_share, "test": SHARE}
    missing = {name: share for name, share in shares.items() if name not in set(table["split"])}
    train = table.filter(pl.col("split") == "train")
    decided: dict[str, str] = {}  # split of every unit, so that a copy under another label goes along
    for label, rows in _shuffled(train, seed):
        _refuse_small_class(dataset.classes[label], rows["unit"].n_unique(), rows.height, ["train", *missing])
        _assign(rows, missing, decided)
    split = [decided[unit] if split == "train" else split for unit, split in table.select("unit", "split").iter_rows()]
    result = dataset.with_columns(pl.Series("split", split, dtype=pl.String))
    refuse_missing_classes(result)
    return result


def folds(dataset: Dataset, count: int, *, seed: int, clusters: Clusters = ()) -> Int[np.ndarray, " image"]:
    """A fold 0 .. count-1 for every image: classes keep their shares, what belongs together stays together.

    Raises UsageError for fewer than two folds, DataError when a class has too few images to be in each.
    """
    if count < 2:
        raise UsageError(f"{count} folds make no sense: give 2 or more.")
    table = dataset.table.with_columns(unit=units(dataset, clusters)).with_row_index("at")
    fold: dict[str, int] = {}
    for label, rows in _shuffled(table, seed):
        if rows["unit"].n_unique() < count:
            raise DataError(
                f"The class '{dataset.classes[label]}' has {_images(rows['unit'].n_unique())} that are no copies of "
                f"each other, fewer than {count} folds; add images or ask for fewer folds."
            )
        filled = [0] * count
        for unit, size in _sizes(rows):
            chosen = fold.setdefault(unit, filled.index(min(filled)))
            filled[chosen] += size
    return np.array([fold[unit] for unit in table["unit"]], np.int64)


def grouped_by(dataset: Dataset, pattern: str) -> Dataset:
    """The Dataset with `group` set to what a regular expression finds in each image's name.

    The first bracketed part counts, or the whole match; images without a match stand alone. Raises UsageError for
    an expression that is none or matches nothing.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"'{pattern}' is not a regular expression ({error}); try something like '(\\d+)_'."
        ) from error
    part = 1 if expression.groups else 0
    found = [expression.search(name) for name in dataset.images]
    groups = [(match.group(part) or None) if match else None for match in found]
    if not any(groups):
        raise UsageError(
            f"'{pattern}' matches no image name in {dataset.root}, such as {dataset.images[0]}; "
            "check the expression, or leave --group-by out."
        )
    return dataset.with_columns(pl.Series("group", groups, dtype=pl.String))


def units(dataset: Dataset, clusters: Clusters = ()) -> pl.Series:
    """A name for each row, equal for rows that must not be separated, made of their content."""
    table = dataset.table
    parent = list(range(len(dataset)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    together = [*clusters]
    for column in ("digest", "group"):
        rows = table.select(column).with_row_index("at").drop_nulls()
        shared = rows.group_by(column).agg("at").filter(pl.col("at").list.len() > 1)
        together += shared["at"].to_list()
    for cluster in together:
        for row in cluster[1:]:
            parent[root(row)] = root(cluster[0])
    roots = pl.Series([root(row) for row in range(len(dataset))])
    named = pl.DataFrame({"root": roots, "digest": table["digest"].fill_null(table["image"])})
    return named.with_columns(pl.col("digest").min().over("root"))["digest"].alias("unit")


def refuse_missing_classes(dataset: Dataset, splits: Sequence[str] = SPLITS) -> None:
    """Raise DataError when a class has no image in one of the splits."""
    for split in splits:
        absent = [name for name, n in dataset.split(split).class_counts().items() if n == 0]
        if absent:
            raise DataError(
                f"The split '{split}' of {dataset.root} has no image of {', '.join(repr(a) for a in absent)}: "
                "its scores would be blind to it; add images there, or remove the class everywhere."
            )


def _shuffled(table: pl.DataFrame, seed: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """(Label, its rows) with the units in an order that seed and content alone decide."""
    keys = pl.Series("key", [_key(seed, unit) for unit in table["unit"]], dtype=pl.UInt64)
    rows = table.select("image", "label", "unit").with_columns(keys).sort("key", "image")
    for (label,), part in rows.group_by("label", maintain_order=True):
        yield int(str(label)), part


def _assign(rows: pl.DataFrame, missing: dict[str, float], decided: dict[str, str]) -> None:
    """Decide the split of every unit of one class, given in shuffled order.

    Quotas are rounded to the nearest image, at least one. A unit goes whole: to the first split that has room for
    it, to training when none has.
    """
    quotas = {name: max(1, round(share * rows.height)) for name, share in missing.items()}
    free, sizes = [], _sizes(rows)
    for unit, size in sizes:
        if unit not in decided:
            free.append(unit)
            decided[unit] = next((name for name in missing if quotas[name] >= size), "train")
        if decided[unit] in quotas:
            quotas[decided[unit]] -= size
    for name in ("train", *missing) if missing else ():
        _fill_empty(name, dict(sizes), free, decided)


def _fill_empty(name: str, sizes: dict[str, int], free: Sequence[str], decided: dict[str, str]) -> None:
    """A split that has no unit of the class, as all are larger than its share, takes the smallest that can be spared.

    `free` are the units whose split no other class has decided.
    """
    held = Counter(decided[unit] for unit in sizes)
    spare = [unit for unit in free if held[decided[unit]] > 1]
    if not held[name] and spare:
        decided[min(spare, key=sizes.__getitem__)] = name


def _sizes(rows: pl.DataFrame) -> list[tuple[str, int]]:
    """(Unit, its images), in the order of the rows."""
    return list(rows.group_by("unit", maintain_order=True).len().iter_rows())


def _refuse_small_class(name: str, distinct: int, count: int, splits: list[str]) -> None:
    if distinct < len(splits):
        alone = "" if distinct == count else f" of which {distinct} are no copies or members of one group"
        raise DataError(
            f"The class '{name}' has {_images(count)}{alone}, fewer than one for each of {', '.join(splits)}; "
            "add images, or remove the class."
        )


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _key(seed: int, unit: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}|{unit}".encode(), digest_size=8).digest(), "big")
