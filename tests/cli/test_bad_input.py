"""Every refusal: one clear sentence on standard error, the right exit code, nothing half-written."""

import json
import os
import shutil
import struct
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

USAGE, DATA = 2, 3
BALANCED = {"red": 8, "green": 8}


@pytest.fixture
def refused(discern):
    """`refused(2, "a part of the sentence", "train", ...)` runs a command that says no and checks how it says it."""

    def check(code, sentence, *words):
        answer = discern(*words)
        assert answer.code == code, answer.err
        assert "Traceback" not in answer.err
        assert "bug" not in answer.err
        errors = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
        assert len(errors) == 1
        assert sentence in errors[0]
        assert answer.err.splitlines()[-1] == errors[0]  # one sentence, on one line, at the end
        assert answer.out == ""
        return answer

    return check


def png(width, height, data=b""):
    """A PNG that says it is so large, with whatever data."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def copy_of(trained, tmp_path):
    return shutil.copytree(trained.run, tmp_path / "runs" / "copy")


# What the photos can be


def test_photos_that_do_not_exist(refused, tmp_path):
    refused(USAGE, "No such file or folder", "train", tmp_path / "nowhere", "--runs", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["train", "audit"])
def test_a_folder_without_images(refused, tmp_path, command):
    (tmp_path / "empty").mkdir()
    refused(DATA, "No images in", command, tmp_path / "empty")


def test_one_class_only(refused, colours, tmp_path):
    refused(DATA, "one class only ('red')", "train", colours({"red": 6}), "--runs", tmp_path / "runs")


def test_images_without_class_folders(refused, colours, tmp_path):
    refused(DATA, "put the images of each class into a sub-folder", "train", colours({".": 6}))


def test_a_class_with_one_image(refused, colours, tmp_path, tiny):
    photos = colours({"red": 8, "green": 1})
    refused(
        DATA,
        "The class 'green' has 1 image, fewer than one for each of train, val, test",
        "train",
        photos,
        *tiny,
        "--runs",
        tmp_path / "runs",
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_missing_in_a_given_split(refused, colours, tmp_path, tiny, split):
    photos, part = colours(BALANCED), colours({"red": 3}, into="part")
    answer = refused(DATA, "green", "train", photos, f"--{split}", part, *tiny, "--runs", tmp_path / "runs")
    assert split in answer.err
    assert not (tmp_path / "runs").exists()


def test_a_class_in_the_test_folder_that_training_has_not(refused, colours, tiny):
    part = colours({"red": 3, "green": 3, "blue": 3}, into="part")
    refused(DATA, "blue", "train", colours(BALANCED), "--test", part, *tiny)


def test_all_images_unreadable(refused, tmp_path, tiny):
    for name in ("red", "green"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "photos" / name / f"{number}.jpg").write_text("not an image")
    refused(DATA, "None of the 8 images", "train", tmp_path / "photos", *tiny, "--runs", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_broken_images_among_good_ones_are_findings_and_training_goes_on(discern, colours, tmp_path, tiny):
    photos = colours(BALANCED)
    good = (photos / "red" / "0.jpg").read_bytes()
    broken = {
        "zero.jpg": b"",
        "cut.jpg": good[: len(good) // 2],
        "text.jpg": b"words, not pixels",
        "bomb.png": png(20_000, 20_000, zlib.compress(bytes(1000))),
        "cut.png": (photos / "red" / "1.png").read_bytes()[:60],
    }
    for name, content in broken.items():
        (photos / "red" / name).write_bytes(content)
    (photos / "red" / "gone.jpg").symlink_to(tmp_path / "nothing")
    Image.new("RGB", (1, 1)).save(photos / "red" / "dot.png")
    answer = discern("train", photos, *tiny, "--runs", tmp_path / "runs", "--name", "x")
    assert answer.code == 0, answer.err
    findings = json.loads((tmp_path / "runs" / "x" / "findings.json").read_text())
    unreadable = {row for finding in findings if finding["kind"] == "unreadable" for row in finding["rows"]}
    assert unreadable == {f"red/{name}" for name in (*broken, "gone.jpg")}
    assert [finding["rows"] for finding in findings if finding["kind"] == "tiny"] == [["red/dot.png"]]
    assert "warning: unreadable: red/bomb.png cannot be used" in answer.err
    assert "5 more like it" in answer.err


def test_links_in_a_circle_end(discern, colours, tmp_path, tiny):
    photos = colours(BALANCED)
    (photos / "red" / "again").symlink_to(photos)
    (photos / "green" / "itself").symlink_to(photos / "green")
    answer = discern("train", photos, *tiny, "--runs", tmp_path / "runs")
    assert answer.code == 0, answer.err
    assert "16 images" in answer.err


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"picture": [b"x"], "label": [0]}, "no column 'image'"),
        ({"image": [{"bytes": b"x", "path": "x"}], "kind": [0]}, "no column 'label'"),
        ({"image": [b"x"], "label": [0]}, "is of type binary"),
        ({"image": ["a.jpg"], "label": [0]}, "No file that"),
    ],
)
def test_a_parquet_file_with_other_columns(refused, tmp_path, columns, sentence):
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    refused(DATA, sentence, "train", tmp_path / "train.parquet")


def test_a_parquet_file_that_is_none(refused, tmp_path):
    (tmp_path / "train.parquet").write_text("words")
    refused(DATA, "cannot be read as Parquet", "audit", tmp_path / "train.parquet")


# What the words can be


def test_names_that_do_not_exist_with_the_nearest_that_does(refused, colours, tmp_path):
    photos = colours(BALANCED)
    refused(USAGE, "Unknown command 'trian': did you mean 'train'?", "trian", photos)
    refused(USAGE, "Unknown model 'cnnbasic': did you mean 'cnn-basic'?", "train", photos, "--model", "cnnbasic")
    refused(USAGE, "Unknown model 'mini-cn': did you mean 'mini-cnn'?", "models", "mini-cn")
    refused(USAGE, "did you mean 'cifar-simple-cnn'?", "train", photos, "--recipe", "cifar-simple")
    refused(USAGE, "did you mean 'cifar-simple-cnn'?", "recipes", "cifar-simple")
    refused(
        USAGE,
        "Unknown recipe key 'epoch' in the command line: did you mean 'epochs'?",
        "train",
        photos,
        "--set",
        "epoch=3",
    )
    refused(USAGE, "'flp' in the command line: did you mean 'flip'?", "train", photos, "--set", "augment.flp=0.5")
    refused(USAGE, "Did you mean '--epochs'?", "train", photos, "--epoch", "3")
    refused(USAGE, "No such option '--fast'", "doctor", "--fast")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--set", "epochs"], "'epochs' is not KEY=VALUE, such as batch_size=64"),
        (["--set", "=3"], "'=3' is not KEY=VALUE"),
        (["--set", "augment.flip=["], "'[' is not a YAML value"),
        (["--set", "augment=3"], "augment = 3 is not possible"),
        (["--set", "optimizer=lion"], "optimizer = 'lion' is not possible"),
        (["--epochs", "0"], "epochs = 0 is not possible: it must lie between 1 and"),
        (["--epochs", "many"], "'many' is not a valid integer"),
        (["--size", "-4"], "size = -4 is not possible"),
        (["--model", "cnn-basic", "--size", "8"], "Images of 8 pixels are too small for this network"),
        (["--recipe", "mine.yaml"], "No such recipe file: mine.yaml"),
        (["--name", "a/b"], "A run cannot be called 'a/b': give a plain --name"),
        (["--name", ".."], "A run cannot be called '..'"),
        (["--name", "."], "A run cannot be called '.'"),
        (["--name", ""], "A run cannot be called ''"),
    ],
)
def test_values_that_make_no_sense_are_refused_before_an_image_is_read(
    refused, colours, tmp_path, cache, words, sentence
):
    refused(USAGE, sentence, "train", colours(BALANCED), "--runs", tmp_path / "runs", *words)
    assert not (tmp_path / "runs").exists()
    assert list(cache.iterdir()) == []


def test_a_recipe_file_that_is_no_recipe(refused, colours, tmp_path):
    (tmp_path / "r.yaml").write_text("- a\n- b\n")
    refused(USAGE, "is not a recipe", "train", colours(BALANCED), "--recipe", tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text("epochs: [")
    refused(USAGE, "is not YAML", "train", colours(BALANCED), "--recipe", tmp_path / "r.yaml")


def test_photos_and_resume_exclude_each_other(refused, colours, trained):
    refused(USAGE, "leave out PHOTOS", "train", colours(BALANCED), "--resume", trained.run)
    words = ("train", "--resume", trained.run, "--epochs", 9, "--set", "batch_size=2", "--name", "x")
    refused(USAGE, "leave out --name, --set, --epochs", *words)
    refused(USAGE, "Name the PHOTOS to train on, or the run to --resume", "train")


def test_a_key_given_twice_is_refused(refused, colours):
    photos = colours(BALANCED)
    refused(USAGE, "'epochs' is given twice", "train", photos, "--epochs", 2, "--set", "epochs=3")
    refused(USAGE, "'augment' is set twice", "train", photos, "--set", "augment=5", "--set", "augment.flip=1")
    refused(USAGE, "Unknown recipe key 'name'", "train", photos, "--set", "name=x")


def test_a_name_that_exists_is_refused_before_an_image_is_read(refused, trained, cache):
    where = ("--runs", trained.run.parent, "--name", trained.run.name)
    answer = refused(USAGE, "exists already; choose another --name", "train", trained.photos, *where)
    assert f"--resume {trained.run}" in answer.err
    assert list(cache.iterdir()) == []


# What a run can be


@pytest.mark.parametrize(
    "words",
    [["predict", "RUN", "x.jpg"], ["evaluate", "RUN"], ["explain", "RUN"], ["report", "RUN"], ["compare", "RUN"]],
)
def test_a_run_that_is_none(refused, tmp_path, words):
    (tmp_path / "folder").mkdir()
    at = {"RUN": tmp_path / "nowhere"}
    refused(USAGE, "No such run", *(at.get(word, word) for word in words))
    at = {"RUN": tmp_path / "folder"}
    refused(USAGE, "is not a run (it has no run.json)", *(at.get(word, word) for word in words))
    assert list((tmp_path / "folder").iterdir()) == []


def test_nothing_to_resume(refused, tmp_path):
    (tmp_path / "folder").mkdir()
    refused(USAGE, "No such run", "train", "--resume", tmp_path / "nowhere")
    refused(USAGE, "is not a run", "train", "--resume", tmp_path / "folder")


@pytest.mark.parametrize("text", ["{", "[]", "3", "{}", '{"status": "finished"}', "\x00\x00"])
def test_a_run_whose_run_json_is_damaged(refused, discern, trained, tmp_path, text):
    run = copy_of(trained, tmp_path)
    (run / "run.json").write_text(text)
    refused(USAGE, "run.json is damaged", "predict", run, trained.photos)
    listed = discern("runs", "--runs", run.parent, "--json")
    assert (listed.code, listed.json) == (0, {"runs": []})
    assert "run.json is damaged" in listed.err


def test_a_run_without_its_checkpoint_or_with_half_of_it(refused, trained, tmp_path):
    run = copy_of(trained, tmp_path)
    checkpoint = run / "checkpoints" / "best_val_loss.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    refused(USAGE, "best_val_loss.safetensors is damaged", "predict", run, trained.photos)
    checkpoint.unlink()
    refused(USAGE, "No checkpoint", "predict", run, trained.photos)


@pytest.mark.parametrize("name", ["predictions.parquet", "evaluation.json", "dataset.parquet"])
def test_a_run_with_a_damaged_file(refused, trained, tmp_path, name):
    run = copy_of(trained, tmp_path)
    (run / name).write_bytes((run / name).read_bytes()[:20])
    command = "compare" if name == "predictions.parquet" else "report"
    out = [] if command == "compare" else ["--out", tmp_path / "r.html"]
    refused(USAGE, f"{name} is damaged", command, run, *out)


def test_a_run_that_has_not_got_that_far(refused, discern, trained, tmp_path):
    run = copy_of(trained, tmp_path)
    for name in ("predictions.parquet", "evaluation.json", "report.html"):
        (run / name).unlink()
    shutil.rmtree(run / "checkpoints")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"status": "training"}))
    refused(USAGE, "No run is finished: `discern train --resume", "compare", run)
    refused(USAGE, "has not finished an epoch", "predict", run, trained.photos)
    listed = discern("runs", "--runs", run.parent)
    assert listed.code == 0
    assert "unfinished" in listed.out


def test_a_run_stopped_before_its_training_began_cannot_be_resumed(refused, trained, tmp_path):
    run = copy_of(trained, tmp_path)
    (run / "run.json").write_text((run / "run.json").read_text().replace('"finished"', '"started"'))
    for name in ("recipe.yaml", "dataset.parquet", "findings.json"):
        (run / name).unlink()
    refused(USAGE, "was stopped before its training began", "train", "--resume", run)


# What the images to predict can be


def test_images_to_predict_that_are_none(refused, trained, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("words")
    refused(USAGE, "No such file or folder", "predict", trained.run, tmp_path / "no.jpg")
    refused(USAGE, "No image files in", "predict", trained.run, tmp_path / "empty")
    answer = refused(DATA, "not an image of a known format", "predict", trained.run, tmp_path / "text.txt")
    assert len(answer.err.splitlines()) == 1  # not first as a warning and then again
    refused(USAGE, "Missing argument 'IMAGES...'", "predict", trained.run)


def test_an_unreadable_image_among_good_ones_is_named(discern, trained, tmp_path):
    (tmp_path / "text.jpg").write_text("words")
    good = trained.photos / "red" / "0.jpg"
    answer = discern("predict", trained.run, tmp_path / "text.jpg", good, "--json")
    assert answer.code == 0
    assert [p["image"] for p in answer.json["predictions"]] == [str(good)]
    assert [u["image"] for u in answer.json["unreadable"]] == [str(tmp_path / "text.jpg")]
    assert "warning: " in answer.err


# Where things are written


def test_a_table_of_predictions_makes_its_folder(discern, trained, tmp_path):
    table = tmp_path / "new" / "x.csv"
    assert discern("predict", trained.run, trained.photos / "red", "--csv", table).code == 0
    assert len(table.read_text().splitlines()) == 13
    assert os.listdir(table.parent) == ["x.csv"]


def test_a_table_that_cannot_be_written(refused, trained, tmp_path, mounted):
    refused(USAGE, "is a directory", "predict", trained.run, trained.photos, "--csv", tmp_path)
    (tmp_path / "file").write_text("")
    refused(
        USAGE, "another kind is in its place", "predict", trained.run, trained.photos, "--csv", tmp_path / "file/x"
    )
    disk = mounted("size=16k")
    (disk / "filler").write_bytes(bytes(12_000))
    refused(USAGE, "The disk is full", "predict", trained.run, *[trained.photos] * 9, "--csv", disk / "x.csv")
    assert os.listdir(disk) == ["filler"]


def test_a_folder_of_runs_without_permission(refused, colours, shared_tmp, unprivileged, tiny, monkeypatch):
    (shared_tmp / "locked").mkdir(mode=0o555)
    shutil.copytree(colours(BALANCED), shared_tmp / "photos")
    monkeypatch.setenv("DISCERN_CACHE", str(shared_tmp / "cache"))
    with unprivileged():
        refused(
            USAGE, "No permission to write", "train", shared_tmp / "photos", *tiny, "--runs", shared_tmp / "locked/r"
        )


def test_a_cache_without_permission(refused, colours, shared_tmp, unprivileged, tiny, monkeypatch):
    (shared_tmp / "locked").mkdir(mode=0o555)
    (shared_tmp / "open").mkdir()
    (shared_tmp / "open").chmod(0o777)
    shutil.copytree(colours(BALANCED), shared_tmp / "photos")
    monkeypatch.setenv("DISCERN_CACHE", str(shared_tmp / "locked" / "cache"))
    with unprivileged():
        refused(
            USAGE, "No permission to write", "train", shared_tmp / "photos", *tiny, "--runs", shared_tmp / "open/r"
        )
    assert not (shared_tmp / "open/r").exists()


def test_a_full_disk_under_the_cache(refused, colours, mounted, monkeypatch, tmp_path):
    disk = mounted("size=16k")
    monkeypatch.setenv("DISCERN_CACHE", str(disk))
    photos = colours(BALANCED)
    refused(USAGE, "The disk is full", "audit", photos)
    assert list(disk.rglob("facts.parquet")) == []  # nothing is taken for read


def test_a_full_disk_under_the_runs_can_be_gone_on_from(refused, discern, colours, mounted, tiny):
    disk = mounted("size=4m")
    (disk / "filler").write_bytes(bytes(3_800_000))
    refused(USAGE, "The disk is full", "train", colours(BALANCED), *tiny, "--runs", disk / "runs", "--name", "x")
    assert [str(file) for file in disk.rglob("*.tmp")] == []
    (disk / "filler").unlink()
    assert discern("train", "--resume", disk / "runs" / "x").code == 0
