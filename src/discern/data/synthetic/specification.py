"""What to render: the specification of one set and of the faults to plant in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

from discern.data.synthetic.grounds import GROUNDS
from discern.data.synthetic.render import VERSION
from discern.errors import UnknownName, UsageError

DOMAINS: tuple[str, ...] = tuple(GROUNDS)
"""The domains: the same parts before different grounds and in different light."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What to spoil on purpose, so that an audit has something known to find; by default nothing."""

    exact_duplicates: float = 0.0
    """Byte-identical copies of training images added to the test split, as a share of its rendered images."""
    near_duplicates: float = 0.0
    """Edited copies of training images added to the test split, as a share of its rendered images."""
    wrong_labels: float = 0.0
    """Share of the training images stored in another class's folder."""
    unreadable: int = 0
    """Files added to the training split that cannot be decoded: empty, truncated, or text named .jpg, in turn."""
    tiny: int = 0
    """Images added to the training split whose shorter side is under 20 px."""
    imbalance: float = 1.0
    """Training images of the first class over those of the last, linear in between; 1 is balanced."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """One rendered set of industrial parts; equal specifications give equal bytes."""

    per_class: int = 100
    """Training images per class (of the first class, where `faults.imbalance` is above 1)."""
    test_per_class: int = 10
    """Test images per class."""
    size: int = 256
    """Side of the square images in pixels."""
    seed: int = 0
    """Another seed gives another set of the same kind."""
    domain: str = "workshop"
    """Where the parts lie: "workshop" (indoors) or "outdoor"; they share no ground."""
    faults: Faults = field(default_factory=Faults)
    """What to spoil."""

    def key(self) -> str:
        """Twelve hexadecimal digits that name this set's cache folder."""
        text = json.dumps({"version": VERSION, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def known_domain(domain: str) -> None:
    """Raise UnknownName, with the nearest right name, unless the domain exists."""
    if domain not in DOMAINS:
        raise UnknownName("domain", domain, DOMAINS)


def known_size(size: int) -> None:
    """Raise UsageError unless images of that side can be rendered."""
    if not 16 <= size <= 2048:
        raise UsageError(f"Parts: size is {size}; give the images' side in pixels, from 16 to 2048.")


def check(parts: Parts) -> None:
    """Raise one UsageError that says what about the specification cannot be rendered."""
    known_domain(parts.domain)
    known_size(parts.size)
    for name, count, least in (
        ("per_class", parts.per_class, 1),
        ("test_per_class", parts.test_per_class, 0),
        ("faults.unreadable", parts.faults.unreadable, 0),
        ("faults.tiny", parts.faults.tiny, 0),
    ):
        if count < least:
            raise UsageError(f"Parts: {name} is {count}; give {least} or more.")
    for name in ("exact_duplicates", "near_duplicates", "wrong_labels"):
        share = getattr(parts.faults, name)
        if not 0.0 <= share <= 1.0:
            raise UsageError(f"Parts: faults.{name} is {share}; give a share from 0 to 1.")
    if not 1.0 <= parts.faults.imbalance < float("inf"):
        raise UsageError(f"Parts: faults.imbalance is {parts.faults.imbalance}; give a ratio of 1 or more.")
