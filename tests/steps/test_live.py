"""What can be looked at while a training runs, and that looking changes nothing."""

import json
import re
import xml.dom.minidom
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import discern as package
from discern.data.sources import open_dataset
from discern.errors import MissingExtra
from discern.models.preprocessing import Preprocessing
from discern.progress import Silent
from discern.runs.run import Run
from discern.steps.live import pictured, shares
from discern.training.tracking import TRACKERS

SHORT = {"model": "simple-cnn", "size": 8, "epochs": 3, "precision": "float32", "channels_last": False}


class Stops(Silent):
    """Ctrl-C when an epoch is done; keeps how many points the curves had then."""

    def __init__(self, run, epoch):
        self.run, self.epoch, self.points = run, epoch, 0

    def track(self, label, total, unit="images"):
        return nullcontext(self.advance)

    def advance(self, done, note):
        if note.startswith(f"epoch {self.epoch}/") and "val acc" in note:
            self.points = titled(self.run)
            raise KeyboardInterrupt


def titled(run):
    """The epoch that curves.svg tells of, which must be XML."""
    text = (run / "curves.svg").read_text()
    xml.dom.minidom.parseString(text)
    return int(re.search(r"<title>.*epoch (\d+):", text)[1])


@pytest.fixture
def train(colours, tmp_path):
    """`train("name", mixup=0.5)`: a Run on one small set of photos."""
    photos = open_dataset(colours({"red": 8, "green": 8, "blue": 8}))

    def make(name, **changes):
        return package.train(photos, runs=tmp_path / "runs", name=name, **{**SHORT, **changes})

    return make


def sheet(run):
    return np.asarray(Image.open(run.path / "first_batch.png"))


def test_a_run_leaves_its_curves_and_its_first_batch(trained):
    assert titled(trained.run) == 2
    with Image.open(trained.run / "first_batch.png") as picture:
        assert picture.mode == "RGB"
        assert picture.width > 8 * 128
    report = (trained.run / "report.html").read_text()
    assert "What the model sees" in report


def test_the_curves_are_there_while_it_trains(train, tmp_path):
    stops = Stops(tmp_path / "runs" / "a", 2)
    with pytest.raises(KeyboardInterrupt):
        train("a", progress=stops)
    assert stops.points >= 1
    assert titled(tmp_path / "runs" / "a") == 2  # drawn once more when it ends, however it ends
    run = package.resume(tmp_path / "runs" / "a")
    assert titled(run.path) == 3


def test_watching_changes_no_bit_of_the_weights(train, monkeypatch):
    watched = train("watched", mixup=0.4, cutmix=1.0, track=["tensorboard"])
    monkeypatch.setattr("discern.steps.train.live", lambda job, progress: nullcontext(job))
    alone = train("alone", mixup=0.4, cutmix=1.0)
    assert not (alone.path / "first_batch.png").exists()
    for name in ("last", "best_val_loss"):
        assert weights(watched, name) == weights(alone, name)


def weights(run, name):
    from safetensors.torch import load_file

    return {key: value.numpy().tobytes() for key, value in load_file(run.checkpoint(name)).items()}


def test_the_first_batch_shows_what_is_mixed_and_what_is_not(train):
    plain, mixed, kept = train("plain"), train("mixed", mixup=2.0), train("kept", mixup=2.0, phases=[HEAD])
    assert sheet(mixed).shape[0] > sheet(plain).shape[0]  # two lines of words
    # What is below the head is computed once, so that there is nothing to mix.
    assert np.array_equal(sheet(kept), sheet(plain))


HEAD = {"train": "head", "epochs": 1}


def test_the_first_batch_is_of_the_size_that_a_growing_training_begins_with(train):
    grown = train("grown", model="mini-cnn", size=64, start_size=32, epochs=1)
    first = sheet(grown)[10 : 10 + 128, 10 : 10 + 128]
    assert np.array_equal(first[::4, ::4].repeat(4, 0).repeat(4, 1), first)  # 32 pixels, each four times as wide


def test_pictures_are_what_was_normalised():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 5, 5, 3), np.uint8))
    record = Preprocessing(size=5, fit="pad", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.1))
    assert np.array_equal(pictured(record.normalize(images), record), images.numpy())


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ([0, 1, 0], ["b"]),
        ([0.7, 0, 0.3], ["a 70%", "c 30%"]),
        ([0.4, 0.6, 0], ["b 60%", "a 40%"]),
        ([0, 1e-3, 1], ["c"]),
    ],
)
def test_an_image_is_called_by_its_class_or_by_both_with_their_shares(target, words):
    assert shares(torch.tensor(target, dtype=torch.float32), ("a", "b", "c")) == words


def test_a_tracked_run_goes_on_being_tracked(train, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train("a", track=["tensorboard"], progress=Stops(tmp_path / "runs" / "a", 2))
    run = package.resume(tmp_path / "runs" / "a")
    found = EventAccumulator(str(run.path / "tensorboard"))
    found.Reload()
    assert [each.step for each in found.Scalars("train_loss")] == [1, 2, 3]
    assert run.info["tracking"] == {"tensorboard": {"epoch": 3}}


def test_the_command_line_names_several_trackers(discern, colours, tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for place in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{place}_DIR", str(tmp_path / place))
    where = ("--runs", tmp_path / "runs", "--name", "a", "--track", "wandb", "--track", "tensorboard", "--json")
    answer = discern("train", colours({"red": 8, "green": 8}), *tiny, *where)
    assert answer.json["epochs"] == 2
    tracking = json.loads((tmp_path / "runs" / "a" / "run.json").read_text())["tracking"]
    assert {name: kept["epoch"] for name, kept in tracking.items()} == {"wandb": 2, "tensorboard": 2}


def test_a_missing_package_is_told_before_any_work(colours, cache, tmp_path, monkeypatch):
    monkeypatch.setitem(TRACKERS, "no_such_tracker", TRACKERS["tensorboard"])
    with pytest.raises(MissingExtra, match="no_such_tracker"):
        package.train(colours({"red": 8}), "simple-cnn", runs=tmp_path / "runs", track=["no_such_tracker"])
    assert not (tmp_path / "runs").exists()
    assert not any(cache.iterdir())


def test_a_missing_package_is_told_before_a_run_goes_on(train, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        train("a", track=["tensorboard"], progress=Stops(tmp_path / "runs" / "a", 1))
    run = Run(tmp_path / "runs" / "a")
    monkeypatch.setitem(TRACKERS, "no_such_tracker", TRACKERS["tensorboard"])
    run.update(tracking={"no_such_tracker": {}})
    with pytest.raises(MissingExtra, match="no_such_tracker"):
        package.resume(run.path)


def test_tracking_is_not_asked_for_again_beside_resume(discern, trained):
    answer = discern("train", "--resume", trained.run, "--track", "tensorboard")
    assert answer.code == 2
    assert "leave out --track" in answer.err
