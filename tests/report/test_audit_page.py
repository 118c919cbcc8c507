import base64
import dataclasses
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from test_html import Elements

from discern.data.audit.findings import Finding
from discern.data.dataset import SCHEMA
from discern.data.pixels import Pixels
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.errors import StorageError
from discern.report import audit_charts, audit_page, audit_pictures, audit_sections
from discern.report.audit_page import write_audit_page

EVIL = "<script>alert('x')</script>"

CLUSTERED = ("leakage", "label_conflict", "near_duplicate", "exact_duplicate")
SINGLE = ("label_suspect", "outlier", "tiny", "odd_aspect", "blurred", "dark", "bright", "low_information")


def finding(kind, rows=(), *, severity="warning", evidence="How it is known.", remedy="Do this.", **detail):
    return Finding(
        kind=kind, severity=severity, rows=tuple(rows), evidence=evidence, remedy=remedy, detail=detail or None
    )


@pytest.fixture
def scanned(photos):
    """`scanned({"train/cat": 3})`: the Dataset and its Pixels."""

    def make(counts, **options):
        return scan(open_dataset(photos(counts, **options)), size=112, fit="pad")

    return make


@pytest.fixture
def cats(scanned):
    """Two classes in two splits."""
    return scanned({"train/cat": 6, "train/dog": 4, "test/cat": 3, "test/dog": 3})


@pytest.fixture
def written(tmp_path):
    """`written(data, findings)`: the page's source and its elements."""

    def make(data, findings, **options):
        dataset, pixels = data
        write_audit_page(tmp_path / "audit.html", dataset=dataset, pixels=pixels, findings=findings, **options)
        source = (tmp_path / "audit.html").read_text(encoding="utf-8")
        elements = Elements(source)
        assert not elements.open
        return source, elements

    return make


def section(source, anchor):
    """One kind's section alone."""
    start = source.index(f'<section id="{anchor}"')
    return Elements(source[start : source.index("</section>", start) + len("</section>")])


def titles(elements):
    """File names under pictures, in order."""
    return [a["title"] for a in elements.all("span", **{"class": "file"})]


def scored(dataset, kind, values):
    """Scores of one kind: 1 but for the images in `values`."""
    column = [values.get(name, 1.0) for name in dataset.images]
    flags = [name in values for name in dataset.images]
    return pl.DataFrame({"image": dataset.images, f"{kind}_score": column, f"is_{kind}": flags})


def of_every_kind(dataset):
    """A finding of every kind, and of one that the page has never heard of."""
    images = dataset.images
    found = [finding(kind, images[:2], severity="error" if kind == "leakage" else "note") for kind in CLUSTERED]
    found += [finding(kind, images[2:5]) for kind in SINGLE]
    found += [
        finding("unreadable", images[5:6]),
        finding("imbalance"),
        finding("giveaway", property="brightness", auc=0.9),
        finding("shift", property="sharpness", auc=0.7),
        finding("novelty", images[6:8]),
        finding("mystery"),
    ]
    return found


def test_the_page_loads_nothing_and_runs_nothing(cats, written):
    source, elements = written(cats, of_every_kind(cats[0]))
    for tag, attributes in elements.found:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "srcset", "data", "poster", "action"):
            if name in attributes:
                assert attributes[name].startswith(("data:image/", "#"))
    assert not re.search(r"@import|url\((?!#)", source)
    (policy,) = elements.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'" in policy["content"]


def test_every_link_leads_somewhere_and_no_id_is_given_twice(cats, written):
    _, elements = written(cats, of_every_kind(cats[0]))
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {a[key][1:] for _, a in elements.found for key in ("href", "xlink:href") if a.get(key, "").startswith("#")}
    assert len(links) > 18
    assert links <= set(ids)


