"""Properties that give the label, or the split, away: put in on purpose, and random ones that tell nothing."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import CategoricalNB

from discern.data import keyed
from discern.data.audit.giveaway import GIVEAWAY, PROPERTIES, SHIFT, TELLING, giveaways, held_out_auc, shifts
from discern.data.dataset import Dataset
from discern.data.scan import scan
from discern.data.sources import open_dataset

CLASSES = ("cat", "dog", "fox")


def facts(seed, count=240, classes=3, **given):
    """A scanned Dataset whose facts have nothing to do with its labels, but for the columns that are given."""
    random = np.random.default_rng(seed)
    width, height = random.integers(200, 1200, count), random.integers(200, 1200, count)
    columns = {
        "image": [f"{k}.jpg" for k in range(count)],
        "row": pl.Series([None] * count, dtype=pl.Int64),
        "label": pl.Series(random.permutation(np.arange(count) % classes), dtype=pl.Int32),
        "split": pl.Series([None] * count, dtype=pl.String),
        "bytes": (width * height * random.lognormal(-1, 0.3, count)).astype(int),
        "width": width,
        "height": height,
        "format": random.choice(["JPEG", "PNG"], count),
        "mode": random.choice(["RGB", "L"], count, p=[0.9, 0.1]),
        "orientation": random.choice([1, 6], count, p=[0.8, 0.2]),
        "border": np.where(random.random(count) < 0.2, random.random(count) / 3, 0),
        **{name: random.random(count) for name in ("brightness", "contrast", "sharpness", "colorfulness")},
    }
    made = Dataset(root=Path("/photos"), classes=CLASSES[:classes], table=pl.DataFrame(columns))
    changed = {name: value(made.labels, random) for name, value in given.items()}
    return made.with_columns(*(pl.Series(name, values) for name, values in changed.items()))


def told(data, label=0):
    """{property: AUC for the class} of every giveaway."""
    name = data.classes[label]
    return {f.detail["property"]: f.detail["per_class"].get(name) for f in giveaways(data)}


@pytest.mark.parametrize("count", [60, 120, 600])
@pytest.mark.parametrize("classes", [2, 3])
def test_random_labels_are_given_away_by_nothing(count, classes):
    for seed in range(15):
        assert list(giveaways(facts(seed, count, classes))) == []


@pytest.mark.parametrize(
    ("column", "value", "names"),
    [
        ("width", lambda y, r: np.where(y == 0, 640, r.integers(200, 1200, len(y))), {"width"}),
        ("height", lambda y, r: r.integers(300, 400, len(y)) + 150 * (y == 0), {"height"}),
        ("format", lambda y, r: np.where(y == 0, "PNG", "JPEG"), {"format"}),
        ("mode", lambda y, r: np.where(y == 0, "RGBA", "RGB"), {"colour mode"}),
        ("orientation", lambda y, r: np.where(y == 0, 6, 1), {"EXIF orientation"}),
        ("border", lambda y, r: np.where(y == 0, r.uniform(0.1, 0.4, len(y)), 0), {"border"}),
        ("bytes", lambda y, r: np.where(y == 0, 10_000, 90_000_000), {"bytes per pixel"}),
        ("brightness", lambda y, r: r.normal(0.4, 0.03, len(y)) + 0.3 * (y == 0), {"brightness"}),
        ("colorfulness", lambda y, r: np.where(y == 0, 0, r.uniform(0.1, 0.4, len(y))), {"colourfulness"}),
    ],
)
def test_what_was_put_in_is_named_and_nothing_else(column, value, names):
    data = facts(1, **{column: value})
    found = told(data)
    assert names <= set(found)
    assert found[next(iter(names))] > 0.9
    sizes = {"width", "height", "shape (width / height)", "number of pixels", "bytes per pixel"}
    assert set(found) - names <= (sizes if column in ("width", "height", "bytes") else set())


def test_the_finding_says_the_class_the_property_and_the_auc():
    (finding,) = giveaways(facts(0, format=lambda y, r: np.where(y == 1, "PNG", "JPEG")))
    assert (finding.kind, finding.severity, finding.rows) == ("giveaway", "warning", ())
    assert finding.evidence == "The format alone tells 'dog' from the other classes with an AUC of 1.00."
    assert finding.detail["property"] == "format"
    assert finding.detail["auc"] == finding.detail["per_class"]["dog"] == 1
    assert set(finding.detail["per_class"]) == set(CLASSES)


@pytest.mark.parametrize(
    ("pattern", "gives"),
    [
        (lambda label, k: f"{CLASSES[label]}/{CLASSES[label]}.{k}.jpg", True),
        (lambda label, k: f"{CLASSES[label]}/{'IMG' if label else 'DSC'}_{k:04d}.jpg", True),
        (lambda label, k: f"{CLASSES[label]}/{k}.jpg", False),  # the folder's name is the label, the file's is not
        (lambda label, k: f"{CLASSES[label]}/IMG_{k * (1 if label else 1000)}.jpg", False),  # a number is a number
    ],
)
def test_a_pattern_of_file_names_is_a_note(pattern, gives):
    data = facts(0, image=lambda y, r: [pattern(label, k) for k, label in enumerate(y)])
    found = list(giveaways(data))
    assert [f.detail["property"] for f in found] == (["file name pattern"] if gives else [])
    assert all(f.severity == "note" for f in found)  # a model never sees it


def test_names_and_bytes_inside_one_file_say_nothing():
    inside = facts(
        0,
        image=lambda y, r: [f"{CLASSES[label]}.parquet#{k}" for k, label in enumerate(y)],
        row=lambda y, r: list(range(len(y))),
        bytes=lambda y, r: 1_000_000 * (y + 1),
    )
    assert list(giveaways(inside)) == []


def test_content_may_differ_between_honest_classes_so_more_is_asked_of_it_and_it_is_a_note():
    def apart(by):
        return lambda y, r: r.normal(0, 1, len(y)) + by * (y == 0)

    assert told(facts(0, brightness=apart(1.8))) == {}
    assert GIVEAWAY < told(facts(0, border=apart(1.8)))["border"] < TELLING
    (finding,) = giveaways(facts(0, brightness=apart(4.0)))
    assert finding.severity == "note"


def test_the_most_telling_comes_first():
    data = facts(
        0,
        format=lambda y, r: np.where((y == 0) ^ (r.random(len(y)) < 0.1), "PNG", "JPEG"),
        mode=lambda y, r: np.where(y == 0, "L", "RGB"),
    )
    assert [f.detail["property"] for f in giveaways(data)] == ["colour mode", "format"]


@pytest.mark.parametrize("seed", range(5))
def test_the_auc_is_that_of_a_naive_bayes_classifier_on_held_out_images(seed):
    random = np.random.default_rng(seed)
    codes, positive = random.integers(0, 9, 150), random.random(150) < 0.3
    codes[positive] = np.where(random.random(positive.sum()) < 0.5, 4, codes[positive])
    fold, score = keyed.permutation(0, 0, 150) % 5, np.empty(150)
    for k in range(5):
        model = CategoricalNB(alpha=0.5, fit_prior=False, min_categories=codes.max() + 1)
        model.fit(codes[fold != k, None], positive[fold != k])
        score[fold == k] = np.diff(model.predict_log_proba(codes[fold == k, None]), axis=1)[:, 0]
    assert held_out_auc(codes, positive) == pytest.approx(roc_auc_score(positive, score), abs=1e-9)


def test_of_few_images_nothing_is_said():
    assert held_out_auc(np.arange(60) % 2, np.arange(60) < 19) is None
    assert held_out_auc(np.arange(60) % 2, np.arange(60) < 20) is not None
    few = facts(0, 57, format=lambda y, r: np.where(y == 0, "PNG", "JPEG"))
    assert list(giveaways(few)) == []


def split(share, **given):
    """Facts with a test split, each value told (label, is_test, random)."""

    def make(seed=0, count=300, classes=3):
        random = np.random.default_rng(100 + seed)
        test = random.random(count) < share
        data = facts(seed, count, classes, split=lambda y, r: np.where(test, "test", "train"))
        changed = [pl.Series(name, value(data.labels, test, random)) for name, value in given.items()]
        return data.with_columns(*changed) if changed else data

    return make


def test_a_random_split_shifts_nothing():
    for seed in range(15):
        for count, classes in ((120, 2), (300, 3)):
            assert list(shifts(split(0.3)(seed, count, classes))) == []


@pytest.mark.parametrize(
    ("column", "value", "name"),
    [
        ("format", lambda y, test, r: np.where(test, "PNG", "JPEG"), "format"),
        ("brightness", lambda y, test, r: r.normal(0.4, 0.1, len(y)) + 0.2 * test, "brightness"),
        ("sharpness", lambda y, test, r: r.uniform(0.5, 1, len(y)) * np.where(test, 0.5, 1), "sharpness"),
    ],
)
def test_test_images_from_elsewhere_are_found(column, value, name):
    (finding,) = shifts(split(0.3, **{column: value})())
    assert (finding.kind, finding.severity, finding.rows) == ("shift", "warning", ())
    assert finding.detail["property"] == name
    assert finding.detail["auc"] > SHIFT
    assert f"differ from training images in their {name}: AUC " in finding.evidence


def test_classes_of_other_shares_are_no_shift():
    """All of a class's images are PNG and most of the test images are of it: within classes nothing differs."""
    random = np.random.default_rng(0)
    labels = np.arange(300) % 3
    test = random.random(300) < np.where(labels == 0, 0.6, 0.2)
    data = facts(
        0,
        300,
        label=lambda y, r: labels.astype(np.int32),
        split=lambda y, r: np.where(test, "test", "train"),
        format=lambda y, r: np.where(labels == 0, "PNG", "JPEG"),
    )
    assert list(shifts(data)) == []


