"""Giveaways: a property that tells the class, or the split, without looking at what is shown.

If the size, the format or the file name alone predicts the class, a model may learn that instead of the object and
fail on the first photo from elsewhere. How well a property predicts is measured by the AUC of a histogram
classifier on images it was not fitted to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from discern.data import keyed
from discern.data.audit.findings import Finding
from discern.data.dataset import Dataset

GIVEAWAY = 0.8
"""AUC from which a property that has nothing to do with the object gives the label away."""

TELLING = 0.95
"""The same for properties of the content, such as brightness: an honest class (night, snow) may show in them."""

SHIFT = 0.7
"""AUC from which a property tells training and test images of one class apart."""

_LEAST = 20
"""Images per class under which an AUC says nothing."""

_CHANCE = 5.0
"""Standard errors by which an AUC must be above one half. A held-out one scatters by 1.35 of them where there is
nothing to tell (random labels, 44 to 1,000 photos), and dozens of properties and classes are asked."""

_BINS, _FOLDS, _MOST_VALUES = 24, 5, 64


@dataclass(frozen=True, kw_only=True)
class Property:
    """Something about an image that is not what it shows."""

    name: str
    """In words."""
    value: pl.Expr
    """From the columns of a scanned Dataset; a number or a string."""
    content: bool = False
    """Whether it is a property of the content, which may differ between honest classes."""
    seen: bool = True
    """Whether it can reach a model; a file name cannot, but tells of classes that come from different places."""


PROPERTIES = (
    Property(name="width", value=pl.col("width")),
    Property(name="height", value=pl.col("height")),
    Property(name="shape (width / height)", value=pl.col("width") / pl.col("height")),
    Property(name="number of pixels", value=pl.col("width") * pl.col("height")),
    Property(
        name="bytes per pixel",
        value=pl.when(pl.col("row").is_null()).then(pl.col("bytes") / (pl.col("width") * pl.col("height"))),
    ),
    Property(name="format", value=pl.col("format")),
    Property(name="colour mode", value=pl.col("mode")),
    Property(name="EXIF orientation", value=pl.col("orientation").cast(pl.String)),
    Property(name="border", value=pl.col("border")),
    Property(
        name="file name pattern",  # any number is a number: IMG_12.jpg and IMG_0471.jpg are of one pattern
        value=pl.when(pl.col("row").is_null()).then(
            pl.col("image").str.split("/").list.last().str.replace_all(r"\d+", "0")
        ),
        seen=False,
    ),
    Property(name="brightness", value=pl.col("brightness"), content=True),
    Property(name="contrast", value=pl.col("contrast"), content=True),
    Property(name="sharpness", value=pl.col("sharpness"), content=True),
    Property(name="colourfulness", value=pl.col("colorfulness"), content=True),
)


def giveaways(dataset: Dataset) -> Iterator[Finding]:
    """One Finding for each property from which a class can be told, the most telling first."""
    each_class = {name: dataset.labels == label for label, name in enumerate(dataset.classes)}
    found = []
    for each in PROPERTIES:
        codes = _codes(dataset.table, each)
        if codes is None:
            continue
        aucs = {name: auc for name, own in each_class.items() if (auc := held_out_auc(codes, own)) is not None}
        limit = TELLING if each.content else GIVEAWAY
        told = {
            name: auc
            for name, auc in aucs.items()
            if auc >= max(limit, 0.5 + _CHANCE * _standard_error(each_class[name]))
        }
        if told:
            name = max(told, key=told.__getitem__)
            found.append((told[name], name, each, aucs))
    for best, name, each, aucs in sorted(found, key=lambda item: -item[0]):
        yield Finding(
            kind="giveaway",
            severity="note" if each.content or not each.seen else "warning",
            rows=(),
            evidence=f"The {each.name} alone tells '{name}' from the other classes with an AUC of {best:.2f}.",
            remedy=(
                "A model may learn this instead of the object: give every class images from the same sources, "
                "and look at heat maps before trusting a score."
            ),
            detail={
                "property": each.name,
                "auc": round(best, 4),
                "per_class": {k: round(v, 4) for k, v in aucs.items()},
            },
        )


def shifts(dataset: Dataset) -> Iterator[Finding]:
    """One Finding for each property in which test images differ from training images of the same class."""
    table = dataset.table.filter(pl.col("split").is_in(["train", "test"]))
    if table["split"].n_unique() < 2:
        return
    labels, is_test = table["label"].to_numpy(), (table["split"] == "test").to_numpy()
    each_class = {name: labels == label for label, name in enumerate(dataset.classes)}
    found = []
    for each in PROPERTIES:
        codes = _codes(table, each) if each.seen else None
        if codes is None:
            continue
        aucs = {
            name: auc
            for name, own in each_class.items()
            if (auc := held_out_auc(codes[own], is_test[own])) is not None
        }
        if not aucs:
            continue
        mean = float(np.mean(list(aucs.values())))
        error = float(np.sqrt(sum(_standard_error(is_test[each_class[name]]) ** 2 for name in aucs))) / len(aucs)
        if mean >= max(SHIFT, 0.5 + _CHANCE * error):
            found.append((mean, each, aucs))
    for mean, each, aucs in sorted(found, key=lambda item: -item[0]):
        yield Finding(
            kind="shift",
            severity="warning",
            rows=(),
            evidence=f"Test images differ from training images in their {each.name}: AUC {mean:.2f} within classes.",
            remedy="The test score is about other pictures than were learned from; say so, or draw a new split.",
            detail={
                "property": each.name,
                "auc": round(mean, 4),
                "per_class": {k: round(v, 4) for k, v in aucs.items()},
            },
        )


def held_out_auc(codes: Int[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float | None:
    """AUC of telling the positives by their code, each image by the frequencies among other folds.

    None when there are fewer than 20 of either kind.
    """
    if min(positive.sum(), (~positive).sum()) < _LEAST:
        return None
    fold, width = keyed.permutation(0, 0, len(codes)) % _FOLDS, int(codes.max()) + 1
    cells = (positive * _FOLDS + fold) * width + codes
    counts = np.bincount(cells, minlength=2 * _FOLDS * width).reshape(2, _FOLDS, width)
    others = counts.sum(axis=1, keepdims=True) - counts + 0.5
    zeros, ones = others / others.sum(axis=2, keepdims=True)
    values, place = np.unique(np.log(ones / zeros), return_inverse=True)  # what an image of a fold and code scores
    negatives, positives = (
        np.bincount(place.reshape(-1), weights=kind.reshape(-1), minlength=len(values)) for kind in counts
    )
    below = negatives.cumsum() - negatives / 2  # ties count half
    return float(positives @ below / (positives.sum() * negatives.sum()))  # Mann & Whitney, 1947


def _standard_error(positive: Bool[np.ndarray, " n"]) -> float:
    """Of an AUC where the two kinds do not differ (Mann & Whitney, 1947)."""
    ones, zeros = int(positive.sum()), int((~positive).sum())
    return float(((ones + zeros + 1) / (12 * ones * zeros)) ** 0.5)


def _codes(table: pl.DataFrame, each: Property) -> Int[np.ndarray, " n"] | None:
    """The property as small integers: bins of equal counts, or its frequent values; none when it never varies."""
    values = table.select(value=each.value)["value"]
    if values.n_unique() < 2 or values.null_count() == len(values):
        return None
    if values.dtype == pl.String:
        counts = values.value_counts(sort=True)
        kept = counts.filter(pl.col("count") >= _FOLDS)["value"].drop_nulls().head(_MOST_VALUES).to_list()
        place = {value: code for code, value in enumerate(kept)}
        return np.array([place.get(value, len(kept)) for value in values], np.int64)
    numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return _binned(numbers)


def _binned(numbers: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, _BINS + 1)[1:-1]))
    return np.where(np.isnan(numbers), len(edges) + 1, np.searchsorted(edges, numbers, side="right"))
