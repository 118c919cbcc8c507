"""One picture's arrangement: the subject and its likes, clutter, ground, light and camera."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from discern.data.synthetic.bodies import Body
from discern.data.synthetic.clutter import KINDS, clutter
from discern.data.synthetic.geometry import Array, Camera, about, direction, look_at, turn
from discern.data.synthetic.grounds import GROUNDS, Ground, ground
from discern.data.synthetic.lighting import Light, light
from discern.data.synthetic.subjects import Subject, pose, subject


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that is in front of the camera, and the camera."""

    bodies: tuple[Body, ...]
    """The labelled bodies first, then the clutter."""
    ground: Ground
    """What they lie on."""
    light: Light
    """What lights them."""
    camera: Camera
    """Who looks."""
    dark: bool
    """True for a dim scene, which is exposed darker and is noisier."""


def _rested(
    item: Subject,
    rotation: Array,
    x: float,
    y: float,
    floor: float,
    scale: float,
    *,
    labelled: bool,
    occluder: bool = False,
) -> Body:
    """Place a thing so that its lowest point touches the height `floor`."""
    z = turn(rotation, *(item.shape.hull * np.float32(scale)).T)[2]
    # sunk by a hair, so that no light shows under a rounded edge
    height = floor - float(z.min()) - 0.004
    return Body(
        shape=item.shape,
        surface=item.surface,
        rotation=np.ascontiguousarray(rotation, np.float32),
        position=np.array([x, y, height], np.float32),
        scale=scale,
        labelled=labelled,
        occluder=occluder,
    )


def _likes(label: str, rng: np.random.Generator) -> list[Body]:
    """The subject at the origin, sometimes with others of its class beside or on top of it."""
    first = subject(label, rng)
    rotation, flat = pose(label, first.shape, rng)
    bodies = [_rested(first, rotation, 0.0, 0.0, 0.0, 1 / first.shape.radius, labelled=True)]
    more = int(rng.choice([0, 1, 2, 3], p=[0.93, 0.04, 0.02, 0.01]))
    piled = flat and rng.random() < 0.4
    around = float(rng.uniform(0, 2 * np.pi))
    for k in range(more):
        item = first if rng.random() < 0.65 else subject(label, rng)
        if piled:
            top = float(bodies[-1].hull()[:, 2].max())
            jx, jy = (float(v) for v in rng.normal(0, 0.06, 2))
            twist = about("z", float(rng.normal(0, 0.2))) @ rotation
            bodies.append(_rested(item, twist, jx, jy, top - 0.01, 1 / item.shape.radius, labelled=True))
            continue
        turned, _ = pose(label, item.shape, rng)
        size = float(rng.uniform(0.75, 1.1)) / item.shape.radius
        away = float(rng.uniform(1.75, 2.3))
        angle = around + k * 2.2
        bodies.append(_rested(item, turned, away * np.cos(angle), away * np.sin(angle), 0.0, size, labelled=True))
    return bodies


def _strewn(bodies: list[Body], rng: np.random.Generator) -> list[Body]:
    """Clutter around the subject, nothing through anything."""
    count = int(rng.choice([0, 1, 2, 3, 4, 5], p=[0.72, 0.15, 0.07, 0.04, 0.01, 0.01]))
    taken = [(b.position[:2], b.scale * b.shape.radius * 0.85) for b in bodies]
    out: list[Body] = []
    for _ in range(count):
        shape, surface = clutter(str(rng.choice(KINDS)), rng)
        scale = float(rng.uniform(0.3, 1.0)) / max(shape.radius, 0.8)
        radius = scale * shape.radius * 0.85
        for _attempt in range(4):
            angle, away = float(rng.uniform(0, 2 * np.pi)), 0.9 + radius + float(rng.uniform(0.0, 2.2))
            spot = np.array([away * np.cos(angle), away * np.sin(angle)], np.float32)
            if all(float(np.hypot(*(spot - p))) > r + radius for p, r in taken):
                item = Subject(shape=shape, surface=surface)
                rotation = about("z", float(rng.uniform(0, 2 * np.pi)))
                out.append(_rested(item, rotation, float(spot[0]), float(spot[1]), 0.0, scale, labelled=False))
                taken.append((spot, radius))
                break
    return out


