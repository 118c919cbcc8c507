from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from discern.data.curation.offline import Operation, apply, copies, drawn

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
WHOLE = np.full((40, 60), 255, np.uint8)


def done(kind, *parameters, picture=PICTURE, inside=WHOLE):
    return apply(picture, inside, (Operation(kind=kind, parameters=parameters),))


def test_each_operation_is_the_known_one():
    """Against torchvision on Pillow images, whose transforms made the prepared copies that this is to repeat."""
    functional = pytest.importorskip("torchvision.transforms.functional")
    image, bilinear = Image.fromarray(PICTURE), functional.InterpolationMode.BILINEAR
    pairs = [
        (done("rotate", 23.0), functional.rotate(image, 23.0, interpolation=bilinear)),
        (done("rotate", -40.0), functional.rotate(image, -40.0, interpolation=bilinear)),
        (done("shift", 0.15, -0.1), functional.affine(image, 0, [9, -4], 1, [0, 0])),
        (done("mirror"), functional.hflip(image)),
        (done("flip"), functional.vflip(image)),
        (done("brightness", 1.4), functional.adjust_brightness(image, 1.4)),
        (done("contrast", 0.5), functional.adjust_contrast(image, 0.5)),
        (done("contrast", 1.5), functional.adjust_contrast(image, 1.5)),
        (done("saturation", 0.6), functional.adjust_saturation(image, 0.6)),
        (done("hue", -0.31), functional.adjust_hue(image, -0.31)),
        (done("hue", 0.5), functional.adjust_hue(image, 0.5)),
        (done("blur", 1.3), functional.gaussian_blur(image, 3, 1.3)),
    ]
    for ours, theirs in pairs:
        assert np.abs(ours.astype(int) - np.asarray(theirs)).max() <= 1


@given(st.integers(0, 2**64 - 1), st.integers(0, 10_000))
def test_what_is_drawn_stays_in_its_bounds(key, number):
    operations = drawn(seed=1, key=key, number=number)
    kinds = [each.kind for each in operations]
    assert len(kinds) == len(set(kinds))
    bounds = {"rotate": (-40, 40), "shift": (-0.2, 0.2), "hue": (-0.5, 0.5), "blur": (0.1, 2.0)}
    bounds |= dict.fromkeys(("brightness", "contrast", "saturation"), (0.5, 1.5))
    for each in operations:
        assert all(bounds[each.kind][0] <= value <= bounds[each.kind][1] for value in each.parameters)
    colours = {"brightness", "contrast", "saturation", "hue"}
    assert colours & set(kinds) in (set(), colours)
    where = [place for place, kind in enumerate(kinds) if kind in colours]
    assert where == list(range(where[0], where[0] + 4)) if where else True


def test_subsets_of_one_to_six_come_in_every_order_and_flips_are_done_in_four_of_five():
    n, groups, first, colours = 6000, Counter(), Counter(), Counter()
    for key in range(n):
        kinds = [each.kind for each in drawn(seed=0, key=key, number=1)]
        groups.update(set(kinds))
        first.update(kinds[:1])
        colours.update([tuple(kind for kind in kinds if kind in ("brightness", "hue"))])
    # A subset of k of 6, k from 1 to 6 alike, holds a given operation in 7/12 of the cases.
    for kind in ("rotate", "shift", "blur", "brightness"):
        assert groups[kind] / n == pytest.approx(7 / 12, abs=0.03)
    for kind in ("mirror", "flip"):
        assert groups[kind] / n == pytest.approx(0.8 * 7 / 12, abs=0.03)
    assert min(first[kind] for kind in ("rotate", "shift", "blur")) / n > 0.13
    assert colours["brightness", "hue"] / colours["hue", "brightness"] == pytest.approx(1, abs=0.12)


def test_the_text_says_all_that_was_done():
    for key in range(50):
        operations = drawn(seed=3, key=key, number=2)
        texts = [str(each).split() for each in operations]
        again = tuple(Operation(kind=kind, parameters=tuple(map(float, numbers))) for kind, *numbers in texts)
        assert again == operations
    assert str(Operation(kind="shift", parameters=(0.126, -0.084))) == "shift 0.126 -0.084"


def test_copies_depend_on_seed_and_source_and_not_on_how_many_are_made():
    few = [(copy.tobytes(), done) for copy, done in copies(PICTURE, WHOLE, 3, seed=0, key=9)]
    many = [(copy.tobytes(), done) for copy, done in copies(PICTURE, WHOLE, 8, seed=0, key=9)]
    assert many[:3] == few
    for other in ({"seed": 1, "key": 9}, {"seed": 0, "key": 10}):
        assert not {copy.tobytes() for copy, _ in copies(PICTURE, WHOLE, 8, **other)} & {copy for copy, _ in many}


def test_no_copy_is_the_photo_or_another_copy():
    made = [copy.tobytes() for copy, _ in copies(PICTURE, WHOLE, 300, seed=0, key=4)]
    assert len({PICTURE.tobytes(), *made}) == 301


def test_a_picture_of_one_colour_has_copies_all_the_same():
    grey = np.zeros((8, 8, 3), np.uint8)
    assert len(list(copies(grey, np.full((8, 8), 255, np.uint8), 3, seed=0, key=4))) == 3


@given(st.integers(0, 2**64 - 1))
def test_padding_stays_black_whatever_is_done(key):
    inside = np.zeros((40, 60), np.uint8)
    inside[10:30] = 255
    padded = np.where(inside[..., None] > 0, np.maximum(PICTURE, 60), 0).astype(np.uint8)
    operations = drawn(seed=0, key=key, number=1)
    moves = tuple(each for each in operations if each.kind in ("rotate", "shift", "mirror", "flip"))
    reached = apply(np.dstack([inside] * 3), inside, moves).max(axis=2)
    assert not apply(padded, inside, operations)[reached == 0].any()
    assert apply(padded, inside, operations).any()


def test_contrast_does_not_count_the_padding():
    inside = np.zeros((40, 60), np.uint8)
    inside[10:30] = 255
    padded = np.where(inside[..., None] > 0, PICTURE, 0).astype(np.uint8)
    alone = done("contrast", 0.5, picture=PICTURE[10:30].copy(), inside=inside[10:30].copy())
    assert (done("contrast", 0.5, picture=padded, inside=inside)[10:30] == alone).all()
