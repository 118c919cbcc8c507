"""`discern audit` as people and programs call it."""

import json
import os
import shutil

import polars as pl
import pytest


@pytest.fixture
def photos(scenes, tmp_path, monkeypatch):
    """Scenes in two splits with a leak, a copy and a wrong file; the current folder is empty."""
    root = scenes({f"{s}/{c}": 8 for s in ("train", "test") for c in ("cat", "dog")})
    shutil.copy(root / "train/cat/000.jpg", root / "train/cat/same.jpg")
    shutil.copy(root / "train/dog/000.jpg", root / "test/dog/leaked.jpg")
    (root / "train/dog/broken.jpg").write_bytes(b"no picture")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return root


def test_findings_leave_exit_code_0_even_errors(discern, photos):
    answer = discern("audit", photos)
    assert answer.code == 0
    for words in ("error", "leakage", "exact_duplicate", "unreadable", "35 images of 2 classes", "train 18, test 17"):
        assert words in answer.out
    assert "Page    audit/audit.html" in answer.out
    assert "--backbone" in answer.err
    assert sorted(os.listdir("audit")) == ["audit.html", "findings.json", "scores.parquet"]


def test_one_json_object_with_every_finding(discern, photos, tmp_path):
    record = discern("audit", photos, "--json", "--out", tmp_path / "out").json
    assert record["images"] == 35
    assert record["classes"] == {"cat": 17, "dog": 18}
    assert record["splits"] == {"train": 18, "test": 17}
    for finding in record["findings"]:
        assert finding.keys() == {"kind", "severity", "rows", "evidence", "remedy", "detail"}
    by_kind = {finding["kind"]: finding for finding in record["findings"]}
    assert by_kind["leakage"]["rows"] == ["test/dog/leaked.jpg", "train/dog/000.jpg"]
    assert by_kind["exact_duplicate"]["rows"] == ["train/cat/000.jpg", "train/cat/same.jpg"]
    assert by_kind["unreadable"]["rows"] == ["train/dog/broken.jpg"]
    assert record["page"] == str(tmp_path / "out/audit.html")
    assert pl.read_parquet(record["table"]).height == 35
    assert not os.listdir(".")
    assert json.loads((tmp_path / "out/findings.json").read_text()) == record["findings"]


def test_a_second_audit_says_the_same(discern, photos):
    assert discern("audit", photos, "--json").json == discern("audit", photos, "--json").json


def test_a_separate_place_of_test_images(discern, scenes, tmp_path):
    first, second = scenes({"cat": 6, "dog": 6}), scenes({"cat": 3, "dog": 3}, into="second")
    shutil.copy(first / "cat/000.jpg", second / "cat/same.jpg")
    record = discern("audit", first, "--test", second, "--out", tmp_path / "out", "--json").json
    assert record["splits"] == {"train": 12, "test": 7}
    assert [finding["kind"] for finding in record["findings"]] == ["leakage"]


def test_nothing_found_is_said(discern, scenes, tmp_path):
    answer = discern("audit", scenes({"cat": 6, "dog": 6}), "--out", tmp_path / "out")
    assert answer.code == 0
    assert "No findings." in answer.out


def test_a_cluster_of_very_many_copies_does_not_fill_the_screen(discern, scenes, tmp_path):
    root = scenes({"cat": 6, "dog": 6})
    for k in range(60):
        shutil.copy(root / "cat/000.jpg", root / f"dog/copy-{k:03d}.jpg")
    answer = discern("audit", root, "--out", tmp_path / "out")
    assert "copy-059" not in answer.out
    assert "..." in answer.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--weights", "net.safetensors"), "--weights net.safetensors are of no backbone"),
        (("--backbone", "mobilnetv2_100"), "did you mean 'mobilenetv2_100'"),
        (("--backbone", "mobilenetv2_100", "--weights", "nowhere"), "No weights at nowhere"),
        (("--suspects", "mine"), "'mine' is not one of 'own', 'cleanlab'"),
    ],
)
def test_what_makes_no_sense_is_refused(discern, photos, words, sentence):
    answer = discern("audit", photos, *words)
    assert (answer.code, answer.out) == (2, "")
    assert sentence in answer.err
    assert "Traceback" not in answer.err


def test_cleanlab_can_be_asked(discern, scenes, tmp_path):
    root = scenes({"cat": 20, "dog": 20, "fox": 20})
    answer = discern("audit", root, "--suspects", "cleanlab", "--out", tmp_path / "out", "--json")
    assert answer.code == 0
    assert pl.read_parquet(answer.json["table"])["is_label_suspect"].null_count() == 0


def test_self_check_as_a_table_and_as_json(discern, scenes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = scenes({"cat": 20, "dog": 20})
    answer = discern("audit", root, "--self-check", "--seed", 4)
    assert answer.code == 0
    for words in ("put in (seed 4)", "recall", "precision", "AUPRC", "mirrored", "label_suspect", "1.000"):
        assert words in answer.out
    record = discern("audit", root, "--self-check", "--seed", 4, "--json").json
    assert (record["images"], record["seed"]) == (40, 4)
    rows = {row["fault"].strip(): row for row in record["rows"]}
    assert rows["exact_duplicate"]["recall"] == 1
    assert rows["exact_duplicate"].keys() == {"fault", "count", "recall", "precision", "auprc"}
    assert os.listdir(tmp_path) == ["scenes"]
