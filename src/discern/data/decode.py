"""The one decoder: bytes of any image file to a uint8 RGB square of the size a model takes.

JPEG goes through libjpeg-turbo's scaled decoding (only as many DCT coefficients as the target needs),
everything else through Pillow, whose warnings about odd files are not passed on. Orientation from EXIF is
applied, alpha is laid on white, grey, palette and CMYK become RGB, 16-bit is scaled to 8.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from discern.errors import UnreadableImage

Fit = Literal["pad", "squash", "crop"]
"""How a picture becomes a square: 'pad' keeps all of it and its shape (letterbox, black borders), 'squash'
keeps all of it and stretches, 'crop' keeps its shape and the centre."""
FITS: tuple[str, ...] = get_args(Fit)

Rgb = UInt8[np.ndarray, "height width 3"]
Square = UInt8[np.ndarray, "size size 3"]
Pixelled = UInt8[np.ndarray, "height width ..."]

MAX_PIXELS = 178_956_970
"""Larger pictures are refused unread: Pillow's own limit against decompression bombs, here for JPEG too."""

LONGER, SHORTER = 112, 64
"""Pixels of the two sides (where the file has them) that a JPEG is decoded to at least, whatever size is asked for:
statistics are made of them. Photos of 896 pixels and more are then decoded at an eighth, which is quickest."""

_EXIF_ORIENTATION = 0x0112
_START_OF_SCAN = b"\xff\xda"

_MUCH = 1.5
"""Times smaller up to which interpolation is at least as close to Lanczos' filter as area averaging is (measured on
photos: docs/decisions.md), in a quarter of the time. Scaled decoding leaves less than that to do for most pictures."""


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A decoded picture with what its file said about itself."""

    image: Square
    """uint8 RGB, fitted to the asked size."""
    picture: Rgb
    """uint8 RGB, upright and whole, in some resolution from which `image` and statistics can be made."""
    width: int
    """Pixels, as displayed (after EXIF orientation)."""
    height: int
    """Pixels, as displayed."""
    format: str
    """What the bytes are, whatever the file is called: 'JPEG', 'PNG', 'GIF', ..."""
    mode: str
    """Pillow's name of the colour mode in the file: 'RGB', 'L', 'CMYK', 'P', 'I;16', ..."""
    orientation: int
    """EXIF orientation 1 to 8, already undone in `image`; 1 when the file gives none."""


def decode(data: bytes, *, size: int, fit: Fit) -> Decoded:
    """Decode `data` and fit it to `size` x `size` pixels.

    Raises UnreadableImage, whose message is the reason alone ('it is empty', 'it is cut off', ...).
    """
    if not data:
        raise UnreadableImage("it is empty (0 bytes)")
    if data[:3] == b"\xff\xd8\xff":
        decoded = _decode_jpeg(data, size, fit)
        if decoded is not None:
            return decoded
    return _decode_other(data, size, fit)


def fitted_shape(width: int, height: int, size: int, fit: Fit) -> tuple[int, int]:
    """Width and height after resizing and before padding or cropping to `size` x `size`."""
    if fit == "squash":
        return size, size
    scale = size / (max(width, height) if fit == "pad" else min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def fit_square(image: Rgb, *, size: int, fit: Fit, shown: tuple[int, int] | None = None) -> Square:
    """Resize and pad, squash or crop an RGB picture to `size` x `size`.

    `shown` is the width and height that the picture had before scaled decoding, which rounds them.
    """
    if fit == "crop":  # before resizing: the rest of a long strip would cost memory without bound
        image, shown = _centre(image), None
    height, width = image.shape[:2]
    of_width, of_height = shown or (width, height)
    new_width, new_height = fitted_shape(of_width, of_height, size, fit)
    image = resized(image, new_width, new_height)
    if (new_width, new_height) != (size, size):
        square = np.zeros((size, size, 3), np.uint8)
        top, left = (size - new_height) // 2, (size - new_width) // 2
        square[top : top + new_height, left : left + new_width] = image
        return square
    return np.ascontiguousarray(image)


def resized(image: Pixelled, width: int, height: int) -> Pixelled:
    """Another size, without aliasing."""
    old_height, old_width = image.shape[:2]
    if (old_width, old_height) == (width, height):
        return image
    shrinks = width <= old_width and height <= old_height
    much = max(old_width / width, old_height / height) > _MUCH
    # Area averaging would give blocks when enlarging.
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks and much else cv2.INTER_LINEAR)


