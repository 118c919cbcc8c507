"""Manifests: one CSV, TSV, JSON-lines or Parquet file that says where each image is and what it shows."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from discern.data.reading import features_of, image_column, status
from discern.data.sources.columns import class_names
from discern.data.sources.listing import LABEL_COLUMNS, NAMED_ROWS, SPLIT_WORDS, Listing, listing_of
from discern.errors import DataError

PATH_COLUMNS = ("path", "image", "file", "filename", "file_name", "image_path", "filepath")
"""What people call the column with the image files; the first of them that is there is taken."""

SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*SEPARATORS, ".jsonl", ".ndjson")

_ROLES = ("path", "label", "split", "group")
_ROWS = {"line": pl.Int64} | dict.fromkeys(_ROLES, pl.String)
_URL = r"^[A-Za-z][A-Za-z0-9+.-]+://"


def accepts(path: Path) -> bool:
    """A .csv, .tsv, .jsonl or .ndjson file, or a .parquet file that names image files and holds none."""
    if not path.is_file():
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.suffix != ".parquet":
        return False
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return False  # the source for Parquet says what is wrong with it
    found = _find(schema.names, PATH_COLUMNS)
    return image_column(schema) is None and found is not None and _is_text(schema.field(found).type)


def column_names(path: Path) -> list[str]:
    """The columns of this manifest; none where its first line is damaged, which `listing` refuses."""
    if path.suffix == ".parquet":
        return list(pq.read_schema(path).names)
    first = next((line for line in _text(path).splitlines() if line.strip()), "")
    if path.suffix.lower() in SEPARATORS:
        return next(csv.reader([first], delimiter=SEPARATORS[path.suffix.lower()]))
    try:
        return list(json.loads(first))
    except (ValueError, TypeError):
        return []


def listing(path: Path, *, group: str = "group") -> Listing:
    """The images that the file names, each one once for every label, split and group it is given.

    `group` is the column that says which images belong together. Paths are relative to the file's folder, or absolute.
    Images that do not exist are listed: the scan says what is wrong with them. Raises DataError, with the line, for
    whatever cannot be meant: no label, an unknown split, a URL.
    """
    rows, classes = _read(path, group)
    if rows.is_empty():
        raise DataError(f"No images in {path}: it has no rows.")
    _refuse_what_cannot_be_meant(rows, path)
    root, files = _below_one_root(path.parent, rows["path"].to_list())
    known = [status(root / file) for file in files]
    if not any(size or modified for size, modified in known):
        raise DataError(
            f"No file that {path} names exists, the first of {len(files)} being {rows['path'][0]}; paths must be "
            f"absolute or relative to {path.parent}."
        )
    named = rows.select(
        pl.Series("image", files, dtype=pl.String),
        pl.Series("file", files, dtype=pl.String),
        pl.lit(None).alias("row"),
        "label",
        pl.col("split").str.to_lowercase().replace_strict(SPLIT_WORDS, return_dtype=pl.String),
        pl.Series("bytes", [size for size, _ in known]),
        pl.Series("modified", [modified for _, modified in known]),
        "group",
    )
    once = named.unique(maintain_order=True)
    repeated = len(named) - len(once)
    warning = f"warning: {repeated} of the {len(named)} rows of {path} repeat another one; each image is taken once."
    table = _with_unique_names(once).cast(pl.Schema(NAMED_ROWS | {"group": pl.String}))
    return listing_of(root, table, classes=classes, warnings=[warning] if repeated else [])


def _refuse_what_cannot_be_meant(rows: pl.DataFrame, path: Path) -> None:
    unit = "row" if path.suffix == ".parquet" else "line"
    unknown_split = ~pl.col("split").str.to_lowercase().is_in(list(SPLIT_WORDS))
    for wrong, sentence in (
        (pl.col("path").is_null(), "names no file; add it or remove it."),
        (
            pl.col("path").str.contains(_URL),
            "names the URL '{path}': images behind URLs are not read, as results would change with the network; "
            "download them and name the files.",
        ),
        (pl.col("label").is_null(), "has no label; give it one or remove it."),
        (unknown_split, "is for the split '{split}'; expected train, val, test, or nothing."),
    ):
        found = rows.filter(wrong)
        if not found.is_empty():
            row = found.row(0, named=True)
            raise DataError(f"{path}: the {unit} {row['line']} {sentence.format(**row)}")


def _below_one_root(folder: Path, paths: Sequence[str]) -> tuple[Path, list[str]]:
    """The manifest's folder where all files lie below it, else the lowest they share; the files relative to it."""
    absolute = [os.path.normpath(os.path.join(folder, path)) for path in paths]
    prefix = os.path.join(folder, "")
    if not all(path.startswith(prefix) for path in absolute):
        prefix = os.path.join(os.path.commonpath([os.path.dirname(path) for path in absolute]), "")
    return Path(prefix), [path.removeprefix(prefix) for path in absolute]


