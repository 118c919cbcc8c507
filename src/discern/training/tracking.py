"""Tracking: TensorBoard, Weights & Biases or MLflow follow a training; the Run directory stays the truth.

Each gets the recipe once and every line of metrics.jsonl once, at its epoch. How far each has got stands in run.json,
so that a resumed run goes on there; lines that a tracker missed are made good. What a tracker's own environment
variables say (WANDB_MODE, MLFLOW_TRACKING_URI, ...) counts; without them everything lies in the Run directory.
"""

from __future__ import annotations

import importlib.util
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import yaml

from discern.errors import MissingExtra, UnknownName
from discern.progress import Progress
from discern.runs.run import Run

Memory = Mapping[str, Any]
"""What run.json keeps for a tracker: its `epoch`, the last one it has, and the `id` of the run there."""

_PROJECT = "discern"
"""Of W&B and MLflow, unless their variables name another."""

_PARAMETERS = 100
"""That MLflow takes at once."""


@dataclass(frozen=True, kw_only=True)
class Tracker:
    """A training as a tracker follows it."""

    memory: Memory
    """Where it stands."""
    where: str
    """What to look at, for people."""
    log: Callable[[int, Mapping[str, float]], None]
    """Take the values of an epoch."""
    end: Callable[[bool], None]
    """Nothing more will come now; whether the training is finished."""


class Opens(Protocol):
    """One function per tracker."""

    def __call__(self, run: Run, memory: Memory) -> Tracker:
        """Begin to follow a run, with its recipe, or go on where `memory` says it stood."""
        ...


