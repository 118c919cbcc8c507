"""A solid placed in the world, and the rays that meet it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discern.data.synthetic.geometry import Array, turn
from discern.data.synthetic.materials import Surface
from discern.data.synthetic.shapes import Shape

_STEPS = 56  # grazing rays on threads need about 40; what has not met the solid by then is an edge pixel


@dataclass(frozen=True, kw_only=True)
class Body:
    """One solid, turned, scaled and placed."""

    shape: Shape
    """Its form in its own frame."""
    surface: Surface
    """Its look in its own frame."""
    rotation: Array
    """Own frame to world (3, 3)."""
    position: Array
    """Centre (3,) in the world."""
    scale: float
    """World units per own unit."""
    labelled: bool
    """True for the subject and its likes, False for clutter."""
    occluder: bool = False
    """True for clutter put before the subject on purpose; dropped if it hides too much."""

    def hull(self) -> Array:
        """The shape's hull points (m, 3) in the world."""
        x, y, z = turn(self.rotation, *(self.shape.hull * np.float32(self.scale)).T)
        return np.stack([x, y, z], axis=1) + self.position

    def inward(self, x: Array, y: Array, z: Array, *, point: bool) -> tuple[Array, Array, Array]:
        """World points (or directions, without moving and scaling) into the body's own frame."""
        back = np.ascontiguousarray(self.rotation.T)
        if not point:
            return turn(back, x, y, z)
        p, k = self.position.tolist(), 1.0 / self.scale
        return turn(back, (x - p[0]) * k, (y - p[1]) * k, (z - p[2]) * k)


@dataclass(frozen=True, kw_only=True)
class Hits:
    """Where rays meet one body."""

    index: NDArray[np.int64]
    """Which rays (m,) met it or passed within a pixel."""
    depth: Array
    """World distance (m,) along each ray."""
    cover: Array
    """Share (m,) of the pixel that the body covers: below 1 at the silhouette only."""


def _slab(
    origin: tuple[Array | float, ...],
    heading: tuple[Array, ...],
    half: tuple[float, float, float],
    grow: float,
) -> tuple[Array, Array]:
    """Entry and exit (n,) of rays through a centred box grown on all sides; entry > exit is a miss."""
    near = far = None
    for o, d, h in zip(origin, heading, half, strict=True):
        inverse = 1.0 / np.where(np.abs(d) < 1e-6, np.float32(1e-6), d)
        a = (-(h + grow) - o) * inverse
        b = ((h + grow) - o) * inverse
        low, high = np.minimum(a, b), np.maximum(a, b)
        near = low if near is None else np.maximum(near, low)
        far = high if far is None else np.minimum(far, high)
    assert near is not None
    assert far is not None
    return near, far


def cast(body: Body, eye: Array, rays: tuple[Array, Array, Array], pixel: float) -> Hits:
    """Trace rays (three planes (n,)) from one eye (3,); `pixel` is the angle of one pixel in radians."""
    heading = body.inward(*rays, point=False)
    ox, oy, oz = (float(v[0]) for v in body.inward(*(np.full(1, e, np.float32) for e in eye), point=True))
    reach = float(np.sqrt(ox * ox + oy * oy + oz * oz))
    near, far = _slab((ox, oy, oz), heading, body.shape.half, pixel * reach)
    index = np.flatnonzero((near < far) & (far > 0))
    dx, dy, dz = (d[index] for d in heading)
    t, far = np.maximum(near[index], 0.02), far[index]
    best = np.full(index.size, 9.0, np.float32)
    best_t = t.copy()
    live = np.arange(index.size)
    stride = body.shape.stride
    lx, ly, lz, lt, lf = dx, dy, dz, t, far
    for step in range(_STEPS):
        if live.size == 0:
            break
        d = body.shape.distance(ox + lt * lx, oy + lt * ly, oz + lt * lz)
        miss = d / (lt * pixel)
        closer = miss < best[live]
        rows = live[closer]
        best[rows] = miss[closer]
        best_t[rows] = lt[closer]
        lt = lt + np.maximum(d, 0.3 * pixel * lt) * stride
        going = (miss > 0.12) & (lt < lf)
        # regathering costs as much as a few operations, so it waits until it saves something
        if step % 3 == 2 or going.sum() < 0.6 * going.size:
            live, lx, ly, lz, lt, lf = (v[going] for v in (live, lx, ly, lz, lt, lf))
    met = best < 0.9
    cover = np.clip(1.0 - best[met], 0, 1)
    return Hits(index=index[met], depth=best_t[met] * np.float32(body.scale), cover=cover)


