"""Preparing: the unreadable left out, the splits made, the findings said."""

import pytest

from discern.data.sources import open_dataset
from discern.errors import DataError
from discern.progress import Silent
from discern.steps.prepare import prepare


class Listener(Silent):
    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


def prepared(data, progress=None):
    return prepare(data, size=8, fit="pad", seed=0, val_share=0.15, progress=progress or Silent())


def test_every_readable_image_is_in_one_split_and_has_its_pixels(photos):
    done = prepared(photos({"cat": 10, "dog": 10}))
    assert done.dataset.split_counts() == {"train": 12, "val": 4, "test": 4}
    assert done.pixels.take(done.dataset.index).shape == (20, 8, 8, 3)
    assert done.findings == ()


def test_the_unreadable_are_left_out_and_said(photos):
    root, listener = photos({"cat": 8, "dog": 8}), Listener()
    (root / "cat" / "0.jpg").write_bytes(b"")
    done = prepared(root, listener)
    assert "cat/0.jpg" not in done.dataset.images
    assert [finding.kind for finding in done.findings] == ["unreadable"]
    assert listener.said == ["warning: unreadable: cat/0.jpg cannot be used: it is empty (0 bytes)."]


def test_a_class_whose_images_are_all_unreadable_is_refused(photos):
    root = photos({"cat": 8, "dog": 4})
    for file in (root / "dog").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match="dog"):
        prepared(open_dataset(root))


def test_no_readable_image_at_all(photos):
    root = photos({"cat": 2, "dog": 2})
    for file in root.rglob("*.*"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"None of the 4 images in .* can be decoded; the first, cat/0\.jpg: it is em"):
        prepared(root)
