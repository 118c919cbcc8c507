import json
import os
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from discern.data.audit.checks import audit
from discern.data.duplicates.search import copies
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.errors import DataError, UsageError


@pytest.fixture
def place(photos):
    """A folder with cat/0.jpg, cat/1.png, dog/0.jpg to name in manifests."""
    return photos({"cat": 2, "dog": 1})


def write(place, text, name="list.csv"):
    (place / name).write_text(text, encoding="utf-8")
    return place / name


def listed(dataset):
    """(image, class, split, group) of every row."""
    return [
        (image, dataset.classes[label], split, group)
        for image, label, split, group in dataset.table.select("image", "label", "split", "group").iter_rows()
    ]


ROWS = [
    {"path": "cat/0.jpg", "label": "cat", "split": "train", "group": "a"},
    {"path": "cat/1.png", "label": "cat", "split": "Validation", "group": None},
    {"path": "dog/0.jpg", "label": "dog", "split": None, "group": "7"},
]
LISTED = [
    ("cat/0.jpg", "cat", "train", "a"),
    ("cat/1.png", "cat", "val", None),
    ("dog/0.jpg", "dog", None, "7"),
]


@pytest.mark.parametrize("name", ["list.csv", "list.CSV", "list.tsv", "list.jsonl", "list.ndjson", "list.parquet"])
def test_every_kind_of_manifest_says_the_same(place, name):
    if name.endswith("parquet"):
        pl.DataFrame(ROWS).write_parquet(place / name)
    elif name.endswith(("jsonl", "ndjson")):
        write(place, "\n".join(json.dumps({k: v for k, v in row.items() if v is not None}) for row in ROWS), name)
    else:
        pl.DataFrame(ROWS).write_csv(place / name, separator="\t" if name.endswith("tsv") else ",")
    dataset = open_dataset(place / name)
    assert listed(dataset) == LISTED
    assert dataset.root == place
    assert dataset.table["bytes"].to_list() == [(place / image).stat().st_size for image in dataset.images]
    scanned, _ = scan(dataset, size=8, fit="pad")
    assert scanned.table["problem"].null_count() == 3


@pytest.mark.parametrize(
    "header",
    ["path,label", "image,class", "File,Target", "filename,category", "image_path, label ", "\ufefffilepath,label"],
)
def test_columns_by_their_usual_names_in_any_order_beside_others(place, header):
    first, second = header.split(",")
    text = f"{second},note,{first}\ncat,x,cat/0.jpg\ndog,,dog/0.jpg\n" if first[0] != "\ufeff" else None
    dataset = open_dataset(write(place, text or f"{header}\ncat/0.jpg,cat\ndog/0.jpg,dog\n"))
    assert [row[:2] for row in listed(dataset)] == [("cat/0.jpg", "cat"), ("dog/0.jpg", "dog")]


def test_numbers_as_labels_are_in_order_of_value(place):
    rows = [{"path": "cat/0.jpg", "label": 10}, {"path": "cat/1.png", "label": 9}, {"path": "dog/0.jpg", "label": 2}]
    pl.DataFrame(rows).write_csv(place / "list.csv")
    write(place, "\n".join(map(json.dumps, rows)), "list.jsonl")
    pl.DataFrame(rows).write_parquet(place / "list.parquet")
    for name in ("list.csv", "list.jsonl", "list.parquet"):
        dataset = open_dataset(place / name)
        assert dataset.classes == ("2", "9", "10")
        assert dataset.labels.tolist() == [2, 1, 0]


