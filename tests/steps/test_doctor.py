"""The doctor: facts about this machine, measured speeds, extras with how to get them."""

import os
import tomllib
from pathlib import Path

import pytest

from discern.steps import doctor


@pytest.fixture
def quick(monkeypatch):
    """Speeds that are not measured: bfloat16 with channels last is fastest."""

    def seconds(model, arithmetic, **_):
        return 1 / (100 + 50 * (arithmetic.precision == "bfloat16") + 25 * arithmetic.channels_last)

    monkeypatch.setattr(doctor, "seconds_per_image", seconds)


def test_as_json(discern, quick, tmp_path, monkeypatch):
    monkeypatch.setenv("DISCERN_CACHE", str(tmp_path / "not" / "there"))
    record = discern("doctor", "--json").json
    assert record["cores"] == os.cpu_count()
    assert record.keys() >= {"gpu", "python", "torch", "memory_gib", "disk_free_gib"}
    assert record["cache"] == str(tmp_path / "not" / "there")
    assert record["disk_free_gib"] > 0
    assert record["fastest"] == "bfloat16, channels last"
    assert record["training_images_per_second"]["float32"] == 100
    assert record["extras"]["export"]["install"] == "pip install 'discern-vision[export]'"
    assert not (tmp_path / "not").exists()


def test_in_words(discern, quick):
    words = discern("doctor").out
    assert f"CPU      {os.cpu_count()} cores" in words
    assert "175.0  <- fastest" in words
    assert "pip install 'discern-vision[ray]'" in words or "ray         installed" in words


def test_every_extra_of_the_package_is_looked_for():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) - {"dev"} == set(doctor.EXTRAS)


def test_the_speeds_are_measured(monkeypatch):
    monkeypatch.setattr(doctor, "_PROBE_SIZE", 32)
    found = doctor.examine()
    assert all(speed > 0 for speed in found["training_images_per_second"].values())
    assert found["fastest"] in found["training_images_per_second"]
