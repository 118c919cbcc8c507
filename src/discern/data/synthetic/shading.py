"""Light on surfaces: the colour that leaves the ground and the bodies towards the eye."""

# Arithmetic on numpy planes is typed Any by numpy's own stubs.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from discern.data.synthetic.bodies import Body, lit, normals, openness
from discern.data.synthetic.geometry import Array, turn
from discern.data.synthetic.grounds import Ground
from discern.data.synthetic.lighting import Light, look_up
from discern.data.synthetic.materials import Look
from discern.data.synthetic.texture import TILE, sample

Planes = tuple[Array, Array, Array]


def _glossy(light: Light, x: Array, y: Array, z: Array, rough: Array) -> Array:
    """The surroundings (3, n) as a surface of that roughness mirrors them."""
    sharp, satin, matt = (look_up(p, x, y, z) for p in light.panorama)
    a = np.clip(rough * 3.2, 0, 1)
    b = np.clip((rough - 0.3) * 2.2, 0, 1)
    return (sharp * (1 - a) + satin * a) * (1 - b) + matt * b


def _highlight(light: Light, normal: Planes, view: Planes, rough: Array) -> Array:
    """The key light's own highlight (n,): Blinn-Phong with the roughness's exponent, capped for a camera."""
    hx, hy, hz = (float(t) - v for t, v in zip(light.towards, view, strict=True))
    size = 1.0 / np.sqrt(hx * hx + hy * hy + hz * hz + 1e-9)
    cosine = np.clip((normal[0] * hx + normal[1] * hy + normal[2] * hz) * size, 0, 1)
    power = 2.0 / np.maximum(rough, 0.12) ** 3
    return np.minimum((power + 8) * (1 / 25.0) * cosine**power, 12.0)


def scene_light(bodies: Sequence[Body], light: Light, points: Planes, *, steps: int) -> Array:
    """Share (n,) of the key light that reaches world points past all bodies."""
    out = np.ones_like(points[0])
    for body in bodies:
        out = out * lit(body, *points, light.towards, light.sharpness, steps=steps)
    return out


def shade_body(
    body: Body,
    bodies: Sequence[Body],
    light: Light,
    ground: Ground,
    eye: Array,
    rays: Planes,
    depth: Array,
    pixel: float,
) -> Array:
    """Colour (3, n) of a body where rays from the eye meet it at world distance `depth`."""
    px, py, pz = (float(e) + r * depth for e, r in zip(eye, rays, strict=True))
    local = body.inward(px, py, pz, point=True)
    footprint = depth * (0.6 * pixel / body.scale)
    bare = normals(body, *local, footprint)
    look = body.surface(*local, *bare)
    if look.bump is not None:
        bent = [n + b for n, b in zip(bare, look.bump, strict=True)]
        size = 1.0 / np.sqrt(bent[0] ** 2 + bent[1] ** 2 + bent[2] ** 2 + 1e-9)
        bare = (bent[0] * size, bent[1] * size, bent[2] * size)
    normal = turn(body.rotation, *bare)
    nx, ny, nz = normal
    facing = np.clip(nx * float(light.towards[0]) + ny * float(light.towards[1]) + nz * float(light.towards[2]), 0, 1)
    # start shadow rays a little off the surface, or it shadows itself
    lift = 0.012 * body.scale * body.shape.radius
    lifted = (px + nx * lift, py + ny * lift, pz + nz * lift)
    key = facing * scene_light(bodies, light, lifted, steps=18)
    open_ = openness(body, px, py, pz, normal)
    for other in bodies:
        if other is not body:
            open_ = open_ * openness(other, px, py, pz, normal)
    low = np.clip(pz * (1 / 0.5), 0, 1)
    open_ = open_ * (1 - 0.5 * (1 - low) * np.clip(0.6 - nz, 0, 1))  # the ground closes in below
    return _leave(look, light, ground, normal, rays, (px, py, pz), key, open_)


