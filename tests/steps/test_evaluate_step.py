"""Evaluating on photos: classes are matched by name, what the model has seen is refused, the Run is not changed."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageOps

from discern.errors import DataError, UsageError
from discern.evaluation import metrics
from discern.progress import Silent
from discern.runs.predictions import Predictions
from discern.runs.run import Run
from discern.steps.evaluate import evaluate, score_photos

RGB = {"red": 2, "green": 2, "blue": 2}


class Listener(Silent):
    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


@pytest.fixture
def run(trained, tmp_path):
    # Other tests may have scored the shared run on photos of theirs.
    return Run(shutil.copytree(trained.run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluations")))


@pytest.fixture
def strange(colours):
    """`strange({"red": 2})`: photos the model has not seen."""
    return lambda counts, into="strange": colours(counts, into=into, seed=5)


@pytest.fixture
def taught(run, trained):
    """`taught("train")`: a photo, of those without alpha, that training had in that split."""

    def one(split):
        return trained.photos / next(name for name in run.dataset.split(split).images if name.endswith(".jpg"))

    return one


def picture(file):
    """As one sees it."""
    with Image.open(file) as opened:
        return ImageOps.exif_transpose(opened).convert("RGB")


def kept(run):
    (folder,) = (run.path / "evaluations").iterdir()
    return json.loads((folder / "evaluation.json").read_text()), Predictions.read(folder / "predictions.parquet")


def test_its_own_splits_come_from_what_is_stored(run):
    assert evaluate(run) == run.evaluation == metrics.evaluate(run.predictions)


def test_photos_with_their_own_split_are_scored_on_its_test_part(run, strange):
    photos = strange({f"{split}/{name}": 2 for split in ("train", "test") for name in ("red", "green", "blue")})
    listener = Listener()
    assert evaluate(run, photos, progress=listener).splits["test"].n == 6
    assert not [line for line in listener.said if "leakage" in line]


def test_only_the_photos_that_are_scored_can_leak(run, trained, strange):
    photos = strange({f"{split}/{name}": 2 for split in ("train", "test") for name in ("red", "green", "blue")})
    shutil.copytree(trained.photos, photos / "train", dirs_exist_ok=True)
    assert evaluate(run, photos).splits["test"].n == 6


def test_the_very_photos_of_the_training_are_refused_shortly(run, trained):
    with pytest.raises(DataError) as refusal:
        evaluate(run, trained.photos)
    first, *pairs, more, ways = str(refusal.value).splitlines()
    assert first == (
        f"Leakage: 30 of 36 photos in {trained.photos} show what the model was trained or chosen with (30 identical "
        "files), and it is not tested by what it has seen:"
    )
    assert len(pairs) == 12
    known = dict(run.dataset.table.select("image", "split").iter_rows())
    for pair in pairs:
        photo, _, image = pair.strip().partition(" = ")
        assert image == f"{photo} ({known[photo]})"
        assert known[photo] != "test"
    assert more == "  and 18 more"
    assert "--leakage drop" in ways
    assert "--leakage allow --because" in ways
    assert "group" not in ways
    assert not (run.path / "evaluations").exists()


def test_the_photos_it_was_tested_with_may_be_scored_again(run, trained, tmp_path):
    for name in run.dataset.split("test").images:
        (tmp_path / "again" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(trained.photos / name, tmp_path / "again" / name)
    assert evaluate(run, tmp_path / "again").splits["test"].n == 6


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    "edit",
    [
        ImageOps.mirror,
        lambda seen: seen.transpose(Image.Transpose.ROTATE_90),
        lambda seen: seen.resize((seen.width * 2, seen.height * 2), Image.Resampling.BICUBIC),
        lambda seen: seen.point(lambda value: value * 0.8),
    ],
    ids=["mirrored", "turned", "enlarged", "darker"],
)
def test_an_edited_copy_is_refused(run, taught, strange, split, edit):
    photos, file = strange(RGB), taught(split)
    edit(picture(file)).save(photos / "green" / "edited.png")
    with pytest.raises(DataError) as refusal:
        evaluate(run, photos)
    first, pair, _ = str(refusal.value).splitlines()
    assert first.startswith("Leakage: 1 of 7 photos in ")
    assert "shows what the model was trained or chosen with (1 edited copy)" in first
    assert pair == f"  green/edited.png = {file.parent.name}/{file.name} ({split})"


def test_copies_among_the_photos_are_no_leakage(run, strange):
    photos = strange(RGB)
    shutil.copy(photos / "red/0.jpg", photos / "red/same.jpg")
    ImageOps.mirror(picture(photos / "green/0.jpg")).save(photos / "green/mirrored.png")
    assert evaluate(run, photos).splits["test"].n == 8


def test_dropped_photos_are_not_scored(run, trained, taught, strange):
    photos, listener = strange(RGB), Listener()
    expected = evaluate(run, photos)
    shutil.rmtree(run.path / "evaluations")
    ImageOps.mirror(picture(taught("val"))).save(photos / "green/mirrored.png")
    shutil.copy(taught("train"), photos / "blue/same.jpg")
    scored = score_photos(run, photos, leakage="drop", progress=listener)
    assert scored.evaluation == expected
    assert scored.left_out == ("blue/same.jpg", "green/mirrored.png")
    record, said = kept(run)
    assert record == json.loads(json.dumps(scored.to_json()))
    assert (record["leakage"], record["seen_in_training"], record["left_out"]) == ("drop", 0, list(scored.left_out))
    assert len(said) == 6
    (told,) = [line for line in listener.said if "left out" in line]
    assert told == (
        f"2 of 8 photos in {photos} show what the model was trained or chosen with (1 identical file, 1 edited "
        "copy); left out of the scores."
    )


def test_allowed_photos_are_scored_and_said_to_flatter(run, trained):
    listener = Listener()
    scored = score_photos(run, trained.photos, leakage="allow", because="a smoke test", progress=listener)
    assert scored.evaluation.splits["test"].n == 36
    record, _ = kept(run)
    assert (record["leakage"], record["because"]) == ("allow", "a smoke test")
    assert (record["seen_in_training"], record["left_out"]) == (30, [])
    (told,) = [line for line in listener.said if "leakage" in line]
    assert told.startswith("error: leakage: 30 of 36 photos in ")
    assert told.endswith("and the scores flatter it; allowed because: a smoke test")


def test_a_way_on_that_was_not_needed_is_not_recorded(run, strange):
    evaluate(run, strange(RGB), leakage="allow", because="just in case")
    record, _ = kept(run)
    assert (record["leakage"], record["because"], record["seen_in_training"]) == (None, None, 0)


@pytest.mark.parametrize("way", ["drop", "allow"])
def test_when_every_photo_is_known_there_is_nothing_to_score(run, trained, strange, tmp_path, way):
    for name in run.dataset.split("train").images:
        (tmp_path / "known" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(trained.photos / name, tmp_path / "known" / name)
    if way == "allow":
        assert evaluate(run, tmp_path / "known", leakage=way, because="x").splits["test"].n == 24
        return
    with pytest.raises(DataError, match=r"24 of 24 photos .* without them there is nothing to score"):
        evaluate(run, tmp_path / "known", leakage=way)


def test_a_class_of_which_nothing_is_left_is_refused(run, taught, strange):
    photos = strange({"red": 2, "green": 2})
    (photos / "blue").mkdir()
    shutil.copy(taught("train"), photos / "blue")
    with pytest.raises(DataError, match="no image of 'blue'"):
        evaluate(run, photos, leakage="drop")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"leakage": "group"}, "--leakage group moves photos between the splits of a training, .* choose drop or al"),
        ({"leakage": "ignore"}, "--leakage ignore does not exist"),
        ({"leakage": "allow"}, "needs a reason"),
        ({"because": "so"}, "--because is the reason for --leakage allow"),
    ],
)
def test_ways_on_that_make_no_sense(run, trained, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        evaluate(run, trained.photos, **options)


def test_a_way_on_without_photos_is_refused(run):
    with pytest.raises(UsageError, match="are about PHOTOS"):
        evaluate(run, leakage="drop")


@pytest.fixture
def moved_away(trained, tmp_path, monkeypatch, discern, tiny):
    """A run of one's own, and a copy of its photos, which one can take away."""
    photos = shutil.copytree(trained.photos, tmp_path / "mine")
    answer = discern("train", photos, *tiny, "--runs", tmp_path / "own", "--name", "own")
    assert answer.code == 0, answer.err
    return Run(tmp_path / "own" / "own"), photos, shutil.copytree(photos, tmp_path / "spare")


