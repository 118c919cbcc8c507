"""A Run directory: everything the design lists is there, reads back, and repeats itself."""

import json
import shutil

import pytest
from safetensors import safe_open

from discern.data.duplicates.gate import Passage
from discern.errors import NotARun, StorageError, UsageError
from discern.runs.run import Run, create_run, list_runs, open_run, refuse_place, working_on
from discern.steps.train import resume
from discern.training.recipe import Recipe, load_recipe

INFO = {"model": {"name": "net", "parameters": 3}, "classes": ["a", "b"], "seed": 0, "preprocessing": {}}
INFO |= {"checkpoint": "best_val_loss"}


def test_the_directory_holds_what_the_design_lists_and_nothing_else(trained):
    # Other tests may have scored the shared run on photos of theirs.
    assert sorted({path.name for path in trained.run.iterdir()} - {"evaluations"}) == [
        "baselines",
        "checkpoints",
        "curves.svg",
        "dataset.parquet",
        "evaluation.json",
        "explanations",
        "findings.json",
        "first_batch.png",
        "metrics.jsonl",
        "predictions.parquet",
        "recipe.yaml",
        "report.html",
        "run.json",
    ]
    assert sorted(path.name for path in (trained.run / "checkpoints").iterdir()) == [
        "best_val_acc.safetensors",
        "best_val_loss.safetensors",
        "last.safetensors",
    ]
    assert [path for path in trained.run.parents[1].rglob("*") if path.name.endswith(".tmp")] == []


def test_two_processes_do_not_train_one_run(trained, tmp_path):
    run = Run(shutil.copytree(trained.run, tmp_path / "run"))
    with working_on(run):
        run.update(status="training")
        with pytest.raises(UsageError, match="is being trained by another process"):
            resume(run.path)
    assert resume(run.path).info["status"] == "finished"


def test_run_json(trained):
    info = open_run(trained.run).info
    assert info["status"] == "finished"
    assert info["classes"] == ["blue", "green", "red"]
    assert info["dataset"]["root"] == str(trained.photos)
    assert info["dataset"]["fingerprint"] == open_run(trained.run).dataset.fingerprint
    assert info["software"]["torch"]
    assert info["hardware"]["cores"] >= 1
    assert info["seconds"] >= info["training_seconds"] > 0
    assert info["test_openings"] == 1
    assert info["preprocessing"].keys() == {"size", "fit", "mean", "std"}


def test_every_file_reads_back(trained):
    run = open_run(trained.run)
    dataset, said = run.dataset, run.predictions
    assert dataset.split_counts() == {"train": 24, "val": 6, "test": 6}
    assert dataset.root == trained.photos
    assert not any(name.startswith("/") for name in dataset.table["file"])
    assert sorted(said.images) == sorted((*dataset.split("val").images, *dataset.split("test").images))
    assert run.evaluation.splits["test"].n == 6
    assert [line["epoch"] for line in run.metrics] == [1, 2]
    assert run.metrics[0].keys() >= {
        "train_loss",
        "val_loss",
        "val_acc",
        "learning_rate",
        "images_per_second",
        "seconds",
    }
    assert isinstance(run.findings, list)
    assert set(run.baselines()) == {"majority class", "color histogram"}
    told = json.loads((trained.run / "explanations" / "explanations.json").read_text())
    assert {record["image"] for record in told} <= set(dataset.split("test").images)
    assert all((trained.run / "explanations" / record["file"]).is_file() for record in told)
    for file in (trained.run / "checkpoints").iterdir():
        with safe_open(file, framework="pt") as opened:
            assert any(name.startswith("model.") for name in opened.keys())  # noqa: SIM118 - not a mapping
            assert "discern" in opened.metadata()


def test_the_report_is_one_page_that_needs_no_other_file(trained):
    page = (trained.run / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("first", "blue", "green", "red", "simple-cnn"))
    assert 'src="http' not in page
    assert "data:image" in page


