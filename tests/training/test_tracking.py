import json
import subprocess
import sys
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from discern.errors import MissingExtra, UnknownName
from discern.progress import Silent
from discern.runs.run import create_run
from discern.training.recipe import Recipe
from discern.training.tracking import TRACKERS, Tracker, refuse_trackers, tracked


def line(epoch):
    scores = {"val_loss": 2.0 / epoch, "val_acc": 0.1 * epoch} if epoch % 2 == 0 else {}
    return {"epoch": epoch, "step": 7 * epoch, "phase": 1, "train_loss": 1.0 / epoch, "learning_rate": 0.5} | scores


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """`begun("wandb")`: a Run that is tracked, with its recipe; W&B keeps everything below tmp_path."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for place in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{place}_DIR", str(tmp_path / place))

    def make(*names):
        run = create_run(tmp_path / "runs", "my-run", "net", {"tracking": {name: {} for name in names}})
        Recipe(model="mini-cnn", batch_size=17).write(run.recipe_file)
        return run

    return make


def sit(run, epochs, progress=None, *, stop=False):
    """One sitting of a training: it writes the lines of these epochs, and may be stopped before its end."""
    file, progress = run.path / "metrics.jsonl", progress or Told()
    with tracked(run, progress) as track:
        for epoch in epochs:
            lines = [line(each) for each in range(1, epoch + 1)]
            file.write_text("".join(json.dumps(each) + "\n" for each in lines))
            track()
        if stop:
            raise KeyboardInterrupt
    return progress


def events(run):
    found = EventAccumulator(str(run.path / "tensorboard"))
    found.Reload()
    return found


def records(folder):
    """What an offline run of W&B has written, once its service, another process, has written the end."""
    (file,) = folder.glob("*.wandb")
    for _ in range(200):
        found = unpacked(file.read_bytes())
        if any(each.WhichOneof("record_type") == "exit" for each in found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{file} has no end")


def unpacked(data):
    """W&B's messages in a log of LevelDB's form: records, whole or in parts, in blocks of 32 KiB."""
    at, found, parts = 7, [], b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(parts))
            parts = b""
    return found


def histories(run):
    """Per sitting what W&B was told, by step."""
    found = []
    for folder in sorted((run.path / "wandb").glob("offline-run-*")):
        rows = [each.history for each in records(folder) if each.WhichOneof("record_type") == "history"]
        values = [{"/".join(i.nested_key) or i.key: i.value_json for i in row.item} for row in rows]
        found.append({int(each["_step"]): each for each in values})
    return found


def test_tensorboard_has_the_recipe_and_every_value_at_its_epoch(begun):
    run = begun("tensorboard")
    sit(run, [1, 2, 3])
    found = events(run)
    assert set(found.Tags()["scalars"]) == set(line(2)) - {"epoch"}
    assert [(each.step, each.value) for each in found.Scalars("val_loss")] == [(2, 1.0)]
    assert [each.step for each in found.Scalars("train_loss")] == [1, 2, 3]
    (recipe,) = found.Tensors("recipe/text_summary")
    assert b"batch_size: 17" in recipe.tensor_proto.string_val[0]


def test_tensorboard_goes_on_without_doubling(begun):
    run = begun("tensorboard")
    with pytest.raises(KeyboardInterrupt):
        sit(run, [1, 2], stop=True)
    sit(run, [2, 3, 4])
    found = events(run)
    assert [each.step for each in found.Scalars("train_loss")] == [1, 2, 3, 4]
    assert len(found.Tensors("recipe/text_summary")) == 1


def test_tensorboard_forgets_a_line_that_was_logged_just_before_a_kill(begun):
    run = begun("tensorboard")
    sit(run, [1, 2, 3])
    run.update(tracking={"tensorboard": {"epoch": 2}})  # killed before this was noted
    sit(run, [3, 4])
    assert [each.step for each in events(run).Scalars("train_loss")] == [1, 2, 3, 4]


def test_wandb_has_the_recipe_and_every_value_at_its_epoch(begun):
    run = begun("wandb")
    said = sit(run, [1, 2, 3]).said
    (folder,) = (run.path / "wandb").glob("offline-run-*")
    assert said == [f"Followed by wandb: wandb sync {folder}"]
    (rows,) = histories(run)
    assert list(rows) == [1, 2, 3]
    logged = {key: float(value) for key, value in rows[2].items() if not key.startswith("_")}
    assert logged == {key: value for key, value in line(2).items() if key != "epoch"}
    (about,) = [each.run for each in records(folder) if each.WhichOneof("record_type") == "run"]
    assert (about.project, about.display_name) == ("discern", "my-run")
    assert {each.key: each.value_json for each in about.config.update}["batch_size"] == "17"


def test_wandb_goes_on_with_the_same_run_without_doubling(begun):
    run = begun("wandb")
    with pytest.raises(KeyboardInterrupt):
        sit(run, [1, 2], stop=True)
    key = run.info["tracking"]["wandb"]["id"]
    sit(run, [2, 3, 4])
    assert [list(rows) for rows in histories(run)] == [[1, 2], [3, 4]]
    assert run.info["tracking"]["wandb"] == {"id": key, "epoch": 4}
    assert all(key in folder.name for folder in (run.path / "wandb").glob("offline-run-*"))


def test_what_wandb_is_told_by_its_variables_counts(begun, tmp_path, monkeypatch):
    run = begun("wandb")
    (tmp_path / "elsewhere").mkdir()
    for name, value in {"DIR": str(tmp_path / "elsewhere"), "PROJECT": "mine", "NAME": "n", "RUN_ID": "r1"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    sit(run, [1])
    assert not (run.path / "wandb").exists()
    (folder,) = (tmp_path / "elsewhere" / "wandb").glob("offline-run-*-r1")
    (about,) = [each.run for each in records(folder) if each.WhichOneof("record_type") == "run"]
    assert (about.project, about.display_name) == ("mine", "n")


def test_several_follow_at_once(begun):
    run = begun("tensorboard", "wandb")
    sit(run, [1, 3])  # quick epochs are written some at a time
    assert [each.step for each in events(run).Scalars("step")] == [1, 2, 3]
    assert [list(rows) for rows in histories(run)] == [[1, 2, 3]]


def test_a_tracker_that_fails_is_left_after_one_warning_and_made_good_later(begun, monkeypatch):
    down, got = [True], []

    def flaky(run, memory):
        def log(epoch, values):
            if down[0] and epoch == 2:
                raise ConnectionError("no route to host")
            got.append(epoch)

        return Tracker(memory={"epoch": memory.get("epoch", 0)}, where="there", log=log, end=lambda finished: None)

    monkeypatch.setitem(TRACKERS, "flaky", flaky)
    run = begun("flaky", "tensorboard")
    said = sit(run, [1, 2, 3]).said
    warnings = [each for each in said if each.startswith("warning")]
    assert len(warnings) == 1
    assert "flaky" in warnings[0]
    assert "no route to host" in warnings[0]
    assert [each.step for each in events(run).Scalars("step")] == [1, 2, 3]
    down[0] = False
    sit(run, [4])
    assert got == [1, 2, 3, 4]


@pytest.mark.parametrize("at", ["begin", "end"])
def test_a_tracker_that_fails_at_the_edges_does_not_end_the_training(begun, monkeypatch, at):
    def broken(run, memory):
        if at == "begin":
            raise RuntimeError("not logged in")

        def end(finished):
            raise RuntimeError("the upload failed")

        return Tracker(memory={"epoch": 0}, where="there", log=lambda epoch, values: None, end=end)

    monkeypatch.setitem(TRACKERS, "broken", broken)
    said = sit(begun("broken"), [1, 2]).said
    assert sum(each.startswith("warning: broken") for each in said) == 1


def test_a_tracker_learns_whether_the_training_was_finished(begun, monkeypatch):
    ends = []
    tracker = Tracker(memory={"epoch": 0}, where="", log=lambda epoch, values: None, end=ends.append)
    monkeypatch.setitem(TRACKERS, "one", lambda run, memory: tracker)
    run = begun("one")
    with pytest.raises(KeyboardInterrupt):
        sit(run, [1], stop=True)
    sit(run, [2])
    assert ends == [False, True]


def test_a_run_without_trackers_is_not_touched(begun):
    run = begun()
    before = (run.path / "run.json").read_bytes()
    assert sit(run, [1]).said == []
    assert (run.path / "run.json").read_bytes() == before


def test_an_unknown_tracker_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownName, match="did you mean 'tensorboard'"):
        refuse_trackers(["tensorbord"])


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(TRACKERS, "no_such_tracker", TRACKERS["wandb"])
    with pytest.raises(MissingExtra, match=r"'no_such_tracker' is not installed: run `pip install .*\[tracking\]"):
        refuse_trackers(["tensorboard", "no_such_tracker"])


def test_a_folder_of_runs_is_not_taken_for_a_package(tmp_path, monkeypatch):
    (tmp_path / "half_tracker").mkdir()  # as W&B leaves a folder wandb where it is used
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(TRACKERS, "half_tracker", TRACKERS["wandb"])
    with pytest.raises(MissingExtra):
        refuse_trackers(["half_tracker"])


def test_trackers_are_imported_when_they_are_needed():
    code = "import sys, discern.training.tracking; print({'tensorboard', 'wandb', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