def test_of_training_images_that_are_gone_the_same_file_is_known(moved_away, strange):
    run, photos, spare = moved_away
    file = next(name for name in run.dataset.split("train").images if name.endswith(".jpg"))
    others = strange(RGB)
    shutil.copy(spare / file, others / "red/same.jpg")
    ImageOps.mirror(picture(spare / file)).save(others / "red/edited.png")
    shutil.rmtree(photos)
    listener = Listener()
    scored = score_photos(run, others, leakage="drop", progress=listener)
    assert scored.left_out == ("red/same.jpg",)
    assert scored.not_compared == 30
    (told,) = [line for line in listener.said if line.startswith("warning")]
    assert told.startswith("warning: 30 of 30 images that own was trained and chosen with are gone or have change")
    assert "the same file is known again, an edited copy of it is not" in told
    shutil.move(spare, photos)  # and it is looked for again once they are back
    assert score_photos(run, others, leakage="drop").left_out == ("red/edited.png", "red/same.jpg")


def test_a_training_image_that_was_painted_over_is_not_what_the_model_saw(moved_away, strange):
    run, photos, _ = moved_away
    file = photos / run.dataset.split("train").images[0]
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 24, 3), np.uint8)).save(file)
    others = strange(RGB)
    shutil.copy(file, others / "red" / file.name)
    scored = score_photos(run, others)
    assert (scored.not_compared, scored.seen_in_training) == (1, 0)


