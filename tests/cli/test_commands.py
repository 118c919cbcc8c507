"""What every command prints: one JSON object or words for people on standard output, progress on standard error."""

import json
import shutil
import sys
from pathlib import Path

import polars as pl
import pytest

from discern.runs.predictions import Predictions
from discern.runs.run import Run

SCORES = {"n", "top1", "top1_ci", "macro_f1", "loss"}


def test_train_as_json(discern, colours, tmp_path, tiny):
    where = ("--runs", tmp_path / "runs", "--seed", "5", "--json")
    answer = discern("train", colours({"red": 8, "green": 8}), *tiny, *where)
    record = answer.json
    assert answer.code == 0
    assert record["run"] == str(tmp_path / "runs" / "simple-cnn-1")
    assert (record["model"], record["seed"], record["status"]) == ("simple-cnn", 5, "finished")
    assert record["seconds"] > 0
    assert set(record["splits"]) == {"val", "test"}
    for scores in record["splits"].values():
        assert scores.keys() >= SCORES
        assert scores["n"] == 2
        assert 0 <= scores["top1_ci"][0] <= scores["top1"] <= scores["top1_ci"][1] <= 1
    assert "Data: 16 images of 2 classes" in answer.err
    assert "epoch 2/2" in answer.err


def test_train_in_words(discern, colours, tmp_path, tiny):
    where = ("--runs", tmp_path / "my runs", "--name", "größe 8")
    answer = discern("train", colours({"red": 8, "green": 8}), *tiny, *where)
    assert "test: top-1" in answer.out
    assert f"Report  {tmp_path / 'my runs' / 'größe 8' / 'report.html'}" in answer.out
    quoted = f"discern predict '{tmp_path / 'my runs' / 'größe 8'}' IMAGES"
    assert quoted in answer.out  # can be copied into a shell


def test_audit(discern, colours):
    photos = colours({"red": 4, "green": 4})
    shutil.copy(photos / "red" / "0.jpg", photos / "red" / "copy.jpg")
    answer = discern("audit", photos, "--json")
    assert answer.json["images"] == 9
    assert [(f["kind"], f["rows"]) for f in answer.json["findings"]] == [
        ("exact_duplicate", ["red/0.jpg", "red/copy.jpg"])
    ]
    words = discern("audit", photos)
    assert "9 images of 2 classes (green 4, red 5)" in words.out
    assert "exact_duplicate" in words.out
    (photos / "red" / "copy.jpg").unlink()
    assert "No findings" in discern("audit", photos).out


def test_evaluate(discern, trained):
    record = discern("evaluate", trained.run, "--json").json
    assert record["splits"]["test"].keys() >= SCORES
    assert record["photos"] is None
    assert "test: top-1" in discern("evaluate", trained.run).out


def test_compare(discern, trained, tmp_path):
    other = shutil.copytree(trained.run, tmp_path / "runs" / "other")
    record = discern("compare", trained.run, other, "--json").json
    assert {row["name"] for row in record["rows"]} == {"first", "other", "majority class", "color histogram"}
    assert record["pick"] in ("first", "other")
    assert record["split"] == "test"
    words = discern("compare", trained.run, other).out
    assert "color histogram (baseline)" in words
    assert f"Pick: {record['pick']} - " in words
    assert "is not significantly worse than first." not in discern("compare", trained.run).out  # than itself


def test_explain(discern, trained, tmp_path):
    run = shutil.copytree(trained.run, tmp_path / "run")
    record = discern("explain", run, trained.photos / "red" / "0.jpg", "--json").json
    (told,) = record["explanations"]
    assert told["image"] == str(trained.photos / "red" / "0.jpg")
    assert told["prediction"] in ("blue", "green", "red")
    assert Path(told["path"]).is_file()
    assert "heat map" in discern("explain", run).out


def test_report(discern, trained, tmp_path):
    page = tmp_path / "new" / "page.html"
    record = discern("report", trained.run, "--out", page, "--json").json
    assert record == {"report": str(page), "runs": [str(trained.run)]}
    assert "<html" in page.read_text()


def test_predict(discern, trained):
    record = discern("predict", trained.run, trained.photos / "green", "--json").json
    assert len(record["predictions"]) == 12
    first = record["predictions"][0]
    assert first["confidence"] == max(first["probabilities"].values())
    assert first["probabilities"][first["prediction"]] == first["confidence"]
    assert record["unreadable"] == []
    assert "first" in discern("predict", trained.run, trained.photos / "green").out


def test_runs(discern, trained, tmp_path):
    record = discern("runs", "--runs", trained.run.parent, "--json").json
    assert [run["run"] for run in record["runs"]] == [str(trained.run)]
    assert "finished" in discern("runs", "--runs", trained.run.parent).out
    (tmp_path / "empty").mkdir()
    assert "train a model first" in discern("runs", "--runs", tmp_path / "empty").out
    assert discern("runs", "--runs", tmp_path / "nowhere").code == 2


def test_models(discern):
    record = discern("models", "regularized-cnn", "--classes", "10", "--json").json
    assert record["name"] == "regularized-cnn"
    assert (record["parameters"], record["keras_count"], record["input_size"]) == (545_290, 545_482, 32)
    assert len(discern("models", "--json").json["models"]) > 5
    assert "545,290" in discern("models").out


def test_a_model_is_described_with_its_options(discern):
    record = discern("models", "flexible-cnn", "--json").json
    assert (record["family"], record["weights"], record["config"]["kernel"]) == ("convnet", "scratch", 5)
    said = discern("models", "vgg19-c").out
    assert "scratch or published" in said
    assert "--set network.OPTION=VALUE" in said
    assert all(option in said for option in ("split", "weights", "[4096, 4096]"))


