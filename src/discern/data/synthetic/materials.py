"""Surfaces: the colour, roughness and metalness of a solid at each of its points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from discern.data.synthetic.geometry import Array
from discern.data.synthetic.prints import SIDE, faces
from discern.data.synthetic.texture import TILE, cloud, linear, sample, solid_noise


@dataclass(frozen=True, kw_only=True)
class Look:
    """The surface at n points."""

    albedo: Array
    """Linear colour (3, n): diffuse for paper and plastic, mirror colour for metal."""
    rough: Array
    """Roughness (n,): 0 a mirror, 1 chalk."""
    metal: Array
    """Metalness (n,): 0 dielectric, 1 bare metal."""
    bump: Array | None = None
    """Offset (3, n) added to the local normal, for relief too fine for the distance function."""


Surface = Callable[[Array, Array, Array, Array, Array, Array], Look]
"""The look at local points and their local normals, given as six planes (n,)."""

# Display colours; each is used by bolt, nut and washer alike, so colour never names the class.
_METALS: dict[str, tuple[tuple[float, float, float], float, float]] = {
    "zinc": ((0.80, 0.82, 0.85), 0.28, 1.0),
    "stainless": ((0.78, 0.77, 0.75), 0.2, 1.0),
    "galvanised": ((0.68, 0.70, 0.72), 0.5, 1.0),
    "brass": ((0.82, 0.70, 0.46), 0.22, 1.0),
    "yellow_zinc": ((0.80, 0.74, 0.57), 0.3, 1.0),
    "copper": ((0.76, 0.54, 0.44), 0.26, 1.0),
    "black_oxide": ((0.14, 0.14, 0.15), 0.42, 0.35),
    "rust": ((0.42, 0.26, 0.17), 0.85, 0.1),
    "nylon": ((0.86, 0.84, 0.78), 0.45, 0.0),
}
_SHARES = (0.22, 0.22, 0.13, 0.12, 0.09, 0.04, 0.1, 0.05, 0.03)


def metal(rng: np.random.Generator) -> Surface:
    """A fastener's finish: plated, bare, blackened, rusty or nylon, with its own wear."""
    name = str(rng.choice(list(_METALS), p=_SHARES))
    colour, rough, shine = _METALS[name]
    base = linear(
        np.asarray(np.clip(np.array(colour) * rng.uniform(0.88, 1.1) + rng.normal(0, 0.015, 3), 0, 1), np.float32)
    )
    rough = float(np.clip(rough * rng.uniform(0.6, 1.6), 0.08, 0.95))
    worn = float(rng.choice([0.0, 0.35, 0.55], p=[0.74, 0.2, 0.06])) if name != "rust" else 0.75
    rust = linear((0.42 * float(rng.uniform(0.75, 1.15)), 0.27, 0.18))
    tile, offset = cloud(int(rng.integers(7, 10))), float(rng.uniform(0, TILE))
    brushed = float(rng.uniform(0.0, 0.09))
    patches = float(rng.uniform(0.03, 0.16))

    def look(x: Array, y: Array, z: Array, nx: Array, ny: Array, nz: Array) -> Look:
        coarse = solid_noise(tile, x, y, z, scale=45, offset=offset)
        fine = solid_noise(tile, x, y, z, scale=190, offset=offset + 91)
        shade = 1.0 + (coarse - 0.5) * (4 * patches) + (fine - 0.5) * 0.25
        albedo = base[:, None] * np.clip(shade, 0.3, 1.6)
        roughness = np.clip(rough + (fine - 0.5) * 0.25 + (coarse - 0.5) * patches * 2, 0.05, 1)
        metalness = np.full_like(x, shine)
        if worn:
            spread = np.clip((0.55 * coarse + 0.45 * fine - (0.72 - 0.42 * worn)) * 6, 0, 1)
            albedo = albedo * (1 - spread) + (rust[:, None] * (0.6 + 0.8 * fine)) * spread
            roughness = roughness * (1 - spread) + 0.9 * spread
            metalness = metalness * (1 - spread)
        streak = (sample(tile, z * 260 + offset, x * 9 + y * 7 + offset) - 0.5) * (brushed * 2)
        pit = (fine - 0.5) * (0.12 + 0.5 * rough)
        bump = np.stack([streak * nz + pit, -streak + pit * 0.7, streak * nx - pit])
        return Look(albedo=albedo, rough=roughness, metal=metalness, bump=bump)

    return look


def plain(colour: tuple[float, float, float], *, rough: float, metal: float = 0.0, grainy: float = 0.1) -> Surface:
    """One colour with a little mottling: for clutter."""
    base = linear(colour)

    def look(x: Array, y: Array, z: Array, nx: Array, ny: Array, nz: Array) -> Look:
        mottle = solid_noise(cloud(8), x, y, z, scale=110, offset=13.0)
        albedo = base[:, None] * np.clip(1 + (mottle - 0.5) * (6 * grainy), 0.2, 2.0)
        return Look(albedo=albedo, rough=np.full_like(x, rough), metal=np.full_like(x, metal))

    return look


