"""The main job on real photos (below $DISCERN_DATA) and on the built-in images, whose masks say where things are."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

import discern as package
from discern.data.scan import load_images
from discern.data.synthetic.parts import Parts, write
from discern.deploy.predict import load_predictor
from discern.explanation.cam import grad_cam


def test_tool_photos_are_refused_and_become_a_judged_model_without_the_copies(real_data, discern, tmp_path):
    tools = real_data / "tools"
    words = ["--model", "mini-cnn", "--size", 48, "--epochs", 3, "--runs", tmp_path, "--name", "tools", "--json"]
    refused = discern("train", tools / "dataset", "--test", tools / "dataset_testing", *words)
    assert refused.code == 3
    assert "11 photos are in more than one split" in refused.err
    assert "dataset/Axe/0033.jpg (train) = dataset_testing/Axe/17.jpg (test)" in refused.err
    assert all(way in refused.err for way in ("--leakage drop", "--leakage group", "--leakage allow --because"))
    assert not list(tmp_path.iterdir())

    words += ["--leakage", "drop"]
    record = discern("train", tools / "dataset", "--test", tools / "dataset_testing", *words).json
    assert record["splits"]["test"]["n"] == 105
    run = tmp_path / "tools"
    gate = json.loads((run / "run.json").read_text())["gate"]
    assert (gate["leakage"], gate["clusters"], len(gate["dropped"])) == ("drop", 11, 11)
    assert "11 copies were left out" in (run / "report.html").read_text()
    findings = json.loads((run / "findings.json").read_text())
    (conflict,) = [f for f in findings if f["kind"] == "label_conflict"]
    assert conflict["rows"] == ["dataset/Axe/0014.jpg", "dataset/Hammer/0074.jpg"]
    (tiny,) = [f for f in findings if f["kind"] == "tiny"]
    sides = []
    for file in tools.glob("dataset*/*/*.*"):
        with Image.open(file) as picture:
            sides.append(min(picture.size))
    assert len(tiny["rows"]) == sum(side < 20 for side in sides) == 103

    predicted = discern("predict", run, tools / "dataset_testing" / "Axe", "--json").json["predictions"]
    stored = pl.read_parquet(run / "predictions.parquet").filter(pl.col("split") == "test", pl.col("label") == "Axe")
    by_name = {image.rpartition("/")[2]: row for image, *row in stored.select("image", "^p.*$").iter_rows()}
    assert len(predicted) == 35
    for answer in predicted:
        probabilities = np.array(list(answer["probabilities"].values()), np.float32)
        kept = np.array(by_name[answer["image"].rpartition("/")[2]][-3:], np.float32)
        assert probabilities.tobytes() == kept.tobytes()


def test_parquet_images_become_a_judged_model(real_data, discern, tmp_path):
    words = ["--model", "simple-cnn", "--epochs", 1, "--set", "batch_size=256", "--runs", tmp_path, "--json"]
    record = discern("train", real_data / "cifar10", *words, "--leakage", "drop").json
    test = record["splits"]["test"]
    assert test["n"] == 10_000
    assert test["top1"] > 0.3
    assert test["top1_ci"][0] < test["top1"] < test["top1_ci"][1]
    assert [scores["name"] for scores in test["per_class"]][:3] == ["airplane", "automobile", "bird"]


@pytest.mark.slow
def test_system_a_s_recipe_reaches_its_accuracy(real_data, tmp_path):
    run = package.train(real_data / "cifar10", recipe="cifar-simple-cnn", runs=tmp_path)
    assert 0.69 <= run.evaluation.splits["test"].top1 <= 0.74


@pytest.mark.slow
def test_heat_maps_lie_on_the_parts(tmp_path):
    """Of the heat of rightly named test images, more lies on the thing than its share of the picture."""
    photos = write(tmp_path / "parts", Parts(seed=7))
    run = package.train(photos, recipe="demo-mini-cnn", runs=tmp_path)
    predictor, predictions = load_predictor(run), run.predictions.split("test")
    right = [i for i, ok in enumerate(predictions.predicted == predictions.labels) if ok]
    assert len(right) >= 25
    names = [predictions.images[i] for i in right]
    test = run.dataset.filter(pl.col("image").is_in(names))
    squares = load_images(test, size=predictor.preprocessing.size, fit="pad")
    inputs = predictor.preprocessing.normalize(torch.from_numpy(squares))
    heat = grad_cam(predictor.model, inputs, torch.from_numpy(test.labels)).numpy()
    inside, share = [], []
    for image, each in zip(test.images, heat, strict=True):
        file = photos / ".truth" / "masks" / f"{image.removesuffix('.jpg')}.png"
        mask = np.asarray(Image.open(file).resize(each.shape)) > 127
        inside.append(each[mask].sum() / each.sum())
        share.append(mask.mean())
    assert np.mean(inside) > 1.3 * np.mean(share)