def _leave(
    look: Look,
    light: Light,
    ground: Ground,
    normal: Planes,
    view: Planes,
    points: Planes,
    key: Array,
    open_: Array,
) -> Array:
    """Diffuse and mirrored light (3, n) leaving towards the eye."""
    nx, ny, nz = normal
    along = -(nx * view[0] + ny * view[1] + nz * view[2])
    rx, ry, rz = (v + 2 * along * n for v, n in zip(view, normal, strict=True))
    diffuse = look_up(light.sky, nx, ny, nz) * open_ + light.colour[:, None] * key
    mirrored = _glossy(light, rx, ry, rz, look.rough)
    down = rz < -0.02
    if down.any():
        # mirrored rays that fall onto the ground see the ground where they land
        far = np.minimum(points[2][down] / -rz[down], 30)
        at = (points[0][down] + rx[down] * far, points[1][down] + ry[down] * far)
        seen = (
            ground_colour(ground, at[0], at[1], np.full_like(far, 3.0))
            * (light.sky[8].mean(axis=0) + 0.25 * light.colour)[:, None]
        )
        near = np.exp(-far * 0.25) * 0.8
        mirrored[:, down] = mirrored[:, down] * (1 - near) + seen * near
    gloss = 1 - look.rough
    fresnel = np.clip(1 - np.maximum(along, 0), 0, 1) ** 5 * gloss
    base = 0.04 * (1 - look.metal) * gloss + look.metal * look.albedo
    strength = base + (1 - base) * fresnel * (0.2 + 0.8 * look.metal)
    spark = _highlight(light, normal, view, look.rough) * np.minimum(key * 3, 1)
    shut = np.clip(open_ * 1.3 - 0.15, 0.05, 1)
    return (
        look.albedo * (1 - look.metal) * diffuse
        + strength * (mirrored * shut + light.colour[:, None] * spark * 0.5)
        + (0.12 * look.metal * look.albedo * diffuse)
    )


def ground_colour(ground: Ground, x: Array, y: Array, footprint: Array) -> Array:
    """Albedo (3, n) of the ground at world positions, smoothed over `footprint` texels."""
    scale, c, s = ground.texels, float(np.cos(ground.turn)), float(np.sin(ground.turn))
    u, v = (c * x - s * y) * scale, (s * x + c * y) * scale
    fine = sample(ground.albedo, u, v)
    if not (footprint > 1.2).any():
        return fine
    k = TILE / ground.blurred.shape[0]
    soft = sample(ground.blurred, u / k, v / k)
    a = np.clip((footprint - 1.0) * (1 / 3.0), 0, 1)
    b = np.clip((footprint - 8.0) * (1 / 40.0), 0, 1)
    return (fine * (1 - a) + soft * a) * (1 - b) + ground.mean[:, None] * b


def shade_ground(
    bodies: Sequence[Body],
    light: Light,
    ground: Ground,
    rays: Planes,
    points: Planes,
    depth: Array,
    pixel: float,
    key: Array,
    open_: Array,
) -> Array:
    """Colour (3, n) of the ground at world points with the given key light and openness (n,)."""
    steep = np.maximum(-rays[2], 0.02)
    footprint = depth * pixel * ground.texels / steep
    albedo = ground_colour(ground, points[0], points[1], footprint.astype(np.float32))
    up = light.sky[0].mean(axis=0)
    lift = max(float(light.towards[2]), 0.0)
    out = albedo * (up[:, None] * open_ + light.colour[:, None] * (key * lift))
    if ground.mirror > 0:
        shine = ground.mirror + (1 - ground.mirror) * (1 - steep) ** 5 * (1 - ground.rough)
        mirrored = _glossy(light, rays[0], rays[1], np.abs(rays[2]), np.full_like(depth, ground.rough))
        out = out + shine * mirrored * open_**2
    return out