def test_the_recipe_leaves_no_choice_open(trained):
    recipe = load_recipe(str(open_run(trained.run).recipe_file))
    assert (recipe.model, recipe.size, recipe.epochs) == ("simple-cnn", 8, 2)
    assert recipe.precision != "auto"
    assert recipe.channels_last is not None
    assert recipe.augment == Recipe().augment


def test_a_summary_has_the_splits_only_when_there_are_scores(trained, tmp_path):
    run = Run(shutil.copytree(trained.run, tmp_path / "run"))
    assert set(run.summary()["splits"]) == {"val", "test"}
    (run.path / "evaluation.json").unlink()
    assert run.summary()["splits"] == {}


def test_how_the_data_came_through_the_gate(trained, tmp_path):
    run = open_run(trained.run)
    assert run.passage == Passage(leakage=None, clusters=0)
    assert Passage.from_json(run.summary()["gate"]) == run.passage
    mended = create_run(
        tmp_path, "x", "net", {**INFO, "gate": {**run.info["gate"], "leakage": "drop", "dropped": ["a"]}}
    )
    assert mended.passage == Passage(leakage="drop", clusters=0, dropped=("a",))
    old = create_run(tmp_path, "old", "net", INFO)
    assert old.passage is None
    assert old.summary()["gate"] is None


def test_the_chosen_checkpoint_and_a_named_one(trained):
    run = open_run(trained.run)
    assert run.checkpoint() == trained.run / "checkpoints" / "best_val_loss.safetensors"
    assert run.checkpoint("last") == trained.run / "checkpoints" / "last.safetensors"


def test_names_are_counted_per_stem(tmp_path):
    made = [create_run(tmp_path / "runs", None, stem, INFO) for stem in ("net", "net", "other")]
    assert [run.name for run in made] == ["net-1", "net-2", "other-1"]
    assert [run.name for run in list_runs(tmp_path / "runs")] == ["net-1", "net-2", "other-1"]
    assert made[0].info["status"] == "started"


def test_a_name_is_given_once(tmp_path):
    create_run(tmp_path, "x", "net", INFO)
    with pytest.raises(
        UsageError, match=r"x exists already; choose another --name, or go on with `discern train --res"
    ):
        create_run(tmp_path, "x", "net", INFO)
    with pytest.raises(UsageError, match="exists already"):
        refuse_place(tmp_path, "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=r"folder exists already; choose another --name\.$"):
        refuse_place(tmp_path, "folder")


def test_a_place_is_looked_at_and_not_made(tmp_path, shared_tmp, unprivileged):
    refuse_place(tmp_path / "a" / "b", "x")
    refuse_place(tmp_path / "a" / "b", None)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="another kind is in its place"):
        refuse_place(tmp_path / "file" / "runs", None)
    (shared_tmp / "locked").mkdir(mode=0o555)
    with unprivileged(), pytest.raises(StorageError, match="No permission to write"):
        refuse_place(shared_tmp / "locked" / "runs", None)


def test_updates_keep_what_was_there(tmp_path):
    run = create_run(tmp_path, "x", "net", INFO)
    run.update(status="training", epochs=3)
    assert run.info["status"] == "training"
    assert run.info["seed"] == 0


def test_runs_are_listed_by_age_and_damaged_ones_are_not_hidden(tmp_path):
    class Listener:
        said: list[str]

        def __init__(self):
            self.said = []

        def say(self, message):
            self.said.append(message)

    for name, started in (("b", "2026-01-01"), ("a", "2026-01-02"), ("broken", "")):
        create_run(tmp_path, name, "net", INFO).update(started=started)
    (tmp_path / "broken" / "run.json").write_text("{")
    listener = Listener()
    assert [run.name for run in list_runs(tmp_path, progress=listener)] == ["b", "a"]
    assert len(listener.said) == 1
    assert "broken/run.json is damaged" in listener.said[0]


def test_what_is_not_there_yet_is_said(tmp_path):
    run = create_run(tmp_path, "x", "net", INFO)
    for name in ("dataset", "findings", "metrics", "predictions", "evaluation"):
        with pytest.raises(NotARun, match=r"it has not got that far; finish it with `discern train --resume .*x`"):
            getattr(run, name)
