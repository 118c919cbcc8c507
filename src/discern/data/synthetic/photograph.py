"""From light on the sensor to the file's pixels: focus, shake, exposure, noise, compression."""

# Arithmetic on numpy planes is typed Any by numpy's own stubs.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from discern.data.synthetic.geometry import Array


def focus(picture: Array, depth: Array, subject: float, rng: np.random.Generator) -> Array:
    """Blur (h, w, 3) by distance from the focal plane, which lies on or near the subject's depth."""
    size = picture.shape[0]
    aperture = float(rng.choice([0.0, 0.006, 0.02, 0.04], p=[0.45, 0.35, 0.16, 0.04])) * size
    miss = float(rng.normal(0, 0.25)) if rng.random() < 0.05 else 0.0
    out = picture
    if aperture > 0.3:
        blur = np.clip(np.abs(1.0 - subject * (1 + miss) / np.maximum(depth, 0.1)) * aperture * 2.0, 0, aperture)
        blur = cv2.GaussianBlur(blur.astype(np.float32), (0, 0), max(0.8, 0.012 * size))
        # three blurred copies, mixed by the wanted radius: near enough to a true lens at this size
        done = np.zeros_like(blur)
        for sigma in (aperture * 0.15, aperture * 0.4, aperture * 0.8):
            if sigma < 0.35:
                continue
            share = np.clip((blur * 0.8 - done) / (sigma - done + 1e-6), 0, 1)[:, :, None]
            out = out * (1 - share) + cv2.GaussianBlur(picture, (0, 0), sigma) * share
            done = np.full_like(blur, sigma)
    if rng.random() < 0.06:
        out = _shake(out, rng)
    lens = float(rng.choice([0.0, 0.45, 0.7, 1.3], p=[0.3, 0.45, 0.2, 0.05])) * size / 256
    if lens > 0.2:
        out = cv2.GaussianBlur(out, (0, 0), lens)
    return np.asarray(out, np.float32)


def _shake(picture: Array, rng: np.random.Generator) -> Array:
    """Motion blur along a straight line of 1 to 4 % of the side."""
    length = float(rng.uniform(0.01, 0.04)) * picture.shape[0]
    n = max(3, int(length) | 1)
    kernel = np.zeros((n, n), np.float32)
    angle, c = float(rng.uniform(0, np.pi)), n // 2
    dx, dy = c * np.cos(angle), c * np.sin(angle)
    cv2.line(kernel, (round(c - dx), round(c - dy)), (round(c + dx), round(c + dy)), 1.0, 1, cv2.LINE_AA)
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), np.float32)


def expose(picture: Array, rng: np.random.Generator, *, dark: bool) -> Array:
    """Linear light (h, w, 3) to display values in [0, 1]: exposure, white balance, tone curve, vignette."""
    size = picture.shape[0]
    level = np.percentile(picture[::4, ::4].mean(axis=2), [50, 97])
    want = float(np.exp(rng.normal(np.log(0.11 if dark else 0.21), 0.28)))
    gain = min(want / max(float(level[0]), 1e-4), 1.5 / max(float(level[1]), 1e-4))
    balance = np.exp(rng.normal(0, 0.035, 3)).astype(np.float32)
    x = picture * (gain * balance)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    fall = float(rng.uniform(0, 0.28))
    x = x * (1 - fall * (axis[:, None] ** 2 + axis[None, :] ** 2) * 0.5)[:, :, None]
    x = x * (1 + x / 4.0) / (1 + x)  # Reinhard 2002, extended: 2 is white
    out = np.power(np.clip(x * 1.28, 0, 1), np.float32(1 / 2.2))
    contrast = float(rng.uniform(0.88, 1.22))
    colourful = float(rng.uniform(0.65, 1.05))
    grey = out.mean(axis=2, keepdims=True)
    out = grey + (out - grey) * colourful
    return np.clip((out - 0.5) * contrast + 0.5, 0, 1).astype(np.float32)


def develop(picture: Array, rng: np.random.Generator, *, dark: bool) -> NDArray[np.uint8]:
    """Display values to uint8 (h, w, 3): sensor noise, a phone's sharpening, now and then heavy compression."""
    size = picture.shape[0]
    strength = float(np.exp(rng.uniform(np.log(0.003), np.log(0.022)))) * (1.8 if dark else 1.0)
    noise = rng.standard_normal((size, size, 3), dtype=np.float32)
    noise = 0.6 * noise + 0.4 * noise.mean(axis=2, keepdims=True)
    if rng.random() < 0.5:
        noise = cv2.GaussianBlur(noise, (0, 0), 0.7) * 1.8  # demosaicing leaves coarse grain
    out = picture + noise * (strength * (0.5 + np.sqrt(np.clip(picture, 0, 1))))
    if rng.random() < 0.4:
        out = out + (out - cv2.GaussianBlur(out, (0, 0), 1.2)) * float(rng.uniform(0.2, 0.9))
    pixels = np.clip(out * 255 + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        quality = int(rng.integers(18, 55))
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return pixels
