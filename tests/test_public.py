"""The public surface: exactly these names, each importable, each documented."""

import subprocess
import sys

import pytest

import discern

PUBLIC = [
    "DataError",
    "Dataset",
    "DiscernError",
    "Evaluation",
    "Finding",
    "Predictions",
    "Recipe",
    "Run",
    "UsageError",
    "audit",
    "compare",
    "evaluate",
    "explain",
    "open",
    "open_run",
    "predict",
    "resume",
    "train",
]


def test_the_public_names_are_these():
    assert discern.__all__ == PUBLIC
    assert dir(discern) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_exists_and_is_documented(name):
    assert getattr(discern, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        discern.trian  # noqa: B018


def test_importing_discern_imports_nothing_heavy():
    code = "import sys, discern; print('torch' in sys.modules, 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == ["False"] * 2
