"""A set on disk: layout, worker counts, faults and the truth about them, refusals, interruptions."""

import hashlib
import io
import json
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from discern.data.synthetic import CLASSES, Faults, Parts, ensure, write
from discern.errors import UsageError

SMALL = Parts(per_class=2, test_per_class=1, size=32)
FAULTY = Parts(
    per_class=10,
    test_per_class=6,
    size=32,
    faults=Faults(exact_duplicates=0.1, near_duplicates=0.34, wrong_labels=0.15, unreadable=4, tiny=3, imbalance=2.0),
)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def images(folder: Path, split: str) -> list[Path]:
    return sorted((folder / split).rglob("*.jpg"))


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets") / "faulty"
    write(folder, FAULTY, workers=1)
    return folder, pl.read_parquet(folder / ".truth" / "truth.parquet")


def test_one_worker_and_three_write_the_same_bytes(tmp_path):
    one, three = write(tmp_path / "one", SMALL, workers=1), write(tmp_path / "three", SMALL, workers=3)
    assert digests(one) == digests(three)


def test_layout_names_and_counts(tmp_path):
    seen = []
    folder = write(tmp_path / "set", SMALL, workers=1, on_progress=lambda done, total: seen.append((done, total)))
    assert sorted(p.name for p in folder.iterdir()) == [".truth", "test", "train"]
    for split, count in (("train", 2), ("test", 1)):
        assert sorted(p.name for p in (folder / split).iterdir()) == list(CLASSES)
        for label in CLASSES:
            files = sorted((folder / split / label).iterdir())
            assert [f.name for f in files] == [f"img_{n:05d}.jpg" for n in range(count)]
            assert all(size(f) == (32, 32) for f in files)
    assert seen == [(n, 15) for n in range(1, 16)]
    truth = pl.read_parquet(folder / ".truth" / "truth.parquet")
    assert truth.columns == [
        "path",
        "split",
        "stored_class",
        "true_class",
        "mask",
        "fault",
        "source",
        "detail",
    ]
    assert truth["fault"].null_count() == len(truth) == 15
    assert json.loads((folder / ".truth" / "parts.json").read_text())["per_class"] == 2


def test_the_truth_lists_every_file_once_with_its_mask(faulty):
    folder, truth = faulty
    listed = truth["path"].to_list()
    assert sorted(listed) == sorted(
        str(p.relative_to(folder)) for split in ("train", "test") for p in images(folder, split)
    )
    for row in truth.filter(pl.col("fault").is_null() | (pl.col("fault") != "unreadable")).to_dicts():
        assert row["path"].split("/")[:2] == [row["split"], row["stored_class"]]
        with Image.open(folder / row["path"]) as image, Image.open(folder / row["mask"]) as mask:
            assert image.size == mask.size, row


def test_exact_duplicates_are_byte_identical_and_only_they_are(faulty):
    folder, truth = faulty
    rows = truth.filter(pl.col("fault") == "exact_duplicate")
    assert len(rows) == 3
    for row in rows.to_dicts():
        assert row["split"] == "test"
        assert row["source"].startswith("train/")
        assert (folder / row["path"]).read_bytes() == (folder / row["source"]).read_bytes()
    copies = [n - 1 for n in Counter(v for k, v in digests(folder).items() if k.endswith(".jpg")).values()]
    text_and_empty = truth.filter(pl.col("fault") == "unreadable")["detail"].to_list()
    assert sum(copies) == 3 + len([d for d in text_and_empty if d != "truncated"]) - len(
        {d for d in text_and_empty if d != "truncated"}
    )


def test_near_duplicates_resemble_their_source_but_differ_in_bytes(faulty):
    folder, truth = faulty
    rows = truth.filter(pl.col("fault") == "near_duplicate").to_dicts()
    edits = ("resized", "recompressed", "cropped", "brightness", "mirrored")
    assert Counter(r["detail"] for r in rows) == dict.fromkeys(edits, 2)

    def thumb(path):
        with Image.open(folder / path) as image:
            small = np.asarray(image.convert("L").resize((8, 8), Image.Resampling.BOX), float)
        return small - small.mean()

    for row in rows:
        assert (folder / row["path"]).read_bytes() != (folder / row["source"]).read_bytes()
        copy = thumb(row["path"])
        copy = copy[:, ::-1] if row["detail"] == "mirrored" else copy
        assert np.corrcoef(copy.ravel(), thumb(row["source"]).ravel())[0, 1] > 0.8, row


