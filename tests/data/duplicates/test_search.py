import io
import shutil
from dataclasses import replace

import cv2
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from discern.data.duplicates import search
from discern.data.duplicates.search import clusters, copies, exact_clusters, near_pairs
from discern.data.duplicates.signature import VARIANTS
from discern.data.pixels import Beside
from discern.data.scan import scan
from discern.data.sources import open_dataset

LAYERS = ((3, 40), (6, 30), (12, 20), (25, 12), (60, 6))
"""Structure of every size, stronger the larger, as photos have: cells in each direction, and grey levels."""


def scene(seed, width=200, height=150, layers=LAYERS):
    """A picture in colour."""
    rng = np.random.default_rng(seed)
    layers = [
        strength * cv2.resize(rng.normal(size=(cells, cells, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
        for cells, strength in layers
    ]
    return Image.fromarray(np.clip(120 + np.sum(layers, axis=0), 0, 255).astype(np.uint8))


def scaled(share):
    return lambda picture: picture.resize((round(picture.width * share), round(picture.height * share)))


def recompressed(quality):
    def change(picture):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return change


def cut(left, top, right, bottom):
    """Without these shares of width and height at the edges."""
    return lambda picture: picture.crop(
        (
            round(picture.width * left),
            round(picture.height * top),
            round(picture.width * (1 - right)),
            round(picture.height * (1 - bottom)),
        )
    )


def brightened(share):
    return lambda picture: ImageEnhance.Brightness(picture).enhance(share)


EDITS = {
    "halved": (scaled(0.5), "as it is"),
    "three quarters": (scaled(0.75), "as it is"),
    "enlarged": (scaled(1.3), "as it is"),
    "stretched": (lambda picture: picture.resize((picture.width, picture.width)), "as it is"),
    "recompressed": (recompressed(40), "as it is"),
    "cut at the top left": (cut(0.05, 0.05, 0, 0), "as it is"),
    "cut at the top right": (cut(0, 0.05, 0.05, 0), "as it is"),
    "cut at the bottom left": (cut(0.05, 0, 0, 0.05), "as it is"),
    "cut at the bottom right": (cut(0, 0, 0.05, 0.05), "as it is"),
    "cut all around": (cut(0.025, 0.025, 0.025, 0.025), "as it is"),
    "cut at the left": (cut(0.05, 0, 0, 0), "as it is"),
    "cut at the bottom": (cut(0, 0, 0, 0.05), "as it is"),
    "brighter": (brightened(1.15), "as it is"),
    "darker": (brightened(0.85), "as it is"),
    "paler": (lambda picture: ImageEnhance.Contrast(picture).enhance(0.8), "as it is"),
    "mirrored": (ImageOps.mirror, "mirrored"),
    "upside down": (ImageOps.flip, "upside down"),
    "turned 180": (lambda picture: picture.transpose(Image.Transpose.ROTATE_180), "turned 180"),
    "transposed": (lambda picture: picture.transpose(Image.Transpose.TRANSPOSE), "transposed"),
    "turned right": (lambda picture: picture.transpose(Image.Transpose.ROTATE_270), "turned 270"),
    "turned left": (lambda picture: picture.transpose(Image.Transpose.ROTATE_90), "turned 90"),
    "transversed": (lambda picture: picture.transpose(Image.Transpose.TRANSVERSE), "transversed"),
}
"""What is done to a picture, and what must be done to the edited one to lay it on the picture."""


def written(root, pictures, quality=90):
    """Photos of one class, in the order of the names; behind them one that shows nothing, as there must be two."""
    for name in ("all", "nothing"):
        (root / name).mkdir(parents=True, exist_ok=True)
    Image.new("L", (20, 20), 99).save(root / "nothing/flat.png")
    for name, picture in pictures.items():
        picture.save(root / "all" / f"{name}.jpg", quality=quality)
    return root


def scanned(root, size=64, fit="pad"):
    return scan(open_dataset(root), size=size, fit=fit)


def named(dataset, near):
    """Pairs by name, with what is done to the second."""
    names = [image.split("/")[1].removesuffix(".jpg") for image in dataset.images]
    found = {
        (names[one], names[other]): VARIANTS[variant]
        for one, other, variant in zip(near.first, near.second, near.variant, strict=True)
    }
    assert len(found) == len(near.first)
    return found


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """Each of eight scenes with one copy by every edit, among forty other scenes."""
    root = tmp_path_factory.mktemp("edited")
    pictures = {f"other {k}": scene(1000 + k) for k in range(40)}
    for k in range(8):
        pictures[f"{k}"] = scene(k)
        pictures |= {f"{k} {edit}": change(scene(k)) for edit, (change, _) in EDITS.items()}
    return written(root, pictures)


@pytest.mark.parametrize(("size", "fit"), [(64, "pad"), (112, "squash"), (32, "pad")])
def test_every_edit_is_found_and_nothing_else(edited, size, fit):
    dataset, pixels = scanned(edited, size, fit)
    found, near = copies(dataset, pixels)
    names = [image.split("/")[1].removesuffix(".jpg") for image in dataset.images]
    wrong = [cluster for cluster in found if len({names[row].split()[0] for row in cluster}) > 1]
    assert wrong == []
    together = {frozenset(names[row] for row in cluster) for cluster in found}
    expected = {frozenset([f"{k}", *(f"{k} {edit}" for edit in EDITS)]) for k in range(8)}
    missing = [sorted(each - max(together, key=lambda other: len(each & other))) for each in expected - together]
    assert missing == []
    assert (near.correlation >= search.CORRELATION).all()


@pytest.mark.parametrize("edit", EDITS)
def test_what_was_done_to_a_copy_is_told(tmp_path, edit):
    change, variant = EDITS[edit]
    root = written(tmp_path, {"a": scene(1), "b": change(scene(1)), "c": scene(2)})
    dataset, pixels = scanned(root)
    assert named(dataset, near_pairs(dataset, pixels)) == {("a", "b"): variant}


def test_cropped_images_have_copies_too(tmp_path):
    root = written(
        tmp_path, {"a": scene(1), "b": brightened(1.15)(scene(1)), "c": scene(2), "d": scaled(0.5)(scene(2))}
    )
    dataset, pixels = scanned(root, fit="crop")
    assert set(named(dataset, near_pairs(dataset, pixels))) == {("a", "b"), ("c", "d")}


@pytest.mark.parametrize("edit", [edit for edit in EDITS if edit.startswith("cut")])
def test_crops_of_pictures_with_fine_structure_are_found(tmp_path, edit):
    """Half a cell at the far edge: as wholes the two have little in common any more."""
    fine = {f"{k} whole": scene(k, layers=((8, 30), (12, 30), (30, 10))) for k in range(6)}
    root = written(
        tmp_path,
        fine | {name.replace("whole", "with a crop"): EDITS[edit][0](picture) for name, picture in fine.items()},
    )
    dataset, pixels = scanned(root)
    assert set(named(dataset, near_pairs(dataset, pixels))) == {(f"{k} whole", f"{k} with a crop") for k in range(6)}


def test_pictures_that_resemble_each_other_are_no_copies(tmp_path):
    """Nowhere do they differ much, but everywhere a little."""
    one, other = (ImageEnhance.Contrast(scene(seed)).enhance(0.5) for seed in (1, 2))
    root = written(tmp_path, {f"{share}": Image.blend(one, other, share / 100) for share in (0, 10, 35)})
    dataset, pixels = scanned(root)
    assert set(named(dataset, near_pairs(dataset, pixels))) == {("0", "10")}


def with_object(picture, place, colour=(230, 40, 40)):
    changed = picture.copy()
    changed.paste(colour, (*place, place[0] + 32, place[1] + 32))
    return changed


def test_one_scene_with_another_object_is_not_a_copy(tmp_path):
    background = scene(3)
    root = written(
        tmp_path,
        {
            "nothing": background,
            "an object": with_object(background, (80, 60)),
            "elsewhere": with_object(background, (20, 100)),
            "another": with_object(background, (80, 60), (30, 60, 240)),
        },
    )
    dataset, pixels = scanned(root)
    assert named(dataset, near_pairs(dataset, pixels)) == {}


def test_pictures_that_show_nothing_are_left_out(tmp_path):
    flat = {f"{k}": Image.new("RGB", (100, 80), (90 + k, 90, 90)) for k in range(4)}
    flat |= {"a": scene(1), "b": scaled(0.7)(scene(1))}
    dataset, pixels = scanned(written(tmp_path, flat))
    assert set(named(dataset, near_pairs(dataset, pixels))) == {("a", "b")}


def test_exact_copies_stand_once_and_join_the_cluster(tmp_path):
    root = written(tmp_path, {"a": scene(1), "c": scaled(0.6)(scene(1)), "x": scene(2)})
    for name in ("b", "d"):
        shutil.copy(root / "all/a.jpg", root / f"all/{name}.jpg")
    shutil.copy(root / "all/c.jpg", root / "all/e.jpg")
    dataset, pixels = scanned(root)
    found, near = copies(dataset, pixels)
    assert named(dataset, near) == {("a", "c"): "as it is"}
    assert exact_clusters(dataset) == [[0, 1, 3], [2, 4]]
    assert found == [[0, 1, 2, 3, 4]]


def test_unreadable_images_have_no_copies(tmp_path):
    root = written(tmp_path, {"a": scene(1), "b": scaled(0.6)(scene(1))})
    for name in ("broken", "broken too"):
        (root / f"all/{name}.jpg").write_bytes(b"no picture")
    (root / "all/empty.jpg").write_bytes(b"")
    dataset, pixels = scanned(root)
    _, near = copies(dataset, pixels)
    assert set(named(dataset, near)) == {("a", "b")}


@pytest.mark.parametrize("count", [1, 2])
def test_few_images(tmp_path, count):
    dataset, pixels = scanned(written(tmp_path, {f"{k}": scene(k) for k in range(count)}))
    found, near = copies(dataset, pixels)
    assert (found, len(near.first)) == ([], 0)
    assert len(near_pairs(dataset.with_rows([]), pixels).first) == 0


def test_the_order_of_the_rows_does_not_matter(edited):
    dataset, pixels = scanned(edited)
    turned = dataset.with_rows(np.random.default_rng(0).permutation(len(dataset)))
    clustered = []
    for each in (dataset, turned):
        near = near_pairs(each, pixels)
        rows = clusters(len(each), np.stack([near.first, near.second], axis=1))
        clustered.append({frozenset(each.images[row] for row in cluster) for cluster in rows})
    assert clustered[0] == clustered[1]


def test_a_crowd_of_copies_is_joined_without_looking_at_every_pair(tmp_path, monkeypatch):
    """60 copies of one picture are 1,770 pairs; 59 join them."""
    rng, picture = np.random.default_rng(0), scene(1)
    pictures = {f"{k:02}": scaled(float(rng.uniform(0.6, 1)))(picture) for k in range(60)}
    dataset, pixels = scanned(written(tmp_path, pictures))
    monkeypatch.setattr(search, "_PORTION", 64)
    looked, judge = [], search._correlation
    monkeypatch.setattr(search, "_correlation", lambda *pair: looked.append(1) or judge(*pair))
    found, _ = copies(dataset, pixels)
    assert [len(cluster) for cluster in found] == [60]
    assert len(looked) < 500


def test_what_was_found_is_kept(edited, monkeypatch):
    dataset, pixels = scanned(edited)
    first, near = copies(dataset, pixels)
    monkeypatch.setattr(search, "near_pairs", None)  # is not asked any more
    again, kept = copies(dataset, pixels)
    assert again == first
    for name in ("first", "second", "variant", "correlation"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(near, name))
    turned = dataset.with_rows(np.arange(len(dataset))[::-1])  # the same images in another order
    rows = {frozenset(turned.images[row] for row in cluster) for cluster in copies(turned, pixels)[0]}
    assert rows == {frozenset(dataset.images[row] for row in cluster) for cluster in first}


@pytest.mark.parametrize("change", ["images", "size", "fit", "version"])
def test_other_images_are_looked_at_anew(tmp_path, monkeypatch, change):
    root = written(tmp_path, {"a": scene(1), "b": scaled(0.6)(scene(1))})
    copies(*scanned(root))
    asked, look = [], near_pairs
    monkeypatch.setattr(search, "near_pairs", lambda *its, **how: asked.append(1) or look(*its, **how))
    if change == "images":
        scene(3).save(root / "all/c.jpg")
    if change == "version":
        monkeypatch.setattr(search, "VERSION", search.VERSION + 1)
    found, _ = copies(*scanned(root, 48 if change == "size" else 64, "squash" if change == "fit" else "pad"))
    assert asked
    assert found == [[0, 1]]


def test_a_damaged_cache_of_copies_is_made_again(tmp_path, cache):
    dataset, pixels = scanned(written(tmp_path, {"a": scene(1), "b": scaled(0.6)(scene(1))}))
    first, _ = copies(dataset, pixels)
    (path,) = (cache / "copies").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert copies(dataset, pixels)[0] == first == [[0, 1]]


def test_two_folders_beside_each_other_are_compared(tmp_path):
    one, its_pixels = scanned(written(tmp_path / "one", {"a": scene(1), "b": scene(2)}))
    other, other_pixels = scanned(written(tmp_path / "other", {"c": scene(3), "d": scaled(0.6)(scene(2))}))
    behind = other.table.with_columns(pl.col("index") + len(its_pixels.array))
    both = replace(one, table=pl.concat([one.table, behind]))
    found, _ = copies(both, Beside(first=its_pixels, second=other_pixels))
    assert [[both.images[row] for row in cluster] for cluster in found] == [
        ["all/b.jpg", "all/d.jpg"],
        ["nothing/flat.png", "nothing/flat.png"],
    ]


@given(count=st.integers(1, 40), data=st.data())
@settings(deadline=None, max_examples=60)
def test_clusters_are_what_is_joined(count, data):
    row = st.integers(0, count - 1)
    pairs = data.draw(st.lists(st.tuples(row, row), max_size=40))
    joined = {k: {k} for k in range(count)}
    for one, other in pairs:
        union = joined[one] | joined[other]
        joined |= dict.fromkeys(union, union)
    expected = sorted({tuple(sorted(each)) for each in joined.values() if len(each) > 1})
    assert clusters(count, np.array(pairs, np.int64).reshape(-1, 2)) == [list(each) for each in expected]


def test_searching_is_told_to_the_end(edited):
    dataset, pixels = scanned(edited)
    told = []

    class Watch:
        def track(self, label, total, unit="images"):
            from contextlib import nullcontext

            told.append(total)
            return nullcontext(lambda done, note: told.append(-done))

    near_pairs(dataset, pixels, progress=Watch())
    assert 0 <= sum(told) < 20  # rounding
