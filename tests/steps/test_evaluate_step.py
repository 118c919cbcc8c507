"""Evaluating on photos: classes are matched by name, leakage is said, nothing in the Run is overwritten."""

import shutil

import pytest

from discern.errors import DataError
from discern.evaluation import metrics
from discern.progress import Silent
from discern.runs.run import Run
from discern.steps.evaluate import evaluate


class Listener(Silent):
    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


@pytest.fixture
def run(trained, tmp_path):
    # Other tests may have scored the shared run on photos of theirs.
    return Run(shutil.copytree(trained.run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluations")))


def test_its_own_splits_come_from_what_is_stored(run):
    assert evaluate(run) == run.evaluation == metrics.evaluate(run.predictions)


def test_photos_with_their_own_split_are_scored_on_its_test_part(run, colours):
    photos = colours({f"{split}/{name}": 2 for split in ("train", "test") for name in ("red", "green", "blue")})
    listener = Listener()
    assert evaluate(run, photos, progress=listener).splits["test"].n == 6
    assert not [line for line in listener.said if "leakage" in line]


def test_training_images_among_the_photos_are_said(run, trained):
    listener = Listener()
    evaluate(run, trained.photos, progress=listener)
    (leak,) = [line for line in listener.said if "leakage" in line]
    assert "30 of these 36 images are files the model was trained or chosen with" in leak


def test_an_unknown_class_is_refused(run, colours):
    with pytest.raises(DataError, match="classes that training had not: pink"):
        evaluate(run, colours({"red": 2, "green": 2, "blue": 2, "pink": 2}))


def test_a_missing_class_is_refused(run, colours):
    with pytest.raises(DataError, match="blue"):
        evaluate(run, colours({"red": 2, "green": 2}))
    assert not (run.path / "evaluations").exists()


def test_unreadable_photos_are_left_out_and_said(run, colours):
    photos, listener = colours({"red": 3, "green": 2, "blue": 2}), Listener()
    (photos / "red" / "0.jpg").write_bytes(b"")
    assert evaluate(run, photos, progress=listener).splits["test"].n == 6
    assert "warning: red/0.jpg is left out: it is empty (0 bytes)." in listener.said


def test_what_the_run_holds_stays_and_the_scores_are_kept_beside(run, colours):
    before = {name: (run.path / name).read_bytes() for name in ("predictions.parquet", "evaluation.json", "run.json")}
    evaluate(run, colours({"red": 2, "green": 2, "blue": 2}))
    evaluate(run, colours({"red": 3, "green": 2, "blue": 2}, into="other"))
    assert {name: (run.path / name).read_bytes() for name in before} == before
    kept = sorted(folder.name.rpartition("-")[0] for folder in (run.path / "evaluations").iterdir())
    assert kept == ["colours", "other"]
