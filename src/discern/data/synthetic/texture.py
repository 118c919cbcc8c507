"""Wrapping noise tiles and the one way to sample a picture at many points."""

# Arithmetic on numpy planes is typed Any by numpy's own stubs.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from discern.data.synthetic.geometry import Array

TILE = 512
"""Side of every tile in texels: two texels per pixel of a 256 px image keeps the ground crisp."""

_ROW = 256  # cv2.remap refuses more than 32767 columns, so points are folded into rows


def sample(picture: Array, u: Array, v: Array, *, wrap: bool = True) -> Array:
    """Bilinear values of a picture (h, w) or (h, w, c) at texel positions (n,): gives (n,) or (c, n)."""
    n = u.size
    rows = -(-n // _ROW)
    height, width = picture.shape[:2]
    folded = np.zeros((2, rows * _ROW), np.float32)
    # the modulo comes first because remap works in 16-bit fixed point and saturates far outside
    folded[0, :n] = np.mod(u, width) if wrap else u
    folded[1, :n] = np.mod(v, height) if wrap else v
    border = cv2.BORDER_WRAP if wrap else cv2.BORDER_REPLICATE
    out = cv2.remap(
        picture,
        folded[0].reshape(rows, _ROW),
        folded[1].reshape(rows, _ROW),
        cv2.INTER_LINEAR,
        borderMode=border,
    )
    flat = out.reshape(rows * _ROW, -1)[:n]
    return np.asarray(flat[:, 0] if picture.ndim == 2 else np.ascontiguousarray(flat.T), dtype=np.float32)


def _lattice(rng: np.random.Generator, cells_y: int, cells_x: int) -> Array:
    """One octave of smooth noise (TILE, TILE) in [0, 1] that wraps at its borders."""
    pad = 2
    grid = rng.random((cells_y, cells_x), dtype=np.float32)
    grid = np.pad(grid, pad, mode="wrap")
    sy, sx = TILE // cells_y, TILE // cells_x
    big = cv2.resize(grid, (grid.shape[1] * sx, grid.shape[0] * sy), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(big[pad * sy : pad * sy + TILE, pad * sx : pad * sx + TILE])


@lru_cache(maxsize=16)
def cloud(number: int, *, stretch: int = 1, coarse: int = 4) -> Array:
    """Fractal noise (TILE, TILE), mean 0.5, mostly in [0, 1]; `stretch` > 1 draws it out along x.

    Cached: a handful of tiles serves every image, each with its own offset, turn and scale.
    """
    rng = np.random.Generator(np.random.Philox(key=[number, stretch * 1000 + coarse]))
    out = np.zeros((TILE, TILE), np.float32)
    cells, weight, total = coarse, 1.0, 0.0
    while cells <= TILE // 2:
        out += weight * _lattice(rng, cells, max(2, cells // stretch))
        total += weight
        cells, weight = cells * 2, weight * 0.6
    out /= total
    spread = float(out.std())
    out = (out - out.mean()) * (0.18 / spread) + 0.5
    out.setflags(write=False)
    return out


@lru_cache(maxsize=4)
def grain(number: int) -> Array:
    """White noise (TILE, TILE), mean 0, standard deviation 1; cached like `cloud`."""
    rng = np.random.Generator(np.random.Philox(key=[number, 77]))
    out = rng.standard_normal((TILE, TILE), dtype=np.float32)
    out.setflags(write=False)
    return out


@lru_cache(maxsize=4)
def streaks(number: int, length: int) -> Array:
    """Fine lines along x (TILE, TILE), mean 0, standard deviation 1; cached like `cloud`."""
    pad = 4 * length
    wide = cv2.copyMakeBorder(grain(number), 0, 0, pad, pad, cv2.BORDER_WRAP)
    out = cv2.GaussianBlur(wide, (0, 0), sigmaX=length, sigmaY=0.45)[:, pad:-pad]
    out = np.ascontiguousarray(out / out.std())
    out.setflags(write=False)
    return out


def softened(tile: Array, sigma: float) -> Array:
    """Gaussian blur of a tile (h, w) or (h, w, c) that wraps, so that it leaves no seam."""
    pad = min(int(4 * sigma) + 1, TILE)
    wide = cv2.copyMakeBorder(tile, pad, pad, pad, pad, cv2.BORDER_WRAP)
    return np.ascontiguousarray(cv2.GaussianBlur(wide, (0, 0), sigma)[pad:-pad, pad:-pad])


def shifted(tile: Array, rng: np.random.Generator) -> Array:
    """A tile rolled and flipped at random: a new tile for the price of a copy."""
    out = np.roll(tile, tuple(int(s) for s in rng.integers(0, TILE, 2)), axis=(0, 1))
    return np.ascontiguousarray(out[:: int(rng.choice([-1, 1])), :: int(rng.choice([-1, 1]))])


def solid_noise(tile: Array, x: Array, y: Array, z: Array, *, scale: float, offset: float) -> Array:
    """Noise in space, from three plane samples of one tile: (n,) in about [0, 1].

    The mean of the three planes is cheaper than true 3-D noise and as good on small parts.
    """
    a, b, c = x * scale + offset, y * scale + 0.37 * offset, z * scale + 0.71 * offset
    total = sample(tile, a, b) + sample(tile, b, c) + sample(tile, c, a)
    return (total / 3.0 - 0.5) * np.float32(1.6) + np.float32(0.5)


def linear(colour: tuple[float, float, float] | Array) -> Array:
    """Display colour in [0, 1] to linear light, by the 2.2 power that approximates sRGB."""
    return np.power(np.clip(np.asarray(colour, np.float32), 0, 1), np.float32(2.2))
