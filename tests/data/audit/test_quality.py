"""Pictures that show little or nothing: each kind on images made to be so, and on their neighbours that are not."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from discern.data.audit.quality import BLURRED, COMMON, FLAG, KINDS, STRIP, TINY, quality_findings, quality_scores
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.data.synthetic.parts import render


def scanned(root):
    return scan(open_dataset(root), size=32, fit="pad")[0]


def found(root):
    return {finding.kind: finding for finding in quality_findings(scanned(root))}


@pytest.fixture
def spoil(scenes):
    """`spoil(change)`: twelve good pictures and dog/bad.png, which is the change of a good one; what is found."""

    def do(change):
        root = scenes({"cat": 6, "dog": 6})
        with Image.open(root / "dog/000.jpg") as picture:
            change(picture.copy()).save(root / "dog/bad.png")
        return found(root)

    return do


def test_good_pictures_are_not_found(scenes):
    data = scanned(scenes({"cat": 10, "dog": 10, "fox": 10}))
    assert list(quality_findings(data)) == []
    assert quality_scores(data).select(pl.all().min() >= FLAG).row(0) == (True,) * len(KINDS)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("dark", lambda picture: ImageEnhance.Brightness(picture).enhance(0.08)),
        ("bright", lambda picture: Image.blend(picture, Image.new("RGB", picture.size, "white"), 0.93)),
        ("blurred", lambda picture: picture.filter(ImageFilter.GaussianBlur(4))),
        ("low_information", lambda picture: Image.new("RGB", picture.size, (90, 140, 60))),
        ("odd_aspect", lambda picture: picture.resize((200, 30))),
        ("tiny", lambda picture: picture.resize((19, 19))),
    ],
)
def test_each_kind_is_found_and_only_it(spoil, kind, change):
    findings = spoil(change)
    assert set(findings) == {kind}
    finding = findings[kind]
    assert (finding.rows, finding.severity) == (("dog/bad.png",), "warning")
    assert finding.evidence.startswith("1 image ")
    assert len(finding.detail["values"]) == 1
    assert finding.detail["values"][0] < finding.detail["limit"]


@pytest.mark.parametrize(("width", "height", "tiny"), [(19, 60, True), (60, 19, True), (20, 20, False)])
def test_tiny_is_about_the_shorter_side(spoil, width, height, tiny):
    findings = spoil(lambda picture: picture.resize((width, height)))
    assert set(findings) == ({"tiny"} if tiny else set())
    if tiny:
        assert f"1 image with a side under {TINY} pixels, the smallest 19" in findings["tiny"].evidence


@pytest.mark.parametrize("turned", [False, True])
def test_a_strip_is_found_either_way_up_and_a_panorama_is_not(spoil, turned):
    def shape(ratio):
        size = (300, round(300 * ratio))
        return lambda picture: picture.resize(size[::-1] if turned else size)

    assert set(spoil(shape(STRIP - 0.02))) == {"odd_aspect"}
    assert set(spoil(shape(STRIP + 0.02))) == set()


def test_a_dark_picture_with_something_bright_in_it_is_not_dark(spoil):
    def lamp(picture):
        dark = ImageEnhance.Brightness(picture).enhance(0.08)
        dark.paste("white", (20, 20, 45, 45))
        return dark

    assert "dark" not in spoil(lamp)


def test_a_picture_of_one_colour_is_not_called_out_of_focus(spoil):
    assert "blurred" not in spoil(lambda picture: Image.new("RGB", picture.size, (128, 128, 128)))


@pytest.mark.parametrize("side", [48, 128, 256])
def test_blur_is_found_on_parts_of_any_size(tmp_path, side):
    """Of parts that were blurred by a twenty-fourth of their side nearly all are found, of the others none."""
    for label in ("bolt", "nut", "carton_box"):
        (tmp_path / label).mkdir()
        for k in range(4):
            picture = Image.fromarray(render(label, seed=1, split="train", index=k, size=side)[0])
            picture.save(tmp_path / label / f"{k}.png")
            picture.filter(ImageFilter.GaussianBlur(side / 16)).save(tmp_path / label / f"{k}-blurred.jpg")
    data = scanned(tmp_path)
    blurred = data.table["image"].str.contains("blurred").to_numpy()
    scores = quality_scores(data)["blurred_score"].to_numpy()
    assert (scores[~blurred] >= FLAG).all()
    assert (scores[blurred] < FLAG).mean() > 0.9


def test_rounding_does_not_hide_that_a_pale_picture_is_out_of_focus(scenes):
    """Whole grey levels alone look like detail when a picture has little contrast."""
    root = scenes({"cat": 6, "dog": 6})
    with Image.open(root / "cat/000.jpg") as picture:
        soft = picture.filter(ImageFilter.GaussianBlur(4))
    Image.blend(soft, Image.new("RGB", soft.size, (128, 128, 128)), 0.6).save(root / "cat/pale.png")
    (sharpness,) = scanned(root).filter(pl.col("image") == "cat/pale.png").table["sharpness"]
    assert sharpness > BLURRED
    assert found(root)["blurred"].rows == ("cat/pale.png",)


def test_a_score_is_under_one_half_exactly_for_what_is_found_and_null_for_the_unreadable(scenes):
    root = scenes({"cat": 8, "dog": 8})
    random = np.random.default_rng(0)
    for k, share in enumerate(random.uniform(0.02, 0.5, 8)):
        with Image.open(root / f"cat/00{k}.jpg") as picture:
            ImageEnhance.Brightness(picture).enhance(share).save(root / f"cat/00{k}.jpg", quality=95)
    (root / "dog/007.jpg").write_bytes(b"no picture")
    data = scanned(root)
    scores = quality_scores(data)
    names = {finding.kind: set(finding.rows) for finding in quality_findings(data)}
    assert names["dark"]
    readable = np.array(data.images) != "dog/007.jpg"
    for kind in KINDS:
        score = scores[f"{kind.name}_score"]
        assert score.is_null().to_list() == (~readable).tolist()
        assert score.drop_nulls().is_between(0, 1).all()
        flagged = {
            image for image, value in zip(data.images, score, strict=True) if value is not None and value < FLAG
        }
        assert flagged == names.get(kind.name, set())


def test_the_worst_comes_first(scenes):
    root = scenes({"cat": 20, "dog": 20})
    for k, side in enumerate((15, 6, 18)):
        Image.new("RGB", (side, side), (k * 60, 90, 20)).save(root / f"cat/small{k}.png")
    finding = found(root)["tiny"]
    assert finding.rows == ("cat/small1.png", "cat/small0.png", "cat/small2.png")
    assert finding.detail["values"] == [6, 15, 18]
    assert "3 images with a side under 20 pixels, the smallest 6" in finding.evidence


def test_what_many_images_are_describes_the_data_and_is_a_note(photos):
    root = photos({"cat": 6, "dog": 6}, side=12)
    finding = found(root)["tiny"]
    assert finding.severity == "note"
    assert "12 images, 100% of all," in finding.evidence
    data = scanned(root)
    some = replace(data, table=pl.concat([data.table[:1], data.table.with_columns(height=pl.lit(30, pl.Int32))]))
    assert 1 / len(some) < COMMON
    assert next(iter(quality_findings(some))).severity == "warning"


@pytest.mark.parametrize(("name", "share"), [("tools", 0.005), ("cifar10", 0.001)])
def test_few_real_photos_are_called_blurred_dark_bright_or_empty(real_data, name, share):
    """At most as many as were flagged when the limits were chosen by looking at the pictures."""
    data, _ = scan(open_dataset(real_data / name / ("dataset" if name == "tools" else ".")), size=32, fit="pad")
    counts = {finding.kind: len(finding.rows) for finding in quality_findings(data)}
    for kind in ("dark", "bright", "blurred", "low_information"):
        assert counts.get(kind, 0) <= share * len(data)
    assert BLURRED == 0.12
