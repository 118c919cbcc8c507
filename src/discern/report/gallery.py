"""Gallery: photos in the page - heat maps, the most confident mistakes, and what lies behind a confusion cell."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import polars as pl
from PIL import Image

from discern.data.dataset import Dataset
from discern.data.decode import Fit
from discern.data.scan import load_images
from discern.files import read_json
from discern.report import wording
from discern.report.scores import cell_id
from discern.report.subject import Subject

MISTAKES = 24
"""Most confident mistakes shown per run: two screens."""

_BEHIND = 240
"""Photos behind confusion cells in the whole page: about a megabyte."""

_PER_CELL = 8
"""Photos of one cell at most: a row on a laptop."""

_SIDE = 112
"""Pixels of a thumbnail: an object can be named, and 24 of them weigh 100 kB."""

_QUALITY = 80
"""JPEG quality of thumbnails and panels; higher doubles the page and shows no more."""


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One photo with what the model said of it."""

    source: str
    """The picture as a data URI."""
    image: str
    """Its name in the data."""
    truth: str
    """What it is; empty when unknown."""
    prediction: str
    """What the model called it."""
    confidence: str
    """The probability it gave that class."""
    right: bool
    """Whether the two are the same."""


@dataclass(frozen=True, kw_only=True)
class CellPhotos:
    """The photos behind one cell of the confusion matrix."""

    target: str
    """Id that the cell points to."""
    title: str
    """What they have in common."""
    photos: tuple[Photo, ...]
    """The most confident first."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The photos of one run."""

    first_batch: str
    """The first training batch as the model sees it; empty for a run without that picture."""
    right: tuple[Photo, ...]
    """Heat maps of right answers."""
    wrong: tuple[Photo, ...]
    """Heat maps of wrong answers."""
    no_heat_maps: str
    """Why there are none; empty when there are."""
    mistakes: tuple[Photo, ...]
    """Thumbnails of the most confident mistakes."""
    mistakes_note: str
    """How many mistakes there are, and why photos are missing if they are."""
    cells: tuple[CellPhotos, ...]
    """Photos behind confusion cells."""


