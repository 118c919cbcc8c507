"""Black and white bars around pictures: copies with and without them are copies, bars alone make none."""

import cv2
import numpy as np
import pytest
from PIL import Image

from discern.data.duplicates.search import copies
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.data.statistics import inside_bars


def picture(seed, width=160, height=120):
    noise = np.random.default_rng(seed).integers(30, 226, (9, 12, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).clip(24, 231)


def framed(inner, level, *, top=0, left=0):
    return cv2.copyMakeBorder(inner, top, top, left, left, cv2.BORDER_CONSTANT, value=(level,) * 3)


def found(folder, pictures):
    for name, each in pictures.items():
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(each).save(path)
    dataset, pixels = scan(open_dataset(folder / "photos"), size=112, fit="pad")
    clusters, _ = copies(dataset, pixels)
    return [{dataset.images[row] for row in cluster} for cluster in clusters]


@pytest.mark.parametrize("level", [0, 12, 245, 255])
def test_what_lies_between_bars_is_found(level):
    grey = cv2.cvtColor(framed(picture(0), level, top=20, left=30), cv2.COLOR_RGB2GRAY)
    rows, columns = inside_bars(grey)
    assert (rows, columns) == (slice(20, 140), slice(30, 190))


def test_a_picture_without_bars_is_taken_whole():
    grey = cv2.cvtColor(picture(1), cv2.COLOR_RGB2GRAY)
    assert grey[inside_bars(grey)].shape == grey.shape


@pytest.mark.parametrize("level", [0, 255])
def test_a_page_of_one_colour_is_no_bar(level):
    grey = np.full((50, 60), level, np.uint8)
    assert grey[inside_bars(grey)].shape == grey.shape


@pytest.mark.parametrize("level", [0, 255])
def test_a_letterboxed_copy_is_a_copy(tmp_path, level):
    pictures = {f"cat/{k}.png": picture(k) for k in range(4)} | {f"dog/{k}.png": picture(k) for k in range(10, 14)}
    pictures["dog/boxed.png"] = framed(picture(2), level, top=25)
    assert found(tmp_path, pictures) == [{"cat/2.png", "dog/boxed.png"}]


def test_thin_strips_between_bars_are_not_copies_of_each_other(tmp_path):
    strips = {
        f"{c}/{k}.png": framed(picture(k + 50, 12, 160), 0, left=74) for c, k in zip("ab" * 8, range(16), strict=True)
    }
    assert found(tmp_path, strips) == []


def test_different_pictures_in_equal_bars_are_not_copies(tmp_path):
    boxed = {f"{c}/{k}.png": framed(picture(k, 160, 60), 0, top=50) for c, k in zip("ab" * 8, range(16), strict=True)}
    assert found(tmp_path, boxed) == []
