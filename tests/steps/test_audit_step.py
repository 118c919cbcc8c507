"""The audit as Python calls it: findings, scores and page of one folder, looked for once."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageEnhance, ImageFilter

import discern
from discern.data.audit.findings import Finding
from discern.data.sources import open_dataset
from discern.errors import DataError, MissingExtra, UnknownName, UsageError
from discern.progress import Silent
from discern.steps import look
from discern.steps.audit import HINT, SIZE, audit, size_for

KINDS = {
    *("unreadable", "exact_duplicate", "near_duplicate", "leakage", "label_conflict", "label_suspect", "outlier"),
    *("tiny", "dark", "bright", "blurred", "low_information", "odd_aspect"),
}
"""Those that are about images; imbalance, giveaway and shift are about all of them."""


class Listener(Silent):
    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


@pytest.fixture
def looks(monkeypatch):
    """How many times an audit has really looked."""
    seen, really = [], look.look
    monkeypatch.setattr(look, "look", lambda *given, **named: (seen.append(1), really(*given, **named)))
    return seen


def spoil(root):
    """One of every fault among scenes in two splits."""

    def change(name, into, edit, *, leave=False):
        with Image.open(root / name) as picture:
            edit(picture).save(root / into)
        if not leave:
            (root / name).unlink()

    shutil.copy(root / "train/cat/000.jpg", root / "train/cat/same.jpg")
    change("train/cat/001.jpg", "train/cat/edited.jpg", lambda p: p.resize((60, 80)), leave=True)
    shutil.copy(root / "train/cat/002.jpg", root / "test/cat/leaked.jpg")
    shutil.copy(root / "train/cat/003.jpg", root / "train/dog/conflict.jpg")
    change("train/cat/004.jpg", "train/cat/dark.png", lambda p: ImageEnhance.Brightness(p).enhance(0.06))
    change("train/cat/005.jpg", "train/cat/blurred.png", lambda p: p.filter(ImageFilter.GaussianBlur(5)))
    change("train/cat/006.jpg", "train/cat/strip.png", lambda p: p.resize((120, 21)))
    Image.new("RGB", (40, 40), (90, 140, 60)).save(root / "train/dog/flat.png")
    Image.new("RGB", (9, 9), (90, 180, 60)).save(root / "train/dog/tiny.png")
    Image.new("RGB", (40, 40), (250, 250, 255)).save(root / "train/dog/bright.png")
    (root / "test/dog/broken.jpg").write_bytes(b"no picture")


@pytest.fixture(scope="module")
def audited(tmp_path_factory, draw_scene):
    """(Folder with one of every fault, its audit, folder of the page), shared; look, do not touch."""
    folder = tmp_path_factory.mktemp("audited")
    for number, (split, kind) in enumerate((s, k) for s in ("train", "test") for k in (0, 1)):
        place = folder / "photos" / split / ("cat", "dog")[kind]
        place.mkdir(parents=True)
        for k in range(30 if split == "train" else 10):
            draw_scene(100 * number + k, kind, 96).save(place / f"{k:03d}.jpg", quality=90)
    spoil(folder / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISCERN_CACHE", str(folder / "cache"))
        before = state(folder / "photos")
        found = audit(folder / "photos", out=folder / "new" / "out")
        assert state(folder / "photos") == before
    return found


def state(root):
    return {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in sorted(root.rglob("*"))}


EXPECTED = {
    "exact_duplicate": {"train/cat/000.jpg", "train/cat/same.jpg"},
    "near_duplicate": {"train/cat/001.jpg", "train/cat/edited.jpg"},
    "leakage": {"train/cat/002.jpg", "test/cat/leaked.jpg"},
    "label_conflict": {"train/cat/003.jpg", "train/dog/conflict.jpg"},
    "dark": {"train/cat/dark.png"},
    "blurred": {"train/cat/blurred.png"},
    "odd_aspect": {"train/cat/strip.png"},
    "low_information": {"train/dog/flat.png", "train/dog/bright.png", "train/dog/tiny.png"},
    "tiny": {"train/dog/tiny.png"},
    "bright": {"train/dog/bright.png"},
    "unreadable": {"test/dog/broken.jpg"},
}


def test_every_fault_is_found_where_it_is(audited):
    found = audited
    named = {}
    for finding in found.findings:
        named.setdefault(finding.kind, set()).update(finding.rows)
    assert {kind: named.get(kind) for kind in EXPECTED} == EXPECTED
    severities = [("error", "warning", "note").index(finding.severity) for finding in found.findings]
    assert severities == sorted(severities)
    assert len(found.dataset) == 88


def test_every_finding_says_what_where_how_it_is_known_and_what_to_do(audited):
    for finding in audited.findings:
        assert finding.kind in KINDS | {"imbalance", "giveaway", "shift"}
        assert finding.severity in ("error", "warning", "note")
        assert finding.evidence.endswith(".")
        assert finding.remedy.endswith((".", ")."))
        assert json.loads(json.dumps(finding.to_json())) == json.loads(json.dumps(finding.to_json()))
        assert Finding.from_json(finding.to_json()) == finding


def test_the_table_has_a_score_and_a_flag_for_every_image_and_kind(audited):
    found = audited
    scores, dataset = found.scores, found.dataset
    assert scores.columns[:3] == ["image", "label", "split"]
    assert set(scores.columns[3:]) == {f"{kind}_score" for kind in KINDS} | {f"is_{kind}" for kind in KINDS}
    assert scores["image"].to_list() == list(dataset.images)
    assert scores["label"].to_list() == [dataset.classes[label] for label in dataset.labels]
    assert scores["split"].to_list() == dataset.table["split"].to_list()
    readable = dataset.table["problem"].is_null()
    for kind in KINDS:
        score, flag = scores[f"{kind}_score"], scores[f"is_{kind}"]
        assert score.dtype == pl.Float32
        assert flag.dtype == pl.Boolean
        assert score.drop_nulls().is_between(0, 1).all()
        assert not score.is_nan().any()
        assert flag.null_count() == 0
        assert (score.filter(flag) < 0.5).all()  # what is flagged is on the bad side of the scale
        assert score.is_null().to_list() == ([False] * len(scores) if kind == "unreadable" else (~readable).to_list())
        if kind != "unreadable":
            assert not flag.filter(~readable).any()
        rows = {row for finding in found.findings if finding.kind == kind for row in finding.rows}
        assert set(scores.filter(flag)["image"]) == rows


def test_kinds_that_could_not_be_looked_for_have_no_scores_and_the_page_does_not_claim_them(photos, tmp_path):
    listener = Listener()
    found = audit(photos({"cat": 5, "dog": 3}), out=tmp_path / "out", progress=listener)
    for kind in ("label_suspect", "outlier"):
        assert found.scores[f"{kind}_score"].null_count() == 8
        assert found.scores[f"{kind}_score"].dtype == pl.Float32
        assert found.scores[f"is_{kind}"].null_count() == 8
        assert found.scores[f"is_{kind}"].dtype == pl.Boolean
    assert found.scores["is_dark"].null_count() == 0
    assert any("Wrong labels are not looked for. The class 'dog' has 3 images" in said for said in listener.said)
    page = (tmp_path / "out/audit.html").read_text()
    assert "label suspect" not in page
    assert "low information" in page


def test_the_folder_has_page_table_and_findings(audited):
    found = audited
    assert sorted(file.name for file in found.folder.iterdir()) == ["audit.html", "findings.json", "scores.parquet"]
    assert pl.read_parquet(found.folder / "scores.parquet").equals(found.scores)
    kept = json.loads((found.folder / "findings.json").read_text())
    assert tuple(map(Finding.from_json, kept)) == found.findings
    assert "train/dog/conflict.jpg" in (found.folder / "audit.html").read_text()
    record = found.to_json()
    assert record["page"] == str(found.folder / "audit.html")
    assert record["images"] == 88
    assert json.loads(json.dumps(record))["findings"] == json.loads(json.dumps(kept))


def test_the_same_images_are_looked_at_once_and_nothing_is_written_outside_the_cache(scenes, tmp_path, looks):
    root = scenes({"cat": 9, "dog": 3})
    before = sorted(tmp_path.rglob("*"))
    first, again = audit(root), audit(root)
    assert len(looks) == 1
    assert first.findings
    assert again.findings == first.findings
    assert again.scores.equals(first.scores)
    assert audit(open_dataset(root)).findings == first.findings
    assert len(looks) == 1
    assert again.folder is None
    assert "page" not in again.to_json()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("change", ["new", "gone", "other", "label", "split", "decision", "renamed", "way"])
def test_anything_else_is_looked_at_anew(scenes, looks, change):
    root = scenes({"cat": 8, "dog": 8})
    audit(root)
    if change == "new":
        shutil.copy(root / "cat/000.jpg", root / "cat/same.jpg")
    elif change == "gone":
        (root / "cat/000.jpg").unlink()
    elif change == "other":
        with Image.open(root / "cat/000.jpg") as picture:
            ImageEnhance.Brightness(picture).enhance(0.5).save(root / "cat/000.jpg")
    elif change == "renamed":
        (root / "cat/000.jpg").rename(root / "cat/first.jpg")
    data = open_dataset(root)
    if change == "label":
        data = data.with_columns(pl.Series("label", [1, *data.labels[1:]], dtype=pl.Int32))
    elif change in ("split", "decision"):
        data = data.with_columns(pl.Series(change, ["train" if change == "split" else "keep"] * 16))
    audit(data, suspects="cleanlab" if change == "way" else "own")
    assert len(looks) == 2


def test_a_copy_of_the_folder_elsewhere_has_the_same_findings_under_its_own_name(scenes, tmp_path, looks):
    root = scenes({"cat": 8, "dog": 3})
    shutil.copy(root / "cat/000.jpg", root / "dog/same.jpg")
    first = audit(root)
    moved = tmp_path / "elsewhere"
    shutil.copytree(root, moved)
    second = audit(moved, out=tmp_path / "out")
    assert len(looks) == 2  # its page names another place
    assert second.findings == first.findings
    assert second.scores.equals(first.scores)
    assert str(moved) in (tmp_path / "out/audit.html").read_text()


def test_an_audit_that_was_broken_off_is_done_again(scenes, monkeypatch):
    def broken(*given, **named):
        raise KeyboardInterrupt

    root = scenes({"cat": 8, "dog": 2})
    with monkeypatch.context() as patch:
        patch.setattr(look, "write_audit_page", broken)
        with pytest.raises(KeyboardInterrupt):
            audit(root)
    assert [finding.kind for finding in audit(root).findings] == ["imbalance"]


def test_without_a_backbone_it_is_said_how_to_name_one(scenes):
    listener = Listener()
    audit(scenes({"cat": 6, "dog": 6}), progress=listener)
    assert listener.said[0] == HINT
    assert "--backbone" in HINT


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"weights": "weights/net"}, UsageError, "--weights weights/net are of no backbone: name it"),
        ({"suspects": "cleanlib"}, UnknownName, "Unknown way to find suspects 'cleanlib': did you mean 'cleanlab'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_an_image_is_read(photos, cache, options, error, words):
    with pytest.raises(error, match=words):
        audit(photos({"cat": 6, "dog": 6}), **options)
    assert list(cache.iterdir()) == []


def test_without_cleanlab_the_install_command_is_said_at_once(photos, cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    with pytest.raises(MissingExtra, match=r"discern-vision\[audit\]"):
        audit(photos({"cat": 6, "dog": 6}), suspects="cleanlab")
    assert list(cache.iterdir()) == []


def test_cleanlab_judges_the_same_probabilities(scenes):
    root = scenes({"cat": 40, "dog": 40, "fox": 40})
    for k in range(5):
        (root / f"cat/00{k}.jpg").rename(root / f"dog/was-cat{k}.jpg")
    ours, theirs = audit(root), audit(root, suspects="cleanlab")
    assert ours.scores["label_suspect_score"].equals(theirs.scores["label_suspect_score"])
    wrong = {f"dog/was-cat{k}.jpg": "cat" for k in range(5)}
    suggested = [
        {f.rows[0]: f.detail["suggested"] for f in found.findings if f.kind == "label_suspect"}
        for found in (ours, theirs)
    ]
    assert suggested[0] == wrong
    assert suggested[1].items() <= wrong.items()
    assert suggested[1]


def test_a_person_s_decisions_silence_suspects(scenes):
    root = scenes({"cat": 40, "dog": 40, "fox": 40})
    (root / "cat/000.jpg").rename(root / "dog/was-cat.jpg")
    data = open_dataset(root)
    assert {row for f in audit(data).findings if f.kind == "label_suspect" for row in f.rows} == {"dog/was-cat.jpg"}
    kept = data.with_columns(pl.Series("decision", ["keep"] * len(data)))
    assert not [f for f in audit(kept).findings if f.kind in ("label_suspect", "outlier")]


def test_a_folder_that_nobody_can_read_is_audited_too(photos):
    root = photos({"cat": 3, "dog": 3})
    for file in root.rglob("*.*"):
        file.write_bytes(b"")
    found = audit(root)
    assert [finding.kind for finding in found.findings] == ["unreadable"] * 6
    assert found.scores["is_unreadable"].all()


def test_no_images_is_an_error(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError):
        audit(tmp_path / "photos")


@pytest.mark.parametrize(("sides", "size"), [((20, 30), 32), ((64, 40), 64), ((70, 90), 96), ((500, 90), SIZE)])
def test_small_images_are_not_enlarged_and_large_ones_are_shrunk(tmp_path, sides, size):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((sides[1], sides[0], 3), np.uint8)).save(tmp_path / name / "0.png")
    assert size_for(open_dataset(tmp_path)) == size


def test_replaced_weights_are_noticed(scenes, looks, tmp_path, monkeypatch):
    """A folder of weights is known by its files, not by its name."""
    monkeypatch.setattr(look, "_features", lambda dataset, *rest: np.eye(len(dataset), 20, dtype=np.float32))
    root, weights = scenes({"cat": 8, "dog": 8}), tmp_path / "weights"
    weights.mkdir()
    for content, times in (("one", 1), ("one", 1), ("other", 2)):
        if not (weights / "model.safetensors").exists() or content == "other":
            (weights / "model.safetensors").write_text(content)
        audit(root, backbone="net", weights=str(weights))
        assert len(looks) == times


def test_a_pretrained_backbone_tells_wrong_labels(real_data, scenes, tmp_path):
    """Labels of ten tools photos are changed; it suspects many of them, and not many others."""
    weights = str(real_data / "weights" / "mobilenetv2_100.imagenet")
    data = open_dataset(real_data / "tools" / "dataset_testing")
    changed = np.random.default_rng(0).permutation(len(data))[:10]
    labels = data.labels
    labels[changed] = (labels[changed] + 1) % 3
    listener = Listener()
    found = audit(
        data.with_columns(pl.Series("label", labels, dtype=pl.Int32)),
        backbone="mobilenetv2_100",
        weights=weights,
        progress=listener,
    )
    wrong = {data.images[row] for row in changed}
    suspects = {row for finding in found.findings if finding.kind == "label_suspect" for row in finding.rows}
    assert HINT not in listener.said
    assert len(suspects & wrong) >= 3
    assert len(suspects & wrong) / len(suspects) > 0.6


def loaded(*words, cwd):
    """Which of the heavy packages one `discern audit` has loaded."""
    code = (
        "import sys\nfrom discern.cli.main import main\n"
        f"try: main({list(map(str, words))!r})\nexcept SystemExit as left: assert not left.code\n"
        "print('LOADED', *sorted({'torch', 'timm', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("LOADED")[2].split()


def test_an_audit_without_a_backbone_needs_no_torch_and_a_second_one_hardly_anything(scenes, tmp_path):
    root = scenes({"cat": 12, "dog": 12})
    words = ("audit", root, "--out", tmp_path / "out")
    assert set(loaded(*words, cwd=tmp_path)) == {"sklearn", "matplotlib"}
    assert loaded(*words, cwd=tmp_path) == []


def test_it_is_what_the_package_offers():
    assert discern.audit is audit
