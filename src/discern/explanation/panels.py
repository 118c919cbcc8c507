"""Panels: heat maps as pictures beside and over the photo."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

Photo = UInt8[np.ndarray, "s s 3"]
Heat = Float[np.ndarray, "s s"]

_STRENGTH = 0.6  # of the colour where the heat is highest; the photo stays visible everywhere


def heat_colors(heat: Heat) -> Photo:
    """A heat map in [0, 1] as colours, black for none to yellow for most."""
    levels = (np.clip(heat, 0, 1) * 255).astype(np.uint8)
    colors: Photo = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[:, :, ::-1]  # BGR to RGB
    return colors


def overlay(photo: Photo, heat: Heat) -> Photo:
    """The photo with the heat laid over it, transparent where there is none."""
    opacity = _STRENGTH * np.clip(heat, 0, 1)[:, :, None]
    mixed: Photo = np.rint(photo * (1 - opacity) + heat_colors(heat) * opacity).astype(np.uint8)
    return mixed


def panel(photo: Photo, heat: Heat, *, side: int = 224) -> UInt8[np.ndarray, "side width 3"]:
    """Photo, heat map and overlay side by side, each `side` pixels wide."""
    parts = [_resized(p, side) for p in (photo, heat_colors(heat), overlay(photo, heat))]
    gap = np.full((side, 4, 3), 255, np.uint8)
    return np.hstack([parts[0], gap, parts[1], gap, parts[2]])


def _resized(photo: Photo, side: int) -> Photo:
    method = cv2.INTER_NEAREST if photo.shape[0] < side // 2 else cv2.INTER_AREA
    return cv2.resize(photo, (side, side), interpolation=method).astype(np.uint8)
