"""Solid shapes as signed distance functions: the five parts' bodies.

Each maker draws its proportions from a generator. A distance may understate the true one (that costs
steps) but `stride` says by how much it may overstate it. Technique: sphere tracing, Hart 1996.
"""

# Arithmetic on numpy planes is typed Any by numpy's own stubs.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from discern.data.synthetic.geometry import Array
from discern.data.synthetic.texture import TILE, cloud, sample

Distance = Callable[[Array, Array, Array], Array]
"""Signed distance (n,) at local points, given as three planes (n,)."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One solid in its own frame, centred on the origin."""

    distance: Distance
    """Signed distance at local points."""
    half: tuple[float, float, float]
    """Half extents of a box that encloses the solid."""
    stride: float
    """Share of the distance that is safe to step; below 1 where threads or wrinkles overstate it."""
    hull: Array
    """Points (m, 3) whose convex hull is about the solid's: for resting it and for framing it."""

    @property
    def radius(self) -> float:
        """Radius of the sphere about the origin that holds the hull."""
        return float(np.sqrt((self.hull**2).sum(axis=1).max()))


_SIN60 = 0.8660254


def ring(radius: float, z: float, n: int = 12) -> Array:
    """Points (n, 3) on a circle about the z axis."""
    a = np.arange(n) * (2 * np.pi / n)
    return np.stack([radius * np.cos(a), radius * np.sin(a), np.full(n, z)], axis=1).astype(np.float32)


def hexagon(x: Array, y: Array, apothem: float) -> Array:
    """Distance to a hexagonal prism's side faces."""
    ax, ay = np.abs(x), np.abs(y)
    return np.maximum(ax, 0.5 * ax + _SIN60 * ay) - apothem


def _thread(rho: Array, x: Array, y: Array, z: Array, pitch: float) -> Array:
    """Depth (n,) in [0, 1] of a single-start V thread: 0 at the crest, 1 at the root."""
    phase = z * (1.0 / pitch) + np.arctan2(y, x) * (0.5 / np.pi)
    return np.abs(phase - np.floor(phase) - 0.5) * 2.0


def bolt(rng: np.random.Generator) -> Shape:
    """A bolt: hexagon, flanged, socket-cap or button head; shank 2 to 10 radii long, part or all threaded."""
    kind = str(rng.choice(["hex", "flange", "socket", "button"], p=[0.45, 0.15, 0.28, 0.12]))
    shank = float(rng.uniform(2.2, 6.0) if rng.random() < 0.6 else rng.uniform(6.0, 10.0))
    pitch = float(rng.uniform(0.26, 0.44))
    depth = pitch * 0.5
    plain = 0.0 if rng.random() < 0.55 else float(rng.uniform(0.15, 0.6)) * shank
    apothem = float(rng.uniform(1.5, 1.75))
    head = {"hex": rng.uniform(1.1, 1.5), "flange": 1.5, "socket": rng.uniform(1.7, 2.0), "button": 1.05}[kind]
    head = float(head)
    wide = {"hex": apothem / _SIN60, "flange": 2.2, "socket": apothem, "button": 1.85}[kind]
    key = float(rng.uniform(0.75, 0.95)) * (0.75 if kind == "button" else 1.0)
    shift = (head - shank) / 2  # puts the middle of the bolt on the origin
    tip = -shank

    def distance(x: Array, y: Array, z: Array) -> Array:
        z = z + shift
        rho = np.sqrt(x * x + y * y)
        cut = _thread(rho, x, y, z, pitch) * depth
        if plain:
            cut = cut * np.clip((-plain - z) * (1.0 / pitch), 0.0, 1.0)
        body = np.maximum(rho - 1.0 + cut, tip - z)
        body = np.maximum(body, (rho - 0.72 + (tip - z)) * 0.7)  # the 45 degree lead-in at the tip
        body = np.maximum(body, z - 0.3)
        side = np.maximum(-z, z - head)
        if kind == "socket":
            top = np.maximum(np.maximum(rho - apothem, side), (rho - apothem + 0.12 + (z - head)) * 0.707)
        elif kind == "button":
            # a dome: the part of a sphere above the bearing face
            drop = (wide * wide - head * head) / (2 * head)
            top = np.maximum(np.sqrt(rho * rho + (z + drop) ** 2) - (head + drop), -z)
        else:
            top = np.maximum(hexagon(x, y, apothem), side)
            top = np.maximum(top, (rho - apothem * 1.0) * 0.5 + (z - head) * _SIN60)
            if kind == "flange":
                plate = np.maximum((rho - wide) * 0.9 + z * 0.42, np.maximum(-z, z - 0.7))
                top = np.minimum(top, plate)
        if kind in ("socket", "button"):
            top = np.maximum(top, -np.maximum(hexagon(y, x, key), head * 0.45 - z))
        return np.minimum(body, top)

    lift = np.array([0, 0, -shift], np.float32)
    hull = np.concatenate([ring(wide, 0.1), ring(wide, head * 0.9), ring(1.0, tip + 0.3), ring(0.72, tip)]) + lift
    return Shape(distance=distance, half=(wide, wide, (shank + head) / 2), stride=0.7, hull=hull)


