"""Light: one key light that casts the shadows, and a panorama that fills, mirrors and makes the backdrop."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from discern.data.synthetic.geometry import Array, direction
from discern.data.synthetic.texture import sample

HIGH, WIDE = 96, 192
"""Panorama rows (zenith to nadir) and columns (once round), in texels."""


@dataclass(frozen=True, kw_only=True)
class Light:
    """All the light of one scene."""

    towards: Array
    """Unit vector (3,) from the scene to the key light."""
    colour: Array
    """Linear strength (3,) of the key light."""
    sharpness: float
    """Penumbra: 40 is bare sun, 4 a large window."""
    panorama: tuple[Array, ...]
    """The surroundings (HIGH, WIDE, 3) at three blurs: sharp, satin, matt."""
    sky: Array
    """Diffuse light (HIGH, WIDE, 3) on a surface by the way it faces."""


def _around(picture: Array, sigma: float) -> Array:
    """Gaussian blur that wraps around the panorama's sides."""
    pad = WIDE // 2
    wide = cv2.copyMakeBorder(picture, 0, 0, pad, pad, cv2.BORDER_WRAP)
    return np.ascontiguousarray(cv2.GaussianBlur(wide, (0, 0), sigma)[:, pad : pad + WIDE])


def look_up(panorama: Array, x: Array, y: Array, z: Array) -> Array:
    """Panorama colours (3, n) in the directions given by three planes (n,)."""
    u = (np.arctan2(y, x) * (0.5 / np.pi) + 0.5) * WIDE
    v = (0.5 - np.arcsin(np.clip(z, -1, 1)) * (1 / np.pi)) * (HIGH - 1)
    padded = cv2.copyMakeBorder(panorama, 0, 0, 0, 1, cv2.BORDER_WRAP)
    return sample(padded, np.minimum(u, WIDE).astype(np.float32), v.astype(np.float32), wrap=False)


def _indoor(rng: np.random.Generator, floor: Array) -> Array:
    """A room: walls, shelves and things, ceiling, tubes and windows."""
    wall = np.asarray(rng.uniform(0.12, 0.6) * (1 + rng.normal(0, 0.05, 3)), np.float32)
    out = np.empty((HIGH, WIDE, 3), np.float32)
    out[:] = wall
    out[: HIGH // 4] *= float(rng.uniform(0.6, 1.5))
    for _ in range(int(rng.integers(4, 26))):
        x, y = int(rng.integers(WIDE)), int(rng.integers(HIGH // 4, HIGH // 2))
        w, h = int(rng.integers(3, 30)), int(rng.integers(3, 22))
        tone = np.clip(rng.uniform(0.02, 0.6) * (1 + rng.normal(0, 0.25, 3)), 0.005, 1).tolist()
        cv2.rectangle(out, (x, y), (x + w, min(y + h, HIGH // 2 + 3)), tone, -1)
    out[HIGH // 2 :] = floor * float(rng.uniform(0.3, 0.8))
    for _ in range(int(rng.integers(1, 5))):
        x, y = int(rng.integers(WIDE)), int(rng.integers(4, HIGH // 3))
        w, h = (int(rng.integers(3, 9)), int(rng.integers(8, 24)))[:: int(rng.choice([-1, 1]))]
        glow = float(rng.uniform(2, 9))
        tint = glow * (1 + rng.normal(0, 0.08, 3))
        for shift in (0, -WIDE):
            cv2.rectangle(out, (x + shift, y), (x + w + shift, y + h), tint.tolist(), -1)
    return out


def _open_air(rng: np.random.Generator, floor: Array, night: bool) -> Array:
    """A sky over a dark, ragged horizon of trees and houses; at night, a few lamps."""
    rows = np.linspace(0, 1, HIGH // 2, dtype=np.float32)[:, None, None]
    if night:
        top, low = np.array([0.01, 0.012, 0.03], np.float32), np.array([0.05, 0.04, 0.05], np.float32)
    elif rng.random() < 0.5:
        top, low = np.array([0.22, 0.42, 0.85], np.float32), np.array([0.85, 0.92, 1.0], np.float32)
    else:
        top, low = np.array([0.85, 0.88, 0.92], np.float32), np.array([0.7, 0.72, 0.75], np.float32)
    out = np.empty((HIGH, WIDE, 3), np.float32)
    out[: HIGH // 2] = top * (1 - rows) + low * rows
    out[HIGH // 2 :] = floor * (0.12 if night else 0.6)
    for _ in range(int(rng.integers(20, 60))):
        x, w, h = int(rng.integers(WIDE)), int(rng.integers(3, 16)), int(rng.integers(2, 12))
        tone = np.array([0.05, 0.09, 0.04]) if rng.random() < 0.6 else rng.uniform(0.1, 0.4) * np.array([1, 0.9, 0.8])
        tone = tone * rng.uniform(0.5, 1.8) * (0.1 if night else 1.0)
        cv2.ellipse(out, (x, HIGH // 2), (w, h), 0, 180, 360, tone.tolist(), -1)
    if night:
        for _ in range(int(rng.integers(1, 6))):
            centre = (int(rng.integers(WIDE)), int(rng.integers(HIGH // 5, HIGH // 2)))
            cv2.circle(
                out,
                centre,
                int(rng.integers(1, 4)),
                (rng.uniform(2, 10) * np.array([1, 0.75, 0.4])).tolist(),
                -1,
            )
    return out


def light(rng: np.random.Generator, *, domain: str, floor: Array, endless: bool) -> Light:
    """Draw the light of a scene over a floor of mean colour (3,)."""
    night = domain == "outdoor" and rng.random() < 0.25
    lift = float(np.radians(rng.uniform(24, 85)))
    towards = direction(float(rng.uniform(-np.pi, np.pi)), lift)
    warmth = float(rng.normal(0, 0.07)) if domain == "workshop" else float(rng.normal(0.04, 0.06))
    if night:
        warmth = float(rng.choice([0.5, 0.4, -0.1]))
    tint = np.array([1 + warmth, 1.0, 1 - warmth], np.float32)
    if domain == "workshop":
        picture = _indoor(rng, floor)
        strength, sharpness = (
            float(rng.uniform(0.4, 2.6)),
            float(np.exp(rng.uniform(np.log(2.5), np.log(22)))),
        )
        if endless:
            # a studio's wall is its floor's paper, lit the same
            band = slice(HIGH // 4, HIGH)
            picture[band] = picture[band] * 0.25 + floor * float(rng.uniform(0.5, 1.0))
    else:
        picture = _open_air(rng, floor, night)
        strength = float(rng.uniform(1.2, 2.2) if night else rng.uniform(0.3, 4.0))
        sharpness = float(np.exp(rng.uniform(np.log(6), np.log(45))))
    picture = picture * (1 + 0.4 * (tint - 1))
    picture = _around(picture.astype(np.float32), 0.7)
    matt = _around(picture, 9.0)
    sky = _around(cv2.resize(cv2.resize(matt, (48, 24), interpolation=cv2.INTER_AREA), (WIDE, HIGH)), 22.0)
    return Light(
        towards=towards,
        colour=strength * tint,
        sharpness=sharpness,
        panorama=(picture, _around(picture, 3.0), matt),
        sky=sky,
    )
