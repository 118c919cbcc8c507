"""Run: a directory with one trained model and everything it left; the source of truth for every later step."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from discern.data.audit.findings import Finding
from discern.data.dataset import Dataset
from discern.data.duplicates.gate import Passage
from discern.errors import NotARun, UsageError, storing
from discern.files import read_json, write_json
from discern.progress import Progress, Silent
from discern.runs.evaluation import Evaluation
from discern.runs.predictions import Predictions

_REQUIRED = frozenset(("checkpoint", "classes", "model", "preprocessing", "seconds", "seed", "started", "status"))
"""Keys of run.json that a Run has from its first moment."""

Content = TypeVar("Content")

CHECKPOINTS = ("best_val_loss", "best_val_acc", "last")
"""What a training leaves."""

REFIT = "refit"
"""The checkpoint that has learned from the validation images as well; run.json's `validated` names the one before."""

ON_FEATURES = " on features"
"""Ends the names of baselines that read the published features which the run was trained on."""


@dataclass(frozen=True)
class Run:
    """A Run directory; every property reads what is on disk now."""

    path: Path
    """The directory."""

    def __str__(self) -> str:
        return str(self.path)

    @property
    def info(self) -> dict[str, Any]:
        """run.json: status, model, seed, seconds, gate, preprocessing, software, hardware, command."""
        info: dict[str, Any] = read_json(self.path / "run.json")
        return info

    @property
    def name(self) -> str:
        """Name of the directory."""
        return self.path.name

    @property
    def model(self) -> str:
        """Name of the network."""
        return str(self.info["model"]["name"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the model's outputs."""
        return tuple(self.info["classes"])

    @property
    def recipe_file(self) -> Path:
        """recipe.yaml, resolved: training with it repeats the run."""
        return self.path / "recipe.yaml"

    @property
    def dataset(self) -> Dataset:
        """The rows and the split it saw."""
        return self._read("dataset.parquet", Dataset.read)

    @property
    def findings(self) -> list[Finding]:
        """What the audit found in its data."""
        return self._read("findings.json", _findings)

    @property
    def passage(self) -> Passage | None:
        """How its data came through the gate; none for a run made before there was one."""
        record = self.info.get("gate")
        return Passage.from_json(record) if record else None

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One record per epoch: loss, accuracy, rate, images/s, seconds."""
        return self._read("metrics.jsonl", _lines)

    @property
    def predictions(self) -> Predictions:
        """What the model said about every validation and test image."""
        return self._read("predictions.parquet", Predictions.read)

    @property
    def evaluation(self) -> Evaluation:
        """Its scores per split."""
        return self._read("evaluation.json", _evaluation)

    @property
    def baseline_scores(self) -> dict[str, dict[str, Any]]:
        """Scores of the trivial baselines, by name and split, in the form of evaluation.json."""
        return self._read("evaluation.json", _baseline_scores)

    def baselines(self) -> dict[str, Predictions]:
        """Predictions of the baselines on the same images, by name; those ON_FEATURES are not trivial."""
        return {file.stem: Predictions.read(file) for file in sorted((self.path / "baselines").glob("*.parquet"))}

    def checkpoint(self, name: str | None = None) -> Path:
        """The file of a checkpoint; by default the one that validation chose."""
        return self.path / "checkpoints" / f"{name or self.info['checkpoint']}.safetensors"

    def update(self, **values: Any) -> None:
        """Set keys of run.json."""
        write_json(self.path / "run.json", {**self.info, **values})

    def summary(self) -> dict[str, Any]:
        """What `--json` prints of a run."""
        info = self.info
        epochs = self.metrics if (self.path / "metrics.jsonl").exists() else []
        evaluation = self.evaluation.to_json()["splits"] if (self.path / "evaluation.json").exists() else {}
        return {
            "run": str(self.path),
            "model": info["model"]["name"],
            "seed": info["seed"],
            "status": info["status"],
            "seconds": info["seconds"] or (epochs[-1]["seconds"] if epochs else 0.0),
            "parameters": info["model"]["parameters"],
            "epochs": len(epochs),
            "checkpoint": info["checkpoint"],
            "gate": info.get("gate"),
            "splits": evaluation,
            "baselines": self.baseline_scores if evaluation else {},
        }

    def _read(self, name: str, reader: Callable[[Path], Content]) -> Content:
        path = self.path / name
        if not path.exists():
            raise NotARun(
                f"The run {self.path} has no {name}: it has not got that far; finish it with "
                f"`discern train --resume {self.path}`."
            )
        try:
            return reader(path)
        except (ValueError, LookupError, TypeError, pl.exceptions.PolarsError) as error:
            why = " ".join(str(error).split())
            raise NotARun(f"{path} is damaged ({why}); remove the run and train it anew.") from error


def _findings(path: Path) -> list[Finding]:
    return [Finding.from_json(record) for record in read_json(path)]


def _baseline_scores(path: Path) -> dict[str, dict[str, Any]]:
    scores: dict[str, dict[str, Any]] = read_json(path).get("baselines", {})
    return scores


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _evaluation(path: Path) -> Evaluation:
    return Evaluation.from_json(read_json(path))


def open_run(path: str | os.PathLike[str]) -> Run:
    """The Run at `path`; NotARun when there is none."""
    folder = Path(path)
    if not folder.exists():
        raise NotARun(f"No such run: {folder}; `discern runs` lists those there are.")
    if not (folder / "run.json").is_file():
        raise NotARun(f"{folder} is not a run (it has no run.json); `discern runs` lists those there are.")
    try:
        missing = _REQUIRED - set(read_json(folder / "run.json"))
    except (ValueError, TypeError) as error:
        raise NotARun(f"{folder}/run.json is damaged ({error}); the run cannot be used, train it anew.") from error
    if missing:
        raise NotARun(f"{folder}/run.json is damaged (no '{min(missing)}' in it); the run cannot be used, train anew.")
    return Run(folder)


@contextmanager
def working_on(run: Run) -> Iterator[None]:
    """Keep every other process from training this Run meanwhile; the lock ends with the process, however it ends."""
    directory = os.open(run.path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"{run} is being trained by another process; wait for it, or stop it first.") from error
        yield
    finally:
        os.close(directory)


def refuse_place(runs: Path, name: str | None) -> None:
    """Say before the work that a new Run could not be made below `runs`: UsageError or StorageError."""
    if name is not None and (name in ("", ".", "..") or name != Path(name).name):
        raise UsageError(f"A run cannot be called '{name}': give a plain --name, and the folder above it as --runs.")
    if name is not None and (runs / name).exists():
        raise _taken(runs / name)
    existing = next(place for place in (runs, *runs.absolute().parents) if place.exists())
    with storing(runs), tempfile.TemporaryFile(dir=existing):
        pass  # it can be written; nothing is left for data that may yet be refused


def create_run(runs: Path, name: str | None, stem: str, info: dict[str, Any]) -> Run:
    """A new directory below `runs`, called `name` or the first free of stem-1, stem-2, ... ."""
    with storing(runs):
        runs.mkdir(parents=True, exist_ok=True)
        for candidate in [name] if name else _free_names(stem):
            try:
                (runs / candidate).mkdir()
                break
            except FileExistsError as error:
                if name:
                    raise _taken(runs / name) from error
    run = Run(runs / candidate)
    write_json(run.path / "run.json", {"status": "started", "seconds": 0.0, **_circumstances(), **info})
    return run


def list_runs(runs: Path, *, progress: Progress | None = None) -> list[Run]:
    """Every Run directly below `runs`, oldest first; of damaged ones only a warning."""
    found = []
    for file in sorted(runs.glob("*/run.json")):
        try:
            found.append(open_run(file.parent))
        except NotARun as error:
            (progress or Silent()).say(f"warning: {error}")
    return sorted(found, key=lambda run: (run.info["started"], run.name))


def _taken(path: Path) -> UsageError:
    way_on = f", or go on with `discern train --resume {path}`" if (path / "run.json").exists() else ""
    return UsageError(f"{path} exists already; choose another --name{way_on}.")


def _free_names(stem: str) -> Iterator[str]:
    number = 1
    while True:
        yield f"{stem}-{number}"
        number += 1


def _circumstances() -> dict[str, Any]:
    """When, with which command, software and hardware."""
    packages = (
        "discern-vision",
        "torch",
        "numpy",
        "polars",
        "opencv-python-headless",
        "simplejpeg",
        "accelerate",
    )
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "software": {"python": platform.python_version()} | {p: _version(p) for p in packages},
        "hardware": {"machine": platform.machine(), "system": platform.platform(), "cores": os.cpu_count()},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from a source tree, or another build of OpenCV
        return None
