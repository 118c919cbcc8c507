"""A run that dies at any instant goes on to the same weights, metrics and predictions as if it had not died."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import discern
from discern.errors import DataError
from discern.runs.run import CHECKPOINTS

SETTINGS = {
    "model": "regularized-cnn",  # dropout and batch norm
    "size": 16,
    "epochs": 4,
    "batch_size": 8,
    "augment": {"flip": 0.5, "shift": 0.1, "rotate": 20, "zoom": 0.1},
    "precision": "float32",
    "channels_last": True,
    "patience": None,
}
STEPS = 6  # an epoch's: 42 training images in batches of 8

DEATHS = {
    "in the first epoch": ("step", 3, 0),
    "between the first checkpoints": ("after best_val_loss.safetensors", 1, 0),
    "in the second epoch": ("step", STEPS + 2, 1),
    "in the third epoch": ("step", 2 * STEPS + 4, 2),
    "before the last checkpoint": ("before last.safetensors", 2, 1),
    "after the last epoch": ("after last.safetensors", 4, 4),
    "while judging": ("before predictions.parquet", 1, 4),
    "while explaining": ("before explanations.json", 1, 4),
}
"""Name -> when the run kills itself, at which time of asking, and the epochs that are complete then."""

# Trains into RUNS/<name of the death> once per death, each in a process that kills itself with no chance to tidy up:
# after N advances of the training's progress, or before or after a file gets its final name for the N-th time.
CHILD = """
import os, signal, sys
from contextlib import contextmanager
import discern, discern.progress, discern.steps.train
import torch._dynamo  # optimisers load it at their first use, which takes a second
photos, runs, deaths, settings = sys.argv[1], sys.argv[2], eval(sys.argv[3]), eval(sys.argv[4])
for name, (when, count, _) in deaths.items():
    child = os.fork()  # importing once for all; nothing has been computed yet, so no threads are lost
    if child == 0:
        break
    if os.WTERMSIG(os.waitpid(child, 0)[1]) != signal.SIGKILL:
        sys.exit(f"{name} did not kill the run")
else:
    sys.exit()

def tick(here):
    global count
    count -= here
    if here and count == 0:
        os.kill(os.getpid(), signal.SIGKILL)

class Watch(discern.progress.Silent):
    @contextmanager
    def track(self, label, total, unit="images"):
        yield lambda done, note: tick(when == "step" and label.startswith("Training") and done > 0)

replace = os.replace
def renamed(source, target):
    word, _, name = when.partition(" ")
    last = str(target).rpartition("/")[2]
    tick(word == "before" and last == name)
    replace(source, target)
    tick(word == "after" and last == name)
os.replace = renamed

discern.train(photos, runs=runs, name=name, progress=Watch(), **settings)
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("resume") / "photos", np.random.default_rng(0)
    for label, name in enumerate(("red", "green", "blue")):
        (root / name).mkdir(parents=True)
        for number in range(20):
            picture = rng.integers(0, 200, (16, 16, 3))
            picture[..., label] += 25
            Image.fromarray(picture.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """The run that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISCERN_CACHE", str(tmp_path_factory.mktemp("cache")))
        return discern.train(photos, runs=photos.parent / "whole", **SETTINGS)


def child(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        stderr=subprocess.PIPE,
        text=True,
    )


def kill(photos, runs, deaths):
    process = child(CHILD, photos, runs, deaths, SETTINGS)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def killed(photos, whole):
    """The folder of the runs that died, one per death; each is for one test."""
    kill(photos, photos.parent / "killed", DEATHS)
    return photos.parent / "killed"


def untimed(run):
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in run.metrics]


def assert_equal(run, whole):
    assert run.info["status"] == "finished"
    assert run.info["epochs"] == whole.info["epochs"]
    assert untimed(run) == untimed(whole)
    for name in CHECKPOINTS:
        ours, theirs = load_file(run.checkpoint(name)), load_file(whole.checkpoint(name))
        assert ours.keys() == theirs.keys()
        assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == [], name
    for name in ("predictions.parquet", "baselines/majority class.parquet", "baselines/color histogram.parquet"):
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    assert (run.path / "evaluation.json").read_bytes() == (whole.path / "evaluation.json").read_bytes()
    assert (run.path / "report.html").exists()


def test_the_uninterrupted_run_is_the_test_it_should_be(whole):
    lines = whole.metrics
    assert [line["step"] for line in lines] == [STEPS * epoch for epoch in (1, 2, 3, 4)]
    assert len({line["val_loss"] for line in lines}) == 4


@pytest.mark.parametrize("death", [death for death in DEATHS if death != "in the second epoch"])
def test_a_killed_run_resumes_to_the_same_bits(killed, whole, death):
    run, epochs = discern.open_run(killed / death), DEATHS[death][2]
    assert run.info["status"] == ("judging" if death.startswith("while") else "training")
    assert run.checkpoint("last").exists() == (epochs > 0)
    if epochs:
        with safe_open(run.checkpoint("last"), framework="pt") as file:
            assert json.loads(file.metadata()["discern"])["epoch"] == epochs
    assert_equal(discern.resume(run.path), whole)


def test_a_run_stopped_twice_resumes_to_the_same_bits(killed, whole):
    run = discern.open_run(killed / "in the second epoch")

    class Stop(discern.progress.Silent):
        @contextmanager
        def track(self, label, total, unit="images"):
            left = [STEPS]

            def advance(done, note):
                left[0] -= label.startswith("Training") and done > 0
                if left[0] < 0:
                    raise KeyboardInterrupt

            yield advance

    with pytest.raises(KeyboardInterrupt):
        discern.resume(run.path, progress=Stop())
    assert len(run.metrics) == 2
    assert_equal(discern.resume(run.path), whole)


def test_control_c_leaves_with_130_and_a_sentence_and_the_run_resumes(photos, whole, tmp_path):
    options = [f"--set={key}={value}" for key, value in SETTINGS.items() if key not in ("augment", "patience")]
    options += [f"--set=augment.{key}={value}" for key, value in SETTINGS["augment"].items()]
    process = child(
        "from discern.cli.main import main; main()",
        *("train", photos, "--runs", tmp_path, "--name", "stopped", "--set=patience=null", *options),
    )
    said = ""
    for line in process.stderr:
        said += line
        if line.startswith("epoch 1/"):
            process.send_signal(signal.SIGINT)
            break
    said += process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert "Stopped" in said.splitlines()[-1]
    assert "discern train --resume" in said.splitlines()[-1]
    assert "Traceback" not in said
    run = discern.open_run(tmp_path / "stopped")
    assert run.info["status"] != "finished"
    assert_equal(discern.resume(run.path), whole)


def test_a_finished_run_is_returned_as_it_is(whole):
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in whole.path.rglob("*") if file.is_file()}
    assert discern.resume(whole.path) == whole
    assert before == {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in whole.path.rglob("*") if f.is_file()}


def test_a_run_whose_images_have_changed_is_not_resumed(photos, tmp_path, monkeypatch):
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    kill(copy, tmp_path, {"killed": ("after last.safetensors", 1, 1)})
    run = discern.open_run(tmp_path / "killed")
    Image.new("RGB", (16, 16), "white").save(copy / "red" / "3.png")
    before = run.checkpoint("last").read_bytes()
    with pytest.raises(DataError, match=r"have changed since .*killed began; put them back, or start a new run"):
        discern.resume(run.path)
    assert run.checkpoint("last").read_bytes() == before
    (copy / "red" / "3.png").unlink()
    with pytest.raises(DataError):
        discern.resume(run.path)