def test_every_kind_has_its_section_the_gravest_first(cats, written):
    findings = of_every_kind(cats[0])
    source, elements = written(cats, findings)
    anchors = [a["id"] for a in elements.all("section", **{"class": "kind"})]
    assert {anchor.split("-")[1] for anchor in anchors} == {each.kind for each in findings}
    assert [anchor.split("-")[0] for anchor in anchors] == sorted(
        (anchor.split("-")[0] for anchor in anchors), key=("error", "warning", "note").index
    )
    assert [a["href"][1:] for a in elements.all("a")[: len(anchors)]] == anchors  # the table of kinds, the same order
    for each in findings:
        part = section(source, f"{each.severity}-{each.kind}")
        assert "What to do Do this." in part.text
        assert titles(part) == (list(each.rows) if each.kind != "unreadable" else [])
        assert len(part.all("img")) == len(titles(part))
        assert all(a["alt"] for a in part.all("img"))
    for anchor in ("warning-imbalance", "warning-giveaway", "warning-shift"):
        assert section(source, anchor).all("svg", role="img")
    assert "How it is known." in section(source, "warning-mystery").text


def test_names_from_the_data_are_never_markup(scanned, written):
    dataset, pixels = scanned({"train/cat": 3, "train/dog": 2})
    names = pl.Series("image", ["<b>ü\"' & 猫.jpg", *dataset.images[1:]])
    dataset = replace(dataset.with_columns(names), classes=(EVIL, '"><img src=x onerror=alert(1)>'))
    found = [
        finding("leakage", dataset.images[:2], severity="error", evidence=EVIL, remedy=EVIL),
        finding("label_suspect", dataset.images[:1], suggested=EVIL, probability=0.9),
        finding("giveaway", evidence=EVIL, property=EVIL, auc=0.9),
        finding("giveaway", evidence=EVIL, property="mode"),
        finding("imbalance", evidence=EVIL),
        finding("odd <i>kind", evidence=EVIL),
    ]
    source, elements = written((dataset, pixels), found)
    assert "<script" not in source
    assert "<b>ü" not in source
    assert "<i>kind" not in source
    assert not [a for _, a in elements.found if "onerror" in a]
    assert f"looks like {EVIL}, 90.0%" in elements.text
    assert dataset.images[0] in titles(elements)


@pytest.mark.parametrize(
    ("kinds", "verdict", "mood"),
    [
        (("leakage", "label_conflict"), "2 errors : 1 photo is in both training and test and 1 photo has more", "bad"),
        (("label_conflict",), "1 error : 1 photo has more than one label Scores on this data would mislead", "bad"),
        (("dark", "dark"), "No errors in 8 images, but 2 warnings It can be trained on; look at", "doubtful"),
        ((), "Nothing wrong was found in 8 images It can be trained on", "good"),
    ],
)
def test_the_first_sentence_says_what_it_comes_to(scanned, written, kinds, verdict, mood):
    data = scanned({"train/cat": 2, "train/dog": 2, "test/cat": 2, "test/dog": 2})
    images = [data[0].split(split).images[0] for split in ("test", "train")]
    found = [finding(each, images, severity="warning" if each == "dark" else "error") for each in kinds]
    _, elements = written(data, found)
    assert verdict in elements.text
    assert elements.all("div", **{"class": f"mood {mood}"})
    assert ("Training would be refused" in elements.text) == ("leakage" in kinds)
    assert "training 4, test 4" in elements.text


def test_copies_stand_side_by_side_with_what_tells_them_apart(photos, written):
    root = photos({"train/cat": 3, "train/dog": 2, "test/cat": 1, "test/dog": 1}, side=60)
    shutil.copy(root / "train/cat/0.jpg", root / "test/dog/copy of it.jpg")
    dataset, pixels = scan(open_dataset(root), size=112, fit="pad")
    rows = ("test/dog/copy of it.jpg", "train/cat/0.jpg")
    evidence = f"The same file is in test and train: {', '.join(rows)}."
    source, _ = written((dataset, pixels), [finding("leakage", rows, severity="error", evidence=evidence)])
    part = section(source, "error-leakage")
    assert titles(part) == ["train/cat/0.jpg", "test/dog/copy of it.jpg"]  # training first
    weight = f"{(root / rows[1]).stat().st_size / 1e3:.1f}\u00a0KB".replace("\u00a0", " ")
    assert f"cat training 68 × 60, {weight} train/ cat/ 0.jpg dog test 68 × 60, {weight} test/ dog/" in part.text
    assert len(part.all("b", **{"class": "disagree"})) == 2
    assert "The same file is in test and train." in part.text


