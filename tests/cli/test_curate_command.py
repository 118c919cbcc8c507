"""`discern curate`: what it prints, what it refuses, and what Ctrl-C leaves."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def root(colours):
    return colours({"red": 12, "green": 6})


def refused(answer, code, sentence):
    assert answer.code == code, answer.err
    assert answer.out == ""
    assert sentence in answer.err.splitlines()[-1]
    return True


def test_in_words(discern, root, tmp_path):
    out = tmp_path / "my copy"
    answer = discern("curate", root, out, "--test-per-class", "2", "--size", "16", "--balance", "oversample")
    assert answer.code == 0
    green, red = (
        [word for word in line.replace("│", " ").split() if word != "varied"]
        for line in answer.out.splitlines()
        if "green" in line or "red" in line
    )
    assert green[0] == "green"
    assert (green[1], green[3]) == (red[1], "2")
    assert f"Page     {out / 'curation' / 'curation.html'}" in answer.out
    assert f"discern train '{out}'" in answer.out  # can be copied into a shell


def test_as_json(discern, root, tmp_path):
    (root / "red" / "bad.jpg").write_bytes(b"")
    record = discern("curate", root, tmp_path / "out", "--test-per-class", "2", "--max-per-class", "8", "--json").json
    assert record["folder"] == str(tmp_path / "out")
    assert record["counts"]["test"] == {"green": 2, "red": 2}
    assert record["copies"] == 0
    assert {"image": "red/bad.jpg", "reason": "unreadable", "detail": "it is empty (0 bytes)"} in record["left_out"]
    assert record["images"] == 4 + 8 + 4


def test_the_copy_can_be_trained_on(discern, root, tmp_path, tiny):
    discern("curate", root, tmp_path / "out", "--size", "8", "--balance", "oversample")
    answer = discern("train", tmp_path / "out", *tiny, "--runs", tmp_path / "runs", "--json")
    assert answer.code == 0
    assert "leakage" not in answer.err


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--fit", "pad"], 2, "--fit says how to resize: give --size too."),
        (["--fit", "stretch", "--size", "8"], 2, "'stretch' is not one of"),
        (["--size", "0"], 2, "--size"),
        (["--balance", "under"], 2, "'under' is not one of"),
        (["--test-per-class", "0"], 2, "--test-per-class"),
        (["--test-per-class", "5"], 3, "The class 'green' has 6 images: with 5 held out"),
        (["--max-per-class", "1"], 3, "The class"),
    ],
)
def test_requests_that_cannot_be_carried_out(discern, root, tmp_path, words, code, sentence):
    assert refused(discern("curate", root, tmp_path / "out", *words), code, sentence)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_places_that_cannot_be_written_to(discern, root, tmp_path):
    assert refused(discern("curate", root, root), 2, "lies in")
    assert refused(discern("curate", root, root / "copy"), 2, "lies in")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert refused(discern("curate", root, tmp_path / "full"), 2, "is not an empty folder")
    assert refused(discern("curate", root, tmp_path / "full" / "x" / "y"), 2, "another kind is in its place")
    assert refused(discern("curate", tmp_path / "nowhere", tmp_path / "out"), 2, "No such file or folder")


def test_stopping_leaves_nothing(tmp_path):
    """Ctrl-C in a real process, while copies are written."""
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(40 if name == "a" else 8):
            noise = np.random.default_rng([number, ord(name)]).integers(0, 256, (300, 400, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / "photos" / name / f"{number}.png")
    code = "from discern.cli.main import main; main()"
    words = ["curate", tmp_path / "photos", tmp_path / "out" / "copy", "--size", "1024", "--balance", "oversample"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list((tmp_path / "out").glob(".copy*/train/*/*.png")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Stopped: the same command starts it again." in err
    assert os.listdir(tmp_path / "out") == []