def test_wrong_labels_lie_in_another_class_folder(faulty):
    _, truth = faulty
    wrong = truth.filter(pl.col("fault") == "wrong_label")
    assert len(wrong) == round(0.15 * 38)
    assert (wrong["stored_class"] != wrong["true_class"]).all()
    assert (wrong["split"] == "train").all()
    rest = truth.filter(pl.col("fault").is_null() | (pl.col("fault") != "wrong_label"))
    assert (rest["stored_class"] == rest["true_class"]).all()


def test_unreadable_files_cannot_be_decoded_and_all_others_can(faulty):
    folder, truth = faulty
    broken = truth.filter(pl.col("fault") == "unreadable")
    assert sorted(broken["detail"]) == ["text", "truncated", "zero bytes", "zero bytes"]
    failed = set()
    for path in truth["path"]:
        try:
            Image.open(io.BytesIO((folder / path).read_bytes())).load()
        except OSError:
            failed.add(path)
    assert failed == set(broken["path"])


def test_tiny_images_have_a_side_under_20_and_only_they(faulty):
    folder, truth = faulty
    readable = truth.filter(pl.col("mask").is_not_null())
    small = {p for p in readable["path"] if min(size(folder / p)) < 20}
    assert small == set(readable.filter(pl.col("fault") == "tiny")["path"])
    assert len(small) == 3


def test_imbalance_is_the_ratio_of_largest_to_smallest_class(faulty):
    _, truth = faulty
    added = pl.col("fault").is_in(["unreadable", "tiny"]).fill_null(False)
    counts = Counter(truth.filter((pl.col("split") == "train") & ~added)["true_class"])
    assert [counts[c] for c in CLASSES] == [10, 9, 8, 6, 5]  # 10, 8.75, 7.5, 6.25, 5, rounded to even


def test_faults_leave_the_other_images_as_they_were(faulty, tmp_path):
    folder, _truth = faulty
    clean = write(tmp_path / "clean", Parts(per_class=2, test_per_class=1, size=32), workers=1)
    kept = {hashlib.sha256(p.read_bytes()).hexdigest() for p in images(folder, "train") + images(folder, "test")}
    assert {hashlib.sha256(p.read_bytes()).hexdigest() for p in images(clean, "train")} <= kept


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (Parts(domain="workshp"), "did you mean 'workshop'"),
        (Parts(per_class=0), "per_class is 0"),
        (Parts(size=3), "size is 3"),
        (Parts(faults=Faults(wrong_labels=1.5)), r"wrong_labels is 1\.5; give a share from 0 to 1"),
        (Parts(faults=Faults(near_duplicates=-0.1)), "near_duplicates"),
        (Parts(faults=Faults(tiny=-1)), "tiny is -1"),
        (Parts(faults=Faults(imbalance=0.5)), "imbalance is 0.5"),
    ],
)
def test_a_bad_specification_is_one_clear_error_and_writes_nothing(parts, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        write(tmp_path / "set", parts)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused_and_an_empty_one_is_used(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(UsageError, match="not an empty folder"):
        write(tmp_path / "mine", SMALL)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    (tmp_path / "empty").mkdir()
    assert (write(tmp_path / "empty", SMALL, workers=1) / "train").is_dir()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_write_leaves_nothing(tmp_path, workers):
    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "set", SMALL, workers=workers, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_ensure_renders_once_and_two_at_a_time_agree(tmp_path, monkeypatch):
    monkeypatch.setenv("DISCERN_CACHE", str(tmp_path))
    found, calls = [], []
    racing = [threading.Thread(target=lambda: found.append(ensure(SMALL, workers=1))) for _ in range(2)]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join()
    assert found[0] == found[1] == tmp_path / "parts" / f"parts-{SMALL.key()}"
    assert ensure(SMALL, on_progress=lambda *done: calls.append(done)) == found[0]
    assert calls == []
    assert [p.name for p in (tmp_path / "parts").iterdir()] == [found[0].name]
