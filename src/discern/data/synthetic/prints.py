"""What is printed on cartons and sacks: paper, words, bar codes, bands, pictograms, tape.

Cartons and sacks share every paper, ink, word and layout here, so that nothing but the shape tells them apart.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from discern.data.synthetic.geometry import Array
from discern.data.synthetic.texture import TILE, cloud, grain, linear, shifted

Bytes = NDArray[np.uint8]
"""A face being printed (SIDE, SIDE, 3)."""

SIDE = 224
"""Side of one printed face in texels, near its size in a 256 px picture."""

_PAPERS = (
    (0.72, 0.56, 0.39),
    (0.66, 0.50, 0.34),
    (0.78, 0.64, 0.47),
    (0.90, 0.89, 0.86),
    (0.80, 0.79, 0.76),
    (0.62, 0.60, 0.57),
)
_INKS = (
    (0.08, 0.08, 0.09),
    (0.12, 0.18, 0.42),
    (0.62, 0.10, 0.10),
    (0.08, 0.34, 0.20),
    (0.80, 0.38, 0.06),
    (0.35, 0.20, 0.12),
)
_WORDS = (
    "CEMENT", "PORTLAND", "BAUSTOFF", "MORTAR", "25 KG", "50 KG", "42.5 R", "TYPE II", "FRAGILE", "NORDBAU",
    "HOLCRETE", "KAPPA", "THIS WAY UP", "MIX", "PLASTER", "LOT 2207", "CALDOR", "STRONG", "QTY 24", "EN 197-1",
    "PRO", "RAPID",
)  # fmt: skip
_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
)


def _write(face: Bytes, text: str, x: float, y: float, width: float, ink: tuple[float, ...], font: int) -> float:
    """Write a word with its left baseline at (x, y), `width` wide, all in shares of the side; gives its height."""
    scale = width * SIDE / max(cv2.getTextSize(text, font, 1.0, 1)[0][0], 1)
    scale = min(scale, 2.6)
    bold = max(1, round(scale * 2.6))
    cv2.putText(face, text, (round(x * SIDE), round(y * SIDE)), font, scale, ink, bold, cv2.LINE_AA)
    return 24 * scale / SIDE


def _bars(face: Bytes, rng: np.random.Generator, x: int, y: int, w: int, h: int) -> None:
    """A white label with a bar code and a line of digits."""
    cv2.rectangle(face, (x, y), (x + w, y + h), (230, 230, 225), -1)
    at = x + 3
    while at < x + w - 4:
        bar = int(rng.integers(1, 4))
        cv2.rectangle(face, (at, y + 3), (min(at + bar - 1, x + w - 4), y + int(h * 0.6)), (15, 15, 15), -1)
        at += bar + int(rng.integers(1, 4))
    digits = "".join(str(d) for d in rng.integers(0, 10, 9))
    cv2.putText(face, digits, (x + 3, y + h - 4), _FONTS[0], w / 190, (25, 25, 25), 1, cv2.LINE_AA)


def _arrows(face: Bytes, x: int, y: int, s: int, ink: tuple[float, ...]) -> None:
    """Two arrows over a line: this way up."""
    for k in (0, 1):
        cx = x + k * s
        cv2.arrowedLine(face, (cx, y + s), (cx, y), ink, max(1, s // 9), cv2.LINE_AA, tipLength=0.4)
    cv2.line(face, (x - s // 3, y + s + s // 5), (x + s + s // 3, y + s + s // 5), ink, max(1, s // 9), cv2.LINE_AA)


def _layout(face: Bytes, rng: np.random.Generator, ink: tuple[float, ...], second: tuple[float, ...]) -> None:
    """Print one face in place: a band, some words, lines of small type, a label, a sign."""
    font = int(rng.choice(_FONTS))
    at = float(rng.uniform(0.12, 0.3))
    if rng.random() < 0.45:
        top, deep = sorted(float(v) for v in rng.uniform(0.0, 1.0, 2))
        deep = min(deep, top + 0.4)
        cv2.rectangle(face, (0, round(top * SIDE)), (SIDE, round(deep * SIDE)), second, -1)
    if rng.random() < 0.25:
        centre, r = (
            (round(SIDE * rng.uniform(0.3, 0.7)), round(SIDE * rng.uniform(0.3, 0.7))),
            int(rng.integers(20, 60)),
        )
        cv2.circle(face, centre, r, second, -1 if rng.random() < 0.6 else 5, cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 4))):
        word = str(rng.choice(_WORDS))
        width = float(rng.uniform(0.3, 0.85))
        at += _write(face, word, float(rng.uniform(0.05, max(0.06, 0.95 - width))), at + 0.1, width, ink, font) + 0.06
        if at > 0.8:
            break
    for _ in range(int(rng.integers(0, 7))):
        if at < 0.92:
            x0 = float(rng.uniform(0.06, 0.2))
            x1 = float(rng.uniform(0.4, 0.9))
            row = round(at * SIDE)
            cv2.line(face, (round(x0 * SIDE), row), (round(x1 * SIDE), row), ink, 1, cv2.LINE_AA)
            at += 0.032
    if rng.random() < 0.35:
        w, h = int(rng.integers(44, 90)), int(rng.integers(30, 60))
        _bars(face, rng, int(rng.integers(6, SIDE - w - 6)), int(rng.integers(6, SIDE - h - 6)), w, h)
    if rng.random() < 0.25:
        _arrows(
            face,
            int(rng.integers(20, SIDE - 60)),
            int(rng.integers(20, SIDE - 60)),
            int(rng.integers(16, 34)),
            ink,
        )


def paper(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw a paper's display colour: kraft, bleached or grey, shared by cartons and sacks."""
    base = np.array(_PAPERS[int(rng.choice(len(_PAPERS), p=[0.24, 0.2, 0.16, 0.18, 0.14, 0.08]))])
    r, g, b = np.clip(base * rng.uniform(0.85, 1.1) + rng.normal(0, 0.02, 3), 0.05, 0.96)
    return float(r), float(g), float(b)