def test_an_unknown_class_is_refused(run, strange):
    with pytest.raises(DataError, match="classes that training had not: pink"):
        evaluate(run, strange({"red": 2, "green": 2, "blue": 2, "pink": 2}))


def test_a_missing_class_is_refused(run, strange):
    with pytest.raises(DataError, match="blue"):
        evaluate(run, strange({"red": 2, "green": 2}))
    assert not (run.path / "evaluations").exists()


def test_unreadable_photos_are_left_out_and_said(run, strange):
    photos, listener = strange({"red": 3, "green": 2, "blue": 2}), Listener()
    (photos / "red" / "0.jpg").write_bytes(b"")
    assert evaluate(run, photos, progress=listener).splits["test"].n == 6
    assert "warning: red/0.jpg is left out: it is empty (0 bytes)." in listener.said


def test_what_the_run_holds_stays_and_the_scores_are_kept_beside(run, strange):
    before = {name: (run.path / name).read_bytes() for name in ("predictions.parquet", "evaluation.json", "run.json")}
    evaluate(run, strange(RGB))
    evaluate(run, strange({"red": 3, "green": 2, "blue": 2}, into="other"))
    assert {name: (run.path / name).read_bytes() for name in before} == before
    kept = sorted(folder.name.rpartition("-")[0] for folder in (run.path / "evaluations").iterdir())
    assert kept == ["other", "strange"]


def test_the_command_says_what_was_left_out(discern, run, taught, strange):
    photos = strange(RGB)
    shutil.copy(taught("train"), photos / "red/same.jpg")
    refused = discern("evaluate", run, photos)
    assert refused.code == 3
    assert "red/same.jpg = " in refused.err
    assert discern("evaluate", run, photos, "--leakage", "group").code == 2
    answer = discern("evaluate", run, photos, "--leakage", "drop", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["left_out"] == ["red/same.jpg"]
    assert answer.json["splits"]["test"]["n"] == 6
    assert answer.json["photos"] == str(photos)
    allowed = discern("evaluate", run, photos, "--leakage", "allow", "--because", "it is small", "--json")
    assert (allowed.json["seen_in_training"], allowed.json["because"]) == (1, "it is small")
    assert "leakage" in allowed.err
