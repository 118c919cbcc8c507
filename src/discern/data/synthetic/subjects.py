"""The five classes: how each is formed, finished and laid down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from discern.data.synthetic import shapes
from discern.data.synthetic.geometry import Array, about, tumble
from discern.data.synthetic.materials import Surface, metal, printed_carton, printed_sack
from discern.data.synthetic.shapes import Shape

CLASSES: tuple[str, ...] = ("bolt", "carton_box", "cement_bag", "nut", "washer")
"""The labels, in alphabetical order."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One thing of a class before it is placed."""

    shape: Shape
    """Its form."""
    surface: Surface
    """Its look."""


def _carton_half(rng: np.random.Generator) -> tuple[float, float, float]:
    """Half extents of a carton: cubes, flat mailers and long boxes; a tenth has a sack's proportions."""
    if rng.random() < 0.1:
        return 1.0, float(rng.uniform(0.55, 0.72)), float(rng.uniform(0.2, 0.34))
    return 1.0, float(rng.uniform(0.5, 1.0)), float(rng.uniform(0.38, 1.0))


def _sack_half(rng: np.random.Generator) -> tuple[float, float, float]:
    """Half extents of a sack: 25 to 50 kg proportions; a quarter is as thick as a small carton."""
    thick = rng.uniform(0.17, 0.27) if rng.random() < 0.75 else rng.uniform(0.27, 0.36)
    return 1.0, float(rng.uniform(0.56, 0.74)), float(thick)


def subject(label: str, rng: np.random.Generator) -> Subject:
    """Draw one thing of a class."""
    if label == "carton_box":
        half = _carton_half(rng)
        return Subject(shape=shapes.carton(half, rng), surface=printed_carton(half, rng))
    if label == "cement_bag":
        half = _sack_half(rng)
        return Subject(shape=shapes.bag(half, rng), surface=printed_sack(half, rng))
    shape = {"bolt": shapes.bolt, "nut": shapes.nut, "washer": shapes.washer}[label](rng)
    return Subject(shape=shape, surface=metal(rng))


def _lying(shape: Shape) -> Array:
    """A bolt on its side: it rests on the head's rim and the tip, so it tilts by their difference."""
    hull = shape.hull
    wide = float(np.hypot(hull[:, 0], hull[:, 1]).max())
    length = float(hull[:, 2].max() - hull[:, 2].min())
    return about("y", np.pi / 2 - float(np.arctan2(wide - 0.9, length)))


def pose(label: str, shape: Shape, rng: np.random.Generator) -> tuple[Array, bool]:
    """Draw an orientation (3, 3), and whether it lies flat enough for another to lie on top."""
    yaw = about("z", float(rng.uniform(-np.pi, np.pi)))
    chance = float(rng.random())
    quarter = int(rng.integers(4)) * np.pi / 2
    if label in ("bolt", "nut", "washer"):
        if chance < 0.1:
            return tumble(rng), False
        if label == "bolt":
            if chance < 0.9:
                return yaw @ _lying(shape) @ about("z", float(rng.uniform(0, 6.28))), False
            return yaw @ about("x", np.pi), False
        if chance < 0.9:
            return yaw @ about("x", float(rng.choice([0, np.pi]))), True
        return yaw @ about("x", np.pi / 2) @ about("z", quarter / 3), False
    if label == "carton_box":
        if chance < 0.62:
            return yaw, True
        if chance < 0.9:
            return yaw @ about(str(rng.choice(["x", "y"])), np.pi / 2 * float(rng.choice([-1, 1]))), True
        return yaw @ about("x", float(rng.uniform(-0.9, 0.9))) @ about("y", float(rng.uniform(-0.9, 0.9))), False
    if chance < 0.66:
        return yaw @ about("x", float(rng.choice([0, np.pi]))), True
    lean = float(rng.uniform(-0.25, 0.25))
    if chance < 0.84:
        return yaw @ about("x", lean) @ about("y", np.pi / 2 * float(rng.choice([-1, 1]))), False
    if chance < 0.92:
        return yaw @ about("x", np.pi / 2 + lean), False
    return yaw @ about("x", float(rng.uniform(-0.8, 0.8))) @ about("y", float(rng.uniform(-0.9, 0.9))), False