def test_a_parquet_manifest_may_name_its_classes(place):
    features = {"label": {"_type": "ClassLabel", "names": ["wolf", "cat"]}}
    table = pa.table({"path": ["cat/0.jpg", "dog/0.jpg"], "label": [1, 0]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, place / "list.parquet")
    dataset = open_dataset(place / "list.parquet")
    assert dataset.classes == ("wolf", "cat")
    assert dataset.labels.tolist() == [1, 0]


def test_paths_outside_the_manifest_s_folder(place, tmp_path):
    (tmp_path / "lists").mkdir()
    text = f"path,label\n../photos/cat/0.jpg,cat\n{place}/dog/0.jpg,dog\n"
    dataset = open_dataset(write(tmp_path / "lists", text))
    assert dataset.root == place
    assert dataset.images == ("cat/0.jpg", "dog/0.jpg")
    joined = open_dataset(tmp_path / "lists" / "list.csv", test=place)
    assert joined.split_counts() == {"train": 2, "test": 3}


def test_one_name_on_every_line_whatever_way_there(place):
    text = f"path,label\ncat/0.jpg,cat\n./cat/../cat/1.png,cat\n{place}/dog/0.jpg,dog\n"
    assert open_dataset(write(place, text)).images == ("cat/0.jpg", "cat/1.png", "dog/0.jpg")


def test_letters_blanks_quotes_and_blank_lines(place):
    for name in ("été 猫.jpg", "a,b.jpg", 'c"d.jpg'):
        os.link(place / "cat/0.jpg", place / name)
    text = 'path,label\r\n"a,b.jpg", cat \r\n\r\n"c""d.jpg",cat\r\nété 猫.jpg,chien été\r\n'
    assert [row[:2] for row in listed(open_dataset(write(place, text)))] == [
        ("a,b.jpg", "cat"),
        ('c"d.jpg', "cat"),
        ("été 猫.jpg", "chien été"),
    ]


def test_a_repeated_row_counts_once_and_is_said(place, caplog):
    text = "path,label\ncat/0.jpg,cat\n./cat/0.jpg,cat\ndog/0.jpg,dog\n"
    assert open_dataset(write(place, text)).images == ("cat/0.jpg", "dog/0.jpg")
    assert "1 of the 3 rows" in caplog.text
    assert "each image is taken once" in caplog.text


def test_an_image_with_two_labels_stays_for_the_audit_to_find(place):
    text = "path,label,split\ncat/0.jpg,cat,\ncat/0.jpg,dog,\ndog/0.jpg,dog,\ndog/0.jpg,dog,test\n"
    dataset = open_dataset(write(place, text))
    assert dataset.images == ("cat/0.jpg", "cat/0.jpg#2", "dog/0.jpg", "dog/0.jpg#2")
    assert dataset.table["file"].to_list() == ["cat/0.jpg", "cat/0.jpg", "dog/0.jpg", "dog/0.jpg"]
    scanned, pixels = scan(dataset, size=8, fit="pad")
    assert scanned.table["digest"].n_unique() == 2
    assert audit(scanned, *copies(scanned, pixels))


def test_a_file_that_is_not_there_is_for_the_scan_to_say(place):
    dataset = open_dataset(write(place, "path,label\ncat/0.jpg,cat\ncat/gone.jpg,cat\ndog/0.jpg,dog\n"))
    assert dataset.table["bytes"].to_list()[1] == 0
    assert len(dataset) == 3


def test_a_manifest_of_nothing_that_exists(place):
    with pytest.raises(DataError, match=r"No file that .*list\.csv names exists, the first of 2 being x\\a\.jpg;"):
        open_dataset(write(place, "path,label\nx\\a.jpg,cat\nx\\b.jpg,dog\n"))


@pytest.mark.parametrize("url", ["http://host/a.jpg", "https://host/a.jpg", "s3://bucket/a.jpg", "gs://bucket/a.jpg"])
def test_urls_are_refused_with_the_reason(place, url):
    with pytest.raises(DataError, match=rf"the line 3 names the URL '{url}'.*change with the network; download them"):
        open_dataset(write(place, f"path,label\ncat/0.jpg,cat\n{url},dog\n"))
    pl.DataFrame({"path": ["cat/0.jpg", url], "label": ["cat", "dog"]}).write_parquet(place / "list.parquet")
    with pytest.raises(DataError, match=rf"the row 1 names the URL '{url}'"):
        open_dataset(place / "list.parquet")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("photo,label\na.jpg,cat\n", r"no column 'path' \(it has photo, label\); expected `path` and `label`"),
        ("path,kind\na.jpg,cat\n", r"no column 'label' \(it has path, kind\); expected `path` and `label`"),
        ("cat/0.jpg,cat\ndog/0.jpg,dog\n", r"no column 'path' \(it has cat/0\.jpg, cat\)"),
        ("path,label\ncat/0.jpg,cat\ndog/0.jpg,\n", r"the line 3 has no label; give it one or remove it"),
        ("path,label\n,cat\n", r"the line 2 names no file"),
        ("path,label,split\ncat/0.jpg,cat,dev\n", r"the line 2 is for the split 'dev'; expected train, val, test"),
        (
            "path;label\ncat/0.jpg;cat\n",
            r"columns of .*list\.csv are separated by semicolons; separate them by commas",
        ),
        ("path\tlabel\ncat/0.jpg\tcat\n", r"separated by tabs; separate them by commas"),
        ("path,label\ncat/0.jpg,cat,dog\n", r"the line 2 has 3 fields where the first has 2; put quotation marks"),
        ('path,label\n"cat/0.jpg,cat\ndog/0.jpg,dog\n', r"cannot be read from line 3 on .*check its quotation marks"),
        ("path,label\ncat/{0}.jpg,\n", r"the line 2 has no label"),
        ("path,label\n", r"No images in .*list\.csv: it has no rows"),
        ("", r"list\.csv is empty; expected one line per image"),
        (" \n\n", r"list\.csv is empty"),
        (",,\n,,\n", r"list\.csv is empty"),
        ('""\n', r"no column 'path'"),
        ("path,label\na\0b.jpg,cat\n", r"is not UTF-8 text \(it has zero bytes\)"),
    ],
)
def test_what_cannot_be_meant(place, text, sentence):
    with pytest.raises(DataError, match=sentence):
        open_dataset(write(place, text))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"path": "cat/0.jpg", "label": "cat"}\n{"path": ', r"the line 2 is not JSON \(.*\); expected an object per"),
        ('["cat/0.jpg", "cat"]', r"the line 1 is no object such as"),
        ('{"path": "cat/0.jpg", "label": ["cat", "dog"]}', r'the line 1 has \["cat", "dog"\] for one word'),
        ('{"path": "cat/0.jpg"}', r"no column 'label' \(it has path\)"),
        ('{"path": "cat/0.jpg", "label": "cat"}\n{"path": "dog/0.jpg"}', r"the line 2 has no label"),
        ('{"path": "\\ud800.jpg", "label": "cat"}', r"the line 1 has half a letter"),
    ],
)
def test_json_lines_that_cannot_be_meant(place, text, sentence):
    with pytest.raises(DataError, match=sentence):
        open_dataset(write(place, text, "list.jsonl"))


