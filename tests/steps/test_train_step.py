"""Training as a whole: what it leaves alone, and that a recipe repeats it."""

import shutil
import time

import polars as pl
import pytest
from safetensors.torch import load_file

import discern as package
from discern.data.sources import open_dataset
from discern.errors import DataError, UsageError
from discern.runs.run import Run
from discern.training.recipe import Recipe

SHORT = {"size": 8, "epochs": 1, "precision": "float32", "channels_last": False}


def test_nothing_in_the_photos_is_changed(trained):
    assert trained.now == trained.before


def test_the_recipe_of_a_run_repeats_it_to_the_last_bit(discern, trained, tmp_path):
    where = ("--runs", tmp_path / "runs", "--name", "again")
    assert discern("train", trained.photos, "--recipe", trained.run / "recipe.yaml", *where).code == 0
    again = tmp_path / "runs" / "again"
    for name in ("predictions.parquet", "evaluation.json", "recipe.yaml", "checkpoints/best_val_loss.safetensors"):
        assert (again / name).read_bytes() == (trained.run / name).read_bytes()


def test_another_seed_gives_another_split_and_other_weights(discern, trained, tmp_path, tiny):
    where = ("--runs", tmp_path / "runs", "--name", "other", "--seed", "1")
    assert discern("train", trained.photos, *tiny, *where).code == 0
    first, other = Run(trained.run), Run(tmp_path / "runs" / "other")
    assert set(other.dataset.split("test").images) != set(first.dataset.split("test").images)
    assert other.checkpoint().read_bytes() != first.checkpoint().read_bytes()


def test_what_is_measured_when_the_recipe_leaves_it_open_is_written_down(colours, tmp_path):
    photos = colours({"red": 8, "green": 8})
    run = package.train(photos, "simple-cnn", size=8, epochs=1, runs=tmp_path / "runs")
    text = run.recipe_file.read_text()
    assert "precision: auto" not in text
    assert "channels_last: null" not in text


def test_python_takes_a_path_a_dataset_and_a_recipe_object(colours, tmp_path):
    photos = colours({"red": 8, "green": 8})
    recipe = Recipe(model="simple-cnn", **SHORT)
    by_path = package.train(photos, recipe=recipe, runs=tmp_path / "runs")
    by_data = package.train(open_dataset(photos), "simple-cnn", **SHORT, runs=tmp_path / "runs")
    assert (by_path.name, by_data.name) == ("simple-cnn-1", "simple-cnn-2")
    assert (by_path.path / "predictions.parquet").read_bytes() == (by_data.path / "predictions.parquet").read_bytes()


def test_the_training_images_are_not_among_the_predictions(trained):
    run = Run(trained.run)
    assert not set(run.predictions.images) & set(run.dataset.split("train").images)
    assert set(run.predictions.splits) == {"val", "test"}


def test_the_same_photo_stays_in_one_split(colours, tmp_path):
    photos = colours({"red": 8, "green": 8})
    for number in range(3):
        (photos / "red" / f"copy{number}.jpg").write_bytes((photos / "red" / "0.jpg").read_bytes())
    run = package.train(photos, "simple-cnn", **SHORT, runs=tmp_path / "runs")
    table = run.dataset.table
    copies = table.filter(table["image"].str.contains("copy") | (table["image"] == "red/0.jpg"))
    assert copies["split"].n_unique() == 1