def faces(rng: np.random.Generator, count: int, *, tape: bool) -> Array:
    """Printed faces side by side, linear colour (SIDE, count * SIDE, 3); tape runs across the first if asked."""
    base = paper(rng)
    ink, second = (tuple(255 * c for c in _INKS[int(rng.integers(len(_INKS)))]) for _ in range(2))
    bare = rng.random() < 0.16  # some are blank: then only the shape can tell
    fibre = shifted(cloud(1, stretch=4), rng)
    spots = shifted(cloud(2), rng)
    speckle = grain(1)
    strip = np.empty((SIDE, SIDE * count, 3), np.float32)
    for k in range(count):
        printed = np.empty((SIDE, SIDE, 3), np.uint8)  # OpenCV writes text on bytes only
        printed[:] = np.rint(np.array(base) * 255)
        if not bare and rng.random() < 0.85:
            _layout(printed, rng, ink, second)
        face = printed.astype(np.float32) * np.float32(1 / 255)
        rows = slice(k * 90 % (TILE - SIDE), k * 90 % (TILE - SIDE) + SIDE)
        dirt = (
            (fibre[rows, :SIDE] - 0.5) * 0.22
            + (spots[rows, 100 : 100 + SIDE] - 0.5) * 0.3
            + speckle[rows, :SIDE] * 0.018
        )
        face *= (1.0 + dirt)[:, :, None]
        if tape and k == 0:
            _tape(face, rng)
        strip[:, k * SIDE : (k + 1) * SIDE] = face
    return linear(strip)


def _tape(face: Array, rng: np.random.Generator) -> None:
    """A strip of parcel tape along the middle, clear brown, white or printed."""
    wide = int(rng.integers(9, 22))
    colour = np.array(((0.62, 0.44, 0.24), (0.82, 0.74, 0.6), (0.88, 0.88, 0.86))[int(rng.integers(3))], np.float32)
    rows = slice(SIDE // 2 - wide, SIDE // 2 + wide)
    clear = float(rng.uniform(0.35, 0.9))
    face[rows] = face[rows] * (1 - clear) + colour * clear
    cv2.line(face, (0, rows.start), (SIDE, rows.start), (0.45, 0.36, 0.26), 1)
    cv2.line(face, (0, rows.stop), (SIDE, rows.stop), (0.9, 0.84, 0.74), 1)
