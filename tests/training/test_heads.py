"""Heads that train side by side: each as if it were alone, and as torch's own modules and optimiser would train it."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from discern.data.keyed import permutation, uniform
from discern.errors import DataError, TrainingDiverged, UsageError
from discern.training import heads as module
from discern.training.heads import Head, train_heads
from discern.training.optim import learning_rate
from discern.training.recipe import Recipe

CLASSES, WIDTH, EPOCHS, BATCH = 3, 20, 4, 16

NEAR = {"rtol": 1e-4, "atol": 2e-5}
"""Float32 rounding after a training: other shapes add the same numbers in another order."""


@pytest.fixture
def material():
    """Two noisy views of 70 images and 40 validation images; classes of unequal size that overlap."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(CLASSES, WIDTH))

    def some(count):
        labels = np.concatenate([np.arange(CLASSES), random.choice(CLASSES, count - CLASSES, p=[0.6, 0.3, 0.1])])
        return centres[labels] + 1.5 * random.normal(size=(count, WIDTH)), labels

    (rows, labels), (val, val_labels) = some(70), some(40)
    views = np.stack([rows, rows + 0.3 * random.normal(size=rows.shape)])
    return views.astype(np.float16), labels, val.astype(np.float32), val_labels


def train(material, heads, **changes):
    return train_heads(*material, heads, **{"classes": CLASSES, "epochs": EPOCHS, "batch_size": BATCH, **changes})


def same(first, second, **tolerance):
    assert first.head == second.head
    assert first.weights.keys() == second.weights.keys()
    torch.testing.assert_close(first.weights, second.weights, **(tolerance or NEAR))
    assert first.best_epoch == second.best_epoch
    assert first.val_losses == pytest.approx(second.val_losses, rel=1e-5)
    assert first.val_accs == second.val_accs


GRID = [
    Head(learning_rate=rate, weight_decay=decay, dropout=dropout, hidden=hidden, label_smoothing=smoothing, seed=seed)
    for rate, decay, dropout, hidden, smoothing, seed in product(
        (1e-3, 3e-2), (0.0, 0.3), (0.0, 0.4), (None, 6, 11), (0.0, 0.2), (0, 7)
    )
]


def test_every_head_is_the_one_that_it_is_alone(material):
    for together in train(material, GRID):
        (alone,) = train(material, [together.head])
        same(together, alone)


@pytest.mark.parametrize("hidden", [None, 16, 30])
def test_rounding_does_not_tell_heads_apart_even_where_training_makes_much_of_it(hidden):
    random = np.random.default_rng(0)
    rows, labels = random.random((1, 200, 300)).astype(np.float16), np.arange(200) % 3
    heads = [Head(learning_rate=0.2, hidden=hidden, dropout=0.1, weight_decay=k / 100) for k in range(9)]
    material = rows, labels, random.random((40, 300)), np.arange(40) % 3
    for together in train(material, heads, epochs=15):
        (alone,) = train(material, [together.head], epochs=15)
        same(together, alone)


def test_heads_are_given_in_the_order_they_were_asked_for(material):
    order = np.random.default_rng(1).permutation(len(GRID))
    sorted_, shuffled = train(material, GRID), train(material, [GRID[k] for k in order])
    for k, one in zip(order, shuffled, strict=True):
        same(one, sorted_[k])


def test_small_banks_train_the_same_as_large_ones(material, monkeypatch):
    large = train(material, GRID)
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    for one, other in zip(train(material, GRID), large, strict=True):
        same(one, other)