def tensorboard(run: Run, memory: Memory) -> Tracker:
    """Event files in tensorboard/ of the Run."""
    from torch.utils.tensorboard import SummaryWriter

    folder, epoch = run.path / "tensorboard", memory.get("epoch")
    # What came after the epoch that is known to be there is logged anew: TensorBoard then forgets the first.
    while list(folder.glob(f"events.out.tfevents.{int(time.time())}.*")):
        time.sleep(0.05)  # files are read in the order of their names, which know no less than a second
    make: Any = SummaryWriter  # its methods carry no types
    writer = make(str(folder), purge_step=None if epoch is None else epoch + 1)
    if epoch is None:
        writer.add_text("recipe", "".join(f"    {line}\n" for line in _recipe_text(run).splitlines()), 0)
        writer.flush()

    def log(epoch: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    def end(finished: bool) -> None:
        writer.close()

    return Tracker(memory={"epoch": epoch or 0}, where=f"tensorboard --logdir {folder}", log=log, end=end)


def wandb(run: Run, memory: Memory) -> Tracker:
    """A run of Weights & Biases: online unless WANDB_MODE says otherwise, its files in wandb/ of the Run."""
    import wandb as package

    given = os.environ
    mode: Any = given.get("WANDB_MODE")
    key = given.get("WANDB_RUN_ID") or memory.get("id") or uuid.uuid4().hex[:8]
    quiet: dict[str, Any] = {"console": "off", "silent": True}  # Discern tells the progress, and tells it once
    settings = {name: value for name, value in quiet.items() if f"WANDB_{name.upper()}" not in given}
    there = package.init(
        project=given.get("WANDB_PROJECT", _PROJECT),
        name=given.get("WANDB_NAME", run.name),
        dir=given.get("WANDB_DIR", str(run.path)),
        id=key,
        mode=mode,
        resume="allow",
        config=None if memory else yaml.safe_load(_recipe_text(run)),
        reinit="create_new",  # the caller may have a run of his own
        settings=package.Settings(**settings),
    )
    where = f"wandb sync {there.settings.sync_dir}" if there.offline else str(there.url)

    def log(epoch: int, values: Mapping[str, float]) -> None:
        there.log(dict(values), step=epoch, commit=True)

    def end(finished: bool) -> None:
        there.finish(exit_code=0 if finished else 1)

    return Tracker(memory={"id": key, "epoch": memory.get("epoch", 0)}, where=where, log=log, end=end)


def mlflow(run: Run, memory: Memory) -> Tracker:
    """A run of MLflow, in the store that MLFLOW_TRACKING_URI names, else in a database in mlflow/ of the Run."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    folder = run.path / "mlflow"
    own = f"sqlite:///{folder.absolute() / 'mlflow.db'}"  # MLflow's folder of plain files is on its way out
    place = os.environ.get("MLFLOW_TRACKING_URI") or own
    if place == own:
        folder.mkdir(exist_ok=True)
    client, key, epoch = MlflowClient(tracking_uri=place), memory.get("id"), 0
    if _has(client, key):
        client.update_run(key, status="RUNNING")
        epoch = max((each.step for each in client.get_metric_history(key, "train_loss")), default=0)
    else:  # the first sitting, or another store than then
        experiment = _experiment(client, (folder / "artifacts").absolute().as_uri() if place == own else None)
        key = client.create_run(experiment, run_name=run.name).info.run_id
        parameters = [Param(name, str(value)) for name, value in _flat(yaml.safe_load(_recipe_text(run)))]
        for start in range(0, len(parameters), _PARAMETERS):
            client.log_batch(key, params=parameters[start : start + _PARAMETERS])

    def log(epoch: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        client.log_batch(key, metrics=[Metric(name, value, now, epoch) for name, value in values.items()])

    def end(finished: bool) -> None:
        client.set_terminated(key, "FINISHED" if finished else "KILLED")

    where = f"mlflow ui --backend-store-uri {place}" if place == own else "MLflow at MLFLOW_TRACKING_URI"
    return Tracker(memory={"id": key, "epoch": epoch}, where=where, log=log, end=end)


TRACKERS: dict[str, Opens] = {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow}
"""By the name of each one's package."""


def refuse_trackers(names: Iterable[str]) -> None:
    """Raise UnknownName for a tracker that there is not, MissingExtra for one whose package is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise UnknownName("tracker", name, TRACKERS)
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # a folder of that name, as wandb makes one, is no package
            raise MissingExtra(name, "tracking")


@contextmanager
def tracked(run: Run, progress: Progress) -> Iterator[Callable[[], None]]:
    """What is given logs the new lines of metrics.jsonl in each tracker that run.json names.

    One that fails, as its network is gone for example, is left after one warning; the training goes on.
    """
    following: dict[str, Tracker] = {}

    def trying(act: Callable[[str], None], name: str) -> None:
        try:
            act(name)
        except Exception as error:  # whatever a service and its package come up with
            following.pop(name, None)
            why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            progress.say(
                f"warning: {name} does not follow this run any longer ({why}); the training goes on, and "
                "metrics.jsonl has everything."
            )

    def begin(name: str) -> None:
        tracker = TRACKERS[name](run, _memory(run, name))
        _remember(run, name, tracker.memory)
        following[name] = tracker
        progress.say(f"Followed by {name}: {tracker.where}")

    def follow(name: str) -> None:
        tracker, reached = following[name], _memory(run, name)["epoch"]
        for line in run.metrics:
            if line["epoch"] > reached:
                tracker.log(line["epoch"], {key: float(line[key]) for key in line if key != "epoch"})
                _remember(run, name, {**tracker.memory, "epoch": line["epoch"]})

    def track() -> None:
        for name in tuple(following):
            trying(follow, name)

    for name in run.info.get("tracking", {}):
        trying(begin, name)
    finished = False
    try:
        yield track
        finished = True
    finally:
        for name in tuple(following):
            trying(lambda name: following[name].end(finished), name)


def _memory(run: Run, name: str) -> Memory:
    kept: Memory = run.info["tracking"][name]
    return kept


def _remember(run: Run, name: str, memory: Memory) -> None:
    run.update(tracking={**run.info["tracking"], name: memory})


def _recipe_text(run: Run) -> str:
    return run.recipe_file.read_text(encoding="utf-8")


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Keys joined by dots, as --set takes them."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _experiment(client: Any, artifacts: str | None) -> str:
    """The id of the one that MLflow's variables name, else Discern's own."""
    if chosen := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return chosen
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _PROJECT
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name, artifact_location=artifacts))


def _has(client: Any, key: str | None) -> bool:
    """Whether MLflow's store has a run."""
    from mlflow.exceptions import MlflowException

    try:
        return key is not None and bool(client.get_run(key))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
