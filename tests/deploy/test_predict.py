"""Prediction repeats evaluation bit for bit: alone, in a crowd, in any order, from any kind of file."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from discern.data.decode import decode
from discern.deploy.predict import BATCH, image_files, load_predictor, softmax
from discern.errors import DataError, UnreadableImage, UsageError
from discern.runs.predictions import Predictions
from discern.runs.run import Run
from discern.steps.predict import predict


@pytest.fixture(scope="module")
def judged(trained):
    """Probabilities by the path of the image, as the evaluation left them."""
    said = Run(trained.run).predictions
    return {str(trained.photos / name): row for name, row in zip(said.images, said.probabilities, strict=True)}


def same(answers, judged):
    assert len(answers.predictions)
    for name, row in zip(answers.predictions.images, answers.predictions.probabilities, strict=True):
        assert row.dtype == np.float32
        assert row.tobytes() == judged[name].tobytes(), name


def test_every_image_alone(trained, judged):
    for file in judged:
        same(predict(trained.run, [file]), judged)
    run = Run(trained.run)
    seen = run.dataset.filter(pl.col("split") != "train").table
    assert {*seen.select("format", "mode").unique().iter_rows()} == {("JPEG", "RGB"), ("PNG", "L"), ("PNG", "RGBA")}
    assert seen.filter(pl.col("height") > pl.col("width")).height  # turned by EXIF


@pytest.mark.parametrize("seed", range(3))
def test_all_together_in_any_order(trained, judged, seed):
    files = list(np.random.default_rng(seed).permutation(list(judged)))
    same(predict(trained.run, files), judged)


def test_among_others(trained, judged):
    everything = predict(trained.run, [trained.photos]).predictions
    assert len(everything) == 36
    rows = [everything.images.index(name) for name in judged]
    assert everything.probabilities[rows].tobytes() == np.stack(list(judged.values())).tobytes()


def test_around_the_batch_size(trained, judged):
    files = (list(judged) * 6)[: 2 * BATCH["cpu"] + 1]
    for count in (BATCH["cpu"] - 1, BATCH["cpu"], BATCH["cpu"] + 1, len(files)):
        same(predict(trained.run, files[:count]), judged)


def test_the_command_prints_the_very_numbers(discern, trained, judged, tmp_path):
    told = discern("predict", trained.run, *judged, "--json").json["predictions"]
    printed = np.array([list(answer["probabilities"].values()) for answer in told], dtype=np.float32)
    assert printed.tobytes() == np.stack(list(judged.values())).tobytes()
    assert discern("predict", trained.run, *judged, "--csv", tmp_path / "x.csv").code == 0
    table = pl.read_csv(tmp_path / "x.csv", schema_overrides={f"p({c})": pl.Float32 for c in ("blue", "green", "red")})
    assert table["image"].to_list() == list(judged)
    written = table.select("p(blue)", "p(green)", "p(red)").to_numpy()
    assert np.ascontiguousarray(written).tobytes() == printed.tobytes()


def test_another_working_directory_and_a_relative_path(trained, judged, monkeypatch):
    monkeypatch.chdir(trained.photos)
    said = predict(trained.run, ["red"]).predictions
    for name, row in zip(said.images, said.probabilities, strict=True):
        if (known := judged.get(str(trained.photos / name))) is not None:
            assert row.tobytes() == known.tobytes()


def test_evaluating_the_photos_again_gives_the_same(discern, trained, judged, tmp_path):
    run = shutil.copytree(trained.run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluations"))
    for name in judged:
        relative = name.removeprefix(f"{trained.photos}/")
        (tmp_path / "held out" / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, tmp_path / "held out" / relative)
    allowed = ("--leakage", "allow", "--because", "half of them chose the checkpoint")
    answer = discern("evaluate", run, tmp_path / "held out", *allowed, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["splits"]["test"]["n"] == len(judged)
    (kept,) = (run / "evaluations").iterdir()
    said = Predictions.read(kept / "predictions.parquet")
    for name, row in zip(said.images, said.probabilities, strict=True):
        assert row.tobytes() == judged[str(trained.photos / name)].tobytes()
    assert json.loads((kept / "evaluation.json").read_text())["splits"]["test"]["n"] == len(judged)


def test_the_same_picture_is_seen_as_in_training(trained):
    predictor = load_predictor(Run(trained.run))
    file = trained.photos / "red" / "3.jpg"
    assert np.array_equal(predictor.decode(file), decode(file.read_bytes(), size=8, fit="pad").image)


def test_another_checkpoint_is_another_model(trained):
    run = Run(trained.run)
    square = np.full((1, 8, 8, 3), 100, np.uint8)
    chosen, last = load_predictor(run), load_predictor(run, "last")
    assert chosen.probabilities(square).sum() == pytest.approx(1)
    assert chosen.classes == last.classes == ("blue", "green", "red")


def test_softmax_does_not_overflow_and_rows_do_not_mix():
    logits = np.array([[1e4, 0, -1e4], [0, 0, 0]], np.float32)
    assert np.array_equal(softmax(logits)[0], [1, 0, 0])
    assert softmax(logits)[1].tobytes() == softmax(logits[1:])[0].tobytes()


def test_which_files_are_taken(trained, tmp_path):
    one = trained.photos / "red" / "0.jpg"
    assert image_files([one, trained.photos / "green"])[0] == one
    assert len(image_files([one, trained.photos / "green"])) == 13
    with pytest.raises(UsageError, match="No such file or folder"):
        image_files([tmp_path / "nowhere"])


def test_files_that_are_no_images(trained, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(UnreadableImage, match=r"a\.jpg cannot be used: it is empty"):
        load_predictor(Run(trained.run)).decode(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"a\.jpg cannot be used.*nor can any of the 1 others"):
        predict(trained.run, [tmp_path / "a.jpg", tmp_path / "b.jpg"])
