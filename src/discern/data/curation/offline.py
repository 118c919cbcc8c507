"""Offline augmentation: varied copies of a picture, made once and kept as files.

Each copy takes a random subset of one to six operations in random order: rotation up to 40 degrees, shift up to 20 %,
horizontal flip (probability 0.8), vertical flip (0.8), colour jitter 0.5 (brightness, contrast, saturation, hue, in
random order) and Gaussian blur of 3 pixels. What a rotation or a shift uncovers is black, as padding is. All is drawn
by (seed, content of the source, number of the copy), and what is drawn is written down as text with every parameter.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance, ImageStat

from discern.data import keyed

Rgb = UInt8[np.ndarray, "height width 3"]
Mask = UInt8[np.ndarray, "height width"]

ROTATE = 40.0
"""Largest rotation either way, degrees."""
SHIFT = 0.2
"""Largest shift in each direction, as a share of the side."""
FLIP = 0.8
"""Probability of a flip once it is among the operations."""
JITTER = 0.5
"""Largest change of brightness, contrast and saturation as a share, and of hue in turns of the colour circle."""
BLUR = 3
"""Side of the Gaussian kernel, pixels."""
SIGMA = (0.1, 2.0)
"""Range of the Gaussian's standard deviation, pixels: torchvision's default for its GaussianBlur."""

_KINDS = ("rotate", "shift", "mirror", "flip", "jitter", "blur")
_COLOURS = ("brightness", "contrast", "saturation", "hue")
_DRAWS = 1 + len(_KINDS) + 1 + 2 + 1 + 1 + 2 * len(_COLOURS) + 1
_ATTEMPTS = 20
"""Draws tried until a copy differs from its source and from the others; a picture of one colour never gives one."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One thing done to a picture."""

    kind: str
    """'rotate' (degrees, counter-clockwise), 'shift' (right and down, shares of the sides), 'mirror' (left to right),
    'flip' (top to bottom), 'brightness', 'contrast', 'saturation' (factors), 'hue' (turns), 'blur' (sigma, pixels)."""
    parameters: tuple[float, ...] = ()
    """Rounded to what the text shows, so that the text says all."""

    def __str__(self) -> str:
        return " ".join((self.kind, *(f"{value:g}" for value in self.parameters)))


def drawn(*, seed: int, key: int, number: int) -> tuple[Operation, ...]:
    """The operations of one copy; none when the only ones drawn were flips that were then not done."""
    draws = keyed.uniform(seed, number, np.array([key], np.uint64), _DRAWS)[0]
    count, order, rest = 1 + int(draws[0] * len(_KINDS)), draws[1 : 1 + len(_KINDS)], draws[1 + len(_KINDS) :]
    chosen = np.argsort(order)[:count]  # the first few of a shuffled list: a random subset in random order
    return tuple(operation for kind in chosen for operation in _operations(_KINDS[kind], rest))


def _operations(kind: str, draws: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[Operation]:
    angle, right, down, mirror, flip, *rest = draws
    order, amounts, sigma = rest[:4], rest[4:8], rest[8]
    if kind == "rotate":
        return [Operation(kind=kind, parameters=(_between(angle, -ROTATE, ROTATE),))]
    if kind == "shift":
        return [Operation(kind=kind, parameters=(_between(right, -SHIFT, SHIFT), _between(down, -SHIFT, SHIFT)))]
    if kind in ("mirror", "flip"):
        return [Operation(kind=kind)] if (mirror if kind == "mirror" else flip) < FLIP else []
    if kind == "blur":
        return [Operation(kind=kind, parameters=(_between(sigma, *SIGMA),))]
    changes = []
    for colour in np.argsort(order):
        centre = 0.0 if _COLOURS[colour] == "hue" else 1.0
        amount = _between(amounts[colour], centre - JITTER, centre + JITTER)
        changes.append(Operation(kind=_COLOURS[colour], parameters=(amount,)))
    return changes


def _between(draw: float, low: float, high: float) -> float:
    return round(low + float(draw) * (high - low), 3)


def copies(
    picture: Rgb, inside: Mask, count: int, *, seed: int, key: int
) -> Iterator[tuple[Rgb, tuple[Operation, ...]]]:
    """`count` varied copies of a picture, each unlike the picture and the others, with what was done.

    `inside` is 255 where the picture is and 0 on its padding, which stays black whatever is done to the colours.
    """
    seen = {_digest(picture)}
    for number in range(1, count + 1):
        for attempt in range(_ATTEMPTS):
            operations = drawn(seed=seed, key=key, number=number * _ATTEMPTS + attempt)
            varied = apply(picture, inside, operations)
            if _digest(varied) not in seen:
                break
        seen.add(_digest(varied))
        yield varied, operations


def _digest(picture: Rgb) -> bytes:
    return hashlib.blake2b(picture.tobytes(), digest_size=16).digest()


def apply(picture: Rgb, inside: Mask, operations: tuple[Operation, ...]) -> Rgb:
    """The picture after the operations, in their order."""
    image = Image.fromarray(np.dstack([picture, inside]))
    for operation in operations:
        image = _one(image, operation)
    result = np.asarray(image).astype(np.uint16)
    # A turned edge covers its pixels in part: laid on black, as padding before turning would have it.
    return ((result[:, :, :3] * result[:, :, 3:] + 127) // 255).astype(np.uint8)


def _one(image: Image.Image, operation: Operation) -> Image.Image:
    """One operation on red, green, blue and the mask as alpha; the mask goes wherever the picture goes."""
    kind, parameters = operation.kind, operation.parameters
    if kind == "mirror":
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if kind == "flip":
        return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if kind == "rotate":
        return image.rotate(parameters[0], Image.Resampling.BILINEAR)
    if kind == "shift":
        right, down = (round(part * side) for part, side in zip(parameters, image.size, strict=True))
        moved = Image.new("RGBA", image.size)
        moved.paste(image, (right, down))
        return moved
    colours, inside = image.convert("RGB"), image.getchannel("A")
    if kind == "blur":
        blurred = cv2.GaussianBlur(np.asarray(colours), (BLUR, BLUR), parameters[0], borderType=cv2.BORDER_REFLECT_101)
        colours = Image.fromarray(blurred)
    else:
        colours = _jittered(colours, inside, kind, parameters[0])
    colours.putalpha(inside)
    return colours


def _jittered(colours: Image.Image, inside: Image.Image, kind: str, amount: float) -> Image.Image:
    if kind == "brightness":
        return ImageEnhance.Brightness(colours).enhance(amount)
    if kind == "saturation":
        return ImageEnhance.Color(colours).enhance(amount)
    if kind == "hue":
        hue, saturation, value = colours.convert("HSV").split()
        shifted = hue.point([(level + math.trunc(amount * 255)) % 256 for level in range(256)])
        return Image.merge("HSV", (shifted, saturation, value)).convert("RGB")
    # Around the mean of the picture alone: with its padding, the black borders would turn grey, in copies only.
    mean = round(ImageStat.Stat(colours.convert("L"), mask=inside).mean[0]) if inside.getbbox() else 0
    changed = Image.blend(Image.new("RGB", colours.size, (mean, mean, mean)), colours, amount)
    return Image.composite(changed, colours, inside)