def test_recipes(discern, tmp_path):
    assert "cifar-simple-cnn" in discern("recipes", "--json").json["recipes"]
    assert discern("recipes", "cifar-simple-cnn", "--json").json["model"] == "simple-cnn"
    text = discern("recipes", "cifar-simple-cnn").out
    (tmp_path / "mine.yaml").write_text(text)
    assert discern("recipes", tmp_path / "mine.yaml").out == text
    assert "cifar-simple-cnn" in discern("recipes").out


def test_parts(discern, tmp_path):
    sizes = ("--per-class", "1", "--test-per-class", "1", "--size", "16")
    assert discern("parts", tmp_path / "parts", *sizes, "--json").json["folder"] == str(tmp_path / "parts")
    assert len(list((tmp_path / "parts" / "train").rglob("*.jpg"))) >= 5


# Sources


LAYOUTS = {
    "train and test": ("train", None, "test"),
    "all three": ("train", "val", "test"),
    "other names": ("Training", "validation", "testing"),
    "valid": ("train", "valid", "test"),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_given_splits_are_taken_as_they_are(discern, colours, tmp_path, tiny, layout):
    counts = {}
    for folder, count in zip(layout, (8, 3, 4), strict=True):
        counts |= {f"{folder}/{name}": count for name in ("red", "green") if folder}
    where = ("--runs", tmp_path / "runs", "--json")
    record = discern("train", colours(counts), *tiny, *where).json
    assert record["splits"]["test"]["n"] == 8
    dataset = Run(Path(record["run"])).dataset
    assert all(name.startswith(f"{layout[2]}/") for name in dataset.split("test").images)
    assert dataset.split_counts()["val"] == (6 if layout[1] else 2)


def test_a_separate_folder_of_test_images(discern, colours, tmp_path, tiny):
    photos, more = colours({"red": 8, "green": 8}), colours({"blue/red": 5, "blue/green": 5}, into="more", seed=5)
    where = ("--test", more / "blue", "--runs", tmp_path / "runs", "--json")
    record = discern("train", photos, *tiny, *where).json
    assert record["splits"]["test"]["n"] == 10


def test_hugging_face_parquet(discern, trained, tmp_path, tiny):
    classes = ["red", "green", "blue"]
    files = [(file, name) for name in classes for file in sorted((trained.photos / name).iterdir())]
    table = pl.DataFrame(
        {
            "image": [{"bytes": file.read_bytes(), "path": file.name} for file, _ in files],
            "label": [classes.index(name) for _, name in files],
        }
    ).to_arrow()
    info = {"info": {"features": {"label": {"names": classes, "_type": "ClassLabel"}}}}
    import pyarrow.parquet as pq

    (tmp_path / "data").mkdir()
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), tmp_path / "data/all.parquet")
    where = ("--runs", tmp_path / "runs", "--json")
    record = discern("train", tmp_path / "data", *tiny, *where).json
    said = Predictions.read(Path(record["run"]) / "predictions.parquet")
    assert said.classes == ("red", "green", "blue")

    # A picture taken out of the table and predicted as a file gets the same probabilities.
    files_again = []
    for image in said.images:
        row = int(image.split("#")[1])
        files_again.append(tmp_path / f"{row}{files[row][0].suffix}")
        files_again[-1].write_bytes(files[row][0].read_bytes())
    told = discern("predict", record["run"], *files_again, "--json").json["predictions"]
    for probabilities, answer in zip(said.probabilities, told, strict=True):
        assert [float(p) for p in probabilities] == list(answer["probabilities"].values())


def test_odd_names_work_from_photos_to_report(discern, colours, tmp_path, tiny):
    photos = colours({"Äxte, grün": 8, "日本 & <b>": 8, "p(x)": 8})
    (photos / "p(x)" / "0.jpg").rename(photos / "p(x)" / "ein Bild mit 'Strich' ü.jpg")
    run = tmp_path / "my runs" / "größe #8"
    where = ("--runs", run.parent, "--name", run.name)
    assert discern("train", photos, *tiny, *where).code == 0
    assert Run(run).predictions.classes == ("p(x)", "Äxte, grün", "日本 & <b>")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Äxte, grün" in page
    assert "日本 &amp; &lt;b&gt;" in page
    assert "日本 & <b>" not in page
    told = discern("predict", run, photos / "p(x)", "--csv", tmp_path / "aus gabe.csv")
    assert told.code == 0
    table = pl.read_csv(tmp_path / "aus gabe.csv")
    assert table.columns == ["image", "prediction", "confidence", "p(p(x))", "p(Äxte, grün)", "p(日本 & <b>)"]
    assert any("Strich" in name for name in table["image"])


def test_the_command_is_kept(trained):
    assert Run(trained.run).info["command"] == sys.argv


def test_help_of_train_shows_ten_options_and_where_the_others_are(discern):
    short, long = discern("train", "--help"), discern("train", "--help-all")
    assert (short.code, long.code) == (0, 0)
    listed = [line.split()[0] for line in short.out.splitlines() if line.startswith("  --")]
    assert len(listed) == 10
    assert {"--model", "--weights", "--set", "--resume"} <= set(listed)
    assert "more options: discern train --help-all" in short.out
    for option in (*listed, "--processes", "--group-by", "--track", "--json"):
        assert f"  {option}" in long.out
