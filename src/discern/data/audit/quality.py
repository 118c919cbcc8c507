"""Quality: images that show little or nothing, by the facts of the scan.

Each kind is a score in [0, 1], 1 for nothing wrong and under one half for a flag, computed from one fact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from discern.data.audit.findings import Finding
from discern.data.dataset import Dataset
from discern.data.decode import LONGER

FLAG = 0.5
"""An image is flagged when its score of a kind is under this."""

COMMON = 0.2
"""Share of flagged images from which a kind describes the data set rather than faults in it."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One way in which an image can be bad."""

    name: str
    """Kind of the Finding."""
    value: pl.Expr
    """The number that tells it, from FACTS; small is bad."""
    limit: float
    """Flagged under this value."""
    said: str
    """Evidence: what the flagged images are, with {limit} and {worst}."""
    remedy: str
    """What to do."""


_SHORT, _LONG = pl.min_horizontal("width", "height"), pl.max_horizontal("width", "height")

TINY = 20
"""Pixels: a picture with a shorter side shows no object that a person could name."""

STRIP = 0.2
"""Ratio of sides: padded to the 112 pixels of a small network, such a picture has 22 left. Of the tools photos whole
hammers, axes and shelves are between 0.2 and 0.3, and strips under it."""

_LOW_CONTRAST = 0.02
"""Under this contrast there is nothing to be sharp."""

# Levels are whole numbers, and rounding them, first the colours and then their grey, gives the Laplacian a deviation
# even where nothing is to be seen: 20 is the sum of the squares of its weights, 1/12 the variance of one rounding. And
# a small picture is measured as it is, where a blur of the same share of its side covers fewer pixels: sharpness is
# therefore told for a side of 128.
_ROUNDED = 1 + 0.299**2 + 0.587**2 + 0.114**2
_ROUNDING = (20 / 12 * _ROUNDED) ** 0.5 / (255 * pl.col("contrast"))
_AT_128 = (_LONG.clip(upper_bound=LONGER) / 128).sqrt()
FOCUS = (pl.col("sharpness") ** 2 - _ROUNDING**2).clip(lower_bound=0).sqrt() * _AT_128
"""Sharpness without what rounding adds, as of a picture of 128 pixels."""

BLURRED = 0.12
"""Flags 0.3 % of the tools photos, 0.1 % of the built-in parts and 0.02 % of CIFAR-10 (JPEG); of copies of theirs
blurred by 1/24 of the longer side 97, 100 and 53 %."""

KINDS = (
    Kind(
        name="tiny",
        value=_SHORT,
        limit=TINY,
        said="with a side under {limit:.0f} pixels, the smallest {worst:.0f}",
        remedy="Look at them; remove those that show nothing.",
    ),
    Kind(
        name="dark",
        value=pl.col("high"),
        limit=0.2,
        said="so dark that 95 % of their pixels are under {limit:.0%} of full brightness, the darkest {worst:.0%}",
        remedy="Look at them; brighten or drop those in which nothing can be seen.",
    ),
    Kind(
        name="bright",
        value=1 - pl.col("low"),
        limit=0.12,
        said="so bright that 95 % of their pixels are within {limit:.0%} of white, the brightest {worst:.0%}",
        remedy="Look at them; drop those in which nothing can be seen.",
    ),
    Kind(
        name="blurred",
        value=pl.when(pl.col("contrast") > _LOW_CONTRAST).then(FOCUS).when(pl.col("contrast").is_not_null()).then(1.0),
        limit=BLURRED,
        said="out of focus: sharpness under {limit:.2f} (0.5 to 1 is usual), the worst {worst:.3f}",
        remedy="Look at them; drop those in which the object cannot be made out.",
    ),
    Kind(
        name="low_information",
        value=pl.col("entropy"),
        limit=1.5,
        said="of nearly one colour: under {limit:.1f} bits of grey-level entropy, the least {worst:.2f}",
        remedy="Look at them; blank pages and failed renderings teach nothing.",
    ),
    Kind(
        name="odd_aspect",
        value=_SHORT / _LONG,
        limit=STRIP,
        said="much longer than wide: a ratio of sides under {limit:.1f}, the oddest {worst:.2f}",
        remedy="Check that they are not strips or bars; `pad` keeps them whole, `crop` cuts most of them away.",
    ),
)


def quality_scores(dataset: Dataset) -> pl.DataFrame:
    """`<kind>_score` for every image and kind; null for an image that cannot be decoded."""
    return dataset.table.select(
        (kind.value / (2 * kind.limit)).clip(0, 1).cast(pl.Float32).alias(f"{kind.name}_score") for kind in KINDS
    )


def quality_findings(dataset: Dataset) -> Iterator[Finding]:
    """One Finding for each kind that some images show, the worst image first."""
    for kind in KINDS:
        table = dataset.table.select("image", value=kind.value).filter(pl.col("value") < kind.limit)
        if table.is_empty():
            continue
        table = table.sort("value", "image")
        said = kind.said.format(limit=kind.limit, worst=table["value"][0])
        share = table.height / len(dataset)
        common = share > COMMON
        yield Finding(
            kind=kind.name,
            severity="note" if common else "warning",
            rows=tuple(table["image"]),
            evidence=f"{_images(table.height)}{f', {share:.0%} of all,' if common else ''} {said}.",
            remedy="So many are the nature of these data, not faults." if common else kind.remedy,
            detail={"values": [round(value, 4) for value in table["value"]], "limit": kind.limit},
        )


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"
