"""Painting a set into a folder: one file and one record per image, resumable at any instant."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import polars as pl
from PIL import Image

from discern.data.generation.model import Model, load_model, paint, too_long
from discern.data.generation.plan import Wanted, plan, seed_of, single_combinations
from discern.data.generation.specification import AXES, Generation, load_generation
from discern.errors import UsageError, storing
from discern.files import write_table, writing
from discern.progress import Progress, Silent

RECORDS = ".generation"
"""Folder beside train/ and test/; hidden, and so no class."""

ATTEMPTS = 10
"""Seeds tried for one image; a prompt that is flagged ten times will be flagged again."""

RECORD: dict[str, Any] = {
    "image": pl.String,  # path relative to the set's folder
    "class": pl.String,
    "split": pl.String,  # train or test
    "index": pl.Int64,  # number within class and split
    "prompt": pl.String,  # whole, as the model got it
    "negative_prompt": pl.String,
    "subject": pl.String,  # the parts the prompt was made of; null when there is no such part
    "angle": pl.String,
    "lighting": pl.String,
    "background": pl.String,
    "seed": pl.Int64,  # of torch's generator on the CPU
    "attempt": pl.Int64,  # how many seeds were given up before this one
    "blocked": pl.Boolean,  # every attempt was flagged or black: there is no file
    "digest": pl.String,  # BLAKE2b-128 of the file's bytes, as in a scanned Dataset
    "model": pl.String,
    "revision": pl.String,
    "licence": pl.String,  # of the model, as its README names it
    "pipeline": pl.String,  # classes of diffusers
    "scheduler": pl.String,
    "steps": pl.Int64,
    "guidance": pl.Float64,
    "size": pl.Int64,
    "device": pl.String,
    "dtype": pl.String,
    "batch": pl.Int64,  # images per call; another number can change the last bits
    "discern": pl.String,  # versions
    "diffusers": pl.String,
    "transformers": pl.String,
    "torch": pl.String,
}
"""What is kept of every image, in metadata.jsonl as it is painted and in metadata.parquet at the end."""


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What a folder holds after `generate`."""

    folder: Path
    """Where train/ and test/ are."""
    images: int
    """Images there are."""
    made: int
    """How many of them were painted now."""
    blocked: tuple[str, ...]
    """Images that there are not, as every attempt was flagged or black."""

    @property
    def metadata(self) -> Path:
        """The table of records."""
        return self.folder / RECORDS / "metadata.parquet"


def generate(
    generation: Generation,
    folder: Path,
    *,
    model: Model | None = None,
    batch: int | None = None,
    progress: Progress | None = None,
) -> Generated:
    """Paint the set into `folder`, going on where an earlier call with the same Generation ended.

    Layout: train/<class>/*.png and test/<class>/*.png; .generation/ holds metadata.jsonl, metadata.parquet and
    classes.yaml with every setting. `model` is loaded where none is given; `batch` defaults to what the device does
    best. Raises UsageError when the folder holds something else or was made with other settings or another model.
    """
    progress = progress or Silent()
    wanted = plan(generation)
    records = _opened(folder, generation)
    waiting = [one for one in wanted if not _done(folder, records.get(one.image))]
    if waiting:
        before = next(iter(records.values()))["revision"] if records else None
        revision = before or generation.revision
        model = model or load_model(generation.model, revision, progress=progress)
        if before not in (None, model.revision):
            raise UsageError(
                f"The images in {folder} were made by revision {before} of the model, not {model.revision}: "
                "give a new folder, or take that model again."
            )
        _warn(generation, model, wanted, progress)
        with writing(folder / RECORDS / "classes.yaml") as temporary:
            temporary.write_text(generation.to_yaml(), encoding="utf-8")
        _paint_all(folder, generation, model, waiting, records, batch or model.batch, progress)
    table = pl.DataFrame([records[one.image] for one in wanted], RECORD)
    write_table(folder / RECORDS / "metadata.parquet", table)
    blocked = tuple(table.filter("blocked")["image"])
    if blocked:
        progress.say(
            f"warning: {len(blocked)} images are missing, the first {blocked[0]}: the model's safety checker flagged "
            f"all {ATTEMPTS} attempts, or they were black; reword their prompts."
        )
    return Generated(
        folder=folder,
        images=len(wanted) - len(blocked),
        made=sum(not records[one.image]["blocked"] for one in waiting),
        blocked=blocked,
    )


def _opened(folder: Path, generation: Generation) -> dict[str, dict[str, Any]]:
    """The records of what an earlier call left, by image; none for a new folder. Nothing is written."""
    settings = folder / RECORDS / "classes.yaml"
    if not settings.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} exists and was not begun by this command: give a new or an empty folder.")
        return {}
    records = _records(folder / RECORDS / "metadata.jsonl")
    differences = _differences(load_generation(settings), generation) if records else []
    if differences:
        raise UsageError(
            f"{folder} was begun with other settings ({'; '.join(differences)}): give a new folder, or put them back."
        )
    return records


