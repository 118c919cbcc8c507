"""The demo: the whole job, here on a handful of small images."""

import pytest

from discern.data.synthetic.parts import Parts
from discern.runs.run import Run
from discern.steps import demo
from discern.training.recipe import load_recipe


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Fewer and smaller images, and networks that train in a second."""
    monkeypatch.setattr(demo, "Parts", lambda: Parts(per_class=8, test_per_class=3, size=32))
    for name, model in (("a", "mini-cnn"), ("b", "simple-cnn")):
        text = f"model: {model}\nsize: 32\nepochs: 1\nprecision: float32\nchannels_last: false\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    monkeypatch.setattr(demo, "RECIPES", (str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")))


def test_it_leaves_two_runs_a_comparison_and_a_report(discern, small, tmp_path):
    record = discern("demo", "--out", tmp_path / "demo", "--json").json
    assert [run["model"] for run in record["runs"]] == ["mini-cnn", "simple-cnn"]
    assert all(Run(tmp_path / "demo" / "runs" / f"{name}-1").info["status"] == "finished" for name in ("mini-cnn",))
    assert record["comparison"]["pick"] in ("mini-cnn-1", "simple-cnn-1")
    assert record["runs"][0]["splits"]["test"]["n"] == 15
    assert record["report"] == str(tmp_path / "demo" / "report.html")
    assert "mini-cnn-1" in (tmp_path / "demo" / "report.html").read_text()


def test_the_recipes_of_the_real_one_exist():
    for name in demo.RECIPES:
        assert load_recipe(name).epochs <= 60