def test_thumbnails_have_no_black_borders(scanned, written):
    data = scanned({"cat": 2, "dog": 1}, side=20)  # 28 x 20 pixels
    _, elements = written(data, [finding("dark", data[0].images)])
    for image in elements.all("img"):
        with Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))) as picture:
            assert picture.size == (112, 80)


def test_of_many_copies_every_split_and_label_is_shown(scanned, written):
    data = scanned({"train/cat": 30, "train/dog": 2, "test/cat": 2, "test/dog": 1})
    source, _ = written(data, [finding("near_duplicate", sorted(data[0].images, key=lambda name: "test" in name))])
    shown = titles(section(source, "warning-near_duplicate"))
    assert len(shown) == audit_sections.COPIES
    assert {name.rsplit("/", 1)[0] for name in shown} == {"train/cat", "train/dog", "test/cat", "test/dog"}
    assert "and 31 more copies" in section(source, "warning-near_duplicate").text


def test_suspects_are_ranked_and_name_both_labels(cats, written):
    images = cats[0].images[:3]
    found = [
        finding("label_suspect", [name], given="cat", suggested="dog", probability=p)
        for name, p in zip(images, (0.71, 0.98, 0.85), strict=True)
    ]
    source, _ = written(cats, found)
    part = section(source, "warning-label_suspect")
    assert titles(part) == [images[1], images[2], images[0]]
    assert "cat test looks like dog, 98.0%" in part.text


def test_single_images_stand_worst_first_with_what_was_measured(cats, written):
    dataset = cats[0]
    names = dataset.images[:3]
    high = dict(zip(names, (0.31, 0.12, 0.2), strict=True))
    dataset = dataset.with_columns(pl.Series("high", [high.get(name, 0.9) for name in dataset.images]))
    found = [finding("dark", names, evidence="3 images are dark."), finding("tiny", names[:1])]
    source, _ = written((dataset, cats[1]), found, scores=scored(dataset, "dark", high))
    part = section(source, "warning-dark")
    assert titles(part) == [names[1], names[2], names[0]]
    assert part.text.index("95% of pixels below 0.12") < part.text.index("95% of pixels below 0.31")
    assert "3 images are dark." in part.text
    assert "shorter side 24 pixels" in section(source, "warning-tiny").text


def test_unreadable_files_are_listed_with_the_reason(photos, written):
    root = photos({"cat": 3, "dog": 2})
    (root / "cat" / "broken.jpg").write_bytes(b"no image")
    data = scan(open_dataset(root), size=16, fit="pad")
    source, elements = written(data, [finding("unreadable", ["cat/broken.jpg"])])
    part = section(source, "warning-unreadable")
    assert "cat/broken.jpg cat 8 bytes its content is not an image of a known format" in part.text
    assert not part.all("img")
    assert "Unreadable 1" in elements.text


def test_an_unreadable_file_among_copies_has_a_place_but_no_picture(photos, written):
    root = photos({"cat": 2, "dog": 2})
    (root / "cat" / "broken.jpg").write_bytes(b"no image")
    data = scan(open_dataset(root), size=16, fit="pad")
    source, _ = written(data, [finding("exact_duplicate", ["cat/broken.jpg", "cat/0.jpg"])])
    part = section(source, "warning-exact_duplicate")
    assert len(part.all("img")) == 1
    assert part.all("span", **{"class": "blank"})


