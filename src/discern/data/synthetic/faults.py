"""Spoiling files on purpose: edited copies, damaged files, tiny images."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from discern.data.synthetic.plan import Entry


def edited(
    image: Image.Image, mask: Image.Image, edit: str, rng: np.random.Generator
) -> tuple[Image.Image, Image.Image, int]:
    """One of plan.EDITS on an image and its mask, and the JPEG quality to save it with."""
    size, quality = image.size[0], int(rng.integers(80, 96))
    if edit == "resized":
        side = round(size * float(rng.choice([0.75, 0.85, 1.2])))
        return (
            image.resize((side, side), Image.Resampling.BICUBIC),
            mask.resize((side, side), Image.Resampling.NEAREST),
            quality,
        )
    if edit == "recompressed":
        return image, mask, int(rng.integers(45, 70))
    if edit == "cropped":
        cut = max(1, round(size * 0.05))
        left, top = (int(v) for v in rng.integers(0, cut + 1, 2))
        frame = (left, top, left + size - cut, top + size - cut)
        return image.crop(frame), mask.crop(frame), quality
    if edit == "brightness":
        return ImageEnhance.Brightness(image).enhance(float(rng.choice([0.85, 1.15]))), mask, quality
    if edit == "mirrored":
        flip = Image.Transpose.FLIP_LEFT_RIGHT
        return image.transpose(flip), mask.transpose(flip), quality
    raise ValueError(edit)


def damaged(data: bytes, kind: str) -> bytes:
    """A file's bytes spoilt in one of plan.UNREADABLE's ways."""
    if kind == "zero bytes":
        return b""
    if kind == "truncated":
        return data[: len(data) // 3]  # the header is whole: only decoding finds out
    return b"404 Not Found: the image you asked for has moved.\n"


def shrunk(pixels: NDArray[np.uint8], entry: Entry) -> NDArray[np.uint8]:
    """An image or mask shrunk to the side that a tiny entry's detail names."""
    side = int((entry.detail or "").removeprefix("side "))
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX), np.uint8)


def as_jpeg(image: Image.Image, quality: int) -> bytes:
    """Encode an image as JPEG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
