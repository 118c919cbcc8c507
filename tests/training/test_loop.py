import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

import discern
from discern.data import keyed
from discern.data.pixels import Pixels
from discern.errors import TrainingDiverged
from discern.models.convnet import ConvNet
from discern.progress import Silent
from discern.training.loop import fit
from discern.training.optim import learning_rate

NO_AUGMENTATION = {"flip": 0, "vertical_flip": 0, "shift": 0, "rotate": 0, "zoom": 0}


def weights(run, name="last"):
    return load_file(run.checkpoint(name))


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def untimed(run):
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in run.metrics]


def scored(job, name):
    """Mean cross-entropy and accuracy of a checkpoint on the validation split, image by image in float64."""
    state = {key.removeprefix("model."): value.double() for key, value in weights(job.run, name).items()}
    model = ConvNet(job.model.config, classes=job.model.classes, size=job.model.size).double().eval()
    model.load_state_dict({k: v for k, v in state.items() if not k.startswith("optimizer.")})
    val, losses, right = job.dataset.split("val"), [], 0
    for row, label in zip(val.index, val.labels, strict=True):
        picture = (job.pixels.array[row] / 255 - np.array(job.preprocessing.mean)) / np.array(job.preprocessing.std)
        with torch.no_grad():
            logits = model(torch.from_numpy(picture.transpose(2, 0, 1)[None]))[0].numpy()
        losses.append(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label])
        right += logits.argmax() == label
    return np.mean(losses), right / len(val)


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_toy_task_is_learned_in_seconds(patches, make_job, channels_last):
    job = make_job(patches(), epochs=4, channels_last=channels_last)
    position = fit(job, Silent())
    assert position.best_val_acc > 0.9
    assert [line["epoch"] for line in job.run.metrics] == [1, 2, 3, 4]
    assert job.run.metrics[-1]["train_loss"] < job.run.metrics[0]["train_loss"]
    assert job.run.metrics[-1]["train_acc"] > 0.8  # dropout is on while it is counted


