"""Policies: which operations an image gets, and how strong, as TrivialAugment and RandAugment draw them.

The operations and their strengths are torchvision's (TrivialAugmentWide, RandAugment), with two differences: those
that move the image are joined into the one affine map that it has anyway, before those that change its colors, and
what they uncover is mirrored, not black.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped, UInt64

from discern.data import keyed
from discern.data.color import Changes

Policy = Literal["none", "trivial", "rand"]
"""TrivialAugment (Mueller & Hutter, 2021): one operation with any strength; RandAugment (Cubuk et al., 2020): some
operations, all of one strength."""

Affine = Float[np.ndarray, "b 2 3"]

BINS = 31
"""Strengths that an operation has, from nothing to the strongest."""

MOVES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
FACTORS = ("brightness", "saturation", "contrast", "sharpness")
OPERATIONS = ("identity", *MOVES, *FACTORS, "posterize", "solarize", "autocontrast", "equalize")

_STREAM = np.uint64(0xA24BAED4963EE407)  # so that these draws are others than those of the rest of an augmentation
_DRAWS = 3  # for each operation: which, how strong, and which way


@dataclass(frozen=True, kw_only=True)
class Operations:
    """What a policy does to some images, one operation after the other."""

    names: Shaped[np.ndarray, "b operation"]
    """Of OPERATIONS."""
    amounts: Float[np.ndarray, "b operation"]
    """As `amounts` has them, with the sign that was drawn."""

    @property
    def changes(self) -> Changes:
        """Those that change colors."""
        moves = np.isin(self.names, ("identity", *MOVES))
        strengths = np.where(np.isin(self.names, FACTORS), 1 + self.amounts, self.amounts)
        return Changes(kinds=np.where(moves, "none", self.names), strengths=strengths)

    def joined(self, affine: Affine, size: int) -> Affine:
        """The maps with those that move the image done after them, all from output pixels to input pixels."""
        for names, amounts in zip(self.names.T, self.amounts.T, strict=True):
            linear, offset = _moves(names, amounts, size)
            moved = affine[:, :, :2] @ offset[:, :, None] + affine[:, :, 2:]
            affine = np.concatenate([affine[:, :, :2] @ linear, moved], axis=2)
        return affine


def amounts(policy: Policy, size: int) -> dict[str, Float[np.ndarray, " bin"]]:
    """The strengths of each operation for images of `size` pixels, from nothing to the strongest.

    Slopes for shears, whole pixels for translations, degrees, what is added to a factor of 1, bits that are kept and
    grey levels from which on levels are inverted.
    """
    wide = policy == "trivial"
    most = {
        **dict.fromkeys(("shear_x", "shear_y"), 0.99 if wide else 0.3),
        **dict.fromkeys(("translate_x", "translate_y"), 32.0 if wide else 150 / 331 * size),
        "rotate": 135.0 if wide else 30.0,
        **dict.fromkeys(FACTORS, 0.99 if wide else 0.9),
    }
    found = {name: np.linspace(0, most.get(name, 0.0), BINS) for name in OPERATIONS}
    for name in ("translate_x", "translate_y"):
        found[name] = np.floor(found[name])
    found["posterize"] = np.round(np.linspace(8, 2 if wide else 4, BINS))
    found["solarize"] = np.linspace(255, 0, BINS)
    return found


def drawn(
    policy: Policy,
    *,
    count: int,
    strength: int,
    seed: int,
    epoch: int,
    keys: UInt64[np.ndarray, " b"],
    size: int,
) -> Operations:
    """What a policy does to images; `count` operations of one `strength` (a bin) are RandAugment's."""
    if policy == "none":
        return Operations(names=np.full((len(keys), 0), "identity"), amounts=np.zeros((len(keys), 0)))
    slots = 1 if policy == "trivial" else count
    draws = keyed.uniform(seed, epoch, keys ^ _STREAM, slots * _DRAWS).reshape(len(keys), slots, _DRAWS)
    which = (draws[:, :, 0] * len(OPERATIONS)).astype(int)
    bins = (draws[:, :, 1] * BINS).astype(int) if policy == "trivial" else np.full(which.shape, strength)
    table = amounts(policy, size)
    names = np.array(OPERATIONS)[which]
    found = np.stack([table[name] for name in OPERATIONS])[which, bins]
    signed = np.isin(names, (*MOVES, *FACTORS)) & (draws[:, :, 2] < 0.5)
    return Operations(names=names, amounts=np.where(signed, -found, found))


def _moves(
    names: Shaped[np.ndarray, " b"], amounts: Float[np.ndarray, " b"], size: int
) -> tuple[Float[np.ndarray, "b 2 2"], Float[np.ndarray, "b 2"]]:
    """Maps from output pixels to input pixels; of images that are not moved the identity."""
    linear, offset = np.tile(np.eye(2), (len(names), 1, 1)), np.zeros((len(names), 2))
    turns = names == "rotate"
    angle = np.deg2rad(np.where(turns, amounts, 0))
    linear[turns] = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1).reshape(-1, 2, 2)[turns]
    centre = (size - 1) / 2
    offset[turns] = centre - (linear @ np.full(2, centre))[turns]
    for axis, name in enumerate(("x", "y")):
        shears = names == f"shear_{name}"
        linear[shears, axis, 1 - axis] = amounts[shears]
        offset[shears, axis] = amounts[shears] / 2  # the corner that stays is half a pixel before the first centre
        shifts = names == f"translate_{name}"
        offset[shifts, axis] = -amounts[shifts]
    return linear, offset