def _centre(image: Rgb) -> Rgb:
    """The largest square in the middle."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def _decode_jpeg(data: bytes, size: int, fit: Fit) -> Decoded | None:
    """The fast path; None when libjpeg-turbo will not have the file, so that Pillow decides."""
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if colorspace in ("CMYK", "YCCK"):
        return None  # Adobe's inverted CMYK is Pillow's business
    _refuse_bomb(width, height)
    orientation = _jpeg_orientation(data)
    turned = orientation >= 5  # the orientations that swap width and height
    shown = (height, width) if turned else (width, height)
    target = fitted_shape(*shown, size, fit)
    least_width, least_height = target[::-1] if turned else target
    scale = max(LONGER / max(width, height), SHORTER / min(width, height))
    try:
        picture = simplejpeg.decode_jpeg(
            data,
            colorspace="RGB",
            min_width=min(max(least_width, math.ceil(width * scale)), width),
            min_height=min(max(least_height, math.ceil(height * scale)), height),
        )
    except ValueError:
        return None
    picture = _upright(picture, orientation)
    return Decoded(
        image=fit_square(picture, size=size, fit=fit, shown=shown),
        picture=picture,
        orientation=orientation,
        width=shown[0],
        height=shown[1],
        format="JPEG",
        mode="L" if colorspace == "Gray" else "RGB",
    )


def _decode_other(data: bytes, size: int, fit: Fit) -> Decoded:
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as picture:
            _refuse_bomb(*picture.size)
            mode, format_ = picture.mode, picture.format or "unknown"
            orientation = _sensible(picture.getexif().get(_EXIF_ORIENTATION, 1))
            image = _to_rgb(picture)
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"it has more than {MAX_PIXELS:,} pixels (a decompression bomb?)") from error
    except UnidentifiedImageError as error:
        raise UnreadableImage("its content is not an image of a known format") from error
    # Pillow's plugins raise all of these on damaged files, and name no common ancestor.
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        RuntimeError,
    ) as error:
        reason = "it is cut off" if "truncated" in str(error).lower() else f"it is damaged ({error})"
        raise UnreadableImage(reason) from error
    height, width = image.shape[:2]
    return Decoded(
        image=fit_square(image, size=size, fit=fit),
        picture=image,
        width=width,
        height=height,
        format=format_,
        mode=mode,
        orientation=orientation,
    )


def _to_rgb(picture: Image.Image) -> Rgb:
    """First frame, upright, without alpha, 8 bits, three channels."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I", "F"):
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64))  # a float file may have holes
        # 16-bit files are the usual case; float files hold [0, 1] or grey levels.
        scale = 1 / 257 if picture.mode != "F" else (255.0 if values.max(initial=0) <= 1 else 1.0)
        grey = np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.asarray(picture.convert("RGB"))


def _refuse_bomb(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadableImage(
            f"it has {width:,} x {height:,} pixels, more than the {MAX_PIXELS:,} that are decoded "
            "(a decompression bomb?)"
        )


def _jpeg_orientation(data: bytes) -> int:
    """EXIF orientation 1-8; 1 when none is given or it makes no sense."""
    if not _has_exif(data):  # opening with Pillow costs as much as decoding a small picture
        return 1
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as picture:
            return _sensible(picture.getexif().get(_EXIF_ORIENTATION, 1))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return 1


def _has_exif(data: bytes) -> bool:
    """Whether one of the segments before the picture is EXIF."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at : at + 2] != _START_OF_SCAN:
        if data[at + 4 : at + 10] == b"Exif\0\0":
            return True
        padded = data[at + 1 : at + 2] == b"\xff"
        at += 1 if padded else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _sensible(orientation: object) -> int:
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _upright(image: Rgb, orientation: int) -> Rgb:
    """Undo the camera's turn (EXIF 2.3, table of orientations)."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