def nut(rng: np.random.Generator) -> Shape:
    """A hexagon nut: thin, standard, high, flanged or with a smooth locking collar."""
    kind = str(rng.choice(["plain", "flange", "collar"], p=[0.68, 0.17, 0.15]))
    half = float(rng.uniform(0.3, 0.58) if rng.random() < 0.8 else rng.uniform(0.58, 0.95))
    hole = float(rng.uniform(0.5, 0.64))
    pitch = float(rng.uniform(0.13, 0.22))
    chamfer = float(rng.uniform(0.97, 1.06))
    wide = 1.42 if kind == "flange" else 1.0 / _SIN60
    collar = half + 0.22 if kind == "collar" else half

    def distance(x: Array, y: Array, z: Array) -> Array:
        rho = np.sqrt(x * x + y * y)
        az = np.abs(z)
        d = np.maximum(hexagon(x, y, 1.0), az - half)
        d = np.maximum(d, (rho - chamfer) * 0.5 + (az - half) * _SIN60)
        if kind == "flange":
            plate = np.maximum((rho - wide) * 0.9 + (z + half) * 0.42, np.maximum(-half - z, z))
            d = np.minimum(d, plate)
        elif kind == "collar":
            d = np.minimum(d, np.maximum(np.maximum(rho - 0.82, z - collar), -z))
        cut = _thread(rho, x, y, z, pitch) * (0.5 * pitch)
        d = np.maximum(d, hole - 0.25 * pitch + cut - rho)
        return np.maximum(d, (hole * 1.1 - rho + (az - collar)) * 0.707)  # countersunk mouth

    low = -half
    hull = np.concatenate(
        [ring(wide, low, 6 if kind != "flange" else 12), ring(1 / _SIN60, half, 6), ring(0.8, collar)]
    )
    # ring() starts on the x axis, but the prism's corners lie on the y axis
    hull = np.stack([hull[:, 1], hull[:, 0], hull[:, 2]], axis=1)
    return Shape(distance=distance, half=(wide, wide, collar), stride=0.75, hull=hull)


def washer(rng: np.random.Generator) -> Shape:
    """A washer: flat, large (penny), thick, split spring or toothed."""
    kind = str(rng.choice(["flat", "large", "thick", "spring", "toothed"], p=[0.34, 0.18, 0.18, 0.2, 0.1]))
    inner = float(
        {"large": rng.uniform(0.2, 0.36), "spring": rng.uniform(0.55, 0.66)}.get(kind, rng.uniform(0.42, 0.58))
    )
    thick = float(
        {"thick": rng.uniform(0.14, 0.26), "spring": rng.uniform(0.1, 0.16)}.get(kind, rng.uniform(0.045, 0.1))
    )
    middle, width = (1 + inner) / 2, (1 - inner) / 2
    edge = min(0.035, thick * 0.4)
    rise = float(rng.uniform(0.1, 0.25)) if kind == "spring" else 0.0
    gap = float(rng.uniform(0.03, 0.08))
    cone = float(rng.uniform(0.15, 0.4)) if kind != "spring" and rng.random() < 0.2 else 0.0
    teeth = int(rng.integers(8, 16))

    def distance(x: Array, y: Array, z: Array) -> Array:
        rho = np.sqrt(x * x + y * y)
        if rise:
            z = z - np.arctan2(y, x) * (rise / np.pi)
        if cone:
            z = z + (rho - middle) * cone
        across = np.abs(rho - middle) - (width - edge)
        if kind == "toothed":
            wave = np.arctan2(y, x) * teeth
            across = np.maximum(across, rho - 0.93 - 0.07 * np.clip(np.sin(wave) * 3, -1, 1))
        up = np.abs(z) - (thick - edge)
        outside = np.sqrt(np.maximum(across, 0) ** 2 + np.maximum(up, 0) ** 2)
        d = outside + np.minimum(np.maximum(across, up), 0) - edge
        if rise:
            d = np.maximum(d, -np.maximum(np.abs(y) - gap, x))  # the slit, where the ends part
        return d

    tall = thick + rise + cone * width
    hull = np.concatenate([ring(1.0, -tall, 24), ring(1.0, tall, 24)])
    stride = {"toothed": 0.5, "spring": 0.6}.get(kind, 0.85)
    return Shape(distance=distance, half=(1.0, 1.0, tall), stride=stride, hull=hull)