def _in_the_way(first: Body, azimuth: float, elevation: float, rng: np.random.Generator) -> Body:
    """Something partly before the subject: on top of it when seen from above, else between it and the camera."""
    shape, surface = clutter(str(rng.choice(["pen", "cable", "card", "block", "driver", "tin"])), rng)
    scale = float(rng.uniform(0.45, 0.9)) / max(shape.radius, 0.8)
    item = Subject(shape=shape, surface=surface)
    rotation = about("z", azimuth + np.pi / 2 + float(rng.normal(0, 0.5)))
    if elevation > np.radians(42):
        top = float(first.hull()[:, 2].max())
        side = azimuth + float(rng.uniform(1.2, 5.0))
        x, y = 0.55 * np.cos(side), 0.55 * np.sin(side)
        return _rested(item, rotation, x, y, top, scale, labelled=False, occluder=True)
    reach = 1.0 + scale * shape.half[1]
    side = azimuth + float(rng.normal(0, 0.3))
    return _rested(
        item, rotation, reach * np.cos(side), reach * np.sin(side), 0.0, scale, labelled=False, occluder=True
    )


def _framed(bodies: list[Body], azimuth: float, elevation: float, rng: np.random.Generator) -> Camera:
    """A camera whose frame the labelled bodies fill to a drawn share, at times off-centre or cropped."""
    points = np.concatenate([b.hull() for b in bodies])
    target = np.asarray((points.min(axis=0) + points.max(axis=0)) / 2, np.float32)
    want = float(rng.uniform(0.6, 0.88) if rng.random() < 0.9 else rng.uniform(0.2, 0.6))
    want = min(want * (1 + 0.25 * (sum(b.labelled for b in bodies) - 1)), 0.9)  # several together need more room
    focal = float(np.exp(rng.uniform(np.log(0.95), np.log(2.6))))
    roll = float(rng.normal(0, 0.2))
    towards = direction(azimuth, elevation)
    distance = 3.0 * focal
    for _ in range(5):
        camera = look_at(target, towards=towards, distance=distance, roll=roll, focal=focal)
        seen = camera.project(points)
        span = float((seen.max(axis=0) - seen.min(axis=0)).max())
        distance = max(distance * span / want, 2.2)
    seen = camera.project(points)
    low, high = seen.min(axis=0), seen.max(axis=0)
    # a little of the subject may leave the frame in one picture of seven
    spill = 0.15 if rng.random() < 0.15 else -0.03
    room = [
        (float(-low[k] - spill * (high[k] - low[k])), float(1 - high[k] + spill * (high[k] - low[k]))) for k in (0, 1)
    ]
    moved = [float(rng.uniform(min(a, b), max(a, b))) if a < b or spill > 0 else 0.0 for a, b in room]
    return replace(camera, centre=(0.5 + 0.95 * moved[0], 0.5 + 0.95 * moved[1]))


def _telling(label: str, first: Body, towards: Array) -> bool:
    """Whether the subject shows enough from there for a person to name it."""
    along = float(first.rotation[:, 2] @ towards)
    if label == "bolt":
        return abs(along) < 0.88  # from straight ahead a head is a nut and a tip is a washer
    if label == "carton_box":
        return True
    if label == "nut" and first.shape.half[0] > 1.3:
        return along > 0.1  # a flange's underside is a washer
    return abs(along) > 0.22  # edge-on, a washer is a bar and a sack a board


def compose(label: str, domain: str, rng: np.random.Generator) -> Scene:
    """Draw a scene of a class in a domain."""
    bodies = _likes(label, rng)
    for _attempt in range(12):
        azimuth = float(rng.uniform(-np.pi, np.pi))
        elevation = float(np.radians(rng.uniform(26, 74)))
        if _telling(label, bodies[0], direction(azimuth, elevation)):
            break
    camera = _framed(bodies, azimuth, elevation, rng)
    strewn = _strewn(bodies, rng)
    if rng.random() < 0.08:
        strewn.append(_in_the_way(bodies[0], azimuth, elevation, rng))
    names = GROUNDS[domain]
    # most catalogue pictures stand on a plain sweep; out of doors there is no plainest ground
    plain = 0.66 if domain == "workshop" else 1 / len(names)
    shares = [plain] + [(1 - plain) / (len(names) - 1)] * (len(names) - 1)
    floor = ground(str(rng.choice(names, p=shares)), rng)
    lit_by = light(rng, domain=domain, floor=floor.mean, endless=floor.endless)
    dark = bool(lit_by.sky[0].mean() < 0.06) or rng.random() < 0.08
    return Scene(bodies=(*bodies, *strewn), ground=floor, light=lit_by, camera=camera, dark=dark)
