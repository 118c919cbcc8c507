"""Training as a whole: what it leaves alone, and that a recipe repeats it."""

import pytest

import discern as package
from discern.data.sources import open_dataset
from discern.errors import DataError
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