def test_data_that_are_refused_leave_no_directory(colours, tmp_path):
    with pytest.raises(DataError, match="fewer than one for each"):
        package.train(colours({"red": 8, "green": 2}), "simple-cnn", **SHORT, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_other_checkpoints_are_scored_on_the_same_images_and_each_time_opens_the_test_split(colours, tmp_path):
    run = package.train(colours({"red": 12, "green": 12}), "simple-cnn", **{**SHORT, "epochs": 4}, runs=tmp_path)
    assert run.info["test_openings"] == 1
    for opened, name in enumerate(("last", "best_val_acc"), start=2):
        scores = package.evaluate(run, checkpoint=name)
        kept = Run(run.path).path / "evaluations" / name
        assert scores.splits["val"].n == run.evaluation.splits["val"].n
        assert (kept / "predictions.parquet").exists()
        assert run.info["test_openings"] == opened
    line = run.metrics[-1]
    assert package.evaluate(run, checkpoint="last").splits["val"].top1 == pytest.approx(line["val_acc"])
    assert package.evaluate(run, checkpoint="best_val_loss").to_json() == run.evaluation.to_json()
    with pytest.raises(UsageError, match="Unknown checkpoint 'lost': did you mean 'last'"):
        package.evaluate(run, checkpoint="lost")


def test_a_time_budget_is_kept_and_the_schedule_ends_with_it(colours, tmp_path):
    photos, start = colours({"red": 40, "green": 40}), time.perf_counter()
    long = {**SHORT, "epochs": 100_000, "size": 16, "patience": None}
    run = package.train(photos, "mini-cnn", **{**long, "size": 32}, time_budget="16s", runs=tmp_path / "runs")
    assert time.perf_counter() - start < 16
    lines = run.metrics
    assert run.info["status"] == "finished"
    assert 2 <= len(lines) < 100_000
    assert lines[-1]["learning_rate"] < 0.2 * max(line["learning_rate"] for line in lines), "it was annealed"
    assert run.evaluation.splits["test"].n


def test_the_final_training_takes_the_validation_images_too(colours, tmp_path):
    photos = colours({"red": 12, "green": 12})
    usual = package.train(photos, "simple-cnn", **SHORT, runs=tmp_path / "runs")
    final = package.train(photos, "simple-cnn", **{**SHORT, "epochs": 3}, final=True, runs=tmp_path / "runs")
    assert set(final.dataset.split("train").images) == {
        *usual.dataset.split("train").images,
        *usual.dataset.split("val").images,
    }
    assert final.dataset.split("test").images == usual.dataset.split("test").images
    assert final.info["checkpoint"] == "last"
    assert set(final.evaluation.splits) == {"test"}
    assert len(final.metrics) == 3
    assert "all were trained on" in (final.path / "report.html").read_text()


def test_a_few_images_are_learned_by_heart_and_the_test_split_stays_shut(discern, colours, tmp_path):
    photos = colours({"red": 14, "green": 12, "blue": 12})
    words = ["train", photos, "--model", "simple-cnn", "--size", 8, "--epochs", 60, "--overfit", 10]
    said = discern(*words, "--set", "learning_rate=0.003", "--runs", tmp_path, "--name", "few")
    assert said.code == 0, said.err
    assert "It learns a few images by heart" in said.out
    run = Run(tmp_path / "few")
    assert sorted(run.dataset.class_counts().values()) == [3, 3, 4]
    assert run.info["test_openings"] == 0
    assert set(run.predictions.splits) == {"train"}


def test_training_begins_with_what_a_run_has_learned(colours, tmp_path):
    before = package.train(colours({"red": 12, "green": 12}), "simple-cnn", **{**SHORT, "epochs": 6}, runs=tmp_path)
    other = colours({"red": 12, "green": 12}, "other", seed=77)
    still = {"learning_rate": 0.0, "epochs": 1, "precision": "float32", "channels_last": False}
    run = package.train(other, begin=str(before.path), **still, runs=tmp_path)
    assert run.model == "simple-cnn"
    first, again = load_file(before.checkpoint()), load_file(run.checkpoint("last"))
    assert all((first[name] == again[name]).all() for name in first)
    assert run.info["preprocessing"] == before.info["preprocessing"]

    more = colours({"red": 12, "green": 12, "blue": 12}, "more", seed=78)
    run = package.train(more, begin=str(before.path), **still, runs=tmp_path)
    again = load_file(run.checkpoint("last"))
    same = [
        name for name in first if first[name].shape == again[f"{name}"].shape and (first[name] == again[name]).all()
    ]
    assert len(same) == len(first) - 2, "all but the last layer"


def test_what_a_run_was_trained_with_does_not_test_what_continues_it(scenes, tmp_path):
    photos = scenes({"red": 40, "green": 40}, side=32)
    before = package.train(photos, "simple-cnn", **SHORT, runs=tmp_path)
    options = {"begin": str(before.path), "epochs": 1, "runs": tmp_path}
    package.train(photos, **options)  # the same split
    with pytest.raises(DataError, match=r"photos that .*simple-cnn-1 was trained or chosen with"):
        package.train(photos, seed=1, **options)
    more = scenes({"red": 40, "green": 40}, into="more", side=32)
    for image in photos.rglob("*.jpg"):
        shutil.copy(image, more / image.parent.name / f"again-{image.name}")
    run = package.train(more, leakage="drop", **options)
    known = set(before.dataset.filter(pl.col("split") != "test").table["digest"])
    assert not set(run.dataset.split("test").table["digest"]) & known
    assert set(run.dataset.split("train").table["digest"]) & known
    with pytest.raises(UsageError, match="has trained simple-cnn, not mini-cnn"):
        package.train(photos, "mini-cnn", **options)


def test_growing_images_are_refused_where_a_network_cannot_take_them(colours, tmp_path):
    photos = colours({"red": 8, "green": 8})
    with pytest.raises(UsageError, match="simple-cnn takes images of one size alone: leave out start_size"):
        package.train(photos, "simple-cnn", size=16, start_size=8, runs=tmp_path)
    with pytest.raises(UsageError, match="start_size = 5: Images of 5 pixels are too small"):
        package.train(photos, "fast-cnn", size=32, start_size=5, runs=tmp_path)
    assert not list(tmp_path.glob("*-1"))
