"""The self-check: how much the audit finds of what was put in, on generated scenes, built-in parts and photos."""

import json

import numpy as np
import polars as pl
import pytest

import discern
from discern.data.audit.injection import EDITS, FAULTS, Injection
from discern.data.sources import open_dataset
from discern.data.synthetic.parts import Parts, ensure
from discern.errors import UsageError
from discern.progress import Silent
from discern.steps.audit import HINT, audit
from discern.steps.self_check import self_check

WEIGHTS = "weights/mobilenetv2_100.imagenet"


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return tmp_path_factory.mktemp("self-check")


@pytest.fixture(scope="module")
def checked(places, draw_scene):
    """Self-check of 180 scenes of three kinds, shared."""
    for kind in range(3):
        (places / "scenes" / "abc"[kind]).mkdir(parents=True)
        for k in range(60):
            draw_scene(1000 * kind + k, kind, 96).save(places / "scenes" / "abc"[kind] / f"{k:03d}.jpg", quality=90)
    before = {file: file.stat().st_mtime_ns for file in sorted((places / "scenes").rglob("*"))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISCERN_CACHE", str(places / "cache"))
        done = self_check(places / "scenes", injection=Injection(exact=0.05, near=0.1, faults=0.03, seed=3))
    assert {file: file.stat().st_mtime_ns for file in sorted((places / "scenes").rglob("*"))} == before
    return done


def test_every_kind_of_fault_has_a_row(checked):
    names = [row.fault.strip() for row in checked.rows]
    assert names == ["exact_duplicate", "near_duplicate", *EDITS, "label_suspect", *FAULTS]
    assert (checked.images, checked.seed) == (180, 3)
    counts = {row.fault.strip(): row.count for row in checked.rows}
    assert counts["exact_duplicate"] == 9
    assert counts["near_duplicate"] == 18 == sum(counts[edit] for edit in EDITS)
    assert counts["label_suspect"] == 18
    assert {counts[fault] for fault in FAULTS} == {5}


def test_copies_of_scenes_are_found_and_nothing_else(checked):
    assert checked["exact_duplicate"].recall == 1
    assert checked["near_duplicate"].recall >= 0.8  # recompression changes those that are all grain
    assert checked["near_duplicate"].precision == 1


def test_changed_labels_of_scenes_are_found(checked):
    row = checked["label_suspect"]
    assert row.auprc > 0.9
    assert row.precision > 0.9
    assert row.recall >= 0.4


@pytest.mark.parametrize("fault", FAULTS)
def test_spoilt_scenes_are_found(checked, fault):
    assert checked[fault].recall == 1
    assert checked[fault].precision is None  # the images may have such faults of their own


def test_it_is_plain_values_as_json(checked):
    record = json.loads(json.dumps(checked.to_json()))
    assert record["images"] == 180
    assert record["rows"][0] == {
        "fault": "exact_duplicate",
        "count": 9,
        "recall": 1.0,
        "precision": None,
        "auprc": None,
    }


def test_the_same_seed_puts_in_the_same(scenes):
    root = scenes({"cat": 30, "dog": 30})
    one, same, other = (self_check(root, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert other.seed == 1


def test_what_the_images_have_already_counts_neither_way(scenes):
    """Copies that were there before are found by the audit, but not put in."""
    import shutil

    root = scenes({"cat": 30, "dog": 30})
    for k in range(5):
        shutil.copy(root / f"cat/00{k}.jpg", root / f"cat/same{k}.jpg")
    done = self_check(root)
    assert done["near_duplicate"].precision == 1
    assert done["exact_duplicate"].recall == 1


def test_an_audit_afterwards_knows_nothing_of_it(scenes):
    root = scenes({"cat": 12, "dog": 12})
    before = audit(root).findings
    self_check(root)
    assert audit(root).findings == before
    assert len(open_dataset(root)) == 24


def test_it_says_what_the_audit_says_and_refuses_what_it_refuses(scenes):
    said = []

    class Listener(Silent):
        def say(self, message):
            said.append(message)

    root = scenes({"cat": 12, "dog": 12})
    self_check(root, progress=Listener())
    assert HINT in said
    with pytest.raises(UsageError, match="are of no backbone"):
        self_check(root, weights="somewhere")


def test_it_is_offered_by_the_package():
    assert discern.self_check is self_check


@pytest.mark.slow
def test_on_built_in_parts_with_a_pretrained_backbone(real_data, tmp_path):
    """What is promised: every file twice, nearly every edited copy, and wrong labels far ahead of right ones."""
    parts = ensure(Parts(per_class=100, test_per_class=20), cache=tmp_path / "parts")
    done = self_check(
        parts,
        injection=Injection(near=0.1, seed=1),
        backbone="mobilenetv2_100",
        weights=str(real_data / WEIGHTS),
    )
    assert done["exact_duplicate"].recall == 1
    assert done["near_duplicate"].recall >= 0.95
    assert done["near_duplicate"].precision >= 0.98
    assert done["label_suspect"].auprc >= 0.8
    assert done["label_suspect"].precision >= 0.7
    for fault in FAULTS:
        assert done[fault].recall == 1, fault


@pytest.mark.slow
def test_on_photos_with_a_pretrained_backbone(real_data):
    tools = real_data / "tools"
    data = open_dataset(tools / "dataset", test=tools / "dataset_testing")
    done = self_check(
        data, injection=Injection(near=0.1), backbone="mobilenetv2_100", weights=str(real_data / WEIGHTS)
    )
    assert done["exact_duplicate"].recall == 1
    assert done["near_duplicate"].recall >= 0.95
    assert done["near_duplicate"].precision >= 0.98
    assert done["label_suspect"].auprc >= 0.6
    for fault in FAULTS:
        assert done[fault].recall >= 0.9, fault


def test_on_small_photos(real_data):
    """CIFAR-10, a thousand of its test images: at 32 pixels some near copies cannot be told from others."""
    cifar = open_dataset(real_data / "cifar10").split("test")
    some = cifar.with_rows(np.sort(np.random.default_rng(0).choice(len(cifar), 1000, replace=False)))
    done = self_check(some.with_columns(pl.Series("split", [None] * 1000, dtype=pl.String)), seed=1)
    assert done["exact_duplicate"].recall == 1
    assert done["near_duplicate"].recall >= 0.8
    assert done["near_duplicate"].precision >= 0.95
    for fault in ("dark", "bright", "low_information", "odd_aspect", "tiny"):
        assert done[fault].recall >= 0.9, fault
