"""Which files a set consists of: one entry per file, planned before anything is rendered."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from discern.data.synthetic.render import generator
from discern.data.synthetic.specification import Parts
from discern.data.synthetic.subjects import CLASSES

EDITS: tuple[str, ...] = ("resized", "recompressed", "cropped", "brightness", "mirrored")
"""The edits of near duplicates, used in turn."""

UNREADABLE: tuple[str, ...] = ("zero bytes", "truncated", "text")
"""The kinds of undecodable files, used in turn."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of the set; a row of the truth table."""

    split: str
    """"train" or "test"."""
    stored_class: str
    """The class folder the file lies in."""
    true_class: str
    """The class of what it shows."""
    index: int
    """Which render of its split and class it is, or is made from."""
    fault: str | None = None
    """What is wrong with it, if anything."""
    detail: str | None = None
    """Which edit or kind of damage."""
    origin: int | None = None
    """Position in the plan of the entry it is a copy of."""
    name: str = ""
    """File name without suffix; says nothing about class or fault."""

    @property
    def path(self) -> str:
        """Path relative to the set's folder."""
        return f"{self.split}/{self.stored_class}/{self.name}.jpg"

    @property
    def mask(self) -> str | None:
        """Path of the mask relative to the set's folder; None for a file that cannot be decoded."""
        if self.fault == "unreadable":
            return None
        return f".truth/masks/{self.split}/{self.stored_class}/{self.name}.png"


def train_counts(parts: Parts) -> list[int]:
    """Clean training images per class, falling linearly from per_class to per_class / imbalance."""
    shares = np.linspace(1.0, 1.0 / parts.faults.imbalance, len(CLASSES))
    return [max(1, round(parts.per_class * float(share))) for share in shares]


def plan(parts: Parts) -> list[Entry]:
    """Every file of the set, originals first; a pure function of the specification."""
    rng = generator("plan", parts.seed, parts.domain)
    faults = parts.faults
    counts = train_counts(parts)
    entries = [
        Entry(split=split, stored_class=label, true_class=label, index=index)
        for split, sizes in (("train", counts), ("test", [parts.test_per_class] * len(CLASSES)))
        for label, size in zip(CLASSES, sizes, strict=True)
        for index in range(size)
    ]
    train = sum(counts)
    for at in rng.permutation(train)[: round(faults.wrong_labels * train)].tolist():
        others = [label for label in CLASSES if label != entries[at].true_class]
        wrong = others[int(rng.integers(len(others)))]
        entries[at] = replace(entries[at], stored_class=wrong, fault="wrong_label", detail=f"stored as {wrong}")
    entries += _copies(entries, train, parts, rng)
    entries += _damaged(parts, counts)
    return _named(entries, rng)


def _copies(entries: list[Entry], train: int, parts: Parts, rng: np.random.Generator) -> list[Entry]:
    """Test files that are copies of rightly labelled training images; each image is copied once while they last."""
    test = parts.test_per_class * len(CLASSES)
    sources = [at for at in rng.permutation(train).tolist() if entries[at].fault is None]
    exact, near = round(parts.faults.exact_duplicates * test), round(parts.faults.near_duplicates * test)
    if not sources:
        return []  # every training label is wrong: nothing is left that could be copied honestly
    out = []
    for k in range(exact + near):
        at = sources[k % len(sources)]
        kind, detail = ("exact_duplicate", None) if k < exact else ("near_duplicate", EDITS[(k - exact) % len(EDITS)])
        out.append(replace(entries[at], split="test", fault=kind, detail=detail, origin=at))
    return out


def _damaged(parts: Parts, counts: list[int]) -> list[Entry]:
    """Unreadable and tiny training files, from renders of their own, spread over the classes in turn."""
    kinds = [("unreadable", UNREADABLE[k % len(UNREADABLE)]) for k in range(parts.faults.unreadable)]
    kinds += [("tiny", f"side {8 + 5 * k % 12}") for k in range(parts.faults.tiny)]
    out = []
    for k, (fault, detail) in enumerate(kinds):
        turn = k % len(CLASSES)
        label, index = CLASSES[turn], counts[turn] + k // len(CLASSES)
        out.append(Entry(split="train", stored_class=label, true_class=label, index=index, fault=fault, detail=detail))
    return out


def _named(entries: list[Entry], rng: np.random.Generator) -> list[Entry]:
    """Number the files of each folder in a random order, so that no name gives a fault away."""
    sizes = Counter((e.split, e.stored_class) for e in entries)
    numbers = {folder: iter(rng.permutation(size).tolist()) for folder, size in sorted(sizes.items())}
    return [replace(e, name=f"img_{next(numbers[e.split, e.stored_class]):05d}") for e in entries]
