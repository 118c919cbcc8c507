"""Fixtures that several rooms share: small folders of images, a cache of their own, the real data."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.data import decode, scan, sources  # noqa: F401 - loaded before a test gives up its rights


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Every test scans into a cache of its own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DISCERN_CACHE", str(folder))
    return folder


@pytest.fixture
def photos(tmp_path):
    """A factory: `photos({"cat": 3, "train/dog": 2})` writes that many distinct images and gives the folder.

    The files are JPEG and PNG in turns, named 0.jpg, 1.png, ...; every call in a test gives other pictures.
    """
    made = 0

    def write(counts, *, into="photos", side=24):
        nonlocal made
        root = tmp_path / into
        root.mkdir(exist_ok=True)
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                made += 1
                picture = Image.fromarray(np.random.default_rng(made).integers(0, 256, (side, side + 8, 3), np.uint8))
                picture.save(root / folder / (f"{number}.jpg" if number % 2 == 0 else f"{number}.png"))
        return root

    return write


@pytest.fixture
def real_data():
    """The folder of real data that DISCERN_DATA names."""
    if "DISCERN_DATA" not in os.environ:
        pytest.skip("DISCERN_DATA is not set: no real data")
    return Path(os.environ["DISCERN_DATA"])


@contextmanager
def _unprivileged():
    """The block runs without root's right to read and write everything."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65534)
    except OSError:
        pytest.skip("root here cannot become another user")
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def unprivileged():
    """A context manager that takes root's rights away."""
    return _unprivileged


@pytest.fixture
def shared_tmp():
    """A temporary folder that other users can reach, which pytest's are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name).resolve()