def _differences(then: Generation, now: Generation) -> list[str]:
    """What changed, key by key; lists and texts are only named, as they are long."""
    old, new = asdict(then), asdict(now)
    for plain in (old, new):
        plain |= {f"classes.{name}": subject for name, subject in plain.pop("classes").items()}
    changed = [key for key in (old | new) if old.get(key) != new.get(key)]
    short = {key for key in changed if isinstance(old.get(key), int | float) and isinstance(new.get(key), int | float)}
    return [f"{key} was {old[key]} and is {new[key]}" if key in short else f"{key} has changed" for key in changed]


def _records(path: Path) -> dict[str, dict[str, Any]]:
    """The last record of every image; half a line, left by a kill while it was written, is cut off the file."""
    data = path.read_bytes() if path.is_file() else b""
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        with writing(path) as temporary:
            temporary.write_bytes(whole)
    try:
        records = [json.loads(line) for line in whole.splitlines()]
        return {record["image"]: record for record in records}
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} is damaged: give a new folder, or restore the file.") from error


def _done(folder: Path, record: dict[str, Any] | None) -> bool:
    """An image with a record but without its file was removed, and is painted again."""
    return record is not None and (record["blocked"] or (folder / record["image"]).is_file())


def _warn(generation: Generation, model: Model, wanted: Sequence[Wanted], progress: Progress) -> None:
    alike = single_combinations(generation) if generation.test_per_class else []
    if alike:
        progress.say(
            f"warning: {', '.join(alike)}: with a single combination of prompt, angle and background, test images are "
            "siblings of training images and score too well; add some."
        )
    texts = list(dict.fromkeys([one.prompt for one in wanted] + [generation.negative_prompt]))
    if cut := too_long(model, texts):
        progress.say(
            f"warning: the model cuts off the end of {len(cut)} of {len(texts)} prompts, such as '{cut[0]}': "
            "shorten them."
        )


def _paint_all(
    folder: Path,
    generation: Generation,
    model: Model,
    waiting: Sequence[Wanted],
    records: dict[str, dict[str, Any]],
    batch: int,
    progress: Progress,
) -> None:
    """Paint, write and record what is waiting; `records` is kept up to date."""
    facts = _facts(generation, model, batch)
    total = len(records.keys() | {one.image for one in waiting})
    done = total - len(waiting)
    with progress.track("Generating", total) as advance:
        if done:
            advance(done, "")
        for start in range(0, len(waiting), batch):
            few = waiting[start : start + batch]
            try:
                painted = _attempts(generation, model, few, batch)
                for one, (attempt, picture) in zip(few, painted, strict=True):
                    digest = None if picture is None else _save(folder / one.image, picture)
                    records[one.image] = _record(generation, one, attempt, digest) | facts
                    _append(folder / RECORDS / "metadata.jsonl", records[one.image])
            except KeyboardInterrupt as stop:
                raise KeyboardInterrupt(f"{done} of {total} images are made; the same command goes on.") from stop
            before, done = done, done + len(few)
            advance(len(few), "")
            if before * 10 // total < done * 10 // total:
                advance(0, f"{done} of {total} images")


def _attempts(
    generation: Generation, model: Model, few: Sequence[Wanted], batch: int
) -> list[tuple[int, Image.Image | None]]:
    """The first attempt at each image that is not flagged or black, and which it was; none after the last."""
    found: dict[int, tuple[int, Image.Image | None]] = {}
    for attempt in range(ATTEMPTS):
        left = [k for k in range(len(few)) if k not in found]
        prompts = [few[k].prompt for k in left]
        seeds = [seed_of(generation, few[k], attempt) for k in left]
        for k, picture in zip(left, paint(model, generation, prompts, seeds, batch=batch), strict=True):
            if picture is not None or attempt == ATTEMPTS - 1:
                found[k] = (attempt, picture)
    return [found[k] for k in range(len(few))]


def _save(path: Path, picture: Image.Image) -> str:
    """Write a PNG, whole or not at all; the digest of its bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    with writing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
    return hashlib.blake2b(buffer.getbuffer(), digest_size=16).hexdigest()


def _append(path: Path, record: dict[str, Any]) -> None:
    """Add one line, all of it in one call of the system."""
    with storing(path), path.open("ab", buffering=0) as log:
        log.write((json.dumps(record, ensure_ascii=False) + "\n").encode())


def _record(generation: Generation, one: Wanted, attempt: int, digest: str | None) -> dict[str, Any]:
    """What is special to one image."""
    return {
        "image": one.image,
        "class": one.label,
        "split": one.split,
        "index": one.index,
        "prompt": one.prompt,
        "negative_prompt": generation.negative_prompt,
        "subject": one.parts["prompt"],
        **{name: one.parts.get(name) for name in AXES},
        "seed": seed_of(generation, one, attempt),
        "attempt": attempt,
        "blocked": digest is None,
        "digest": digest,
    }


def _facts(generation: Generation, model: Model, batch: int) -> dict[str, Any]:
    """What all images painted by one call have in common."""
    return {
        "model": model.name,
        "revision": model.revision,
        "licence": model.licence,
        "pipeline": type(model.pipeline).__name__,
        "scheduler": type(getattr(model.pipeline, "scheduler", None)).__name__,
        "steps": generation.steps,
        "guidance": generation.guidance,
        "size": generation.size,
        "device": model.device,
        "dtype": model.dtype,
        "batch": batch,
        "discern": metadata.version("discern-vision"),
        **{package: metadata.version(package) for package in ("diffusers", "transformers", "torch")},
    }