def gallery(subject: Subject, *, sharers: int) -> Gallery:
    """The photos of one of `sharers` runs in the page, which share the room for photos behind cells."""
    said = subject.predictions.split(subject.split)
    wrong = np.flatnonzero((said.predicted != said.labels) & (said.labels >= 0))
    wrong = wrong[np.argsort(-said.confidence[wrong], kind="stable")]
    top = [int(row) for row in wrong[:MISTAKES]]
    cells = _cells(subject, wrong, _BEHIND // sharers)
    wanted = {said.images[row] for rows in (top, *cells.values()) for row in rows}
    sources = thumbnails(subject.dataset, sorted(wanted), fit=cast(Fit, subject.info["preprocessing"]["fit"]))

    def photo(row: int) -> Photo:
        return Photo(
            source=sources[said.images[row]],
            image=said.images[row],
            truth=said.classes[said.labels[row]],
            prediction=said.classes[said.predicted[row]],
            confidence=wording.percent(float(said.confidence[row])),
            right=False,
        )

    shown = tuple(photo(row) for row in top if said.images[row] in sources)
    behind = []
    for (true, guess), rows in cells.items():
        photos = tuple(photo(row) for row in rows if said.images[row] in sources)
        number = int(((said.labels == true) & (said.predicted == guess)).sum())
        some = f", the {len(photos)} most confident of {number}" if len(photos) < number else ""
        if photos:
            behind.append(
                CellPhotos(
                    target=cell_id(subject.anchor, true, guess),
                    title=f"{said.classes[true]} called {said.classes[guess]}{some}",
                    photos=photos,
                )
            )
    right, wrong_maps, missing = _heat_maps(subject)
    first = subject.run.path / "first_batch.png"
    return Gallery(
        first_batch=_panel(first) if first.exists() else "",
        right=right,
        wrong=wrong_maps,
        no_heat_maps=missing,
        mistakes=shown,
        mistakes_note=_note(len(wrong), len(top), len(shown), len(said), subject),
        cells=tuple(behind),
    )


def photographed(gallery: Gallery, anchor: str, classes: int) -> frozenset[tuple[int, int]]:
    """The confusion cells that have photos."""
    targets = {cell.target for cell in gallery.cells}
    return frozenset((i, j) for i in range(classes) for j in range(classes) if cell_id(anchor, i, j) in targets)


def thumbnails(dataset: Dataset, names: Sequence[str], *, fit: Fit) -> dict[str, str]:
    """A data URI per image, fitted as the model sees it; those whose file is gone or has changed are left out."""
    rows = dataset.filter(pl.col("image").is_in(list(names)))
    there = [
        name
        for name, file, size in rows.table.select("image", "file", "bytes").iter_rows()
        if _unchanged(dataset.root / file, size)
    ]
    rows = rows.filter(pl.col("image").is_in(there))
    squares = load_images(rows, size=_SIDE, fit=fit)
    return {name: jpeg_uri(square) for name, square in zip(rows.images, squares, strict=True)}


def _unchanged(file: Path, size: int) -> bool:
    # Of a Parquet file `bytes` is the whole file's: a changed one may hold another image in the row.
    try:
        return file.stat().st_size == size
    except OSError:
        return False


def _cells(
    subject: Subject, wrong: np.ndarray[tuple[int], np.dtype[np.intp]], room: int
) -> dict[tuple[int, int], list[int]]:
    """Rows behind the fullest confusion cells, the most confident first, until the room is used up."""
    said = subject.predictions.split(subject.split)
    groups: dict[tuple[int, int], list[int]] = {}
    for row in wrong:
        groups.setdefault((int(said.labels[row]), int(said.predicted[row])), []).append(int(row))
    chosen: dict[tuple[int, int], list[int]] = {}
    for cell, rows in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        if room <= 0:
            break
        chosen[cell] = rows[: min(_PER_CELL, room)]
        room -= len(chosen[cell])
    return chosen


def _note(mistakes: int, wanted: int, shown: int, n: int, subject: Subject) -> str:
    if not mistakes:
        return f"No mistake among {wording.count(n, 'image')}."
    counted = f"{wording.count(mistakes, 'mistake')} among {wording.count(n, 'image')}"
    if shown == wanted:
        return f"{counted}; the {shown} it was most sure of." if shown < mistakes else f"{counted}, all shown."
    missing = wanted - shown
    return (
        f"{counted}. {wording.count(missing, 'photo of the first', 'photos of the first')} {wanted} can no longer be "
        f"shown: the files below {subject.dataset.root} are gone or have changed since training."
    )


def _heat_maps(subject: Subject) -> tuple[tuple[Photo, ...], tuple[Photo, ...], str]:
    """Panels of right and of wrong answers, or the sentence why there are none."""
    folder = subject.run.path / "explanations"
    if not (folder / "explanations.json").exists():
        return (), (), f"This run has no heat maps; `discern explain {subject.run.path}` makes them."
    photos = [
        Photo(
            source=_panel(folder / record["file"]),
            image=str(record["image"]),
            truth=str(record["label"] or ""),
            prediction=str(record["prediction"]),
            confidence=wording.percent(float(record["confidence"])),
            right=record["label"] == record["prediction"],
        )
        for record in read_json(folder / "explanations.json")
        if (folder / record["file"]).exists()
    ]
    right, wrong = (tuple(p for p in photos if p.right is each) for each in (True, False))
    return right, wrong, "" if photos else "The pictures of this run's heat maps are gone."


def _panel(file: Path) -> str:
    """The panel as it is, or as JPEG where that is smaller: photos are, enlarged pixels are not."""
    data = file.read_bytes()
    with Image.open(io.BytesIO(data)) as picture:
        jpeg = jpeg_uri(np.asarray(picture.convert("RGB")))
    png = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return min(jpeg, png, key=len)


def jpeg_uri(picture: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]) -> str:
    """An RGB picture as a data URI."""
    encoded = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
