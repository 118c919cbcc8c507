"""Perceptual signatures: 63 low frequencies of a picture, and their signs as a 64-bit hash.

A near copy (resized, recompressed, brightened, slightly cropped) keeps most of its low frequencies. The discrete
cosine transform of a squashed grey view gives them (Zauner, 2010, "pHash"); here the signs are taken against zero,
not the median, so that mirroring and turning a picture only flips and swaps known bits: the hashes of all eight
variants follow from one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int8, UInt8, UInt64

VIEW = 64
"""Side of the squashed view that statistics and signatures are made of, pixels."""

SIDE = 8
"""Frequencies 0 to 7 in each direction; the 0, 0 one (the mean) is left out."""

FLAT = 0.75
"""Grey levels of root mean square over the low frequencies under which a view shows nothing that could be matched."""

VARIANTS = (
    "as it is",
    "mirrored",
    "upside down",
    "turned 180",
    "transposed",
    "turned 90",
    "turned 270",
    "transversed",
)
"""What may have been done to a copy; the last four swap rows and columns."""


def _cosines(frequencies: int, samples: int) -> Float[np.ndarray, "frequencies samples"]:
    """Rows of the orthonormal DCT-II."""
    at = (np.arange(samples) + 0.5) * np.pi / samples
    rows: Float[np.ndarray, "frequencies samples"] = np.cos(np.arange(frequencies)[:, None] * at)
    return rows * np.sqrt(np.where(np.arange(frequencies) == 0, 1, 2) / samples)[:, None]


# Amplitudes in natural pictures fall about as this product (measured on photos; docs/decisions.md): multiplied by
# it, every frequency has a say in the cosine of two signatures.
_WHITEN = np.outer(np.arange(1, SIDE + 1), np.arange(1, SIDE + 1)).astype(np.float32) ** np.float32(0.75)
_WHITEN[0, 0] = 0


Windows = Sequence[tuple[int, int]]
"""(start, length) of intervals of a side."""


Spectra = Float[np.ndarray, "n window window 64"]


def spectra(grey: UInt8[np.ndarray, "n side side"], windows: Windows = ((0, VIEW),)) -> Spectra:
    """Whitened low frequencies of windows of grey views, mean left out, each of length 1; zero where flat.

    Windows are every choice of a vertical and a horizontal interval.
    """
    transform = _transform(windows)
    return _normalised(transform, grey.astype(np.float32), least=FLAT)


def spectra_again(signature: Int8[np.ndarray, "n 64"], windows: Windows) -> Spectra:
    """About what `spectra` gave for the windows of views with these signatures, made from the signatures alone."""
    whiten = np.where(_WHITEN > 0, _WHITEN, 1)
    transform = _transform(windows) @ _cosines(SIDE, VIEW).T.astype(np.float32)
    return _normalised(transform, signature.reshape(-1, SIDE, SIDE) / whiten, least=0)


def _transform(windows: Windows) -> Float[np.ndarray, "frequency side"]:
    """The transforms of all windows, one below the other: each has zeros outside its window."""
    transform = np.zeros((len(windows) * SIDE, VIEW), np.float32)
    for k, (start, length) in enumerate(windows):
        transform[k * SIDE : (k + 1) * SIDE, start : start + length] = _cosines(SIDE, length) / np.sqrt(length)
    return transform


def _normalised(
    transform: Float[np.ndarray, "frequency side"], values: Float[np.ndarray, "n side side"], *, least: float
) -> Spectra:
    """Whitened coefficients, of length 1 where their root mean square is at least `least`."""
    # View by view: BLAS would cut larger products up among threads, whose waiting for each other takes twenty times
    # as long as the work on a busy machine.
    both = transform @ (values @ np.ascontiguousarray(transform.T))
    n, count = len(values), len(transform) // SIDE
    blocks = both.reshape(n, count, SIDE, count, SIDE).transpose(0, 1, 3, 2, 4)  # view, down, across, row, column
    coefficients = blocks.reshape(n, count, count, SIDE * SIDE)
    coefficients[..., 0] = 0
    flat = np.sqrt((coefficients**2).sum(axis=-1, keepdims=True)) < least
    whitened = coefficients * _WHITEN.reshape(-1)
    length = np.linalg.norm(whitened, axis=-1, keepdims=True)
    unit: Spectra = np.zeros_like(whitened)
    np.divide(whitened, length, out=unit, where=~flat & (length > 0))
    return unit


def signatures(grey: UInt8[np.ndarray, "n side side"]) -> tuple[Int8[np.ndarray, "n 64"], UInt64[np.ndarray, " n"]]:
    """Each view's spectrum, scaled so that its largest value is 127, and its hash: the signs, one bit each."""
    values = spectra(grey)[:, 0, 0]
    peak = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-9)
    packed = np.packbits(values > 0, axis=1).view(">u8")[:, 0].astype(np.uint64)
    return np.rint(values * (127 / peak)).astype(np.int8), packed


def variants(hashes: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, "n 8"]:
    """The hashes of every VARIANTS of the pictures with these hashes.

    Mirroring negates the odd horizontal frequencies, turning upside down the odd vertical ones, transposing swaps
    the two; a flat picture (hash 0) stays what it is.
    """
    bits = np.unpackbits(hashes.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1).reshape(-1, SIDE, SIDE)
    rows, columns = np.indices((SIDE, SIDE)) % 2
    found = []
    for swapped in (bits, bits.transpose(0, 2, 1)):
        for negated in (np.zeros_like(rows), columns, rows, rows ^ columns):
            changed = swapped ^ negated.astype(np.uint8)
            changed[:, 0, 0] = 0
            found.append(np.packbits(changed.reshape(-1, 64), axis=1).view(">u8")[:, 0].astype(np.uint64))
    none: UInt64[np.ndarray, "n 8"] = np.zeros((len(hashes), len(found)), np.uint64)
    return np.where(hashes[:, None] == 0, none, np.stack(found, axis=1))


def varied(images: np.ndarray, variant: int) -> np.ndarray:
    """Pictures (n, height, width, ...) as VARIANTS[variant] has them."""
    if variant >= 4:
        images = images.swapaxes(1, 2)
    if variant % 4 in (1, 3):
        images = images[:, :, ::-1]
    if variant % 4 in (2, 3):
        images = images[:, ::-1]
    return images
