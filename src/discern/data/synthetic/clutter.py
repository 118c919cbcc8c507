"""Things that are not the subject: pens, coins, cables, blocks, tins, tools. Any class can have any of them."""

# Arithmetic on numpy planes is typed Any by numpy's own stubs.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

import numpy as np

from discern.data.synthetic.geometry import Array
from discern.data.synthetic.materials import Surface, plain
from discern.data.synthetic.shapes import Shape, corners, ring, slab

KINDS = ("pen", "coin", "cable", "block", "tin", "driver", "ball", "card", "pliers")
"""Every kind of clutter; none resembles a class closely enough to mislabel the picture."""

_BRIGHT = (
    (0.75, 0.12, 0.1),
    (0.1, 0.25, 0.6),
    (0.9, 0.72, 0.1),
    (0.1, 0.45, 0.25),
    (0.08, 0.08, 0.09),
    (0.85, 0.85, 0.83),
)
_DULL = ((0.66, 0.5, 0.33), (0.5, 0.48, 0.45), (0.72, 0.6, 0.45), (0.8, 0.78, 0.74), (0.4, 0.3, 0.22))
_STEEL = ((0.72, 0.73, 0.75), (0.55, 0.55, 0.56), (0.8, 0.68, 0.42), (0.7, 0.48, 0.36))


def capsule(
    x: Array, y: Array, z: Array, a: tuple[float, float, float], b: tuple[float, float, float], r: float
) -> Array:
    """Distance to a round bar from a to b with radius r."""
    dx, dy, dz = (float(q - p) for p, q in zip(a, b, strict=True))
    px, py, pz = x - a[0], y - a[1], z - a[2]
    h = np.clip((px * dx + py * dy + pz * dz) * (1 / (dx * dx + dy * dy + dz * dz)), 0, 1)
    return np.sqrt((px - h * dx) ** 2 + (py - h * dy) ** 2 + (pz - h * dz) ** 2) - r


def _colour(rng: np.random.Generator, colours: tuple[tuple[float, float, float], ...]) -> tuple[float, float, float]:
    r, g, b = np.clip(np.array(colours[int(rng.integers(len(colours)))]) * rng.uniform(0.75, 1.15), 0.03, 0.95)
    return float(r), float(g), float(b)


def _pen(rng: np.random.Generator) -> tuple[Shape, Surface]:
    r = float(rng.uniform(0.06, 0.1))

    def distance(x: Array, y: Array, z: Array) -> Array:
        tip = np.clip((x - 0.75) * 4, 0, 1) * (0.8 * r)
        return np.maximum(np.sqrt(y * y + z * z) - r + tip, np.abs(x) - 1.0)

    half = (1.0, r, r)
    return Shape(distance=distance, half=half, stride=0.85, hull=corners(half)), plain(
        _colour(rng, _BRIGHT), rough=0.35
    )


def _coin(rng: np.random.Generator) -> tuple[Shape, Surface]:
    thick = float(rng.uniform(0.05, 0.09))

    def distance(x: Array, y: Array, z: Array) -> Array:
        rho = np.sqrt(x * x + y * y)
        d = np.maximum(rho - 1.0, np.abs(z) - thick)
        portrait = np.sqrt((x - 0.05) ** 2 + (y + 0.1) ** 2 * 0.6) - 0.42
        field = np.maximum(np.maximum(rho - 0.88, 0.8 * thick - np.abs(z)), -portrait)
        return np.maximum(d, -field)

    surface = plain(_colour(rng, _STEEL), rough=0.35, metal=1.0)
    return Shape(distance=distance, half=(1.0, 1.0, thick), stride=0.8, hull=ring(1.0, -thick)), surface


def _cable(rng: np.random.Generator) -> tuple[Shape, Surface]:
    r = float(rng.uniform(0.035, 0.07))
    bend, waves = float(rng.uniform(0.1, 0.3)), float(rng.uniform(1.5, 4.0))
    phase = float(rng.uniform(0, 6))

    def distance(x: Array, y: Array, z: Array) -> Array:
        curve = bend * np.sin(x * waves + phase)
        return np.maximum(np.sqrt((y - curve) ** 2 * 0.7 + z * z) - r, np.abs(x) - 1.6)

    half = (1.6, bend + r * 1.4, r)
    return Shape(distance=distance, half=half, stride=0.8, hull=corners(half)), plain(_colour(rng, _BRIGHT), rough=0.5)


