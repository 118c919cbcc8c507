"""What photos share with known images: the same file by its digest, edited copies by their pixels."""

import shutil

import cv2
import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageOps

from discern.data.duplicates.overlap import overlap
from discern.data.scan import scan
from discern.data.sources import open_dataset


def textured(seed, side=96):
    """A picture with large and small shapes, like no other."""
    random = np.random.default_rng(seed)
    coarse = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), (side + 32, side), interpolation=cv2.INTER_CUBIC)
    return Image.fromarray(cv2.addWeighted(coarse, 0.9, random.integers(0, 256, coarse.shape, np.uint8), 0.1, 0))


@pytest.fixture
def places(tmp_path):
    """`places("known", {"cat/0.png": picture})` writes pictures and lists them."""

    def write(into, pictures):
        for name, picture in pictures.items():
            (tmp_path / into / name).parent.mkdir(parents=True, exist_ok=True)
            picture.save(tmp_path / into / name)
        return tmp_path / into

    return write


def scanned(root, *, size=32, fit="pad"):
    dataset, pixels = scan(open_dataset(root), size=size, fit=fit)
    return dataset.with_columns(pl.Series("split", ["train"] * len(dataset))), pixels


@pytest.fixture
def known(places):
    """Twelve pictures of two classes."""
    return places("known", {f"{'cat' if n % 2 else 'dog'}/{n:02d}.png": textured(n) for n in range(12)})


def found(photos, known, **options):
    dataset, pixels = scanned(photos, **options)
    result = overlap(dataset, pixels, scanned(known, **options)[0], fit=options.get("fit", "pad"))
    return {copy.photo: (copy.image, copy.identical) for copy in result.copies}, result.gone


@pytest.mark.parametrize("fit", ["pad", "squash", "crop"])
@pytest.mark.parametrize("size", [32, 64])
def test_each_copy_is_matched_with_what_it_is_a_copy_of(places, known, size, fit):
    photos = places(
        "photos",
        {
            "cat/mirrored.png": ImageOps.mirror(textured(3)),
            "cat/new.png": textured(103),
            "cat/small.jpg": textured(5).resize((64, 48)),
            "dog/brighter.png": textured(8).point(lambda value: min(255, value * 1.15)),
            "dog/new.png": textured(104),
            "dog/turned.png": textured(10).rotate(90, expand=True),
        },
    )
    shutil.copy(known / "dog/02.png", photos / "dog/same.png")
    copies, gone = found(photos, known, size=size, fit=fit)
    expected = {
        "cat/mirrored.png": ("cat/03.png", False),
        "cat/small.jpg": ("cat/05.png", False),
        "dog/brighter.png": ("dog/08.png", False),
        "dog/turned.png": ("dog/10.png", False),
        "dog/same.png": ("dog/02.png", True),
    }
    if fit == "crop":  # of a turned picture other edges are cut away
        expected.pop("dog/turned.png")
        copies.pop("dog/turned.png", None)
    assert copies == expected
    assert gone == 0


def test_a_copy_of_a_copy_counts_and_copies_among_the_photos_do_not(places, known):
    photos = places("photos", {"cat/a.png": ImageOps.mirror(textured(1)), "dog/b.png": textured(200)})
    ImageOps.mirror(textured(1)).save(photos / "cat/a.jpg", quality=80)
    textured(200).save(photos / "dog/b.jpg", quality=80)
    shutil.copy(photos / "cat/a.png", photos / "dog/a.png")
    copies, _ = found(photos, known)
    assert set(copies) == {"cat/a.png", "cat/a.jpg", "dog/a.png"}
    assert set(copies.values()) == {("cat/01.png", False)}


def test_the_identical_file_is_named_before_a_similar_one(places, known):
    photos = places("photos", {"cat/new.png": textured(300), "dog/new.png": textured(301)})
    textured(7).save(known / "cat/00.jpg", quality=90)  # before cat/07.png in every list
    shutil.copy(known / "cat/07.png", photos / "cat/same.png")
    assert found(photos, known)[0] == {"cat/same.png": ("cat/07.png", True)}


def test_what_is_gone_is_known_by_its_digest_only(places, known):
    photos = places("photos", {"cat/mirrored.png": ImageOps.mirror(textured(3)), "dog/new.png": textured(104)})
    shutil.copy(known / "cat/05.png", photos / "cat/same.png")
    before, _ = scanned(known)
    dataset, pixels = scanned(photos)
    for name in ("cat/03.png", "cat/05.png"):
        (known / name).unlink()
    textured(400).save(known / "dog/02.png")
    result = overlap(dataset, pixels, before, fit="pad")
    assert [(copy.photo, copy.image, copy.identical) for copy in result.copies] == [
        ("cat/same.png", "cat/05.png", True)
    ]
    assert result.gone == 3


def test_a_place_that_cannot_even_be_asked_is_gone(places, known):
    before, _ = scanned(known)
    away = before.with_columns(pl.Series("file", ["carrier-pigeon://coop/a.tar"] * len(before)))
    shutil.copytree(known, known.parent / "photos")
    dataset, pixels = scanned(known.parent / "photos")
    result = overlap(dataset, pixels, away, fit="pad")
    assert [copy.identical for copy in result.copies] == [True] * 12
    assert result.gone == 12
