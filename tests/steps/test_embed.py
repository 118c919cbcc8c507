"""Embed: features as a table, computed once; and the list of networks with what is measured about them."""

import json

import numpy as np
import polars as pl
import pytest
import timm
import torch
from safetensors.torch import save_file

from discern.errors import UnknownName, UsageError
from discern.progress import Silent
from discern.steps import models as step
from discern.steps.embed import embed
from discern.training import frozen


@pytest.fixture
def weights(tmp_path):
    """A folder in timm's layout with random weights."""
    torch.manual_seed(0)
    network = timm.create_model("test_resnet")
    folder = tmp_path / "weights"
    folder.mkdir()
    save_file(network.state_dict(), folder / "model.safetensors")
    known = {key: network.pretrained_cfg[key] for key in ("mean", "std", "first_conv", "classifier")}
    config = {"architecture": "test_resnet", "pretrained_cfg": {"input_size": [3, 64, 64], "license": "mit", **known}}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_a_row_of_features_for_every_readable_image(scenes, tmp_path, weights, monkeypatch):
    root = scenes({"cat": 6, "dog": 5})
    (root / "cat/broken.jpg").write_bytes(b"no picture")
    table = embed(root, "test_resnet", tmp_path / "out.parquet", weights=weights, progress=Silent())
    assert table.equals(pl.read_parquet(tmp_path / "out.parquet"))
    assert (table.columns, len(table)) == (["image", "label", "split", "embedding"], 11)
    assert set(table["label"]) == {"cat", "dog"}
    rows = table["embedding"].to_numpy()
    assert np.isfinite(rows).all()
    assert rows.std(axis=0).max() > 0
    monkeypatch.setattr(frozen, "forward_arithmetic", None)  # nothing is computed again
    again = embed(root, "test_resnet", tmp_path / "again.parquet", weights=weights, progress=Silent())
    assert again.equals(table)


def test_features_of_weights_that_were_drawn_mean_nothing(scenes, tmp_path):
    with pytest.raises(UsageError, match="mini-cnn has no published weights"):
        embed(scenes({"cat": 2, "dog": 2}), "mini-cnn", tmp_path / "out.parquet")
    with pytest.raises(UsageError, match=r"must end in \.parquet"):
        embed(scenes({"cat": 2, "dog": 2}), "test_resnet", tmp_path / "out.csv")


def test_a_licence_that_does_not_allow_every_use_has_to_be_accepted(scenes, tmp_path, weights):
    config = tmp_path / "weights" / "config.json"
    config.write_text(config.read_text().replace('"mit"', '"cc-by-nc-4.0"'))
    root = scenes({"cat": 2, "dog": 2})
    with pytest.raises(UsageError, match=r"licence cc-by-nc-4\.0, which does not allow every use.*--accept-license"):
        embed(root, "test_resnet", tmp_path / "out.parquet", weights=weights)
    assert len(embed(root, "test_resnet", tmp_path / "out.parquet", weights=weights, accept_license=True)) == 4


def test_networks_are_listed_by_pattern():
    assert "mini-cnn" in step.networks()
    assert "resnet18" not in step.networks()
    assert {"resnet18", "resnet18-scratch"} <= set(step.networks("resnet18*"))
    with pytest.raises(UnknownName, match="did you mean 'resnet18'"):
        step.networks("resnt18")


def test_speed_is_measured_once(cache):
    first = step.milliseconds("test_resnet", size=64, progress=Silent())
    assert 0 < first < 1000
    speeds = json.loads((cache / "speeds.json").read_text())
    (cache / "speeds.json").write_text(json.dumps(dict.fromkeys(speeds, 123.0)))
    assert step.milliseconds("test_resnet", size=64, progress=Silent()) == 123.0
    (cache / "speeds.json").write_text("{")
    assert step.milliseconds("test_resnet", size=64, progress=Silent()) != 123.0


def test_a_published_network_is_described_with_its_licence():
    told = step.described("resnet18", classes=4)
    assert (told["weights"], told["licence"], told["input_size"]) == ("published", "apache-2.0", 224)
    assert step.described("mini-cnn", classes=4)["licence"] is None