def by_hand(material, head, balance):
    """Modules, loss and AdamW of torch, in the plainest loop; weights after each epoch."""
    views, labels, _, _ = material
    torch.manual_seed(head.seed)
    hidden = [nn.Linear(WIDTH, head.hidden), nn.ReLU(), nn.Dropout()] if head.hidden else []
    layers = [*hidden, nn.Linear(head.hidden or WIDTH, CLASSES)]
    network = nn.Sequential(*layers)
    weights = compute_class_weight("balanced", classes=np.arange(CLASSES), y=labels) if balance else np.ones(CLASSES)
    loss = nn.CrossEntropyLoss(torch.tensor(weights, dtype=torch.float32), label_smoothing=head.label_smoothing)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=head.weight_decay)
    recipe, step, states = Recipe(learning_rate=head.learning_rate, epochs=EPOCHS, warmup_epochs=1), 0, []
    for epoch in range(EPOCHS):
        order = permutation(head.seed, epoch, len(labels))
        draws = uniform(head.seed, epoch, np.arange(len(labels), dtype=np.uint64), 2 + (head.hidden or WIDTH))
        shown = views[(draws[:, 1] * 2).astype(int), np.arange(len(labels))].astype(np.float32)
        kept = torch.tensor((draws[:, 2:] >= head.dropout) / (1 - head.dropout), dtype=torch.float32)
        for rows in np.split(order, range(BATCH, len(order), BATCH)):
            inputs = torch.tensor(shown[rows])
            for layer in hidden[:2]:
                inputs = layer(inputs)
            optimizer.param_groups[0]["lr"] = learning_rate(recipe, step, -(-len(labels) // BATCH))
            optimizer.zero_grad()
            loss(layers[-1](inputs * kept[rows]), torch.tensor(labels[rows])).backward()
            optimizer.step()
            step += 1
        states.append({name: values.clone() for name, values in network.state_dict().items()})
    return states


@pytest.mark.parametrize("balance", [True, False])
def test_a_head_is_what_torchs_modules_and_adamw_make_of_the_same_batches(material, balance):
    _, _, val, val_labels = material
    weights = compute_class_weight("balanced", classes=np.arange(CLASSES), y=val_labels) if balance else np.ones(3)
    for found in train(material, GRID, balance=balance):
        states = by_hand(material, found.head, balance)
        torch.testing.assert_close(found.weights, states[found.best_epoch - 1], **NEAR)
        for state, loss, acc in zip(states, found.val_losses, found.val_accs, strict=True):
            network = found.network()
            network.load_state_dict(state)
            said = network(torch.tensor(val)).softmax(dim=1).detach().numpy().astype(np.float64)
            said /= said.sum(axis=1, keepdims=True)
            total = log_loss(val_labels, said, sample_weight=weights[val_labels], normalize=False)
            assert loss == pytest.approx(total / len(val), rel=1e-4)
            assert acc == accuracy_score(val_labels, said.argmax(axis=1))


def test_the_weights_are_those_of_the_epoch_with_the_lowest_loss(material):
    _, _, val, val_labels = material
    found = train(material, [Head(learning_rate=rate) for rate in (3e-4, 3e-2, 1.0)], balance=False, epochs=8)
    assert {each.best_epoch < 8 for each in found} == {True, False}
    for each in found:
        assert each.val_loss == min(each.val_losses)
        logits = torch.from_numpy(each.logits(val))
        assert nn.functional.cross_entropy(logits, torch.tensor(val_labels)).item() == pytest.approx(each.val_loss)
        assert accuracy_score(val_labels, logits.argmax(dim=1)) == each.val_acc


def test_a_rare_class_counts_as_much_as_a_common_one_when_balanced(material):
    _, _, val, val_labels = material
    rare = val[val_labels == 2]
    head = Head(learning_rate=1e-2)
    (balanced,), (plain,) = (train(material, [head], balance=choice, epochs=2) for choice in (True, False))
    assert (balanced.logits(rare).argmax(axis=1) == 2).mean() > (plain.logits(rare).argmax(axis=1) == 2).mean()


@pytest.mark.parametrize("hidden", [None, 16])
def test_classes_that_can_be_told_apart_are(hidden):
    random = np.random.default_rng(0)
    labels = np.arange(300) % 4
    rows = np.eye(4, 16)[labels] * 6 + random.normal(size=(300, 16))
    rows = rows.astype(np.float32)
    found = train_heads(
        rows[None, :200],
        labels[:200],
        rows[200:],
        labels[200:],
        [Head(learning_rate=1e-2, hidden=hidden, dropout=0.2, seed=seed) for seed in range(3)],
        classes=4,
        epochs=10,
    )
    assert min(each.val_acc for each in found) > 0.95
    assert len({each.val_loss for each in found}) == 3  # seeds differ


def test_features_may_lie_on_disk_and_logits_are_of_any_number_of_images(material, tmp_path):
    views, labels, val, val_labels = material
    np.save(tmp_path / "views.npy", views)
    mapped = np.load(tmp_path / "views.npy", mmap_mode="r")
    (head,) = heads = [Head(learning_rate=1e-2, hidden=5)]
    (one,), (other,) = train((mapped, labels, val, val_labels), heads), train(material, heads)
    same(one, other, rtol=0, atol=0)
    many = np.tile(mapped[0], (30, 1))
    logits = one.logits(many)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, np.tile(one.logits(mapped[0]), (30, 1)), rtol=1e-5, atol=1e-6)
    assert one.head == head


def test_progress_tells_of_every_head_and_epoch(material):
    told = []

    class Watch(module.Silent):
        def track(self, label, total, unit="images"):
            told.append((label, total, unit))
            return super().track(label, total, unit)

    train(material, GRID, progress=Watch())
    assert told == [(f"Training {len(GRID)} heads", len(GRID) * EPOCHS, "epochs")]


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"weight_decay": -1.0},
        {"dropout": 1.0},
        {"label_smoothing": -0.1},
        {"hidden": 0},
    ],
)
def test_a_head_that_cannot_be_trained_is_refused(material, change):
    with pytest.raises(UsageError, match="cannot be trained"):
        train(material, [replace(GRID[0], **change)])


@pytest.mark.parametrize(
    ("labels", "val_labels"),
    [
        (np.zeros(70, int), np.zeros(40, int)),
        (np.arange(70) % 4, np.zeros(40, int)),
        (np.arange(70) % 3 - 1, np.zeros(40, int)),
        (np.arange(70) % 3, np.full(40, 3)),
        (np.arange(70) % 3, np.zeros(0, int)),
    ],
    ids=["a class is missing", "a class too many", "unlabelled", "another class in validation", "no validation"],
)
def test_labels_must_hold_every_class_and_no_other(material, labels, val_labels):
    views, _, val, _ = material
    with pytest.raises(DataError, match="Heads of 3 classes cannot be trained"):
        train((views, labels, val, val_labels), GRID[:1])


def test_a_class_may_be_missing_in_validation(material):
    views, labels, val, _ = material
    (found,) = train((views, labels, val, np.arange(len(val)) % 2), [Head(learning_rate=1e-2)])
    assert np.isfinite(found.val_losses).all()


def test_features_that_are_not_finite_stop_the_training(material):
    views, labels, val, val_labels = material
    views[:, 3, 5] = np.inf
    with pytest.raises(TrainingDiverged, match="in epoch 1"):
        train((views, labels, val, val_labels), GRID[:1])


def test_threads_are_as_they_were_afterwards(material):
    before = torch.get_num_threads()
    train(material, GRID[:1])
    with pytest.raises(UsageError):
        train(material, [replace(GRID[0], dropout=1.0)])
    assert torch.get_num_threads() == before