@pytest.mark.parametrize(
    ("kind", "property_", "shown"),
    [
        ("giveaway", "brightness", "Brightness per class, AUC 0.83"),
        ("giveaway", "shorter side", "Shorter side per class, AUC 0.83"),
        ("giveaway", "bytes", "Bytes per class, AUC 0.83"),
        ("shift", "brightness", "Brightness per split, AUC 0.83"),
    ],
)
def test_a_giveaway_or_shift_shows_the_property_in_every_group(cats, written, kind, property_, shown):
    dataset = cats[0].with_columns(pl.Series("brightness", np.linspace(0, 1, len(cats[0]))))
    source, _ = written((dataset, cats[1]), [finding(kind, property=property_, auc=0.83)])
    part = section(source, f"warning-{kind}")
    assert shown in part.text
    assert len(part.all("svg", **{"class": "plot"})) == 1
    for group in ("training", "test") if kind == "shift" else ("cat", "dog"):
        assert f" {group} " in part.text


def test_a_giveaway_that_is_a_word_is_a_table_of_shares(cats, written):
    source, _ = written(cats, [finding("giveaway", property="format", auc=0.6)])
    part = section(source, "warning-giveaway")
    assert "Images JPEG PNG cat 9 55.6% 44.4% dog 7 57.1% 42.9%" in part.text
    assert not part.all("svg")


@pytest.mark.parametrize("property_", ["moon phase", "signature", ""])
def test_a_property_the_scan_does_not_know_leaves_the_sentence(cats, written, property_):
    source, _ = written(cats, [finding("giveaway", evidence="It shows.", property=property_)])
    part = section(source, "warning-giveaway")
    assert "It shows." in part.text
    assert not part.all("svg")


def test_data_without_splits_or_measured_facts_has_a_page_too(scanned, written):
    dataset, pixels = scanned({"cat": 3, "dog": 2})
    basic = [*SCHEMA, "digest", "width", "height", "format", "mode", "problem"]
    dataset = replace(dataset, table=dataset.table.select(basic))
    source, elements = written(
        (dataset, pixels), [finding("shift", property="brightness"), finding("dark", ["cat/0.jpg"])]
    )
    assert "Splits not made yet" in elements.text
    assert titles(section(source, "warning-dark")) == ["cat/0.jpg"]
    assert "cat 3 24 JPEG RGB 2 and PNG RGB 1" in section(source, "nature").text


def test_the_images_are_described_per_class(cats, written):
    source, _ = written(cats, [])
    part = section(source, "nature")
    assert "cat 9 6 3 24 JPEG RGB 5 and PNG RGB 4 dog 7 4 3" in part.text
    assert all(title in part.text for title in ("Brightness", "Sharpness", "File size"))


def test_of_very_many_classes_the_largest_and_the_smallest_are_shown(scanned, written):
    dataset, pixels = scanned({"cat": 5, "dog": 3})
    names = tuple(f"class {k:03d}" for k in range(200))
    labels = pl.Series("label", [0, 1, 2, 0, 1, 0, 7, 199], dtype=pl.Int32)
    dataset = replace(dataset.with_columns(labels), classes=names)
    source, elements = written((dataset, pixels), [finding("imbalance"), finding("giveaway", property="brightness")])
    assert "140 classes between the largest and the smallest are not drawn" in elements.text
    assert "140 classes between the largest and the smallest are not shown" in elements.text
    assert "188 more classes are not drawn" in elements.text
    assert "class 000" in section(source, "warning-imbalance").text


