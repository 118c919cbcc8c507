"""Splits: stratified by class, seeded, copies of one file kept together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import polars as pl

from discern.data.dataset import SPLITS, Dataset
from discern.errors import DataError

SHARE = 0.15
"""Of the images that are there for training, what a missing split takes."""


def with_splits(dataset: Dataset, *, seed: int, val_share: float = SHARE) -> Dataset:
    """The scanned Dataset with train, val and test; splits it already has are kept as they are.

    What is missing is taken from the training images, class by class, in an order that depends only on the seed
    and on each file's content: renaming moves none, and a new image moves none but a few at the edges of the shares,
    because those are kept to the nearest image. Byte-identical files go to one side.
    Raises DataError when a class is too small to stand in every split, or is missing from a given one.
    """
    table = dataset.table.with_columns(pl.col("split").fill_null("train"))
    shares = {"val": val_share, "test": SHARE}
    missing = {name: share for name, share in shares.items() if name not in set(table["split"])}
    train = table.filter(pl.col("split") == "train")
    keys = pl.Series("key", [_key(seed, digest) for digest in train["digest"]], dtype=pl.UInt64)
    shuffled = train.select("image", "label", "digest").with_columns(keys).sort("key", "image")
    decided: dict[str, str] = {}  # split of every digest, so that a copy under another label goes along
    for (label,), rows in shuffled.group_by("label", maintain_order=True):
        _refuse_small_class(dataset.classes[int(str(label))], rows.height, ["train", *missing])
        _assign(rows, missing, decided)
    split = [
        decided[digest] if split == "train" else split for digest, split in table.select("digest", "split").iter_rows()
    ]
    result = dataset.with_columns(pl.Series("split", split))
    refuse_missing_classes(result)
    return result


def refuse_missing_classes(dataset: Dataset, splits: Sequence[str] = SPLITS) -> None:
    """Raise DataError when a class has no image in one of the splits."""
    for split in splits:
        absent = [name for name, n in dataset.split(split).class_counts().items() if n == 0]
        if absent:
            raise DataError(
                f"The split '{split}' of {dataset.root} has no image of {', '.join(repr(a) for a in absent)}: "
                "its scores would be blind to it; add images there, or remove the class everywhere."
            )


def _assign(rows: pl.DataFrame, missing: dict[str, float], decided: dict[str, str]) -> None:
    """Decide the split of every digest of one class, given in shuffled order.

    Quotas are rounded to the nearest image, at least one. A cluster of copies goes whole.
    """
    quotas = {name: max(1, round(share * rows.height)) for name, share in missing.items()}
    for (digest,), cluster in rows.group_by("digest", maintain_order=True):
        fits = next((name for name in missing if quotas[name] >= cluster.height), "train")
        split = decided.setdefault(str(digest), fits)
        if split in quotas:
            quotas[split] -= cluster.height


def _refuse_small_class(name: str, count: int, splits: list[str]) -> None:
    if count < len(splits):
        images = "1 image" if count == 1 else f"{count} images"
        raise DataError(
            f"The class '{name}' has {images}, fewer than one for each of {', '.join(splits)}; "
            "add images, or remove the class."
        )


def _key(seed: int, digest: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}|{digest}".encode(), digest_size=8).digest(), "big")