def corners(half: tuple[float, float, float]) -> Array:
    """The eight corners (8, 3) of a centred box."""
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], np.float32)
    return np.asarray(signs * np.array(half, np.float32), dtype=np.float32)


def slab(x: Array, y: Array, z: Array, half: tuple[float, float, float], edge: float) -> Array:
    """Distance to a centred box with rounded edges."""
    qx, qy, qz = (np.abs(p) - (h - edge) for p, h in zip((x, y, z), half, strict=True))
    outside = np.sqrt(np.maximum(qx, 0) ** 2 + np.maximum(qy, 0) ** 2 + np.maximum(qz, 0) ** 2)
    return outside + np.minimum(np.maximum(np.maximum(qx, qy), qz), 0) - edge


def carton(half: tuple[float, float, float], rng: np.random.Generator) -> Shape:
    """A closed carton of given half extents, slightly bulged or sunken and dented."""
    edge = float(rng.uniform(0.012, 0.035))
    bulge = float(rng.normal(0.0, 0.022))
    dent = float(rng.choice([0.0, 0.02, 0.045], p=[0.35, 0.4, 0.25]))
    tile = cloud(3)
    ou, ov = (float(o) for o in rng.uniform(0, TILE, 2))
    seam = float(rng.uniform(0.006, 0.014))
    ix, iy, iz = (1.2 / h for h in half)

    def distance(x: Array, y: Array, z: Array) -> Array:
        swell = (
            np.cos(np.clip(x * ix, -1.5, 1.5))
            * np.cos(np.clip(y * iy, -1.5, 1.5))
            * np.cos(np.clip(z * iz, -1.5, 1.5))
        )
        d = slab(x, y, z, half, edge) - bulge * swell
        if dent:
            d = d + dent * np.maximum(sample(tile, x * 60 + z * 31 + ou, y * 60 + z * 43 + ov) - 0.5, 0)
        slit = np.maximum(np.abs(y) - seam, half[2] - 0.012 - np.abs(z))
        return np.maximum(d, -slit)  # the slit between the two top flaps

    pad = max(bulge, 0.0) + 0.01
    return Shape(distance=distance, half=(half[0] + pad, half[1] + pad, half[2] + pad), stride=0.9, hull=corners(half))


def bag(half: tuple[float, float, float], rng: np.random.Generator) -> Shape:
    """A filled sack of given half extents: pillow-shaped, wrinkled, with crimped or folded ends."""
    lx, ly, lz = half
    edge = lz * float(rng.uniform(0.5, 0.95))  # up to a full round of the thickness
    swell = float(rng.uniform(0.12, 0.5)) * lz
    crimped = bool(rng.random() < 0.72)
    crimp = float(rng.uniform(0.06, 0.12)) if crimped else 0.0
    folds = float(rng.uniform(0.03, 0.075))
    sag = float(rng.normal(0, 0.07))
    tile, ridge = cloud(5), cloud(6, stretch=4)
    ou, ov = (float(o) for o in rng.uniform(0, TILE, 2))
    core = (lx - crimp, ly, lz - swell * 0.5)

    def distance(x: Array, y: Array, z: Array) -> Array:
        u, v = x * (1 / lx), y * (1 / ly)
        z = z + sag * (u * u - 0.3)
        rim = np.clip(np.maximum(np.abs(u), np.abs(v)), 0.2, 1.0)
        crease = sample(tile, x * 95 + ou + z * 170, y * 95 + ov + z * 60)
        long = sample(ridge, x * 120 + ov + z * 90, y * 150 + ou + z * 140)
        wrinkle = folds * (0.45 + rim * rim) * ((np.abs(crease - 0.5) * 2.2 - 0.3) + (long - 0.5) * 0.8)
        plump = swell * np.clip(1 - u * u, 0, 1) * np.clip(1 - v * v, 0, 1)
        d = slab(x, y, z, core, min(edge, ly * 0.6)) - plump + wrinkle
        if crimped:
            wave = (crease - 0.5) * 0.25 + (long - 0.5) * 0.1
            flat = slab(x, y, z + wave * np.abs(u), (lx, ly * 0.9, 0.012), 0.01)
            h = np.clip(0.5 + (flat - d) * (0.5 / 0.05), 0, 1)  # smooth union over 0.05
            d = flat + (d - flat) * h - 0.05 * h * (1 - h)
        return d

    return Shape(
        distance=distance,
        half=(lx + 0.04, ly + 0.05, lz + swell * 0.6 + 0.06),
        stride=0.6,
        hull=corners(half),
    )