def printed_carton(half: tuple[float, float, float], rng: np.random.Generator) -> Surface:
    """Printed corrugated board with parcel tape: three faces drawn, each used on two opposite sides."""
    strip = faces(rng, 3, tape=bool(rng.random() < 0.7))
    tile = cloud(4, stretch=4)
    flutes = float(rng.uniform(0.0, 0.05))
    crease = float(rng.uniform(0.04, 0.16))
    gloss = float(rng.uniform(0.55, 0.95))
    upright = bool(rng.random() < 0.8)
    hx, hy, hz = half

    def look(x: Array, y: Array, z: Array, nx: Array, ny: Array, nz: Array) -> Look:
        ax, ay, az = np.abs(nx), np.abs(ny), np.abs(nz)
        top = (az >= ax) & (az >= ay)
        front = ~top & (ay >= ax)
        across = np.where(top | front, x / hx, y / hy)
        down = np.where(top, -y / hy, -z / hz)
        # seen from outside, two opposite faces run in opposite directions: no mirrored words
        mirrored = np.where(top, nz < 0, np.where(front, ny > 0, nx < 0))
        across = np.where(mirrored, -across, across)
        if not upright:
            across, down = down, -across
        face = np.where(top, 0, np.where(front, SIDE, 2 * SIDE)).astype(np.float32)
        u = face + np.clip((across * 0.5 + 0.5) * (SIDE - 1), 0.5, SIDE - 1.5)
        v = np.clip((down * 0.5 + 0.5) * (SIDE - 1), 0, SIDE - 1)
        albedo = sample(strip, u.astype(np.float32), v.astype(np.float32), wrap=False)
        rim = np.sort(np.stack([np.abs(x) / hx, np.abs(y) / hy, np.abs(z) / hz]), axis=0)[1]
        worn = np.clip((rim - 0.93) * 12, 0, 1) * np.clip(sample(tile, u * 2, v * 2 + face) * 2.4 - 0.7, 0, 1)
        albedo = albedo * (1 - 0.4 * worn) + 0.4 * worn * 0.42
        dents = sample(tile, across * 70 + face, down * 110) - 0.5
        ribs = np.sin(across * (hx * 150)) * flutes
        bump = np.stack([dents * crease + ribs * az, dents * crease, dents * crease])
        return Look(albedo=albedo, rough=np.full_like(x, gloss), metal=np.zeros_like(x), bump=bump)

    return look


def printed_sack(half: tuple[float, float, float], rng: np.random.Generator) -> Surface:
    """A printed sack of kraft, bleached paper or woven plastic, dusty in places."""
    strip = faces(rng, 2, tape=False)
    tile = cloud(4, stretch=4)
    woven = bool(rng.random() < 0.25)
    gloss = float(rng.uniform(0.35, 0.9))
    dust = float(rng.choice([0.0, 0.3, 0.6], p=[0.4, 0.4, 0.2]))
    grey = linear((0.62, 0.60, 0.57))
    along = bool(rng.random() < 0.5)  # printed along or across the sack
    lx, ly, _ = half

    def look(x: Array, y: Array, z: Array, nx: Array, ny: Array, nz: Array) -> Look:
        a, b = x / lx, y / ly
        across, down = (a, -b) if along else (b, a)
        across = np.where(z < 0, -across, across)
        back = np.where(z < 0, np.float32(SIDE), np.float32(0))
        u = back + np.clip((across * 0.5 + 0.5) * (SIDE - 1), 0.5, SIDE - 1.5)
        v = np.clip((down * 0.5 + 0.5) * (SIDE - 1), 0, SIDE - 1)
        albedo = sample(strip, u.astype(np.float32), v.astype(np.float32), wrap=False)
        cloudy = sample(cloud(2), a * 160 + 31, b * 110 + 77)
        if dust:
            powder = np.clip((cloudy - 0.42) * 3, 0, 1) * dust
            albedo = albedo * (1 - powder) + grey[:, None] * powder
        fold = sample(tile, a * 170 + 9, b * 120 + z * 90) - 0.5
        lift = sample(tile, b * 150 + 200, a * 130 + 40) - 0.5
        bump = np.stack([fold * 0.35, lift * 0.35, fold * 0.1])
        if woven:
            weave = np.sin(a * 260) * np.sin(b * 170)
            bump = bump + weave * 0.06
            albedo = albedo * (1 + 0.07 * weave)
        return Look(albedo=albedo, rough=np.full_like(x, gloss), metal=np.zeros_like(x), bump=bump)

    return look
