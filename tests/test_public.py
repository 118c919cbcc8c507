"""The public surface: exactly these names, each importable, each documented."""

import subprocess
import sys
from pathlib import Path

import pytest

import discern

PUBLIC = [
    "Audit",
    "DataError",
    "Dataset",
    "Decision",
    "DiscernError",
    "Evaluation",
    "Finding",
    "Predictions",
    "Recipe",
    "Run",
    "UsageError",
    "audit",
    "compare",
    "curate",
    "embed",
    "evaluate",
    "explain",
    "lr_find",
    "open",
    "open_run",
    "predict",
    "relabel",
    "resume",
    "self_check",
    "split",
    "train",
]


def test_the_public_names_are_these():
    assert discern.__all__ == PUBLIC
    assert dir(discern) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_exists_and_is_documented(name):
    assert getattr(discern, name).__doc__


def test_functions_stay_functions_when_every_module_is_imported():
    code = (
        "import discern, pkgutil, importlib\n"
        "for module in pkgutil.walk_packages(discern.__path__, 'discern.'):\n"
        "    'worker' in module.name or importlib.import_module(module.name)\n"
        "print(*(name for name in discern.__all__ if not callable(getattr(discern, name))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


def test_the_package_says_that_it_is_typed():
    assert (Path(discern.__file__).parent / "py.typed").exists()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        discern.trian  # noqa: B018


def test_importing_discern_imports_nothing_heavy():
    code = "import sys, discern; print('torch' in sys.modules, 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == ["False"] * 2
