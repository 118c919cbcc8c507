import cv2
import numpy as np
import polars as pl
import pytest
from PIL import Image

from discern.data.audit.injection import EDITS, FAULTS, Injection, inject
from discern.data.duplicates.search import copies
from discern.data.scan import scan
from discern.data.sources import open_dataset

MANY = Injection(exact=0.1, near=0.1, flipped=0.1, faults=0.05)


@pytest.fixture(scope="module")
def photos_of_scenes(tmp_path_factory):
    """120 photos of three classes: two are equal, one is broken, one small, one grey with alpha."""
    root = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    for k in range(120):
        layers = [
            cv2.resize(rng.normal(size=(cells, cells, 3)).astype(np.float32), (160, 120)) * strength
            for cells, strength in ((3, 40), (7, 30), (20, 15), (60, 8))
        ]
        picture = Image.fromarray(np.clip(120 + np.sum(layers, axis=0), 0, 255).astype(np.uint8))
        folder = root / ("cat", "dog", "emu")[k % 3]
        folder.mkdir(exist_ok=True)
        if k == 0:
            picture = picture.resize((20, 20))
        if k == 1:
            picture = picture.convert("LA")
        picture.save(folder / f"{k:03}.{'png' if k == 1 else 'jpg'}")
    (root / "cat/119.jpg").write_bytes((root / "cat/117.jpg").read_bytes())
    (root / "cat/broken.jpg").write_bytes(b"no picture")
    return root


@pytest.fixture
def scanned(photos_of_scenes):
    return scan(open_dataset(photos_of_scenes), size=64, fit="pad")[0]


def test_the_truth_names_what_was_put_in(scanned, tmp_path):
    injected = inject(scanned, MANY, tmp_path)
    counts = dict(injected.truth["kind"].value_counts().iter_rows())
    usable = 118  # not the broken one, the two equal ones, the small one
    assert counts.pop("exact_duplicate") == counts.pop("near_duplicate") == round(0.1 * usable)
    assert counts.pop("label_suspect") == round(0.1 * usable)
    assert counts == dict.fromkeys(FAULTS, round(0.05 * usable))
    assert set(injected.truth["image"]) <= set(injected.dataset.images)
    assert len(set(injected.dataset.images)) == len(injected.dataset)
    assert injected.dataset.images[: len(scanned)] == scanned.images
    assert not injected.dataset.scanned
    edits = injected.truth.filter(pl.col("kind") == "near_duplicate")["detail"].value_counts()
    assert set(edits["detail"]) == set(EDITS)
    assert edits["count"].max() - edits["count"].min() <= 1


def test_no_image_serves_twice_nor_one_that_has_a_copy(scanned, tmp_path):
    truth = inject(scanned, Injection(exact=0.3, near=0.3, flipped=0.4, faults=0), tmp_path).truth
    flipped = pl.col("kind") == "label_suspect"
    used = [*truth.filter(flipped)["image"], *truth.filter(~flipped)["source"]]
    assert len(set(used)) == len(used)
    left_out = {"cat/117.jpg", "cat/119.jpg", "cat/broken.jpg", "cat/000.jpg"}
    assert set(used) == set(scanned.images) - left_out


def test_labels_are_flipped_in_the_table_alone(scanned, tmp_path):
    injected = inject(scanned, MANY, tmp_path)
    given = dict(zip(injected.dataset.images, injected.dataset.labels.tolist(), strict=True))
    truth = injected.truth.filter(pl.col("kind") == "label_suspect")
    was = dict(truth.select("image", "detail").iter_rows())
    for image, label in zip(scanned.images, scanned.labels.tolist(), strict=True):
        if image in was:
            assert given[image] != label
            assert was[image] == scanned.classes[label]
        else:
            assert given[image] == label


def test_the_users_files_are_not_touched(scanned, photos_of_scenes, tmp_path):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in photos_of_scenes.rglob("*.*")}
    inject(scanned, MANY, tmp_path / "copies")
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in photos_of_scenes.rglob("*.*")} == before
    assert len(list((tmp_path / "copies").iterdir())) == 12 + 6 * len(FAULTS)


def test_copies_are_copies(scanned, tmp_path):
    injected = inject(scanned, MANY, tmp_path)
    dataset, pixels = scan(injected.dataset, size=64, fit="pad")
    row = {image: k for k, image in enumerate(dataset.images)}
    digests = dataset.table["digest"]
    labels, splits = dataset.table["label"], dataset.table["split"]
    good = dataset.filter(pl.col("problem").is_null())
    cluster = {good.images[k]: n for n, rows in enumerate(copies(good, pixels)[0]) for k in rows}
    for image, kind, source in injected.truth.select("image", "kind", "source").iter_rows():
        if kind in ("exact_duplicate", "near_duplicate"):
            assert (digests[row[image]] == digests[row[source]]) == (kind == "exact_duplicate")
            assert labels[row[image]] == labels[row[source]]
            assert splits[row[image]] == splits[row[source]]
            assert cluster[image] == cluster[source]


def test_faults_are_what_they_are_called(scanned, tmp_path):
    injected = inject(scanned, MANY, tmp_path)
    dataset, _ = scan(injected.dataset, size=64, fit="pad")
    facts = dataset.table.join(injected.truth.select("image", "kind"), on="image")
    sharpness = scanned.table["sharpness"].median()

    def of(kind, fact):
        return facts.filter(pl.col("kind") == kind)[fact]

    assert of("dark", "high").max() < 0.1
    assert of("bright", "low").min() > 0.85
    assert of("blurred", "sharpness").max() < sharpness / 2
    assert of("low_information", "entropy").max() < 0.5
    assert (of("odd_aspect", "width") / of("odd_aspect", "height")).min() > 9
    assert of("tiny", "width").max() < 20


def test_the_seed_decides(scanned, tmp_path):
    def drawn(seed, name):
        injected = inject(scanned, Injection(seed=seed), tmp_path / name)
        files = sorted((tmp_path / name).iterdir())
        return injected.truth.rows(), injected.dataset.labels.tolist(), [path.read_bytes() for path in files]

    assert drawn(1, "one") == drawn(1, "again")
    assert drawn(1, "one")[:2] != drawn(2, "other")[:2]


def test_a_small_set_gets_some_of_everything_as_far_as_it_goes(photos, tmp_path):
    scanned, _ = scan(open_dataset(photos({"cat": 6, "dog": 6})), size=16, fit="pad")
    truth = inject(scanned, Injection(), tmp_path).truth
    assert truth["kind"].to_list() == ["exact_duplicate"] * 3 + ["near_duplicate"] * 5 + ["dark"] * 3 + ["bright"]


def test_an_image_that_has_gone_is_left_out(photos, tmp_path):
    root = photos({"cat": 20, "dog": 20})
    scanned, _ = scan(open_dataset(root), size=16, fit="pad")
    for path in root.rglob("*.png"):
        path.unlink()
    injected = inject(scanned, Injection(), tmp_path)
    written = injected.truth.filter(pl.col("kind") == "near_duplicate")
    assert 0 < len(written) <= 5
    assert all(source.endswith(".jpg") for source in written["source"])
