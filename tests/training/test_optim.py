import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from discern.training.optim import build_optimizer, learning_rate
from discern.training.recipe import Recipe

PER_EPOCH = 7


def rates(recipe):
    return [learning_rate(recipe, step, PER_EPOCH) for step in range(recipe.epochs * PER_EPOCH)]


def torch_rates(recipe, scheduler, *, steps, every=1):
    """The rate of each step when torch's scheduler steps after every `every` optimiser steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    schedule, given = scheduler(optimizer), []
    for step in range(steps):
        given.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % every == 0:
            schedule.step()
    return given


def test_cosine_is_torchs_per_step():
    recipe = Recipe(warmup_epochs=0, schedule="cosine", epochs=5, learning_rate=0.3)
    expected = torch_rates(recipe, lambda o: lr_scheduler.CosineAnnealingLR(o, 5 * PER_EPOCH), steps=5 * PER_EPOCH)
    assert rates(recipe) == pytest.approx(expected, rel=1e-9)


def test_exponential_is_torchs_per_epoch():
    recipe = Recipe(warmup_epochs=0, schedule="exponential", gamma=0.9, epochs=5, learning_rate=0.3)
    expected = torch_rates(recipe, lambda o: lr_scheduler.ExponentialLR(o, 0.9), steps=5 * PER_EPOCH, every=PER_EPOCH)
    assert rates(recipe) == pytest.approx(expected, rel=1e-12)


def test_constant_stays():
    assert set(rates(Recipe(warmup_epochs=0, schedule="constant", epochs=3, learning_rate=0.02))) == {0.02}


@pytest.mark.parametrize("schedule", ["cosine", "exponential", "constant"])
def test_warm_up_is_torchs_linear_rise_and_the_schedule_begins_after_it(schedule):
    recipe = Recipe(schedule=schedule, epochs=6, warmup_epochs=2, learning_rate=0.3)
    warmup = 2 * PER_EPOCH
    linear = torch_rates(
        recipe,
        lambda o: lr_scheduler.LinearLR(o, start_factor=1 / (warmup + 1), total_iters=warmup),
        steps=warmup + 1,
    )
    given = rates(recipe)
    assert given[: warmup + 1] == pytest.approx(linear, rel=1e-9)
    without = Recipe(warmup_epochs=0, schedule=schedule, epochs=4, learning_rate=0.3)
    assert given[warmup:] == pytest.approx(rates(without), rel=1e-9)


@pytest.mark.parametrize("warmup", [0.5, 3, 4])
def test_a_warm_up_of_part_of_an_epoch_or_of_the_whole_run_is_possible(warmup):
    given = rates(Recipe(schedule="cosine", epochs=3, warmup_epochs=warmup, learning_rate=1.0))
    assert all(0 < rate <= 1 for rate in given)
    assert given[0] < given[1] < given[2]


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adamw", lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.3, fused=False, foreach=False)),
        ("adam", lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.3, fused=False, foreach=False)),
        (
            "sgd",
            lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=0.3, momentum=0.9, nesterov=True, foreach=False),
        ),
    ],
)
def test_each_optimiser_moves_as_torchs_plain_one(name, reference):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    twin = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    twin.load_state_dict(model.state_dict())
    pairs = [
        (
            model,
            build_optimizer(
                [{"params": list(model.parameters()), "factor": 1.0}],
                Recipe(optimizer=name, learning_rate=0.01, weight_decay=0.3),
            ),
        ),
        (twin, reference(twin.parameters())),
    ]
    inputs = torch.randn(8, 4)
    for _ in range(5):
        for net, optimizer in pairs:
            optimizer.zero_grad()
            net(inputs).square().sum().backward()
            optimizer.step()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
