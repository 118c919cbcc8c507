"""Sheet: pictures side by side in one file, with a few words under each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

_COLUMNS = 8
"""Pictures in a row: with four rows, what a laptop's screen shows."""

_SIDE = 128
"""Pixels of a picture's side: small ones are enlarged by whole pixels to at most this, large ones reduced."""

_GAP, _SIZE, _LINE = 10, 12, 15
"""Pixels between pictures, of the letters, and from line to line."""

_PAPER, _INK = "#fdfdfb", "#1c2126"
"""Those of a report on a light screen: a PNG cannot turn dark."""


def contact_sheet(pictures: UInt8[np.ndarray, "b s s 3"], captions: Sequence[Sequence[str]]) -> Image.Image:
    """The pictures in rows, under each its lines of words, shortened to its width."""
    side = pictures.shape[1]
    shown = side * (_SIDE // side) if side <= _SIDE else _SIDE
    # Enlarged pixels stay pixels: that they are few is what the model has to do with.
    method = Image.Resampling.NEAREST if shown >= side else Image.Resampling.LANCZOS
    columns = min(_COLUMNS, len(pictures))
    width, lines = max(shown, _SIDE), max(map(len, captions))
    height = shown + 4 + lines * _LINE
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (_GAP + columns * (width + _GAP), _GAP + rows * (height + _GAP)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    # The one that comes with matplotlib knows more letters than Pillow's own.
    font = ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), _SIZE)
    for number, (picture, words) in enumerate(zip(pictures, captions, strict=True)):
        left, top = _GAP + number % columns * (width + _GAP), _GAP + number // columns * (height + _GAP)
        sheet.paste(Image.fromarray(picture).resize((shown, shown), method), (left, top))
        for line, text in enumerate(words):
            draw.text((left, top + shown + 4 + line * _LINE), _cut(text, font, width), font=font, fill=_INK)
    return sheet


def _cut(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text with its middle left out as far as it is too long; its end may be the share."""
    text = " ".join(text.split())
    kept = len(text)
    shown = text
    while font.getlength(shown) > width and kept > 2:
        kept -= 1
        shown = f"{text[: kept - kept // 2]}\u2026{text[len(text) - kept // 2 :]}"
    return shown