def test_an_epoch_is_what_a_plain_loop_does(patches, make_job):
    settings = {
        "model": "simple-cnn",
        "optimizer": "sgd",
        "learning_rate": 0.02,
        "warmup_epochs": 0,
        "weight_decay": 0.1,
    }
    settings |= {"schedule": "cosine", "label_smoothing": 0.1, "augment": NO_AUGMENTATION, "epochs": 2}
    job = make_job(patches(), **settings)
    train, plain = job.dataset.split("train"), ConvNet(job.model.config, classes=3, size=16)
    plain.load_state_dict(job.model.state_dict())
    inputs = job.preprocessing.normalize(torch.from_numpy(job.pixels.take(train.index)))
    labels = torch.from_numpy(train.labels)
    optimizer = torch.optim.SGD(plain.parameters(), lr=1, weight_decay=0.1, momentum=0.9, nesterov=True)
    per_epoch, losses = -(-len(train) // 8), []
    for epoch in range(2):
        total = 0.0
        for number, rows in enumerate(np.split(keyed.permutation(0, epoch, len(train)), range(8, len(train), 8))):
            optimizer.param_groups[0]["lr"] = learning_rate(job.recipe, epoch * per_epoch + number, per_epoch)
            smooth = nn.functional.one_hot(labels[rows], 3) * 0.9 + 0.1 / 3
            loss = -(smooth * plain(inputs[rows]).log_softmax(1)).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        losses.append(total / len(train))

    fit(job, Silent())
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(weights(job.run)[f"model.{name}"], value, rtol=1e-4, atol=1e-6)
    assert [line["train_loss"] for line in job.run.metrics] == pytest.approx(losses, rel=1e-5)
    assert [line["step"] for line in job.run.metrics] == [per_epoch, 2 * per_epoch]
    rates = [learning_rate(job.recipe, step - 1, per_epoch) for step in (per_epoch, 2 * per_epoch)]
    assert [line["learning_rate"] for line in job.run.metrics] == rates


@pytest.mark.parametrize("monitor", ["val_loss", "val_acc"])
def test_patience_without_improvement_stops_early(patches, make_job, monitor):
    # Without batch norm and with a rate of zero nothing ever improves.
    job = make_job(patches(6), model="simple-cnn", learning_rate=0, epochs=9, patience=2, monitor=monitor)
    position = fit(job, Silent())
    assert (position.epoch, position.stale) == (3, 2)
    assert len(job.run.metrics) == 3
    before = weights(job.run)
    assert fit(make_job(job.dataset.root, run=job.run, **asdict(job.recipe)), Silent()) == position, "it had stopped"
    assert same(before, weights(job.run))


def test_improvement_resets_patience(patches, make_job):
    position = fit(make_job(patches(), epochs=4, patience=1, learning_rate=3e-4), Silent())
    assert (position.epoch, position.stale) == (4, 0)


def test_checkpoints_hold_what_the_metrics_say(patches, make_job):
    # Nothing can be learned from noise: the validation loss rises while the training images are learned by heart.
    job = make_job(
        patches(signal=0),
        model="regularized-cnn",
        epochs=10,
        learning_rate=3e-3,
        augment=NO_AUGMENTATION,
        weight_decay=0,
    )
    fit(job, Silent())
    metrics = job.run.metrics
    rows = {
        "best_val_loss": min(metrics, key=lambda line: line["val_loss"]),
        "best_val_acc": max(metrics, key=lambda line: line["val_acc"]),  # the first of equals, as `max` gives
        "last": metrics[-1],
    }
    assert rows["best_val_loss"]["epoch"] < 10, "the test needs a best epoch that is not the last"
    for name, row in rows.items():
        loss, accuracy = scored(job, name)
        assert (loss, accuracy) == pytest.approx((row["val_loss"], row["val_acc"]), rel=1e-4), name
        with safe_open(job.run.checkpoint(name), framework="pt") as file:
            note = json.loads(file.metadata()["discern"])
        assert {k: note[k] for k in ("epoch", "phase", "val_loss", "val_acc")} == {
            k: row[k] for k in note if k in row
        }, name


def test_a_diverging_loss_stops_with_step_images_and_remedy_and_keeps_the_last_good_epoch(patches, make_job):
    photos = patches()
    settings = {"model": "simple-cnn", "optimizer": "sgd", "epochs": 9, "schedule": "constant"}
    good = make_job(photos, **{**settings, "epochs": 1}, learning_rate=1e-3)
    position = fit(good, Silent())
    kept = {name: good.run.checkpoint(name).read_bytes() for name in ("last", "best_val_loss", "best_val_acc")}

    with pytest.raises(TrainingDiverged) as stop:
        fit(make_job(photos, run=good.run, **settings, learning_rate=1000), Silent())
    sentence = str(stop.value)
    step = int(sentence.split("at step ")[1].split()[0])
    assert step > position.step
    named = sentence.split("batch with ")[1].split(", ...")[0].split(", ")
    rows = keyed.permutation(0, step // position.step, len(good.dataset.split("train")))
    start = step % position.step * 8
    assert named == [good.dataset.split("train").images[row] for row in rows[start : start + 3]]
    assert "lower the learning rate (1000.0); the checkpoints of the epochs before are kept." in sentence
    if step < 2 * position.step:
        assert kept == {name: good.run.checkpoint(name).read_bytes() for name in kept}
    assert all(torch.isfinite(value).all() for value in weights(good.run).values())
    assert scored(good, "last")


def test_divergence_in_the_first_epoch_keeps_nothing_and_says_so(patches, make_job):
    job = make_job(patches(), model="simple-cnn", optimizer="sgd", learning_rate=1000)
    with pytest.raises(TrainingDiverged, match=r"loss became .* nothing is kept"):
        fit(job, Silent())
    assert not (job.run.path / "checkpoints").exists()


def test_the_test_split_plays_no_part(patches, make_job):
    photos = patches()
    first, blind = make_job(photos), make_job(photos)
    noise = np.array(blind.pixels.array)
    noise[blind.dataset.split("test").index] = np.random.default_rng(7).integers(0, 256, noise.shape[1:], np.uint8)
    without = make_job(photos, only=["train", "val"])
    for job in (first, replace(blind, pixels=Pixels(array=noise)), without):
        fit(job, Silent())
        for name in ("last", "best_val_loss", "best_val_acc"):
            saved = weights(job.run, name)
            assert same(saved, weights(first.run, name))
        assert untimed(job.run) == untimed(first.run)


def test_the_seed_decides_everything_and_alone(patches, make_job):
    photos = patches()
    jobs = [make_job(photos), make_job(photos), make_job(photos, seed=1), make_job(photos, seed=1, model_seed=0)]
    for number, job in enumerate(jobs):
        torch.manual_seed(number)  # what the caller's generator holds must not matter
        fit(job, Silent())
    first, again, other, other_order = (weights(job.run) for job in jobs)
    assert same(first, again)
    assert untimed(jobs[0].run) == untimed(jobs[1].run)
    assert not same(first, other)
    assert not same(first, other_order), "order, augmentation and dropout do not depend on the seed"


def test_train_measures_without_consequence_and_leaves_the_callers_generators_alone(patches, tmp_path):
    photos, settings = patches(), {"model": "regularized-cnn", "size": 16, "epochs": 2, "batch_size": 8}
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    measured = discern.train(photos, runs=tmp_path / "measured", **settings)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002

    torch.manual_seed(6)
    fixed = discern.train(photos, recipe=measured.recipe_file, runs=tmp_path / "fixed")
    assert same(weights(measured), weights(fixed))
    assert untimed(measured) == untimed(fixed)
    assert np.array_equal(measured.predictions.probabilities, fixed.predictions.probabilities)


def test_balance_decides_whether_a_rare_class_is_believed_in(tmp_path, make_job):
    """Pure noise, nine of one class for one of the other: what is learned is how likely each class is."""
    rng = np.random.default_rng(0)
    for name, count in (("often", 90), ("seldom", 10)):
        (tmp_path / "noise" / name).mkdir(parents=True)
        for number in range(count):
            noise = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "noise" / name / f"{number}.png")
    believed = {}
    for balance in ("none", "weights"):
        job = make_job(tmp_path / "noise", balance=balance, learning_rate=0.0003, epochs=6)
        fit(job, Silent())
        test = job.dataset.split("test")
        with torch.no_grad():
            inputs = job.preprocessing.normalize(torch.from_numpy(job.pixels.take(test.index)))
            probabilities = job.model.eval()(inputs).softmax(1)
        believed[balance] = probabilities[:, test.classes.index("seldom")].mean().item()
    assert believed["none"] < 0.25
    assert believed["weights"] > believed["none"] + 0.15


def test_validation_every_few_epochs_is_what_patience_waits_for(patches, make_job):
    job = make_job(
        patches(6), model="simple-cnn", learning_rate=0, epochs=30, patience=2, validate_every=4, warmup_epochs=0
    )
    position = fit(job, Silent())
    assert position.epoch == 8, "the second validation, four epochs after the first, is no better"
    assert ["val_loss" in line for line in job.run.metrics] == [False, False, False, True] * 2
    assert job.run.checkpoint("best_val_loss").exists()


@pytest.mark.parametrize("average", [{"ema": 0.9}, {"swa": 0.6}])
def test_without_validation_images_the_average_is_what_is_left(patches, make_job, average):
    settings = {"epochs": 4, "learning_rate": 0.01, **average}
    plain = make_job(patches(), only=["train"], epochs=4, learning_rate=0.01)
    fit(plain, Silent())
    job = make_job(plain.dataset.root, only=["train"], **settings)
    fit(job, Silent())
    kept = weights(job.run)
    for name in (
        name for name in kept if name.startswith("average.") and "running" not in name and "num_" not in name
    ):
        model = kept[f"model.{name.removeprefix('average.')}"]
        assert torch.equal(model, kept[name])
    raw = weights(plain.run)
    assert any(not torch.equal(raw[name], kept[name]) for name in raw if name.startswith("model."))


def test_scores_of_an_epoch_that_the_time_cut_short_are_about_the_images_it_saw(patches, make_job):
    job = make_job(patches(), model="simple-cnn", epochs=5, learning_rate=0, warmup_epochs=0, batch_size=4)
    fit(replace(job, deadline=0.0), Silent())
    (line,) = job.run.metrics
    assert line["step"] == 1
    assert 0.5 < line["train_loss"] < 2, "about ln 3: nothing has been learned"
