import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from discern.models import zoo
from discern.training import loop
from discern.training.checkpoint import Position
from discern.training.muon import Muon, orthogonal
from discern.training.optim import build_optimizer, groups_of, learning_rate
from discern.training.recipe import Recipe
from discern.training.scoring import Scores

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


def test_step_is_torchs():
    recipe = Recipe(warmup_epochs=0, schedule="step", step_epochs=2, gamma=0.5, epochs=7, learning_rate=0.3)
    expected = torch_rates(recipe, lambda o: lr_scheduler.StepLR(o, 2, 0.5), steps=7 * PER_EPOCH, every=PER_EPOCH)
    assert rates(recipe) == pytest.approx(expected, rel=1e-12)


def test_linear_is_torchs_and_with_a_warm_up_a_triangle():
    total = 5 * PER_EPOCH
    expected = torch_rates(
        recipe := Recipe(warmup_epochs=0, schedule="linear", epochs=5, learning_rate=0.3),
        lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total),
        steps=total,
    )
    assert rates(recipe) == pytest.approx(expected, rel=1e-9)
    triangle = rates(Recipe(warmup_epochs=2, schedule="linear", epochs=6, learning_rate=1.0))
    assert triangle.index(max(triangle)) == 2 * PER_EPOCH
    assert max(triangle) == 1


@pytest.mark.parametrize("epochs", [1, 3, 10])
def test_one_cycle_is_torchs(epochs):
    recipe, total = Recipe(schedule="onecycle", epochs=epochs, learning_rate=0.3), epochs * PER_EPOCH
    expected = torch_rates(recipe, lambda o: lr_scheduler.OneCycleLR(o, 0.3, total_steps=total), steps=total)
    assert rates(recipe) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("monitor", "mode"), [("val_loss", "min"), ("val_acc", "max")])
def test_plateau_is_torchs(monitor, mode):
    values = [0.9, 0.8, 0.85, 0.8, 0.82, 0.9, 0.95, 0.7, 0.71, 0.72, 0.73, 0.74, 0.75, 0.6]
    recipe = Recipe(warmup_epochs=0, schedule="plateau", gamma=0.5, plateau_epochs=2, monitor=monitor, epochs=50)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, mode, factor=0.5, patience=2, threshold=0.0)
    position = Position()
    for value in values:
        scores = Scores(loss=value, accuracy=value, losses=torch.ones(1), right=torch.ones(1))
        position = loop._judged(position, recipe, loop._earned(position, scores, None), scores)
        schedule.step(value)
        assert learning_rate(recipe, 0, PER_EPOCH, drops=position.drops) == optimizer.param_groups[0]["lr"]
    assert position.drops >= 2


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


def test_amsgrad_is_torchs():
    weights = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    ours = build_optimizer([{"params": [weights[0]]}], Recipe(amsgrad=True, learning_rate=0.1, weight_decay=0.2))
    theirs = torch.optim.AdamW([weights[1]], lr=0.1, weight_decay=0.2, amsgrad=True, foreach=False)
    for scale in (1.0, 9.0, 0.1, 0.01):
        for weight, optimizer in zip(weights, (ours, theirs), strict=True):
            weight.grad = scale * torch.tensor([1.0, -2.0, 0.5])
            optimizer.step()
    torch.testing.assert_close(*weights)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (8, 3, 3, 3)])
def test_muon_is_torchs_on_matrices_and_takes_filters_for_matrices(shape):
    torch.manual_seed(0)
    begin = torch.randn(shape)
    ours, theirs = nn.Parameter(begin.clone()), nn.Parameter(begin.flatten(1).clone())
    pair = (
        (ours, Muon([ours], lr=0.02, weight_decay=0.1, momentum=0.95)),
        (theirs, torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")),
    )
    for _ in range(4):
        gradient = torch.randn(shape)
        for weight, optimizer in pair:
            weight.grad = gradient.view_as(weight).clone()
            optimizer.step()
    torch.testing.assert_close(ours.flatten(1), theirs, rtol=0.01, atol=2e-4)  # both iterate in bfloat16


def test_muon_moves_what_is_no_matrix_as_adamw_does():
    ours, theirs = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5))
    pair = (
        (ours, Muon([ours], lr=0.1, weight_decay=0.2)),
        (theirs, torch.optim.AdamW([theirs], 0.1, weight_decay=0.2)),
    )
    for step in range(5):
        for weight, optimizer in pair:
            weight.grad = torch.arange(5.0) * (-1) ** step + 0.5
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(20, 7), (7, 20), (12, 12)])
def test_orthogonal_makes_singular_values_equal_and_keeps_their_directions(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    found = orthogonal(matrix)
    assert found.dtype == torch.float32
    values = torch.linalg.svdvals(found)
    assert 0.5 < values.min() < values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    nearest = left @ right
    assert torch.nn.functional.cosine_similarity(found.flatten(), nearest.flatten(), dim=0) > 0.95


def test_biases_of_batch_norms_have_a_rate_of_their_own():
    network = zoo.build("regularized-cnn", classes=3, size=16)
    every = frozenset(name for name, _ in network.named_parameters())
    groups = groups_of(network, every, Recipe(bias_rate=8.0, weight_decay=0.4))
    assert [group["factor"] for group in groups] == [1.0, 8.0]
    assert [group.get("weight_decay") for group in groups] == [None, 0.05]
    biases = [layer.bias for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [id(each) for each in groups[1]["params"]] == [id(each) for each in biases]
    assert sum(len(group["params"]) for group in groups) == len(every)