def test_a_key_that_the_first_line_lacks_counts(place):
    text = '{"path": "cat/0.jpg", "label": "cat"}\n{"path": "dog/0.jpg", "label": "dog", "split": "test"}'
    assert open_dataset(write(place, text, "list.jsonl")).split_counts() == {"test": 1}


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_other_encodings(place, encoding):
    (place / "list.csv").write_bytes("path,label\ncat/0.jpg,été\n".encode(encoding))
    with pytest.raises(DataError, match=r"list\.csv is not UTF-8 text \(line [12]\); save it in that encoding"):
        open_dataset(place / "list.csv")


def test_a_parquet_manifest_with_a_row_without_label(place):
    pl.DataFrame({"path": ["cat/0.jpg", "dog/0.jpg"], "label": ["cat", None]}).write_parquet(place / "list.parquet")
    with pytest.raises(DataError, match=r"the row 1 has no label"):
        open_dataset(place / "list.parquet")
    pl.DataFrame({"path": ["cat/0.jpg", "dog/0.jpg"], "label": ["cat", " "]}).write_parquet(place / "list.parquet")
    with pytest.raises(DataError, match=r"the row 1 has no label"):
        open_dataset(place / "list.parquet")
    pl.DataFrame({"path": ["cat/0.jpg"], "label": [["cat", "dog"]]}).write_parquet(place / "list.parquet")
    with pytest.raises(DataError, match=r"The column 'label' of .* is of type .*exactly one label"):
        open_dataset(place / "list.parquet")


def test_a_manifest_that_may_not_be_read(shared_tmp, unprivileged):
    file = write(shared_tmp, "path,label\na.jpg,cat\n")
    file.chmod(0o000)
    with unprivileged(), pytest.raises(UsageError, match=r"No permission to read .*list\.csv; change its permissions"):
        open_dataset(file)


def test_other_single_files_are_answered_with_what_can_be_read(place):
    with pytest.raises(UsageError, match=r"list\.txt is a single file: name a folder .*\.csv, \.tsv, \.jsonl.*\.tar"):
        open_dataset(write(place, "path,label\n", "list.txt"))
    with pytest.raises(UsageError, match=r"photos\.zip is packed: unpack it"):
        open_dataset(write(place, "", "photos.zip"))


def test_the_whole_job_from_a_manifest(discern, colours, tmp_path, tiny):
    root = colours({"red": 8, "green": 8})
    files = [file.relative_to(tmp_path) for file in sorted(root.rglob("*.*g"))]
    text = "path,label\n" + "".join(f"{file},{Path(file).parent.name}\n" for file in files)
    answer = discern("train", write(tmp_path, text), *tiny, "--runs", tmp_path / "runs", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["splits"]["test"]["n"] == 2
