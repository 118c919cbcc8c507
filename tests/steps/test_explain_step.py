"""Explaining: a heat map per image, of the images that tell most."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from discern.errors import UnreadableImage
from discern.runs.predictions import Predictions
from discern.runs.run import Run
from discern.steps.explain import explain, telling_rows


@pytest.fixture
def run(trained, tmp_path):
    return Run(shutil.copytree(trained.run, tmp_path / "run"))


def test_chosen_images_have_a_folder_of_their_own(run, trained):
    before = (run.path / "explanations" / "explanations.json").read_bytes()
    files = [trained.photos / "red" / "0.jpg", trained.photos / "green" / "2.png"]
    records = explain(run, files)
    assert [record["image"] for record in records] == [str(file) for file in files]
    assert [record["label"] for record in records] == [None, None]
    chosen = run.path / "explanations" / "chosen"
    kept = json.loads((chosen / "explanations.json").read_text())
    assert [{**record, "path": str(chosen / record["file"])} for record in kept] == records
    assert sorted(file.name for file in chosen.iterdir()) == ["00.png", "01.png", "explanations.json"]
    assert (run.path / "explanations" / "explanations.json").read_bytes() == before
    with Image.open(chosen / "00.png") as picture:
        assert picture.width > 2 * picture.height  # photo, evidence, both


def test_what_it_says_is_what_the_predictions_say(run):
    said = run.predictions
    for record in explain(run):
        row = said.images.index(record["image"])
        assert said.classes[said.labels[row]] == record["label"]
        assert said.classes[said.predicted[row]] == record["prediction"]
        assert float(said.confidence[row]) == record["confidence"]


def test_an_image_that_cannot_be_read(run, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(UnreadableImage, match=r"a\.jpg cannot be used"):
        explain(run, [tmp_path / "a.jpg"])


def test_the_most_confident_right_ones_class_by_class_then_the_most_confident_wrong_ones():
    confidence = np.linspace(0.99, 0.6, 20)
    labels = np.array([0] * 10 + [1] * 10)
    predicted = labels.copy()
    predicted[[3, 5, 15]] = 1 - labels[[3, 5, 15]]
    probabilities = np.where(np.arange(2) == predicted[:, None], confidence[:, None], 1 - confidence[:, None])
    names = tuple(f"{i}" for i in range(20))
    said = Predictions(
        images=names,
        splits=("test",) * 20,
        labels=labels,
        probabilities=probabilities.astype(np.float32),
        classes=("a", "b"),
    )
    rows = telling_rows(said)
    assert rows == [0, 10, 1, 11, 2, 12, 3, 5, 15]
