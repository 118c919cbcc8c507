from collections import Counter

import numpy as np
import pytest
import torch

from discern.data.augment import warp_cpu
from discern.data.policies import BINS, FACTORS, MOVES, OPERATIONS, Operations, amounts, drawn

KEYS = np.random.default_rng(0).integers(0, 2**63, 20_000, np.uint64)
IDENTITY = np.array([[[1.0, 0, 0], [0, 1, 0]]])
THEIRS = {
    "identity": "Identity",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "saturation": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
}


def many(policy, count=2, strength=9, size=224, **options):
    options = {"seed": 0, "epoch": 0, "keys": KEYS} | options
    return drawn(policy, count=count, strength=strength, size=size, **options)


def reference(policy):
    v2 = pytest.importorskip("torchvision.transforms.v2")
    return v2.TrivialAugmentWide() if policy == "trivial" else v2.RandAugment()


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("policy", ["trivial", "rand"])
def test_strengths_are_torchvisions(policy, size):
    space, ours = reference(policy)._AUGMENTATION_SPACE, amounts(policy, size)
    assert {THEIRS[name] for name in OPERATIONS} == set(space)
    for name in OPERATIONS:
        table, signed = space[THEIRS[name]]
        assert signed == (name in (*MOVES, *FACTORS))
        theirs = table(BINS, size, size)
        if theirs is None:
            continue
        theirs = theirs.double().numpy()
        if name.startswith("translate"):
            theirs = (theirs + 1e-4).astype(int)  # as it does when it moves the image; its 16 is a trifle short of 16
        if name == "solarize":
            theirs = theirs * 255
        np.testing.assert_allclose(ours[name], theirs, atol=1e-4)


def test_trivial_draws_one_of_every_operation_in_every_strength():
    found = many("trivial")
    assert found.names.shape == (20_000, 1)
    share = {name: count / 20_000 for name, count in Counter(found.names[:, 0].tolist()).items()}
    assert set(share) == set(OPERATIONS)
    assert all(abs(part - 1 / 14) < 0.01 for part in share.values())
    table = amounts("trivial", 224)
    for name in OPERATIONS:
        values = found.amounts[found.names == name]
        signed = name in (*MOVES, *FACTORS)
        assert set(np.abs(values)) == set(table[name])
        assert abs((values < 0).mean() - (0.48 if signed else 0)) < 0.05, "one strength in 31 is none at all"


def test_rand_draws_as_many_operations_of_one_strength():
    found = many("rand", count=3, strength=20)
    assert found.names.shape == (20_000, 3)
    table = amounts("rand", 224)
    for name in OPERATIONS:
        assert set(np.abs(found.amounts[found.names == name])) == {table[name][20]}
        assert abs((found.names == name).mean() - 1 / 14) < 0.01
    pairs = Counter(zip(found.names[:, 0], found.names[:, 1], strict=True))
    assert len(pairs) == 14**2, "drawn one without regard to the other"


def test_no_policy_does_nothing():
    found = many("none")
    assert not found.changes
    np.testing.assert_array_equal(found.joined(IDENTITY, 224), IDENTITY)


def test_what_an_image_gets_depends_on_seed_epoch_and_image_alone():
    whole, part = many("rand"), many("rand", keys=KEYS[[5, 3, 3]])
    np.testing.assert_array_equal(part.names, whole.names[[5, 3, 3]])
    np.testing.assert_array_equal(part.amounts, whole.amounts[[5, 3, 3]])
    for other in ({"seed": 1}, {"epoch": 1}):
        assert (many("rand", **other).names == whole.names).mean() < 0.1


def test_factors_are_about_one_and_moves_change_no_color():
    names = np.array([["brightness", "rotate"], ["solarize", "posterize"], ["identity", "saturation"]])
    operations = Operations(names=names, amounts=np.array([[-0.3, 20.0], [100.0, 4.0], [0.0, 0.9]]))
    expected = [["brightness", "none"], ["solarize", "posterize"], ["none", "saturation"]]
    assert operations.changes.kinds.tolist() == expected
    assert operations.changes.strengths[operations.changes.kinds != "none"].tolist() == [0.7, 100, 4, 1.9]


def one(*steps):
    names, values = zip(*steps, strict=True)
    return Operations(names=np.array([names]), amounts=np.array([values], float))


@pytest.mark.parametrize("size", [40, 41])
@pytest.mark.parametrize(
    ("name", "amount"),
    [
        ("shear_x", 0.3),
        ("shear_x", -0.5),
        ("shear_y", 0.4),
        ("translate_x", 7.0),
        ("translate_y", -5.0),
        ("rotate", 25.0),
        ("rotate", -80.0),
    ],
)
def test_each_move_is_torchvisions_where_the_picture_reaches(name, amount, size):
    ramp = np.linspace(20, 230, size)
    image = np.stack([np.add.outer(0 * ramp, ramp), np.add.outer(ramp, 0 * ramp), np.full((size, size), 200.0)], 2)
    image = image.round().astype(np.uint8)
    ours = warp_cpu(image[None], one((name, amount)).joined(IDENTITY, size))[0]
    bilinear = pytest.importorskip("torchvision.transforms.v2").InterpolationMode.BILINEAR
    theirs = reference("trivial")._apply_image_or_video_transform(
        torch.from_numpy(image).permute(2, 0, 1), THEIRS[name], amount, bilinear, {}
    )
    theirs = theirs.permute(1, 2, 0).numpy()
    seen = theirs[:, :, 2] == 200  # beyond the picture theirs is black, ours mirrored
    assert 0.2 < seen.mean() < 1
    assert np.abs(ours.astype(int) - theirs)[seen].max() <= 1
    assert (ours[:, :, 2] == 200).all()


def test_moves_follow_on_each_other_and_on_what_was_there():
    mirrored = np.array([[[-1.0, 0, 39], [0, 1, 0]]])
    steps = [("shear_x", 0.3), ("brightness", 0.5), ("rotate", 25.0), ("translate_y", 4.0)]
    point = np.array([7.0, 22.0, 1.0])
    for step in reversed(steps):  # from the finished picture back to what it was made of
        point[:2] = (one(step).joined(IDENTITY, 40) @ point)[0]
    np.testing.assert_allclose(one(*steps).joined(mirrored, 40) @ [7.0, 22.0, 1.0], mirrored @ point)