def test_the_page_of_many_images_and_findings_is_bounded(tmp_path, scanned, written):
    dataset, _ = scanned({"cat": 4, "dog": 4}, side=100)
    n = 60_000
    rows = dataset.table[np.arange(n) % 8].with_columns(
        pl.Series("image", [f"{'folder/' * 20}{k}.jpg" for k in range(n)]), split=pl.lit("train")
    )
    dataset = replace(dataset, table=rows)
    coarse = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)  # as rich as a photo, unlike white noise
    photo = np.asarray(Image.fromarray(coarse).resize((112, 112)))
    pixels = Pixels(array=np.broadcast_to(photo, (n + 8, 112, 112, 3)))
    names = dataset.images
    found = [finding(kind, names[k : k + 50]) for kind in CLUSTERED for k in range(0, 30_000, 50)]
    found += [finding(kind, names) for kind in SINGLE]
    found += [finding("giveaway", property="brightness")] * 99
    found += [finding("unreadable", [name]) for name in names[:5000]]
    scores = pl.DataFrame({"image": names} | {f"is_{kind}": [True] * n for kind in (*CLUSTERED, *SINGLE)})
    table = tmp_path / "audit.parquet"
    source, elements = written((dataset, pixels), found, scores=scores, table=table)
    most = len(CLUSTERED) * audit_sections.CLUSTERS * audit_sections.COPIES + len(SINGLE) * audit_sections.GRID
    assert len(elements.all("img")) == most
    assert len(source) < 8e6
    assert (
        f"560 more clusters are not shown here. The column is_leakage of {table} marks every image." in elements.text
    )
    assert f"59,964 more images are not shown here. The column is_dark of {table} marks every image." in elements.text
    assert "87 more findings are not shown here. discern audit" in elements.text
    assert "4,900 more files are not shown here." in elements.text


def test_what_is_left_out_is_said_to_be_elsewhere_without_a_table_too(scanned, written):
    data = scanned({"cat": audit_sections.GRID, "dog": 1})
    _, elements = written(data, [finding("dark", data[0].images)])
    assert f"1 more image is not shown here. discern audit {data[0].root} --json lists every" in elements.text


def test_kinds_that_were_looked_for_and_not_found_are_named(cats, written):
    scores = scored(cats[0], "dark", {}).hstack([pl.Series("is_bright", [False] * len(cats[0]))])
    _, elements = written(cats, [finding("dark", cats[0].images[:1])], scores=scores, table=Path("audit.parquet"))
    assert "Looked for and not found: bright." in elements.text
    assert "Every image with its scores: audit.parquet" in elements.text


def test_the_same_findings_give_the_same_bytes(cats, written):
    findings = of_every_kind(cats[0])
    assert written(cats, findings)[0] == written(cats, findings)[0]


def test_a_place_that_cannot_be_written_is_named(cats, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        write_audit_page(tmp_path / "file" / "audit.html", dataset=cats[0], pixels=cats[1], findings=[])


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 bytes"), (999, "999 bytes"), (8400, "8.4 KB"), (312_400, "312 KB"), (3_100_000, "3.1 MB")],
)
def test_sizes_of_files_are_said_in_round_numbers(size, said):
    assert audit_pictures.weight(size).replace("\u00a0", " ") == said


SECTIONS = {
    audit_page.AuditPage: "head sections clean nature table version",
    audit_page.Head: "title root verdict mood judgement facts",
    audit_sections.Section: (
        "anchor kind title severity findings images tally meaning remedy sentences clusters exhibits files charts "
        "left_out"
    ),
    audit_sections.Cluster: "evidence copies disagree left_out",
    audit_sections.Exhibit: "picture said suggested probability",
    audit_pictures.Picture: "source image folder file label split split_name size weight problem",
    audit_charts.Chart: "title sentence plot shares key note",
    audit_charts.Shares: "values rows",
    audit_charts.Nature: "splits classes left_out charts note",
    audit_charts.ClassLine: "name images share splits formats side",
}


@pytest.mark.parametrize("part", SECTIONS, ids=lambda part: part.__name__)
def test_what_the_template_may_print_is_fixed(part):
    assert " ".join(field.name for field in dataclasses.fields(part)) == SECTIONS[part]
    assert part.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(part))
