"""Directions, rotations and the camera: everything that places points in space.

World frame: z is up, the ground is z = 0, lengths are in units of the main object's radius.
Fields over many points travel as separate float32 planes (x, y, z), because numpy is several times
faster on contiguous planes than on an inner dimension of three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""A float32 array; shapes stand in the docstrings. (numpy's stubs widen float32 * float to float64.)"""


def unit(vector: NDArray[np.floating]) -> Array:
    """Scale a (3,) vector to length one."""
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def direction(azimuth: float, elevation: float) -> Array:
    """Unit vector (3,) at an azimuth and elevation in radians."""
    c = np.cos(elevation)
    return np.array([c * np.cos(azimuth), c * np.sin(azimuth), np.sin(elevation)], dtype=np.float32)


def about(axis: str, angle: float) -> Array:
    """Rotation matrix (3, 3) about the axis "x", "y" or "z" by an angle in radians."""
    c, s = float(np.cos(angle)), float(np.sin(angle))
    rows = {
        "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }
    return np.array(rows[axis], dtype=np.float32)


def tumble(rng: np.random.Generator) -> Array:
    """Rotation matrix (3, 3) uniform over all orientations (Shoemake 1992, random quaternion)."""
    w, x, y, z = (q := rng.standard_normal(4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ],
        dtype=np.float32,
    )


def turn(matrix: Array, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """Apply a (3, 3) matrix to planes; written out so that no BLAS can vary the last bit."""
    m = matrix.tolist()
    return (
        m[0][0] * x + m[0][1] * y + m[0][2] * z,
        m[1][0] * x + m[1][1] * y + m[1][2] * z,
        m[2][0] * x + m[2][1] * y + m[2][2] * z,
    )


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera with a square sensor."""

    eye: Array
    """Position (3,) in world units."""
    axes: Array
    """Rows right, down, forward (3, 3), world frame."""
    focal: float
    """Focal length in image sides; 1.2 is a phone's main lens."""
    centre: tuple[float, float]
    """Where the optical axis meets the image, in image sides; off 0.5 is an off-centre crop."""

    def pixel(self, size: int) -> float:
        """Angle of one pixel in radians, at the image's centre."""
        return 1.0 / (self.focal * size)

    def rays(self, size: int) -> tuple[Array, Array, Array]:
        """Unit directions of all pixels, three planes of (size * size,)."""
        grid = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
        u = np.tile((grid - self.centre[0]) / self.focal, size).astype(np.float32)
        v = np.repeat((grid - self.centre[1]) / self.focal, size).astype(np.float32)
        w = 1.0 / np.sqrt(u * u + v * v + 1.0)
        return turn(np.ascontiguousarray(self.axes.T), u * w, v * w, w)

    def project(self, points: Array) -> Array:
        """World points (m, 3) to image positions (m, 2), in image sides."""
        x, y, z = turn(self.axes, *(points - self.eye).T)
        z = np.maximum(z, 1e-3)
        return np.stack([x / z * self.focal + self.centre[0], y / z * self.focal + self.centre[1]], axis=1)


def look_at(target: Array, *, towards: Array, distance: float, roll: float, focal: float) -> Camera:
    """A camera `distance` away from a target (3,), along the unit vector `towards`, rolled in radians."""
    forward = -towards
    helper = np.array([0, 0, 1], np.float32) if abs(towards[2]) < 0.999 else np.array([0, 1, 0], np.float32)
    right = unit(np.cross(forward, helper))
    down = unit(np.cross(forward, right))
    c, s = float(np.cos(roll)), float(np.sin(roll))
    axes = np.stack([c * right + s * down, c * down - s * right, forward]).astype(np.float32)
    return Camera(eye=(target + towards * distance).astype(np.float32), axes=axes, focal=focal, centre=(0.5, 0.5))
