"""The command line as a whole: help, errors, interruption, bugs; some of it in processes of their own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from discern.cli.main import COMMANDS
from discern.runs.run import Run

README = Path(__file__).parents[2] / "README.md"


def process(*words, **more):
    return subprocess.Popen(
        [sys.executable, "-c", "from discern.cli.main import main; main()", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "GOMP_SPINCOUNT": "1000"},
        **more,
    )


def test_no_words_show_the_help(discern):
    answer = discern()
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("Usage: discern")
    assert "Error" not in answer.err


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_command_with_its_purpose(discern, flag):
    answer = discern(flag)
    assert answer.code == 0
    for name, purpose in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(purpose)}$", answer.out, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_with_an_example(discern, name):
    answer = discern(name, "--help")
    assert answer.code == 0
    assert re.search(rf"^  discern {name}\b", answer.out, re.MULTILINE)
    assert "--json" in answer.out


def test_the_version(discern):
    assert re.fullmatch(r"discern, version \d+\.\d+\.\d+\n", discern("--version").out)


def test_every_command_in_the_readme_exists(discern):
    named = re.findall(r"discern ([a-z]+)((?: --[a-z-]+)?)", README.read_text())
    commands = {name for name, _ in named if name in COMMANDS}
    assert commands >= {"audit", "train", "compare", "predict"}
    shown = [line.split()[1] for line in README.read_text().splitlines() if line.startswith("    discern ")]
    assert set(shown) <= set(COMMANDS)
    for name in {*shown, *commands}:
        used = {
            f for line in README.read_text().splitlines() for f in re.findall(rf"discern {name}.*?(--[a-z-]+)", line)
        }
        helped = discern(name, "--help").out
        assert all(flag in helped for flag in used)


def test_errors_are_one_object_under_json(discern):
    answer = discern("models", "nope", "--json")
    assert answer.code == 2
    assert answer.json["kind"] == "UnknownName"
    assert answer.json["exit_code"] == 2
    assert answer.err == f"Error: {answer.json['error']}\n"
    wrong = discern("models", "--nope", "--json")
    assert (wrong.code, wrong.json["exit_code"]) == (2, 2)


def test_a_bug_is_one_sentence_and_a_traceback_only_with_debug(discern, trained, monkeypatch):
    def broken(*_):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(Run, "predictions", property(broken))
    answer = discern("evaluate", trained.run, "--json")
    assert answer.code == 1
    assert answer.json["error"] == "A bug in Discern: RuntimeError: two lines; --debug shows where."
    assert answer.err == f"Error: {answer.json['error']}\n"
    debugged = discern("evaluate", trained.run, "--debug")
    assert debugged.code == 1
    assert "Traceback" in debugged.err
    assert "in broken" in debugged.err


def test_debug_shows_where_a_refusal_comes_from_and_keeps_its_code(discern):
    answer = discern("models", "nope", "--debug")
    assert answer.code == 2
    assert "Traceback" in answer.err
    assert answer.err.endswith("Error: " + answer.err.rpartition("Error: ")[2])


def test_an_interrupted_scan_says_to_start_again_and_takes_nothing_for_read(
    discern, trained, tmp_path, tiny, monkeypatch, cache
):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("discern.data.scan.decode", interrupted)
    answer = discern("train", trained.photos, *tiny, "--runs", tmp_path / "runs", "--json")
    assert answer.code == 130
    assert answer.json["error"] == "Stopped: the same command starts it again."
    assert "Stopped: the same command starts it again." in answer.err
    assert not (tmp_path / "runs").exists()
    assert list(cache.rglob("facts.parquet")) == []


def test_an_interrupted_training_says_how_to_go_on_and_ends_the_same(discern, trained, tmp_path, tiny):
    """Ctrl-C in a real process; the resumed run has the predictions of one that was never stopped."""
    where = ("--runs", tmp_path / "runs", "--name", "x")
    long = (*tiny, "--set", "patience=null", "--epochs", "100000", "--set", "schedule=constant")
    training = process("train", trained.photos, *long, *where)
    while training.poll() is None and not (tmp_path / "runs/x/checkpoints/last.safetensors").exists():
        time.sleep(0.02)
    training.send_signal(signal.SIGINT)
    out, err = training.communicate(timeout=60)
    assert training.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert f"Stopped: `discern train --resume {tmp_path / 'runs/x'}` goes on where it stopped." in err
    assert list(tmp_path.rglob("*.tmp")) == []

    run = Run(tmp_path / "runs/x")
    done = len(run.metrics)
    recipe = run.recipe_file.read_text().replace("epochs: 100000", f"epochs: {done + 2}")
    run.recipe_file.write_text(recipe)
    assert discern("train", "--resume", run).code == 0
    assert run.info["status"] == "finished"
    whole = discern("train", trained.photos, "--recipe", run.recipe_file, "--runs", tmp_path / "runs", "--name", "y")
    assert whole.code == 0
    assert (tmp_path / "runs/y/predictions.parquet").read_bytes() == (run.path / "predictions.parquet").read_bytes()


def test_a_finished_run_is_not_trained_again(discern, trained, tmp_path):
    run = shutil.copytree(trained.run, tmp_path / "run")
    before = (run / "checkpoints/last.safetensors").stat().st_mtime_ns
    answer = discern("train", "--resume", run, "--json")
    assert answer.code == 0
    assert answer.json["status"] == "finished"
    assert "finished already" in answer.err
    assert (run / "checkpoints/last.safetensors").stat().st_mtime_ns == before


def test_resuming_on_changed_photos_is_refused(discern, colours, tmp_path, tiny, cache):
    photos, run = colours({"red": 8, "green": 8}), tmp_path / "runs" / "x"
    assert discern("train", photos, *tiny, "--runs", run.parent, "--name", "x").code == 0
    (run / "run.json").write_text((run / "run.json").read_text().replace('"finished"', '"training"'))
    shutil.copy(photos / "red/0.jpg", photos / "green/0.jpg")
    shutil.rmtree(cache)  # as long as the scan is kept, the run goes on with the pixels it began with
    answer = discern("train", "--resume", run)
    assert answer.code == 3
    assert "have changed since" in answer.err
    assert "put them back, or start a new run" in answer.err


def test_a_reader_that_has_seen_enough_is_no_error(trained):
    shown = process("predict", trained.run, *[trained.photos] * 40, "--json")
    shown.stdout.read(10)
    shown.stdout.close()
    with shown.stderr as errors:
        assert errors.read() == ""
    assert shown.wait() == 0


def test_words_and_results_go_to_their_own_streams(trained):
    told = process("evaluate", trained.run, trained.photos, "--leakage", "allow", "--because", "a test", "--json")
    out, err = told.communicate()
    assert told.returncode == 0
    assert json.loads(out)["splits"]["test"]["n"] == 36
    assert "leakage" in err
