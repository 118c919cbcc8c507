"""The arithmetic of a bank: its gradients are autograd's, head by head."""

import numpy as np
import pytest
import torch
from torch import nn

from discern.training.bank import Task, _set_gradients, class_weights, fresh_bank, state_of
from discern.training.heads import Head

FEATURES, CLASSES, IMAGES = 21, 4, 13


@pytest.fixture
def task():
    random = np.random.default_rng(0)
    labels = torch.from_numpy(np.sort(np.arange(IMAGES) ** 2 % CLASSES) + np.arange(IMAGES) % 3).clamp(max=3)
    rows = random.normal(size=(IMAGES, FEATURES)).astype(np.float32)
    weights = class_weights(labels, CLASSES, balance=True)
    return Task(
        features=rows[None],
        labels=labels,
        weights=weights,
        val_features=rows,
        val_labels=labels,
        val_weights=weights,
        epochs=1,
        batch_size=IMAGES,
    )


@pytest.mark.parametrize("hidden", [None, 9])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradients_are_those_of_autograd(task, hidden, dropout):
    heads = [
        Head(learning_rate=rate, hidden=hidden, dropout=dropout, label_smoothing=smoothing, seed=3)
        for rate in (1e-3, 1.0)
        for smoothing in (0.0, 0.3)
    ]
    bank = fresh_bank(task, heads)
    width = hidden or FEATURES
    draws = np.random.default_rng(1).random((IMAGES, width if dropout else 0))
    inputs = torch.from_numpy(task.features[0])
    _set_gradients(task, bank, inputs, task.labels, torch.from_numpy(draws))
    kept = torch.tensor((draws >= dropout) / (1 - dropout), dtype=torch.float32) if dropout else 1
    for k, head in enumerate(heads):
        first = nn.Linear(FEATURES, hidden or CLASSES)
        last = nn.Linear(hidden, CLASSES) if hidden else None
        network = nn.ModuleDict({"0": first} | ({"3": last} if last else {}))
        network.load_state_dict(state_of(task, [weight[k] * bank.rates[k] for weight in bank.weights]))
        logits = last(first(inputs).relu() * kept) if last else first(inputs * kept)
        nn.CrossEntropyLoss(task.weights, label_smoothing=head.label_smoothing)(logits, task.labels).backward()
        found = state_of(task, [weight.grad[k] for weight in bank.weights])
        expected = {name: parameter.grad for name, parameter in network.named_parameters()}
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