def test_names_of_test_images_are_no_shift_nor_is_anything_without_a_test_split():
    named = split(0.3, image=lambda y, test, r: [f"{'test' if each else 'train'}_{k}" for k, each in enumerate(test)])
    assert list(shifts(named())) == []
    whole = facts(0, brightness=lambda y, r: r.random(len(y)))
    assert list(shifts(whole)) == []
    only = whole.with_columns(pl.Series("split", ["train"] * len(whole)))
    assert list(shifts(only)) == []


def test_every_property_can_be_computed_of_scanned_images(scenes):
    data, _ = scan(open_dataset(scenes({"cat": 3, "dog": 3})), size=16, fit="pad")
    for each in PROPERTIES:
        assert len(data.table.select(value=each.value)) == 6


def test_a_class_that_is_framed_saved_and_sized_otherwise_is_found_on_real_files(scenes):
    from PIL import Image, ImageOps

    root = scenes({"cat": 24, "dog": 24})
    for file in sorted((root / "dog").iterdir()):
        with Image.open(file) as picture:
            ImageOps.expand(picture, 9, "white").save(file.with_suffix(".png"))
        file.unlink()
    data, _ = scan(open_dataset(root), size=32, fit="pad")
    found = set(told(data))
    assert {"width", "height", "format", "border", "bytes per pixel", "file name pattern"} <= found


def test_published_tools_photos_differ_in_size_by_class(real_data):
    tools = real_data / "tools"
    data, _ = scan(open_dataset(tools / "dataset"), size=32, fit="pad")
    found = told(data, data.classes.index("Book"))
    assert found["number of pixels"] > 0.85
