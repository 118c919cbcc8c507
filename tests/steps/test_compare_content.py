"""Runs are compared image by image, and an image is its content: not its name, not the folder it lies in."""

import shutil

import polars as pl
import pytest

from discern.errors import DataError
from discern.runs.run import Run
from discern.steps.compare import compare


@pytest.fixture
def two(trained, tmp_path):
    return [Run(shutil.copytree(trained.run, tmp_path / name)) for name in ("one", "two")]


def rewrite(run, **columns):
    """Change columns of the run's tables, as another folder would have given them."""
    dataset = run.dataset.with_columns(*(pl.Series(name, make(run.dataset)) for name, make in columns.items()))
    dataset.write(run.path / "dataset.parquet")


def test_the_same_files_in_another_folder_are_the_same_images(two):
    rewrite(two[1], image=lambda data: [f"moved/{name}" for name in data.images])
    for file in ("predictions.parquet", "baselines/majority class.parquet", "baselines/color histogram.parquet"):
        table = pl.read_parquet(two[1].path / file)
        table.with_columns(("moved/" + pl.col("image")).alias("image")).write_parquet(two[1].path / file)
    assert compare(two).rows[0].n == 6


def test_other_pictures_under_the_same_names_are_refused(two):
    rewrite(two[1], digest=lambda data: [digest[::-1] for digest in data.table["digest"]])
    with pytest.raises(DataError, match="not scored on the same test images"):
        compare(two)


def test_a_pick_no_better_than_a_baseline_is_said(two, discern):
    worst = two[0].predictions
    shutil.copy(two[0].path / "baselines" / "majority class.parquet", two[0].path / "predictions.parquet")
    assert len(worst) == len(two[0].predictions)
    comparison = compare([two[0]])
    assert "majority class" in comparison.unbeaten()
    said = discern("compare", two[0].path).out
    assert "not significantly better than a trivial baseline" in said
    assert "-0.0" not in said
