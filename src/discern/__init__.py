"""Discern: from labelled images to the best classifier you can defend.

import discern

data = discern.open("photos")
run = discern.train(data, "cnn-basic")
print(run.evaluation)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from discern.data.audit.findings import Finding as Finding
    from discern.data.dataset import Dataset as Dataset
    from discern.data.journal import Decision as Decision
    from discern.data.sources import open_dataset as open  # noqa: F401
    from discern.errors import DataError as DataError
    from discern.errors import DiscernError as DiscernError
    from discern.errors import UsageError as UsageError
    from discern.runs.evaluation import Evaluation as Evaluation
    from discern.runs.predictions import Predictions as Predictions
    from discern.runs.run import Run as Run
    from discern.runs.run import open_run as open_run
    from discern.steps.audit import Audit as Audit
    from discern.steps.audit import audit as audit
    from discern.steps.compare import compare as compare
    from discern.steps.curate import curate as curate
    from discern.steps.evaluate import evaluate as evaluate
    from discern.steps.explain import explain as explain
    from discern.steps.lr_find import lr_find as lr_find
    from discern.steps.predict import predict as predict
    from discern.steps.relabel import relabel as relabel
    from discern.steps.self_check import self_check as self_check
    from discern.steps.split import split as split
    from discern.steps.train import resume as resume
    from discern.steps.train import train as train
    from discern.training.recipe import Recipe as Recipe

# public name -> where it lives; imported on first use, so that `import discern` costs nothing.
_PUBLIC = {
    "Audit": ("discern.steps.audit", "Audit"),
    "DataError": ("discern.errors", "DataError"),
    "Dataset": ("discern.data.dataset", "Dataset"),
    "Decision": ("discern.data.journal", "Decision"),
    "DiscernError": ("discern.errors", "DiscernError"),
    "Evaluation": ("discern.runs.evaluation", "Evaluation"),
    "Finding": ("discern.data.audit.findings", "Finding"),
    "Predictions": ("discern.runs.predictions", "Predictions"),
    "Recipe": ("discern.training.recipe", "Recipe"),
    "Run": ("discern.runs.run", "Run"),
    "UsageError": ("discern.errors", "UsageError"),
    "audit": ("discern.steps.audit", "audit"),
    "compare": ("discern.steps.compare", "compare"),
    "curate": ("discern.steps.curate", "curate"),
    "embed": ("discern.steps.embed", "embed"),
    "evaluate": ("discern.steps.evaluate", "evaluate"),
    "explain": ("discern.steps.explain", "explain"),
    "lr_find": ("discern.steps.lr_find", "lr_find"),
    "open": ("discern.data.sources", "open_dataset"),
    "open_run": ("discern.runs.run", "open_run"),
    "predict": ("discern.steps.predict", "predict"),
    "relabel": ("discern.steps.relabel", "relabel"),
    "resume": ("discern.steps.train", "resume"),
    "self_check": ("discern.steps.self_check", "self_check"),
    "split": ("discern.steps.split", "split"),
    "train": ("discern.steps.train", "train"),
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'discern' has no attribute '{name}'")
    module, attribute = _PUBLIC[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_PUBLIC)
