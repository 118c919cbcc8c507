"""Heads that are solved for: the minimum that an independent implementation finds, and what can be solved for."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from discern.data.dataset import SCHEMA, Dataset
from discern.errors import UsageError
from discern.models import zoo
from discern.training import exact
from discern.training.exact import Solver, decay_of, linear_head, solvable
from discern.training.feeds import KeptFeed
from discern.training.frozen import Activations, Rows
from discern.training.phases import Phase
from discern.training.recipe import Recipe, recipe_from_mapping

IMAGES, VIEWS, WIDTH, CLASSES = 60, 2, 5, 3


@pytest.fixture
def task():
    """Uneven classes whose features differ in mean and scale; each image is seen plainly and in two views."""
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [40, 12, 8])
    scale = np.array([1, 10, 0.1, 3, 1])
    middle = random.normal(size=(CLASSES, WIDTH)) * scale * 1.5
    plain = middle[labels] + random.normal(size=(IMAGES, WIDTH)) * scale + 4
    views = (plain[:, None] + random.normal(size=(IMAGES, VIEWS, WIDTH)) * scale / 4).reshape(-1, WIDTH)
    table = {name: [None] * IMAGES for name in SCHEMA}
    table |= {"index": range(IMAGES), "image": [f"{k}.png" for k in range(IMAGES)], "label": labels}
    table |= {"file": table["image"], "split": ["train"] * IMAGES}
    dataset = Dataset(root=Path("/"), classes=("a", "b", "c"), table=pl.DataFrame(table, SCHEMA))
    feed = KeptFeed(
        model=nn.Linear(WIDTH, CLASSES),
        activations=Activations(
            plain=Rows(values=plain.astype(np.float16), at=np.arange(IMAGES)[:, None]),
            varied=Rows(values=views.astype(np.float16), at=np.arange(IMAGES * VIEWS).reshape(IMAGES, VIEWS)),
            shapes=((WIDTH,),),
        ),
        place=np.arange(IMAGES),
        recipe=Recipe(),
        device=torch.device("cpu"),
    )
    return SimpleNamespace(
        dataset=dataset,
        feed=feed,
        labels=labels,
        network=SimpleNamespace(head=nn.Sequential(nn.Dropout(), feed.model)),
    )


def solve(task, decay, *, weights=None, smoothing=0.0):
    weights = torch.ones(CLASSES) if weights is None else weights
    return Solver(task.network, task.feed, task.dataset, weights=weights, smoothing=smoothing).solve(decay)


def weights_of(labels, *, balanced):
    counts = np.bincount(labels)
    return torch.tensor(len(labels) / (CLASSES * counts) if balanced else np.ones(CLASSES), dtype=torch.float32)


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("decay", [1.0, 0.01, 1e-4])
def test_it_is_the_minimum_that_scikit_learn_finds(task, decay, balanced, monkeypatch):
    monkeypatch.setattr(exact, "_FLOOR", 0.0)
    monkeypatch.setattr(exact, "_ITERATIONS", 2_000)
    monkeypatch.setattr(exact, "_FLAT", 1e-7)
    weights = weights_of(task.labels, balanced=balanced)
    solve(task, decay, weights=weights)
    rows, truth = task.feed.every_view(task.dataset).numpy().astype(np.float64), np.tile(task.labels, VIEWS + 1)
    scaled = (rows - rows.mean(axis=0)) / rows.std(axis=0, ddof=1)
    share = weights.numpy()[truth]
    other = LogisticRegression(C=1 / (decay * share.sum()), max_iter=10_000, tol=1e-10)
    other.fit(scaled, truth, sample_weight=share)
    with torch.no_grad():
        ours = task.feed.model(torch.from_numpy(rows).float()).softmax(dim=1).numpy()
    np.testing.assert_allclose(ours, other.predict_proba(scaled), atol=2e-3)


def test_it_tells_the_loss_and_how_many_plain_images_are_right(task):
    weights = weights_of(task.labels, balanced=True)
    loss, right = solve(task, 0.1, weights=weights, smoothing=0.1)
    rows, truth = task.feed.every_view(task.dataset), torch.from_numpy(np.tile(task.labels, VIEWS + 1))
    with torch.no_grad():
        logits = task.feed.model(rows)
    told = nn.functional.cross_entropy(logits, truth, weight=weights, label_smoothing=0.1)
    assert loss == pytest.approx(told.item(), rel=1e-4)
    assert right == pytest.approx((logits[:IMAGES].argmax(1) == truth[:IMAGES]).float().mean().item())


def test_it_depends_on_nothing_that_was_before(task):
    solver, found = Solver(task.network, task.feed, task.dataset, weights=torch.ones(3), smoothing=0.0), []
    for _ in range(2):
        solver.solve(0.1)
        found.append(task.feed.model.weight.detach().clone())
        solver.solve(1.0)
        nn.init.normal_(task.feed.model.weight)
    assert torch.equal(*found)


def test_a_feature_that_never_varies_does_no_harm(task):
    task.feed.activations.plain.values[:, 0] = task.feed.activations.varied.values[:, 0] = 7
    solve(task, 0.01)
    assert task.feed.model.weight.isfinite().all()
    assert task.feed.model.weight.abs().max() < 1e3


def test_every_view_stands_behind_the_plain_images(task, monkeypatch):
    monkeypatch.setattr("discern.training.feeds._PORTION", 7)
    rows = task.feed.every_view(task.dataset.filter(pl.col("index") % 2 == 1))
    kept = task.feed.activations
    expected = [
        kept.plain.values[1::2],
        *(kept.varied.values.reshape(IMAGES, VIEWS, WIDTH)[1::2, k] for k in range(2)),
    ]
    assert torch.equal(rows, torch.from_numpy(np.concatenate(expected)).float())


def test_decays_fall_by_half_a_decade_unless_the_phase_has_its_own():
    phase = Phase(train="head", optimizer="lbfgs")
    assert [round(decay_of(phase, epoch), 4) for epoch in range(5)] == [3, 0.9487, 0.3, 0.0949, 0.03]
    assert decay_of(replace(phase, weight_decay=0.02), 7) == 0.02


def network(**changes):
    return zoo.build("test_resnet", classes=3, size=64, changes={"weights": "none", **changes})


def test_heads_of_one_linear_layer_can_be_solved_for(task, monkeypatch):
    one, two = network(), network(dense=[8])
    assert isinstance(linear_head(one), nn.Linear)
    assert linear_head(two) is None
    assert linear_head(network(dropout=0.3)) is not None
    width = linear_head(one).in_features
    feed = replace(task.feed, activations=replace(task.feed.activations, shapes=((width,),)))
    recipe = Recipe()
    assert solvable(one, feed, recipe, task.dataset)
    assert not solvable(two, feed, recipe, task.dataset)
    assert not solvable(one, None, recipe, task.dataset)
    assert not solvable(one, task.feed, recipe, task.dataset), "the features are of another width"
    assert not solvable(one, feed, replace(recipe, loss="focal"), task.dataset)
    monkeypatch.setattr(exact, "_LARGEST", 4 * 3 * IMAGES * width - 1)
    assert not solvable(one, feed, recipe, task.dataset)


@pytest.mark.parametrize(
    "recipe",
    [
        {"optimizer": "lbfgs"},
        {"phases": [{"train": "all", "optimizer": "lbfgs"}]},
        {"phases": [{"optimizer": "lbfgs"}]},
    ],
)
def test_nothing_but_a_head_is_solved_for(recipe):
    with pytest.raises(UsageError, match=r"lbfgs trains a linear head and nothing else: phases: \[\{train: head"):
        recipe_from_mapping(recipe, "the test")
