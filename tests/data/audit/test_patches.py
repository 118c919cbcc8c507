"""Features without pretrained weights: the same for the same picture, telling textures apart."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from discern.data.audit.patches import patch_features
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.progress import Silent


def features(root, *, size=48, **options):
    data, pixels = scan(open_dataset(root), size=size, fit="pad")
    return data, patch_features(data, pixels, **options)


def test_a_row_of_finite_numbers_for_every_image(scenes):
    _, found = features(scenes({"cat": 7, "dog": 5}))
    assert found.shape == (12, 1024)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found.std(axis=0).max() > 0


@pytest.mark.parametrize("counts", [{"cat": 1, "dog": 1}, {"cat": 2, "dog": 1}])
def test_a_handful_of_images_is_enough(scenes, counts):
    _, found = features(scenes(counts))
    assert found.shape == (sum(counts.values()), 1024)
    assert np.isfinite(found).all()


def test_flat_images_alone_have_features_too(tmp_path):
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (40, 40), (90, 140, 60)).save(tmp_path / name / "flat.png")
    assert np.isfinite(features(tmp_path)[1]).all()


def test_the_same_images_and_seed_give_the_same_features(scenes):
    root = scenes({"cat": 9, "dog": 9})
    np.testing.assert_array_equal(features(root)[1], features(root)[1])
    assert not np.array_equal(features(root, seed=1)[1], features(root)[1])


def test_a_picture_has_the_same_features_wherever_it_stands(scenes):
    import shutil

    root = scenes({"cat": 8, "dog": 70})
    shutil.copy(root / "cat/000.jpg", root / "dog/zzz.jpg")  # in another batch, too
    data, found = features(root)
    one, other = (data.images.index(name) for name in ("cat/000.jpg", "dog/zzz.jpg"))
    np.testing.assert_allclose(found[one], found[other], atol=1e-5)


def test_textures_are_told_apart(scenes):
    data, found = features(scenes({"cat": 60, "dog": 60, "fox": 60}))
    order = np.random.default_rng(0).permutation(len(data))
    taught, asked = order[:120], order[120:]
    scaled = (found - found[taught].mean(axis=0)) / (found[taught].std(axis=0) + 1e-6)
    model = LogisticRegression(C=0.01).fit(scaled[taught], data.labels[taught])
    assert model.score(scaled[asked], data.labels[asked]) > 0.9


def test_progress_counts_every_image(scenes):
    counted = []

    class Counter(Silent):
        def track(self, label, total, unit="images"):
            counted.append(total)
            return super().track(label, total, unit)

    features(scenes({"cat": 40, "dog": 40}), progress=Counter())
    assert counted == [80]
