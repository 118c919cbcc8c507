"""One picture and its mask from one scene."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
from numpy.typing import NDArray

from discern.data.synthetic.bodies import Body, Hits, cast, openness
from discern.data.synthetic.geometry import Array
from discern.data.synthetic.lighting import look_up
from discern.data.synthetic.photograph import develop, expose, focus
from discern.data.synthetic.scene import Scene, compose
from discern.data.synthetic.shading import scene_light, shade_body, shade_ground

VERSION = 3
"""Raised whenever the same key would give other pixels; part of every cache name."""


def generator(*key: object) -> np.random.Generator:
    """A generator keyed by the given values alone: the same on every machine, process and order."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, np.uint64)))


def picture(
    label: str, *, seed: int, split: str, index: int, size: int, domain: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render one image (size, size, 3) and its mask (size, size); the arguments are the whole key."""
    scene = compose(label, domain, generator("scene", seed, split, label, index, domain))
    sensor = generator("sensor", seed, split, label, index, domain, size)
    colour, depth, mask = _trace(scene, size)
    subject = float(np.median(depth[mask])) if mask.any() else 5.0
    colour = focus(colour, depth, subject, sensor)
    pixels = develop(expose(colour, sensor, dark=scene.dark), sensor, dark=scene.dark)
    return pixels, mask.astype(np.uint8) * 255


def _visible(bodies: tuple[Body, ...], hits: list[Hits], count: int) -> tuple[Array, NDArray[np.int64]]:
    """Depth (count,) and number of the nearest body at every ray; -1 where there is none."""
    depth = np.full(count, np.inf, np.float32)
    owner = np.full(count, -1, np.int64)
    for number, met in enumerate(hits):
        solid = met.cover > 0.5
        index, far = met.index[solid], met.depth[solid]
        nearer = far < depth[index]
        depth[index[nearer]] = far[nearer]
        owner[index[nearer]] = number
    return depth, owner


def _trace(scene: Scene, size: int) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Linear colour (size, size, 3), depth (size, size) and the labelled bodies' visible pixels."""
    rays, pixel, bodies = scene.camera.rays(size), scene.camera.pixel(size), scene.bodies
    hits = [cast(body, scene.camera.eye, rays, pixel) for body in bodies]
    depth, owner = _visible(bodies, hits, size * size)
    if any(b.occluder for b in bodies):
        whole = sum(int((h.cover > 0.5).sum()) for b, h in zip(bodies, hits, strict=True) if b.labelled)
        shown = int((np.isin(owner, [n for n, b in enumerate(bodies) if b.labelled])).sum())
        if shown < 0.55 * whole:  # nobody could name the subject behind that
            kept = [n for n, b in enumerate(bodies) if not b.occluder]
            bodies, hits = tuple(bodies[n] for n in kept), [hits[n] for n in kept]
            depth, owner = _visible(bodies, hits, size * size)

    colour, behind = _surroundings(scene, bodies, rays, size, owner >= 0, hits)
    nearest = np.where(np.isfinite(depth), depth, behind)
    order = sorted(range(len(bodies)), key=lambda n: -float(np.linalg.norm(bodies[n].position - scene.camera.eye)))
    for number in order:
        met = hits[number]
        seen = (owner[met.index] == number) | ((owner[met.index] < 0) & (met.depth < behind[met.index]))
        index, far, cover = met.index[seen], met.depth[seen], met.cover[seen]
        if index.size:
            at = (rays[0][index], rays[1][index], rays[2][index])
            light = shade_body(bodies[number], bodies, scene.light, scene.ground, scene.camera.eye, at, far, pixel)
            colour[:, index] = colour[:, index] * (1 - cover) + light * cover
    labelled = [n for n, b in enumerate(bodies) if b.labelled]
    mask = np.isin(owner, labelled).reshape(size, size)
    picture_ = np.ascontiguousarray(colour.reshape(3, size, size).transpose(1, 2, 0))
    return picture_, np.minimum(nearest, 200).reshape(size, size), mask


def _surroundings(
    scene: Scene,
    bodies: tuple[Body, ...],
    rays: tuple[Array, Array, Array],
    size: int,
    hidden: NDArray[np.bool_],
    hits: list[Hits],
) -> tuple[Array, Array]:
    """Ground and backdrop: colour (3, size * size) and depth (size * size,); fully hidden pixels stay black."""
    x, y, z = rays
    eye = scene.camera.eye.tolist()
    pixel = scene.camera.pixel(size)
    falls = z < -0.008
    far = np.where(falls, -eye[2] / np.minimum(z, -0.008), 400).astype(np.float32)
    soft = hidden.copy()
    for met in hits:
        soft[met.index[met.cover < 1]] = False  # edge pixels show what is behind them
    colour = np.zeros((3, size * size), np.float32)
    key, open_ = _ground_light(scene, bodies, rays, far, falls, size)
    low = np.flatnonzero(falls & ~soft)
    at = (x[low], y[low], z[low])
    points = (eye[0] + at[0] * far[low], eye[1] + at[1] * far[low], np.zeros(low.size, np.float32))
    seen = shade_ground(bodies, scene.light, scene.ground, at, points, far[low], pixel, key[low], open_[low])
    away = np.sqrt(points[0] ** 2 + points[1] ** 2)
    reach = 6.0 if scene.ground.endless else 16.0
    if float(away.max(initial=0)) > reach:
        fade = np.clip((away - reach) * (1 / (2 * reach)), 0, 1)
        fade = fade * fade * (3 - 2 * fade)
        seen = seen * (1 - fade) + look_up(scene.light.panorama[1], at[0], at[1], np.maximum(at[2], 0.0)) * fade
    colour[:, low] = seen
    high = np.flatnonzero(~falls & ~soft)
    if high.size:
        colour[:, high] = look_up(scene.light.panorama[0], x[high], y[high], z[high])
    return colour, far


def _ground_light(
    scene: Scene,
    bodies: tuple[Body, ...],
    rays: tuple[Array, Array, Array],
    far: Array,
    falls: NDArray[np.bool_],
    size: int,
) -> tuple[Array, Array]:
    """Key light and openness (size * size,) on the ground, worked out at half the resolution and enlarged.

    The ground is worked out under the bodies as well, so that no edge bleeds when it is enlarged.
    """
    half = size // 2
    pick = (np.arange(half) * 2)[:, None] * size + (np.arange(half) * 2)[None, :]
    pick = pick.ravel()
    key, open_ = np.ones(pick.size, np.float32), np.ones(pick.size, np.float32)
    use = np.flatnonzero(falls[pick] & (far[pick] < 40))
    rows = pick[use]
    eye = scene.camera.eye.tolist()
    points = (
        eye[0] + rays[0][rows] * far[rows],
        eye[1] + rays[1][rows] * far[rows],
        np.full(rows.size, 0.002, np.float32),
    )
    up = (np.zeros_like(points[0]), np.zeros_like(points[0]), np.ones_like(points[0]))
    key[use] = scene_light(bodies, scene.light, points, steps=22)
    for body in bodies:
        open_[use] *= openness(body, *points, up)

    def enlarge(plane: Array) -> Array:
        # half-resolution sample k lies on pixel 2k: shift by half a pixel against resize's centres
        grid = (np.arange(size, dtype=np.float32)) / 2
        u, v = np.meshgrid(np.minimum(grid, half - 1), np.minimum(grid, half - 1))
        return np.asarray(cv2.remap(plane.reshape(half, half), u, v, cv2.INTER_LINEAR), np.float32).ravel()

    return enlarge(key), enlarge(open_)