def _block(rng: np.random.Generator) -> tuple[Shape, Surface]:
    half = (1.0, float(rng.uniform(0.12, 0.4)), float(rng.uniform(0.08, 0.25)))

    def distance(x: Array, y: Array, z: Array) -> Array:
        return slab(x, y, z, half, 0.02)

    return Shape(distance=distance, half=half, stride=1.0, hull=corners(half)), plain(
        _colour(rng, _DULL), rough=0.9, grainy=0.16
    )


def _tin(rng: np.random.Generator) -> tuple[Shape, Surface]:
    tall = float(rng.uniform(0.35, 0.9))

    def distance(x: Array, y: Array, z: Array) -> Array:
        rho = np.sqrt(x * x + y * y)
        d = np.maximum(rho - 0.6, np.abs(z) - tall)
        return np.maximum(d, -np.maximum(rho - 0.55, tall - 0.05 - z))

    half = (0.6, 0.6, tall)
    surface = plain(_colour(rng, _BRIGHT + _STEEL), rough=0.4, metal=float(rng.random() < 0.4))
    return Shape(
        distance=distance, half=half, stride=0.95, hull=np.concatenate([ring(0.6, -tall), ring(0.6, tall)])
    ), surface


def _driver(rng: np.random.Generator) -> tuple[Shape, Surface]:
    r = float(rng.uniform(0.13, 0.18))
    handle = plain(_colour(rng, _BRIGHT), rough=0.35)

    def distance(x: Array, y: Array, z: Array) -> Array:
        grip = capsule(x, y, z, (-0.85, 0, 0), (-0.25, 0, 0), r) + 0.01 * np.cos(np.arctan2(z, y) * 6)
        return np.minimum(grip, capsule(x, y, z, (-0.25, 0, 0), (0.97, 0, 0), 0.035))

    half = (1.02, r + 0.02, r + 0.02)
    return Shape(distance=distance, half=half, stride=0.85, hull=corners(half)), handle


def _ball(rng: np.random.Generator) -> tuple[Shape, Surface]:
    def distance(x: Array, y: Array, z: Array) -> Array:
        return np.sqrt(x * x + y * y + z * z) - 0.5

    half = (0.5, 0.5, 0.5)
    metal = float(rng.random() < 0.6)
    surface = plain(_colour(rng, _STEEL if metal else _BRIGHT), rough=0.2, metal=metal, grainy=0.04)
    return Shape(distance=distance, half=half, stride=1.0, hull=corners(half)), surface


def _card(rng: np.random.Generator) -> tuple[Shape, Surface]:
    half = (1.0, float(rng.uniform(0.5, 0.8)), 0.03)
    curl = float(rng.uniform(-0.03, 0.05))

    def distance(x: Array, y: Array, z: Array) -> Array:
        return slab(x, y, z - curl * x * x, (half[0], half[1], 0.008), 0.005)

    return Shape(distance=distance, half=(1.0, half[1], 0.07), stride=0.9, hull=corners(half)), plain(
        _colour(rng, _DULL), rough=0.9
    )


def _pliers(rng: np.random.Generator) -> tuple[Shape, Surface]:
    spread = float(rng.uniform(0.15, 0.35))

    def distance(x: Array, y: Array, z: Array) -> Array:
        ay = np.abs(y)
        arms = capsule(x, ay, z, (-1.0, spread, 0), (0.2, 0.05, 0), 0.07)
        jaw = slab(x - 0.45, y, z, (0.35, 0.16, 0.07), 0.05)
        return np.minimum(arms, jaw)

    half = (1.08, spread + 0.09, 0.09)
    return Shape(distance=distance, half=half, stride=0.9, hull=corners(half)), plain(_colour(rng, _BRIGHT), rough=0.4)


def clutter(kind: str, rng: np.random.Generator) -> tuple[Shape, Surface]:
    """Draw one thing of a kind in KINDS, about one unit in radius, lying flat in its own frame."""
    makers = {
        "pen": _pen, "coin": _coin, "cable": _cable, "block": _block, "tin": _tin,
        "driver": _driver, "ball": _ball, "card": _card, "pliers": _pliers,
    }  # fmt: skip
    return makers[kind](rng)
