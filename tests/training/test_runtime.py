import copy

import pytest
import torch

from discern.models import zoo
from discern.training import runtime
from discern.training.recipe import Recipe
from discern.training.runtime import Arithmetic, choose_arithmetic, seconds_per_image

CPU = torch.device("cpu")


@pytest.fixture
def model():
    return zoo.build("regularized-cnn", classes=3, size=8)


@pytest.fixture
def stopwatch(monkeypatch):
    """Measuring gives the seconds set here; what was measured is noted."""
    measured, seconds = [], {}

    def fake(model, arithmetic, *, size, device, budget, crossing):
        measured.append(arithmetic)
        return seconds.get(arithmetic, 1.0)

    monkeypatch.setattr(runtime, "seconds_per_image", fake)
    return measured, seconds


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_a_fixed_recipe_is_obeyed_without_measuring(model, stopwatch, precision, channels_last):
    recipe = Recipe(precision=precision, channels_last=channels_last)
    chosen = choose_arithmetic(recipe, model, size=8, device=CPU)
    assert chosen == Arithmetic(precision=precision, channels_last=channels_last)
    assert stopwatch[0] == []


@pytest.mark.parametrize(
    ("recipe", "candidates"),
    [
        (Recipe(), [(p, c) for p in ("float32", "bfloat16") for c in (False, True)]),
        (Recipe(precision="bfloat16"), [("bfloat16", False), ("bfloat16", True)]),
        (Recipe(channels_last=True), [("float32", True), ("bfloat16", True)]),
    ],
)
def test_what_is_left_open_is_measured_and_the_fastest_taken(model, stopwatch, recipe, candidates):
    measured, seconds = stopwatch
    candidates = [Arithmetic(precision=p, channels_last=c) for p, c in candidates]
    for fastest in candidates:
        measured.clear()
        seconds.clear()
        seconds[fastest] = 0.5
        assert choose_arithmetic(recipe, model, size=8, device=CPU) == fastest
        assert measured == candidates * 2


def test_measuring_leaves_no_trace(model):
    model.eval()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    chosen = choose_arithmetic(Recipe(), model, size=8, device=CPU)
    assert chosen.precision in ("float32", "bfloat16")
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before), "weights or batch-norm statistics changed"
    assert all(before[key].stride() == after[key].stride() for key in before)
    assert torch.equal(state, torch.get_rng_state()), "the measurement drew from torch's generator"
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_measured_time_is_a_plausible_number_of_seconds(model):
    seconds = seconds_per_image(
        model, Arithmetic(precision="float32", channels_last=True), size=8, device=CPU, budget=0.01
    )
    assert 0 < seconds < 1


@pytest.mark.parametrize("channels_last", [True, False])
def test_place_puts_the_filters_in_that_order(model, channels_last):
    placed = Arithmetic(precision="float32", channels_last=channels_last).place(model, CPU)
    weight = placed.features[4].weight  # of the second convolution: 64 x 32 x 3 x 3
    assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert weight.is_contiguous() != channels_last


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_autocast_computes_in_the_precision_and_keeps_the_weights(model, precision, dtype):
    with Arithmetic(precision=precision, channels_last=False).autocast(CPU):
        assert model(torch.randn(2, 3, 8, 8)).dtype == dtype
    assert {p.dtype for p in model.parameters()} == {torch.float32}