def _with_unique_names(named: pl.DataFrame) -> pl.DataFrame:
    """An image that is listed twice, with two labels or in two splits, is `a.jpg` and `a.jpg#2`: the audit says so."""
    mention = pl.int_range(1, pl.len() + 1).over("file")
    numbered = pl.format("{}#{}", "file", mention)
    return named.with_columns(pl.when(mention > 1).then(numbered).otherwise("file").alias("image"))


def _find(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The first of the wanted columns that is there, however it is capitalised."""
    present = {name.strip().lower(): name for name in reversed(names)}
    return next((present[name] for name in wanted if name in present), None)


def _columns(names: Sequence[str], path: Path, group: str) -> dict[str, str]:
    """What each column that matters is called in this file."""
    wanted = {"path": PATH_COLUMNS, "label": LABEL_COLUMNS, "split": ("split",), "group": (group.strip().lower(),)}
    found = {role: name for role, words in wanted.items() if (name := _find(names, words)) is not None}
    missing = [role for role in ("path", "label") if role not in found]
    if missing:
        raise DataError(
            f"{path} has no column '{missing[0]}' (it has {', '.join(names)}); expected `path` and `label`, and "
            "`split` and `group` where they are known."
        )
    return found


def _read(path: Path, group: str) -> tuple[pl.DataFrame, tuple[str, ...] | None]:
    """Line, path, label, split and group of every row, null where there is nothing; class names if in the schema."""
    if path.suffix == ".parquet":
        return _read_parquet(path, group)
    text, suffix = _text(path), path.suffix.lower()
    found = (
        _separated(text, path, SEPARATORS[suffix], group) if suffix in SEPARATORS else _json_lines(text, path, group)
    )
    rows = [(line, *(_word(values.get(role), line, path) for role in _ROLES)) for line, values in found]
    return pl.DataFrame(rows, _ROWS, orient="row"), None


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path} is not UTF-8 text (line {line}); save it in that encoding.") from error
    if "\0" in text:
        raise DataError(f"{path} is not UTF-8 text (it has zero bytes); save it in that encoding.")
    if not text.strip(",;\t\r\n "):
        raise DataError(f"{path} is empty; expected one line per image with its path and its label.")
    return text


def _separated(text: str, path: Path, separator: str, group: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and the values that matter of every row behind the first."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = next((fields for fields in reader if any(fields)), [])
        _refuse_other_separator(header, path, separator)
        positions = {role: header.index(name) for role, name in _columns(header, path, group).items()}
        for fields in reader:
            if len(fields) == len(header):
                yield reader.line_num, {role: fields[position] for role, position in positions.items()}
            elif any(fields):
                raise DataError(
                    f"{path}: the line {reader.line_num} has {len(fields)} fields where the first has {len(header)}; "
                    "put quotation marks around a field with the separator in it."
                )
    except csv.Error as error:
        raise DataError(
            f"{path} cannot be read from line {reader.line_num} on ({error}); check its quotation marks."
        ) from error


def _refuse_other_separator(header: Sequence[str], path: Path, separator: str) -> None:
    for other, name in {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}.items():
        names = separator.join(header).split(other)
        if other != separator and _find(header, PATH_COLUMNS) is None and _find(names, PATH_COLUMNS) is not None:
            wanted = "tabs" if separator == "\t" else "commas"
            raise DataError(f"The columns of {path} are separated by {name}; separate them by {wanted}.")


def _json_lines(text: str, path: Path, group: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and the values that matter of every line."""
    records: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(
                f"{path}: the line {number} is not JSON ({error}); expected an object per line."
            ) from error
        if not isinstance(record, dict):
            raise DataError(f'{path}: the line {number} is no object such as {{"path": "a.jpg", "label": "cat"}}.')
        records.append((number, record))
    columns = _columns(list({name: None for _, record in records for name in record}), path, group)
    for number, record in records:
        yield number, {role: record.get(name) for role, name in columns.items()}


def _word(value: Any, line: int, path: Path) -> str | None:
    """The value as text without blanks around it; None for nothing."""
    if isinstance(value, dict | list):
        raise DataError(f"{path}: the line {line} has {json.dumps(value)} for one word; give one value.")
    word = "" if value is None else str(value).strip()
    if any("\ud800" <= letter <= "\udfff" for letter in word):
        raise DataError(f"{path}: the line {line} has half a letter, {word!a}; write it again as UTF-8.")
    return word or None


def _read_parquet(path: Path, group: str) -> tuple[pl.DataFrame, tuple[str, ...] | None]:
    schema = pq.read_schema(path)
    columns = _columns(schema.names, path, group)
    try:
        table = pq.read_table(path, columns=list(columns.values()))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet ({error}); download or write it again.") from error
    name = columns.pop("label")
    labels, classes = class_names(table[name], features_of(schema), name=name, place=str(path))
    values: dict[str, list[Any]] = {role: table[name].to_pylist() for role, name in columns.items()}
    rows = {
        role: [_word(value, row, path) for row, value in enumerate(values.get(role, [None] * len(labels)))]
        for role in _ROLES
    }
    words = labels if classes else [_word(label, row, path) for row, label in enumerate(labels)]
    return pl.DataFrame({"line": range(len(labels)), **rows, "label": words}, _ROWS), classes


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
