"""Training on images that are decoded anew in every epoch: from shards and Parquet to the report, resumed, refused."""

import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import discern as package
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.data.streaming import SMALL
from discern.deploy.predict import load_predictor
from discern.runs.run import CHECKPOINTS, Run

STREAM = ("--set", "pixels=stream")
SETTINGS = {
    "model": "regularized-cnn",
    "size": 16,
    "epochs": 3,
    "batch_size": 8,
    "pixels": "stream",
    "precision": "float32",
    "channels_last": False,
    "patience": None,
}

# Trains and kills itself in the second of the epochs, each of 5 batches, with no chance to tidy up.
CHILD = """
import os, signal, sys
from contextlib import contextmanager
import discern, discern.progress

class Watch(discern.progress.Silent):
    @contextmanager
    def track(self, label, total, unit="images"):
        left = [8]
        def advance(done, note):
            left[0] -= label.startswith("Training") and done > 0
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        yield advance

discern.train(sys.argv[1], runs=sys.argv[2], name="killed", progress=Watch(), **eval(sys.argv[3]))
"""


@pytest.fixture(params=["tar", "parquet"])
def place(request, colours, pack):
    """48 images of three classes in tar shards or row groups of 10, sorted by class."""
    return pack(colours({"red": 16, "green": 16, "blue": 16}), request.param)


def kept(cache):
    """Bytes of decoded images in the cache."""
    return sum(file.stat().st_size for file in cache.rglob("pixels.u8"))


def test_from_shards_to_the_report(discern, place, tmp_path, tiny, cache):
    answer = discern("train", place, *tiny, *STREAM, "--size", "40", "--runs", tmp_path / "runs", "--name", "streamed")
    assert answer.code == 0, answer.err
    assert kept(cache) == 48 * 3 * SMALL**2
    run = Run(tmp_path / "runs" / "streamed")
    assert "pixels: stream" in run.recipe_file.read_text()
    assert run.info["preprocessing"]["size"] == 40
    assert run.predictions.split("test").images == run.dataset.split("test").images
    assert len(run.metrics) == 2
    assert len(list((run.path / "explanations").glob("*.png"))) > 3
    assert (run.path / "report.html").exists()
    assert set(run.baseline_scores) == {"majority class", "color histogram"}
    again = discern("train", place, "--recipe", run.recipe_file, "--runs", tmp_path / "runs", "--name", "again")
    assert again.code == 0, again.err
    for name in ("predictions.parquet", "checkpoints/best_val_loss.safetensors"):
        assert (tmp_path / "runs" / "again" / name).read_bytes() == (run.path / name).read_bytes()


def test_a_model_says_the_same_of_streamed_images_as_of_pixels(place, tmp_path):
    run = package.train(place, runs=tmp_path / "runs", **{**SETTINGS, "epochs": 1})
    dataset, pixels = scan(open_dataset(place), size=16, fit="pad")
    index = dict(zip(dataset.images, dataset.index.tolist(), strict=True))
    judged = np.array([index[name] for name in run.predictions.images])
    np.testing.assert_array_equal(load_predictor(run).over(pixels, judged), run.predictions.probabilities)
    disk = package.train(place, runs=tmp_path / "runs", **{**SETTINGS, "epochs": 1, "pixels": "disk"})
    assert disk.info["preprocessing"] == run.info["preprocessing"]
    for name in ("color histogram", "majority class"):
        file = f"baselines/{name}.parquet"
        assert (disk.path / file).read_bytes() == (run.path / file).read_bytes()


def test_a_killed_run_goes_on_to_the_same_bits(place, tmp_path):
    whole = package.train(place, runs=tmp_path / "whole", **SETTINGS)
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    words = [sys.executable, "-c", CHILD, str(place), str(tmp_path / "runs"), repr(SETTINGS)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    killed = Run(tmp_path / "runs" / "killed")
    assert len(killed.metrics) == 1
    resumed = package.resume(killed.path)
    assert len(resumed.metrics) == 3
    for name in CHECKPOINTS:
        ours, theirs = load_file(resumed.checkpoint(name)), load_file(whole.checkpoint(name))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name
    file = "predictions.parquet"
    assert (resumed.path / file).read_bytes() == (whole.path / file).read_bytes()


def test_other_photos_are_scored_without_keeping_them(discern, place, colours, pack, tmp_path, tiny, cache):
    assert discern("train", place, *tiny, *STREAM, "--size", "40", "--runs", tmp_path, "--name", "run").code == 0
    others = pack(colours({"red": 4, "green": 4, "blue": 4}, into="others", seed=9), "tar")
    answer = discern("evaluate", tmp_path / "run", others, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["splits"]["test"]["n"] == 12
    assert kept(cache) == (48 + 12) * 3 * SMALL**2
    assert discern("explain", tmp_path / "run").code == 0


def test_a_balance_that_needs_any_order_is_refused_before_anything_is_read(discern, place, tmp_path, tiny, cache):
    answer = discern("train", place, *tiny, *STREAM, "--balance", "sampler", "--runs", tmp_path / "runs")
    assert answer.code == 2
    assert "balance 'sampler'" in answer.err
    assert kept(cache) == 0
    assert not (tmp_path / "runs").exists()


def test_data_larger_than_the_disk_are_refused_and_stream(discern, place, tmp_path, tiny, monkeypatch):
    disk = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=48 * 3 * 40**2 - 1))
    options = ("train", place, *tiny, "--size", "40", "--runs", tmp_path / "runs")
    answer = discern(*options)
    assert answer.code == 2
    assert "--set pixels=stream" in answer.err
    assert not (tmp_path / "runs").exists()
    assert discern(*options, *STREAM).code == 0
