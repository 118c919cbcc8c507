"""What the subject lies on: one wrapping picture per ground, drawn afresh for each image."""

# Arithmetic on numpy planes is typed Any by numpy's own stubs.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from discern.data.synthetic.geometry import Array
from discern.data.synthetic.texture import TILE, cloud, grain, linear, shifted, softened, streaks

GROUNDS: dict[str, tuple[str, ...]] = {
    "workshop": ("sweep", "wood", "concrete", "steel", "cardboard", "fabric", "tiles"),
    "outdoor": ("asphalt", "grass", "gravel", "wet", "soil", "paving", "leaves"),
}
"""The grounds of each domain; the two have none in common."""

_Rgb = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A level ground at z = 0."""

    albedo: Array
    """Linear colour (TILE, TILE, 3); wraps."""
    mean: Array
    """Mean linear colour (3,): what the ground throws back onto solids."""
    blurred: Array
    """The same (TILE / 8, TILE / 8, 3), for where it is seen from afar."""
    texels: float
    """Texels per world unit."""
    turn: float
    """How the picture is turned on the ground, in radians."""
    rough: float
    """Roughness; under 0.5 the ground mirrors the surroundings."""
    mirror: float
    """Share of mirrored light head-on; wet floors and steel have much."""
    endless: bool
    """True for a studio sweep: it runs into the backdrop without a horizon."""


def _pick(rng: np.random.Generator, *colours: _Rgb, spread: float = 0.03) -> Array:
    """One of the display colours, a little varied."""
    base = np.array(colours[int(rng.integers(len(colours)))], np.float32)
    return np.clip(base * rng.uniform(0.8, 1.15) + rng.normal(0, 0.5 * spread, 3), 0.02, 0.97).astype(np.float32)


def _relief(height: Array, rng: np.random.Generator, depth: float) -> Array:
    """Light and shade (TILE, TILE) on a height map lit from one side: 1 where it is level."""
    angle = float(rng.uniform(0, 2 * np.pi))
    dx = height - np.roll(height, 1, axis=1)
    dy = height - np.roll(height, 1, axis=0)
    shade = 1 + depth * (np.cos(angle) * dx + np.sin(angle) * dy)
    return np.clip(shade, 0.15, 2.2).astype(np.float32)


def _flat(colour: Array, shade: Array) -> Array:
    """A colour times a shade map: (TILE, TILE, 3) in display values."""
    return shade[:, :, None] * colour


def _sweep(rng: np.random.Generator) -> Array:
    colour = _pick(
        rng,
        (0.92, 0.92, 0.92),
        (0.8, 0.8, 0.8),
        (0.5, 0.52, 0.55),
        (0.72, 0.66, 0.55),
        (0.3, 0.31, 0.33),
        (0.55, 0.6, 0.68),
    )
    return _flat(colour, 1 + (shifted(cloud(11), rng) - 0.5) * 0.08 + grain(2) * 0.006)


def _wood(rng: np.random.Generator) -> Array:
    colour = _pick(
        rng, (0.66, 0.5, 0.34), (0.52, 0.37, 0.24), (0.74, 0.62, 0.46), (0.45, 0.4, 0.35), (0.36, 0.24, 0.16)
    )
    figure = shifted(cloud(12, stretch=16, coarse=16), rng)
    bands = shifted(cloud(13, stretch=16, coarse=32), rng)
    rings = np.sin((figure + shifted(cloud(11), rng) * 0.15) * float(rng.uniform(18, 40)))
    pores = np.minimum(shifted(streaks(5, 7), rng) + 0.8, 0)
    shade = 1 + rings * 0.06 + (bands - 0.5) * 0.4 + pores * 0.14 + grain(2) * 0.025
    if rng.random() < 0.7:
        planks = int(rng.choice([2, 4, 8]))
        deep = TILE // planks
        for k in range(planks):
            rows = slice(k * deep, (k + 1) * deep)
            shade[rows] = np.roll(shade[rows], int(rng.integers(TILE)), axis=1) * float(rng.uniform(0.82, 1.12))
            shade[k * deep : k * deep + 3] *= 0.35
    out = _flat(colour, shade.astype(np.float32))
    for _ in range(int(rng.integers(0, 14))):
        _scratch(out, rng, 0.85)
    return out


def _scratch(out: Array, rng: np.random.Generator, tone: float) -> None:
    x, y = (int(v) for v in rng.integers(0, TILE, 2))
    length, angle = float(rng.uniform(20, 220)), float(rng.uniform(0, np.pi))
    end = (round(x + length * np.cos(angle)), round(y + length * np.sin(angle)))
    colour = [float(c) for c in np.clip(out[y, x] * tone * rng.uniform(0.8, 1.2), 0, 1)]
    cv2.line(out, (x, y), end, colour, 1, cv2.LINE_AA)


def _concrete(rng: np.random.Generator) -> Array:
    colour = _pick(rng, (0.6, 0.59, 0.57), (0.48, 0.47, 0.46), (0.7, 0.68, 0.63), (0.4, 0.42, 0.42), spread=0.015)
    rough = shifted(cloud(14), rng)
    stain = shifted(cloud(11), rng)
    shade = 1 + (stain - 0.5) * 0.3 + (rough - 0.5) * 0.16 + grain(2) * 0.05 + softened(grain(3), 1.0) * 0.1
    holes = softened((shifted(grain(3), rng) > 3.0).astype(np.float32), 1.1)
    out = _flat(colour, (shade * (1 - np.clip(holes * 4, 0, 0.6))).astype(np.float32))
    if rng.random() < 0.4:
        x, y = (float(v) for v in rng.uniform(0, TILE, 2))
        angle = float(rng.uniform(0, 6.28))
        for _ in range(40):
            angle += float(rng.normal(0, 0.5))
            nx, ny = x + 14 * np.cos(angle), y + 14 * np.sin(angle)
            cv2.line(out, (round(x), round(y)), (round(nx), round(ny)), (0.2, 0.19, 0.18), 1, cv2.LINE_AA)
            x, y = nx, ny
    return out


def _steel(rng: np.random.Generator) -> Array:
    colour = _pick(rng, (0.62, 0.63, 0.65), (0.48, 0.49, 0.5), (0.72, 0.72, 0.72), spread=0.012)
    brushed = shifted(streaks(4, 24), rng)
    smears = shifted(cloud(11), rng)
    out = _flat(colour, 1 + brushed * 0.07 + (smears - 0.5) * 0.3 + grain(2) * 0.02)
    for _ in range(int(rng.integers(10, 80))):
        _scratch(out, rng, float(rng.choice([0.75, 1.3])))
    if rng.random() < 0.15:
        spots = np.clip((shifted(cloud(14), rng) - 0.66) * 8, 0, 1)[:, :, None]
        out = out * (1 - spots) + np.array([0.4, 0.25, 0.16], np.float32) * spots
    return np.asarray(out, np.float32)


def _cardboard(rng: np.random.Generator) -> Array:
    colour = _pick(rng, (0.72, 0.57, 0.4), (0.64, 0.49, 0.34), (0.8, 0.68, 0.52))
    flutes = np.sin(np.arange(TILE, dtype=np.float32) * (2 * np.pi / 16))
    shade = (
        1
        + flutes[:, None] * 0.02
        + (shifted(cloud(12, stretch=4), rng) - 0.5) * 0.2
        + (shifted(cloud(11), rng) - 0.5) * 0.25
    )
    return _flat(colour, (shade + grain(2) * 0.015).astype(np.float32))


def _fabric(rng: np.random.Generator) -> Array:
    colour = _pick(
        rng,
        (0.25, 0.3, 0.42),
        (0.55, 0.52, 0.46),
        (0.45, 0.2, 0.18),
        (0.3, 0.34, 0.28),
        (0.75, 0.73, 0.68),
        (0.16, 0.16, 0.17),
    )
    period = int(rng.choice([4, 8, 16]))
    t = np.arange(TILE, dtype=np.float32) * (2 * np.pi / period)
    twill = np.sin(t[:, None] + t[None, :]) * 0.5 + np.sin(t)[None, :] * np.sin(t)[:, None]
    folds = softened(shifted(cloud(11, coarse=2), rng), 14)
    shade = _relief(folds, rng, 18) * (1 + twill * 0.1 + (shifted(cloud(14), rng) - 0.5) * 0.12 + grain(2) * 0.03)
    return _flat(colour, shade.astype(np.float32))


def _joints(side_x: int, side_y: int, wide: int, bond: bool) -> Array:
    """Mask (TILE, TILE) of the joints of a pavement: 1 in a joint."""
    out = np.zeros((TILE, TILE), np.float32)
    for row in range(TILE // side_y):
        out[row * side_y : row * side_y + wide] = 1
        step = side_x // 2 if bond and row % 2 else 0
        for x in range(step, TILE, side_x):
            out[row * side_y : (row + 1) * side_y, x : x + wide] = 1
    return softened(out, 0.8)


def _tiles(rng: np.random.Generator) -> Array:
    colour = _pick(rng, (0.78, 0.76, 0.72), (0.55, 0.5, 0.46), (0.6, 0.35, 0.26), (0.35, 0.38, 0.4))
    side = int(rng.choice([128, 256]))
    joint = _joints(side, side, 5, False)[:, :, None]
    out = _flat(colour, 1 + (shifted(cloud(11), rng) - 0.5) * 0.3 + (shifted(cloud(14), rng) - 0.5) * 0.15)
    return np.asarray(out * (1 - joint) + _pick(rng, (0.5, 0.5, 0.48), (0.25, 0.24, 0.23)) * joint, np.float32)


def _strokes(rng: np.random.Generator, out: Array, colours: Array, count: int, length: float, wide: int) -> None:
    """Blades of grass or needles, drawn in place, each lighter than those before it."""
    at = rng.integers(0, TILE, (count, 2))
    ends = at + np.rint(rng.normal(0, length, (count, 2))).astype(np.int64)
    tones = colours[rng.integers(len(colours), size=count)] * (0.35 + 0.75 * np.linspace(0, 1, count))[:, None]
    for start, end, tone in zip(at.tolist(), ends.tolist(), tones.tolist(), strict=True):
        cv2.line(out, start, end, tone, wide)


def _grass(rng: np.random.Generator) -> Array:
    dry = float(rng.uniform(0, 1))
    greens = np.array([[0.25, 0.4, 0.14], [0.36, 0.5, 0.2], [0.45, 0.52, 0.25], [0.62, 0.58, 0.36]]) * (1 - 0.2 * dry)
    greens[:, 1] *= 1 - 0.2 * dry
    out = _flat(np.array([0.12, 0.14, 0.07], np.float32), 1 + (shifted(cloud(14), rng) - 0.5))
    _strokes(rng, out, greens, 2600, 13, 2)
    return out * (1 + (shifted(cloud(11), rng) - 0.5) * 0.6)[:, :, None]


def _stones(rng: np.random.Generator, out: Array, count: int, low: int, high: int, colours: Array) -> None:
    """Rounded stones drawn in place: a dark rim, a body, a light upper side."""
    at, sizes = rng.integers(0, TILE, (count, 2)), np.sort(rng.integers(low, high, count))[::-1]
    turns, ratio = rng.uniform(0, 180, count), rng.uniform(0.6, 1.0, count)
    tones = colours[rng.integers(len(colours), size=count)] * rng.uniform(0.6, 1.15, (count, 1))
    for (x, y), r, angle, thin, tone in zip(at.tolist(), sizes.tolist(), turns, ratio, tones, strict=True):
        for cx in (x, x - TILE) if x + r > TILE else (x,):
            axes = (r, max(1, round(r * thin)))
            cv2.ellipse(out, (cx, y + 1), axes, angle, 0, 360, (tone * 0.3).tolist(), -1)
            cv2.ellipse(out, (cx, y), (max(1, axes[0] - 1), max(1, axes[1] - 1)), angle, 0, 360, tone.tolist(), -1)
            if r > 4:
                cv2.ellipse(
                    out,
                    (cx - r // 4, y - r // 4),
                    (r // 2, max(1, axes[1] // 2)),
                    angle,
                    0,
                    360,
                    (tone * 1.12).tolist(),
                    -1,
                )


_GREYS = np.array(
    [
        [0.55, 0.54, 0.52],
        [0.45, 0.44, 0.43],
        [0.62, 0.57, 0.5],
        [0.38, 0.37, 0.38],
        [0.6, 0.5, 0.42],
        [0.7, 0.69, 0.66],
    ]
)


def _gravel(rng: np.random.Generator) -> Array:
    out = _flat(np.array([0.2, 0.19, 0.17], np.float32), np.ones((TILE, TILE), np.float32))
    top = int(rng.integers(10, 26))
    _stones(rng, out, int(26000 / top), 3, top, _GREYS)
    out = softened(out, 0.9)
    return np.asarray(out * (1 + (shifted(cloud(14), rng) - 0.5) * 0.4)[:, :, None], np.float32)


def _asphalt(rng: np.random.Generator) -> Array:
    colour = _pick(rng, (0.3, 0.3, 0.31), (0.38, 0.37, 0.37), (0.22, 0.22, 0.24), spread=0.01)
    chips = softened(shifted(grain(3), rng), 1.3)
    shade = 1 + chips * 0.7 + (shifted(cloud(11), rng) - 0.5) * 0.35
    out = _flat(colour, np.clip(shade, 0.3, 2.2).astype(np.float32))
    if rng.random() < 0.2:
        line = slice(0, int(rng.integers(30, 90)))
        out[line] = out[line] * 0.35 + 0.5
    return out


def _wet(rng: np.random.Generator) -> Array:
    colour = _pick(rng, (0.22, 0.22, 0.24), (0.3, 0.28, 0.26), (0.18, 0.2, 0.2), spread=0.01)
    pools = np.clip((shifted(cloud(11), rng) - 0.45) * 6, 0, 1)
    shade = (1 + softened(shifted(grain(3), rng), 1.3) * 0.5 * (1 - pools)) * (1 - 0.4 * pools)
    return _flat(colour, np.clip(shade, 0.2, 2).astype(np.float32))


def _soil(rng: np.random.Generator) -> Array:
    colour = _pick(rng, (0.36, 0.27, 0.19), (0.48, 0.38, 0.28), (0.62, 0.54, 0.42), (0.27, 0.22, 0.18))
    lumps = shifted(cloud(16, coarse=16), rng)
    out = _flat(colour, _relief(softened(lumps, 1.2), rng, 6) * (0.75 + lumps * 0.5))
    _stones(rng, out, int(rng.integers(20, 160)), 2, 8, _GREYS * 0.8)
    return out


def _paving(rng: np.random.Generator) -> Array:
    colour = _pick(rng, (0.55, 0.54, 0.52), (0.6, 0.38, 0.3), (0.5, 0.45, 0.38))
    wide, tall = ((128, 64), (64, 64), (256, 128))[int(rng.integers(3))]
    joint = _joints(wide, tall, 6, True)[:, :, None]
    tone = np.repeat(np.repeat(rng.uniform(0.8, 1.15, (TILE // tall, TILE // wide)), tall, 0), wide, 1).astype(
        np.float32
    )
    shade = tone * (1 + (shifted(cloud(14), rng) - 0.5) * 0.45 + grain(2) * 0.05)
    out = _flat(colour, shade.astype(np.float32))
    return np.asarray(out * (1 - joint) + np.array([0.2, 0.19, 0.14], np.float32) * joint, np.float32)


def _leaves(rng: np.random.Generator) -> Array:
    out = _soil(rng) * 0.6
    tones = np.array([[0.55, 0.33, 0.14], [0.68, 0.5, 0.2], [0.42, 0.25, 0.13], [0.5, 0.45, 0.2], [0.35, 0.22, 0.14]])
    for _ in range(260):
        centre = [int(v) for v in rng.integers(0, TILE, 2)]
        long, turn = int(rng.integers(10, 26)), float(rng.uniform(0, 360))
        tone = tones[int(rng.integers(len(tones)))] * rng.uniform(0.6, 1.15)
        axes = (long, max(3, int(long * rng.uniform(0.3, 0.6))))
        cv2.ellipse(out, (centre[0] + 2, centre[1] + 2), axes, turn, 0, 360, (tone * 0.25).tolist(), -1)
        cv2.ellipse(out, centre, axes, turn, 0, 360, tone.tolist(), -1)
        dx, dy = long * np.cos(np.radians(turn)), long * np.sin(np.radians(turn))
        ends = [(round(centre[0] + s * dx), round(centre[1] + s * dy)) for s in (-1, 1)]
        cv2.line(out, ends[0], ends[1], (tone * 0.7).tolist(), 1, cv2.LINE_AA)
    return out * (1 + (shifted(cloud(14), rng) - 0.5) * 0.5)[:, :, None]


_MAKERS = {
    "sweep": (_sweep, 0.8, 0.0), "wood": (_wood, 0.6, 0.02), "concrete": (_concrete, 0.9, 0.0),
    "steel": (_steel, 0.3, 0.3), "cardboard": (_cardboard, 0.95, 0.0), "fabric": (_fabric, 1.0, 0.0),
    "tiles": (_tiles, 0.35, 0.05), "grass": (_grass, 1.0, 0.0), "gravel": (_gravel, 0.95, 0.0),
    "asphalt": (_asphalt, 0.9, 0.0), "wet": (_wet, 0.15, 0.1), "soil": (_soil, 1.0, 0.0),
    "paving": (_paving, 0.85, 0.0), "leaves": (_leaves, 0.9, 0.0),
}  # fmt: skip


def ground(name: str, rng: np.random.Generator) -> Ground:
    """Draw the ground of that name (see GROUNDS)."""
    maker, rough, mirror = _MAKERS[name]
    albedo = linear(maker(rng))
    mean = albedo[::8, ::8].reshape(-1, 3).mean(axis=0)
    return Ground(
        albedo=albedo,
        mean=mean,
        blurred=cv2.resize(albedo, (TILE // 8, TILE // 8), interpolation=cv2.INTER_AREA),
        texels=float(np.exp(rng.uniform(np.log(45), np.log(95)))),
        turn=float(rng.uniform(0, 2 * np.pi)),
        rough=rough,
        mirror=mirror,
        endless=name == "sweep",
    )
