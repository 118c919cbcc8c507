"""A training that stops anywhere, in the middle of an epoch too, goes on to the same bits, whatever is switched on."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

import discern
from discern.progress import Silent
from discern.training import loop
from discern.training.checkpoint import position_of
from discern.training.loop import fit

EPOCHS, STEPS = 3, 5

EVERYTHING = {
    "epochs": EPOCHS,
    "model": "regularized-cnn",  # dropout and batch norm
    "augment": {"flip": 0.5, "shift": 0.1, "rotate": 10, "zoom": 0.1},
    "mixup": 0.4,
    "cutmix": 1.0,
    "label_smoothing": 0.1,
    "clip": 1.0,
    "accumulate": 2,
    "lookahead": 4,
    "schedule": "onecycle",
}

WAYS = {
    "adamw, moving average": {"ema": 0.9},
    "adam, focal": {"optimizer": "adam", "amsgrad": True, "loss": "focal", "ema": 0.9},
    "sgd, mean of ends": {"optimizer": "sgd", "swa": 0.7, "lookahead": 0},
    "muon, plateau, oversampled": {"optimizer": "muon", "schedule": "plateau", "balance": "oversample"},
    "growing images": {"start_size": 12, "ema": 0.9, "model": "fast-cnn"},
    "validated now and then": {"validate_every": 2},
}


class Killed(BaseException):
    """As sudden as a kill can be within one process."""


class KillAt(Silent):
    """Ends the training when it tells of a step for the N-th time."""

    def __init__(self, step):
        self.left = step

    @contextmanager
    def track(self, label, total, unit="images"):
        def advance(done, note):
            self.left -= done > 0
            if self.left < 0:
                raise Killed

        yield advance


def outcome(job):
    lines = [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in job.run.metrics]
    names = ("last", "best_val_loss", "best_val_acc")
    kept = {name: load_file(job.run.checkpoint(name)) for name in names}
    return lines, {name: {key: value.clone() for key, value in tensors.items()} for name, tensors in kept.items()}


class Whole(dict):
    """What uninterrupted trainings came to, by way."""

    def __repr__(self):
        return f"Whole({list(self)})"  # hypothesis shows what it was given, tensors at full length


@pytest.fixture(scope="module")
def whole():
    return Whole()


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(kills=st.lists(st.integers(0, EPOCHS * STEPS - 1), min_size=1, max_size=3))
def test_a_training_killed_at_any_steps_ends_in_the_same_bits(patches, make_job, whole, monkeypatch, way, kills):
    monkeypatch.setattr(loop, "_LONG", -1.0)  # a checkpoint after every step
    photos = next(iter(whole.values()))[2].dataset.root if whole else patches(16)
    changes = {**EVERYTHING, **WAYS[way]}
    if way not in whole:
        job = make_job(photos, **changes)
        fit(job, Silent())
        whole[way] = (*outcome(job), job)
    job = make_job(photos, **changes)
    for step in kills:
        try:
            fit(job, KillAt(step))
            break
        except Killed:  # the next one has other weights, unless nothing was kept yet
            seed = 99 if job.run.checkpoint("last").exists() else None
            job = make_job(photos, run=job.run, model_seed=seed, **changes)
    else:
        fit(job, Silent())
    lines, checkpoints = outcome(job)
    assert lines == whole[way][0]
    for name, tensors in checkpoints.items():
        assert tensors.keys() == whole[way][1][name].keys()
        assert [key for key in tensors if not torch.equal(tensors[key], whole[way][1][name][key])] == [], name


def test_a_damaged_checkpoint_gives_way_to_the_one_before(patches, make_job):
    photos = patches(16)
    job = make_job(photos, **EVERYTHING)
    fit(job, Silent())
    expected = outcome(job)
    last = job.run.checkpoint("last")
    last.write_bytes(last.read_bytes()[:1000])
    assert position_of(last.with_name("previous.safetensors")).epoch == EPOCHS - 1
    again = make_job(photos, run=job.run, model_seed=99, **EVERYTHING)
    fit(again, Silent())
    lines, checkpoints = outcome(again)
    assert lines == expected[0]
    assert all(torch.equal(value, expected[1]["last"][name]) for name, value in checkpoints["last"].items())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_keeps_the_step_and_leaves_with_a_code_that_schedulers_know(tmp_path, number, code):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(40):
            Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / f"photos/{name}/{k}.png")
    words = [
        "train",
        tmp_path / "photos",
        "--model",
        "mini-cnn",
        "--size",
        "64",
        "--epochs",
        "2000",
        "--runs",
        tmp_path,
    ]
    words += ["--name", "run", "--set", "batch_size=1", "--set", "patience=null", "--set", "precision=float32"]
    child = subprocess.Popen(
        [sys.executable, "-c", "from discern.cli.main import main; main()", *map(str, words)],
        env={**os.environ, "DISCERN_CACHE": str(tmp_path / "cache")},
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in child.stderr:
        if line.startswith("epoch 1/"):
            break
    child.send_signal(number)
    said = child.communicate(timeout=60)[1]
    assert child.returncode == code, said
    assert f"`discern train --resume {tmp_path / 'run'}` goes on where it stopped." in said.splitlines()[-1]
    position = position_of(tmp_path / "run" / "checkpoints" / "last.safetensors")
    assert position.batch > 0, "in the middle of an epoch"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "training"
    assert discern.open_run(tmp_path / "run").metrics
