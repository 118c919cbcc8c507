"""Files of raw pixels, one record after the other: IDX (MNIST) and the binary version of CIFAR.

Both are read as images in the formats PGM and PPM, which are the same pixels behind a line of text, so that the one
decoder serves them too.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from jaxtyping import UInt8

IDX_UNSIGNED_BYTE = 0x08
"""The type code of IDX files whose values are bytes, the only ones with images."""

CIFAR_SIDE = 32
"""Pixels in a row and in a column of a CIFAR image."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the images lie in a file of records."""

    count: int
    """Records in the file, by its header or its size."""
    start: int
    """Bytes before the first record."""
    labels: int
    """Bytes of labels in front of the pixels of each record."""
    shape: tuple[int, ...]
    """Of the pixels in the file: height and width; with 3 in front colour by colour, with 3 behind pixel by pixel."""

    @property
    def size(self) -> int:
        """Bytes of one record."""
        return self.labels + int(np.prod(self.shape))


def idx_layout(path: Path) -> Layout:
    """Of an IDX file of images, from its header. Raises ValueError when it is none."""
    shape = _idx_shape(path)
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] != 3) or 0 in shape[1:]:
        raise ValueError(f"its values have the shape {shape}, which is no list of images")
    return Layout(count=shape[0], start=4 + 4 * len(shape), labels=0, shape=shape[1:])


def cifar_layout(path: Path) -> Layout:
    """Of a binary CIFAR file, from its size: one label per image in CIFAR-10, two in CIFAR-100.

    Raises ValueError when the size fits neither.
    """
    size, pixels = path.stat().st_size, 3 * CIFAR_SIDE**2
    labels = next((n for n in (1, 2) if size and size % (pixels + n) == 0), None)
    if labels is None:
        raise ValueError(f"its {size} bytes are no whole number of CIFAR images")
    return Layout(count=size // (pixels + labels), start=0, labels=labels, shape=(3, CIFAR_SIDE, CIFAR_SIDE))


def layout_of(path: Path) -> Layout:
    """Of either kind, told apart by the name."""
    return cifar_layout(path) if path.suffix == ".bin" else idx_layout(path)


def idx_labels(path: Path) -> UInt8[np.ndarray, " image"]:
    """The labels in an IDX file. Raises ValueError when it holds something else."""
    shape = _idx_shape(path)
    if len(shape) != 1:
        raise ValueError(f"its values have the shape {shape}, which is no list of labels")
    with opened(path) as file:
        file.seek(8)
        values = np.frombuffer(file.read(), np.uint8)
    if len(values) != shape[0]:
        raise ValueError(f"it holds {len(values)} labels, but its header says {shape[0]}")
    return values


def cifar_labels(path: Path) -> UInt8[np.ndarray, " image"]:
    """The labels in a binary CIFAR file: the only one of each image, or the finer of two."""
    layout = cifar_layout(path)
    records = np.memmap(path, np.uint8, "r", shape=(layout.count, layout.size))
    return np.array(records[:, layout.labels - 1])


def read_images(path: Path, rows: Sequence[int]) -> list[bytes | OSError]:
    """The images in those rows as PGM or PPM files; an OSError for a row that is cut off."""
    layout = layout_of(path)
    with opened(path) as file:
        if path.suffix == ".gz":  # going back in a compressed file means to start anew
            file = cast(BinaryIO, io.BytesIO(file.read()))
        return [_image(file, layout, row) for row in rows]


def _image(file: BinaryIO, layout: Layout, row: int) -> bytes | OSError:
    file.seek(layout.start + row * layout.size + layout.labels)
    pixels = file.read(layout.size - layout.labels)
    if len(pixels) < layout.size - layout.labels:
        return OSError(f"the file ends before image {row}")
    if layout.shape[0] == 3 and len(layout.shape) == 3:
        pixels = np.frombuffer(pixels, np.uint8).reshape(layout.shape).transpose(1, 2, 0).tobytes()
        height, width = layout.shape[1:]
    else:
        height, width = layout.shape[:2]
    kind = "P6" if len(layout.shape) == 3 else "P5"
    return f"{kind}\n{width} {height}\n255\n".encode() + pixels


def opened(path: Path) -> BinaryIO:
    """The file, unpacked where its name ends in .gz."""
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _idx_shape(path: Path) -> tuple[int, ...]:
    """The sizes in the header: two zeros, the type, how many dimensions, each as four bytes, the highest first."""
    with opened(path) as file:
        head = file.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or not head[3]:
            raise ValueError("it does not begin as an IDX file does")
        if head[2] != IDX_UNSIGNED_BYTE:
            raise ValueError(f"its values are of type {head[2]:#04x}, not bytes (0x08)")
        sizes = file.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise ValueError("it is cut off")
    return tuple(np.frombuffer(sizes, ">u4").tolist())