def normals(body: Body, x: Array, y: Array, z: Array, reach: Array) -> tuple[Array, Array, Array]:
    """Unit outward normals at own-frame points near the surface, over a footprint `reach` (tetrahedron rule)."""
    nx, ny, nz = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for sx, sy, sz in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
        d = body.shape.distance(x + sx * reach, y + sy * reach, z + sz * reach)
        nx, ny, nz = nx + sx * d, ny + sy * d, nz + sz * d
    scale = 1.0 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
    return nx * scale, ny * scale, nz * scale


def lit(body: Body, x: Array, y: Array, z: Array, towards: Array, sharpness: float, *, steps: int) -> Array:
    """Share (n,) of the key light that passes the body on its way to world points: soft shadows.

    The penumbra is the smallest ratio of clearance to distance along the way (Quilez 2010).
    """
    out = np.ones_like(x)
    px, py, pz = body.inward(x, y, z, point=True)
    hx, hy, hz = (float(v[0]) for v in body.inward(*(np.full(1, c, np.float32) for c in towards), point=False))
    ones = np.ones_like(px)
    radius = body.shape.radius
    # a soft light's penumbra reaches outside the body's box
    near, far = _slab(
        (px, py, pz), (hx * ones, hy * ones, hz * ones), body.shape.half, min(0.9, 2.2 / sharpness) * radius
    )
    live = np.flatnonzero((near < far) & (far > 0))
    if live.size == 0:
        return out
    px, py, pz, far = px[live], py[live], pz[live], far[live]
    t = np.maximum(near[live], 0.03 * radius)
    clear = np.ones_like(px)
    rows = np.arange(live.size)
    floor, ceiling = 0.015 * radius, 0.3 * radius
    for _ in range(steps):
        d = body.shape.distance(px + t * hx, py + t * hy, pz + t * hz)
        # 0.5 + ... lets a blocker count as half when its edge is dead on the line
        clear[rows] = np.minimum(clear[rows], 0.5 + 0.5 * sharpness * d / np.maximum(t, 0.05 * radius))
        t = t + np.clip(d * body.shape.stride, floor, ceiling)
        going = (t < far) & (clear[rows] > 0)
        if not going.any():
            break
        rows, px, py, pz, t, far = (v[going] for v in (rows, px, py, pz, t, far))
    clear = np.clip(clear, 0, 1)
    out[live] = clear * clear * (3 - 2 * clear)
    return out


def openness(body: Body, x: Array, y: Array, z: Array, normal: tuple[Array, Array, Array]) -> Array:
    """Share (n,) of the surroundings that the body leaves open to world points facing along `normal`."""
    out = np.ones_like(x)
    radius = body.shape.radius * body.scale
    p = body.position.tolist()
    close = np.flatnonzero((x - p[0]) ** 2 + (y - p[1]) ** 2 + (z - p[2]) ** 2 < (1.7 * radius) ** 2)
    if close.size == 0:
        return out
    nx, ny, nz = (n[close] for n in normal)
    x, y, z = x[close], y[close], z[close]
    shut = np.zeros_like(x)
    for share, weight in ((0.06, 0.55), (0.2, 0.4), (0.5, 0.3)):
        h = share * radius
        d = body.shape.distance(*body.inward(x + h * nx, y + h * ny, z + h * nz, point=True)) * body.scale
        shut = shut + weight * np.clip((h - d) / h, 0, 1.2)
    out[close] = np.clip(1 - shut, 0.08, 1)
    return out
