"""Which images a set consists of: prompt and seed of each, planned before anything is painted."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from discern.data import keyed
from discern.data.generation.specification import AXES, Generation


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One image to be painted."""

    split: str
    """"train" or "test"."""
    label: str
    """Name of its class."""
    index: int
    """Number within split and class, from 0."""
    prompt: str
    """The whole prompt."""
    parts: dict[str, str]
    """Placeholder of the template -> what stands there."""

    @property
    def image(self) -> str:
        """Path relative to the set's folder."""
        return f"{self.split}/{self.label}/{self.index:05d}.png"


def plan(generation: Generation) -> list[Wanted]:
    """Every image of the set, the classes in turn so that the first few show them all; training first.

    A class's combinations of prompt, angle, light and background are divided between training and test in the
    proportion of their images, so that no test image has siblings in training; a class with a single combination
    has it in both. Within a split every combination is used before one is used again, and of those not used the
    next is the one whose parts were used least so far.
    """
    counts = {"train": generation.per_class, "test": generation.test_per_class}
    chosen = {label: dict(zip(counts, _combinations(generation, label), strict=True)) for label in generation.classes}
    return [
        _wanted(generation, split, label, index, chosen[label][split][index])
        for split, count in counts.items()
        for index in range(count)
        for label in generation.classes
    ]


def seed_of(generation: Generation, wanted: Wanted, attempt: int) -> int:
    """The seed of one attempt at an image, keyed by (seed, class, split, index); odd in test and even in training."""
    key = np.array([_number(wanted.label, wanted.split, str(wanted.index))], np.uint64)
    draw = keyed.uniform(generation.seed, 0, key, attempt + 1)[0, attempt]
    return 2 * int(draw * 2**51) + (wanted.split == "test")  # below 2^53, which every reader of JSON keeps exact


def single_combinations(generation: Generation) -> list[str]:
    """Classes with a single combination: what training and test images show of them differs by the seed alone."""
    return [label for label in generation.classes if math.prod(_sizes(generation, label)) == 1]


def _sizes(generation: Generation, label: str) -> tuple[int, ...]:
    """How many choices there are of the prompt and of each axis; an empty axis has one, nothing."""
    axes = (generation.classes[label].prompts, *(getattr(generation, key) for key in AXES.values()))
    return tuple(max(1, len(axis)) for axis in axes)


def _combinations(generation: Generation, label: str) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The choice on every axis for each training and each test image of a class."""
    sizes, train, test = _sizes(generation, label), generation.per_class, generation.test_per_class
    total = math.prod(sizes)
    order = keyed.permutation(generation.seed, _number("combinations", label), total)
    held = min(test, total - 1, max(1, round(total * test / (train + test))))
    for_test = _spread(sizes, order, np.ones(total, bool), held)
    free = np.ones(total, bool)
    free[for_test] = False
    for_train = _spread(sizes, order, free, train)
    for_test = for_test or [0]  # the single combination there is
    rows = [tuple(int(choice) for choice in np.unravel_index(number, sizes)) for number in range(total)]
    return [rows[number] for number in for_train], [rows[for_test[k % len(for_test)]] for k in range(test)]


def _spread(
    sizes: tuple[int, ...], order: Int[np.ndarray, " combination"], free: Bool[np.ndarray, " combination"], count: int
) -> list[int]:
    """`count` of the free combinations, spread as evenly over each axis as can be; ties fall by `order`."""
    numbers = order[free[order]]
    choices = np.stack(np.unravel_index(numbers, sizes))
    taken = np.zeros(len(numbers), np.int64)
    uses = [np.zeros(size, np.int64) for size in sizes]
    chosen = []
    for _ in range(count):
        worn = np.sum([uses[axis][choices[axis]] for axis in range(len(sizes))], axis=0)
        at = int(np.argmin(taken * (len(sizes) * count + 1) + worn))  # how often it was taken counts first
        taken[at] += 1
        for axis in range(len(sizes)):
            uses[axis][choices[axis, at]] += 1
        chosen.append(int(numbers[at]))
    return chosen


def _wanted(generation: Generation, split: str, label: str, index: int, choice: tuple[int, ...]) -> Wanted:
    axes = {"prompt": generation.classes[label].prompts, **{name: getattr(generation, AXES[name]) for name in AXES}}
    parts = {name: texts[at] for (name, texts), at in zip(axes.items(), choice, strict=True) if texts}
    prompt = generation.pattern.format_map(parts)
    return Wanted(split=split, label=label, index=index, prompt=prompt, parts=parts)


def _number(*words: str) -> int:
    """64 bits that stand for these words."""
    return int.from_bytes(hashlib.blake2b("\0".join(words).encode(), digest_size=8).digest())
