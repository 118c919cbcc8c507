"""The learning-rate finder: it suggests where a loss falls fastest, and what it suggests trains."""

import numpy as np
import pytest
import torch

from discern.progress import Silent
from discern.training.loop import fit
from discern.training.rates import HIGHEST, LOWEST, find_rate, steepest


def test_the_suggestion_is_where_a_known_curve_is_steepest():
    rates = np.geomspace(1e-6, 1, 400)
    fall = 2 - 1 / (1 + np.exp(-2 * np.log(rates / 1e-3)))  # a logistic fall about 1e-3
    rise = np.where(rates > 0.1, (rates / 0.1) ** 2, 0)
    assert steepest(rates, fall + rise) == pytest.approx(1e-3, rel=0.1)
    assert steepest(rates, np.linspace(1, 2, 400)) <= 1.1e-6, "a loss that only rises suggests the lowest rate"


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_training_at_the_suggested_rate_learns_and_at_far_smaller_ones_does_not(patches, make_job, optimizer):
    photos, changes = patches(30), {"model": "simple-cnn", "optimizer": optimizer, "epochs": 2}
    found = find_rate(make_job(photos, **changes), Silent())
    assert LOWEST < found.suggestion < HIGHEST
    assert len(found.rates) == len(found.losses) > 20
    assert (np.diff(found.rates) > 0).all()
    losses = []
    for rate in (found.suggestion, found.suggestion / 1e4):
        job = make_job(photos, **changes, learning_rate=rate)
        fit(job, Silent())
        losses.append(min(line["val_loss"] for line in job.run.metrics))
    assert losses[0] < losses[1] - 0.05


def test_the_generator_of_the_caller_is_left_as_it_was(patches, make_job):
    job = make_job(patches(12))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    find_rate(job, Silent())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_command_writes_a_curve_and_says_how_to_go_on(discern, colours, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos, out = colours({"red": 12, "green": 12}), tmp_path / "rates.svg"
    said = discern("lr-find", photos, "--model", "simple-cnn", "--set", "size=8", "--out", out)
    assert said.code == 0, said.err
    assert "Next    discern train" in said.out
    assert out.read_text().startswith("<svg")
    known = discern("lr-find", photos, "--model", "simple-cnn", "--set", "size=8", "--json").json
    assert LOWEST < known["suggestion"] < HIGHEST
    assert sorted(path.name for path in tmp_path.iterdir()) == ["colours", "lr-find.svg", "rates.svg"]


def test_a_wrong_name_is_refused(discern, colours):
    said = discern("lr-find", colours({"red": 12, "green": 12}), "--model", "simple-cn")
    assert said.code == 2
    assert "did you mean 'simple-cnn'?" in said.err
