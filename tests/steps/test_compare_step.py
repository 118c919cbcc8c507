"""Comparing Runs: names, costs, baselines, and the refusal of different images."""

import shutil

import pytest

from discern.errors import DataError, NotARun, UsageError
from discern.evaluation.run_comparison import distinct_names
from discern.runs.run import Run
from discern.steps.compare import compare


@pytest.fixture
def two(trained, tmp_path):
    """Two copies of one Run, the second ten times as fast."""
    slow, fast = (Run(shutil.copytree(trained.run, tmp_path / "runs" / name)) for name in ("slow", "fast"))
    slow.update(milliseconds_per_image=10.0)
    fast.update(milliseconds_per_image=1.0)
    return slow, fast


def test_equal_models_the_faster_is_picked(two):
    comparison = compare(two)
    assert comparison.pick == "fast"
    (pair,) = [p for p in comparison.pairs if {p.first, p.second} == {"slow", "fast"}]
    assert (pair.difference, pair.p) == (0, 1)
    assert {row.name for row in comparison.rows if row.baseline} == {"majority class", "color histogram"}


def test_the_validation_split(two):
    assert compare(two, split="val").split == "val"


def test_runs_on_other_images_are_refused_with_what_to_do(discern, trained, tmp_path, tiny):
    where = ("--runs", tmp_path / "runs", "--name", "other", "--seed", "1")
    assert discern("train", trained.photos, *tiny, *where).code == 0
    with pytest.raises(DataError, match="'first' and 'other' were not scored on the same test images"):
        compare([trained.run, tmp_path / "runs" / "other"])
    answer = discern("compare", trained.run, tmp_path / "runs" / "other")
    assert answer.code == 3
    assert answer.err.startswith("Error: 'first' and 'other' were not scored on the same test images")


def test_directories_of_one_name_are_told_apart_by_their_paths(trained, tmp_path):
    other = Run(shutil.copytree(trained.run, tmp_path / "elsewhere" / "first"))
    assert distinct_names([Run(trained.run), other]) == [str(trained.run), str(other)]
    assert len([row for row in compare([trained.run, other]).rows if not row.baseline]) == 2


def test_one_run_named_twice_is_refused(discern, trained):
    with pytest.raises(UsageError, match=r"named twice"):
        compare([trained.run, trained.run])


def test_nothing_to_compare():
    with pytest.raises(UsageError, match="nothing to compare"):
        compare([])


def test_an_unfinished_run_is_said(two):
    (two[0].path / "predictions.parquet").unlink()
    with pytest.raises(NotARun, match=r"slow has no predictions\.parquet: .* finish it with"):
        compare(two)


def test_an_unfinished_run_is_left_out_and_said(trained, tmp_path, discern):
    half = Run(shutil.copytree(trained.run, tmp_path / "half"))
    half.update(status="training")
    (half.path / "predictions.parquet").unlink()
    answer = discern("compare", trained.run, half.path, "--json")
    assert [row["name"] for row in answer.json["rows"] if not row["baseline"]] == [trained.run.name]
    assert f"warning: {half.path} is unfinished and left out" in answer.err.replace("\n", " ")
