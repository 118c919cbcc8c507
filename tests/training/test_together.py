"""Training by several processes: the same as by one, every image once, one process writes, a dead one ends it all."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from discern.runs.run import Run

# Neither dropout nor batch norm: their draws and statistics are a process' own.
OPTIONS = ["--model", "simple-cnn", "--size", "16", "--epochs", "3", "--set", "batch_size=8", "--set", "patience=null"]
OPTIONS += ["--set", "precision=float32", "--set", "channels_last=false", "--set", "learning_rate=0.01"]
OPTIONS += ["--set", "optimizer=sgd"]  # Adam makes much of rounding


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("together") / "photos", np.random.default_rng(0)
    for label, name in enumerate(("red", "green", "blue")):
        (root / name).mkdir(parents=True)
        for number in range(23):  # no multiple of anything
            picture = rng.integers(0, 200, (16, 16, 3))
            picture[..., label] += 40
            Image.fromarray(picture.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


def train(photos, runs, *words, launcher=("-m", "discern"), wait=True):
    process = subprocess.Popen(
        [sys.executable, *launcher, *map(str, ("train", photos, *OPTIONS, "--runs", runs, *words))],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if not wait:
        return process
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    return out, err


@pytest.fixture(scope="module")
def alone(photos):
    train(photos, photos.parent / "runs", "--name", "alone")
    return Run(photos.parent / "runs" / "alone")


def assert_alike(run, alone):
    assert run.info["status"] == "finished"
    assert run.dataset.fingerprint == alone.dataset.fingerprint
    for ours, theirs in zip(run.metrics, alone.metrics, strict=True):
        for key in ("train_loss", "train_acc", "val_loss", "val_acc", "step", "learning_rate"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-3, abs=1e-5), key
    np.testing.assert_allclose(run.predictions.probabilities, alone.predictions.probabilities, atol=1e-3)


@pytest.mark.parametrize("count", [3])
def test_processes_train_what_one_trains(photos, alone, count):
    out, err = train(photos, photos.parent / "runs", "--name", f"by-{count}", "--processes", count)
    assert_alike(Run(photos.parent / "runs" / f"by-{count}"), alone)
    assert out.count("Report  ") == 1
    assert err.count("Data: ") == 1


def test_torchs_own_launcher_does_too(photos, alone):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "discern")
    out, _ = train(photos, photos.parent / "runs", "--name", "torchrun", launcher=launcher)
    assert_alike(Run(photos.parent / "runs" / "torchrun"), alone)
    assert out.count("Report  ") == 1


def ranks_of(process):
    """Process ids by rank."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    found = {}
    for pid in listed.stdout.split():
        with open(f"/proc/{pid}/environ", "rb") as file:
            words = dict(each.split(b"=", 1) for each in file.read().split(b"\0") if b"=" in each)
        found[int(words[b"RANK"])] = int(pid)
    return found


def until_training(runs, name, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        file = runs / name / "metrics.jsonl"
        if file.exists() and len(file.read_text().splitlines()) >= 2:
            return
        time.sleep(0.02)
    pytest.fail(f"no epoch was trained: {process.communicate()[1]}")


def test_a_dead_process_ends_the_others_and_what_was_trained_is_kept(photos):
    runs, long = photos.parent / "runs", ("--epochs", "100000", "--set", "schedule=constant")
    process = train(photos, runs, "--name", "dead", "--processes", 2, *long, wait=False)
    until_training(runs, "dead", process)
    os.kill(ranks_of(process)[1], signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert Run(runs / "dead").checkpoint("last").exists()
    assert not ranks_of(process)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_stops_all_of_them_after_the_same_step(photos, number, code):
    runs, name = photos.parent / "runs", f"signal-{number}"
    process = train(
        photos, runs, "--name", name, "--processes", 2, "--epochs", 100000, "--set", "schedule=constant", wait=False
    )
    until_training(runs, name, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "goes on where it stopped" in err
    assert json.loads((runs / name / "run.json").read_text())["status"] == "training"


def test_a_refusal_is_one_sentence(photos):
    process = train(photos, photos.parent / "runs", "--processes", 2, "--set", "learning_rte=1", wait=False)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.count("did you mean 'learning_rate'?") == 1
    assert out == ""


def test_data_that_are_refused_end_all_of_them_at_once(photos, tmp_path):
    few = tmp_path / "few"
    shutil.copytree(photos, few)
    for image in list((few / "blue").iterdir())[1:]:
        image.unlink()
    process, start = train(few, tmp_path, "--processes", 2, wait=False), time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "Traceback" not in err
    assert err.count("Error: ") == 1
    assert time.monotonic() - start < 25, "none waits for one that has gone"
