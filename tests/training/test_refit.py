"""The head of a finished training learns from the validation images as well; runs whose heads are solved for."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import discern
import discern.steps.train
from discern.deploy.predict import load_predictor
from discern.progress import Silent
from discern.runs.run import REFIT
from discern.training import refit as module
from discern.training.exact import decay_of
from discern.training.phases import Phase

SIDE = 64
SOLVED = {"train": "head", "optimizer": "lbfgs", "epochs": 8, "patience": 2}
STEPS = {"train": "head", "epochs": 4, "learning_rate": 0.02, "patience": None}
STILL = {"train": 2, "epochs": 1, "learning_rate": 0.0, "weight_decay": 0.0}


class Watch(Silent):
    """Keeps what was said; stops when the training called `stop` begins for the `time`-th time."""

    def __init__(self, stop="", time=1):
        self.said, self.stop, self.left = [], stop, time

    def say(self, message):
        self.said.append(message)

    def track(self, label, total, unit="images"):
        self.left -= bool(self.stop) and label.startswith(self.stop)
        if self.stop and not self.left:
            raise KeyboardInterrupt
        return super().track(label, total, unit)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Photos of three classes whose colours differ a little, and weights that nobody trained."""
    root, random = tmp_path_factory.mktemp("refit"), np.random.default_rng(0)
    for label, name in enumerate(("red", "green", "blue")):
        (root / "photos" / name).mkdir(parents=True)
        for number in range(30):
            picture = np.clip(random.normal(100, 50, (SIDE, SIDE, 3)) + random.normal(0, 12, 3), 0, 215)
            picture[..., label] += 40
            Image.fromarray(picture.astype(np.uint8)).save(root / "photos" / name / f"{number}.png")
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", zero_init_last=False)
    for _ in range(20):
        network.train()(torch.randn(16, 3, SIDE, SIDE) * 2)
    (root / "weights").mkdir()
    save_file(network.state_dict(), root / "weights" / "model.safetensors")
    config = {"input_size": [3, SIDE, SIDE], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.3], "license": "mit"}
    told = {"architecture": "test_resnet", "pretrained_cfg": config}
    (root / "weights" / "config.json").write_text(json.dumps(told))
    return root


@pytest.fixture
def trained(place, tmp_path, cache, monkeypatch):
    """A factory of runs that share frozen work, without heat maps and reports."""
    monkeypatch.setenv("DISCERN_CACHE", str(place / "cache"))
    for name in ("explain", "write_report"):
        monkeypatch.setattr(discern.steps.train, name, lambda *arguments, **options: None)

    def train(*, into="runs", watch=None, **changes):
        settings = {
            "model": "test_resnet",
            "network": {"weights": str(place / "weights"), **changes.pop("network", {})},
            "size": SIDE,
            "phases": [SOLVED],
            "views": 2,
            "batch_size": 16,
            "precision": "float32",
            "channels_last": False,
            **changes,
        }
        return discern.train(place / "photos", runs=tmp_path / into, progress=watch or Watch(), **settings)

    return train


def weights_of(run, name):
    state = load_file(run.checkpoint(name))
    return {key.removeprefix("model."): value for key, value in state.items() if key.startswith("model.")}


def probabilities(run, checkpoint, split):
    """What a checkpoint says of a split, in the order of the stored predictions."""
    images = [name for name, of in zip(run.predictions.images, run.predictions.splits, strict=True) if of == split]
    predictor = load_predictor(run, checkpoint)
    return predictor.probabilities(np.stack([predictor.decode(run.dataset.root / name) for name in images]))


def stored(run, split):
    return run.predictions.probabilities[np.array(run.predictions.splits) == split]


def test_decays_are_tried_from_strong_to_weak_until_patience_ends(trained):
    run = trained()
    lines = run.metrics
    tried = [line["weight_decay"] for line in lines]
    assert tried == [decay_of(Phase(train="head", optimizer="lbfgs"), epoch) for epoch in range(len(tried))]
    assert all("learning_rate" not in line for line in lines)
    losses = [line["train_loss"] for line in lines]
    assert losses == sorted(losses, reverse=True), "less decay, less loss"
    best = int(np.argmin([line["val_loss"] for line in lines]))
    assert len(lines) == min(8, best + 1 + 2)


def test_validation_is_judged_by_weights_that_have_not_seen_it_and_test_by_those_that_have(trained):
    run = trained(epochs=4)
    assert run.info["checkpoint"] == REFIT
    assert run.info["validated"] == "best_val_loss"
    assert np.array_equal(stored(run, "test"), probabilities(run, REFIT, "test"))
    assert np.array_equal(stored(run, "val"), probabilities(run, "best_val_loss", "val"))
    assert not np.allclose(stored(run, "val"), probabilities(run, REFIT, "val"), atol=1e-4)


@pytest.mark.parametrize("phase", [SOLVED, STEPS], ids=["solved", "in steps"])
def test_it_learns_from_all_but_the_test_images_and_nothing_but_the_head_changes(trained, phase):
    run = trained(phases=[phase, STILL])
    before, after = weights_of(run, "best_val_loss"), weights_of(run, REFIT)
    assert {key for key in after if not torch.equal(before[key], after[key])} == {"head.1.weight", "head.1.bias"}
    splits = run.dataset.split_counts()
    assert run.info["refit"]["images"] == splits["train"] + splits["val"]
    assert run.info["chosen_phase"] == 1
    assert run.info["refit"]["epochs"] == (1 if phase is SOLVED else run.info["chosen_epoch"])
    assert [line["epoch"] for line in run.metrics] == list(range(1, len(run.metrics) + 1)), "its epochs are its own"
    assert not (run.path / REFIT).exists()


def test_the_decay_is_the_one_that_validation_chose(trained, monkeypatch):
    asked = []
    solve = module.fit
    monkeypatch.setattr(module, "fit", lambda job, progress: asked.append(job.recipe.phases) or solve(job, progress))
    run = trained()
    lines = run.metrics
    ((phase,),) = asked
    assert phase.weight_decay == min(lines, key=lambda line: line["val_loss"])["weight_decay"]


@pytest.mark.parametrize(
    "changes",
    [
        {"refit": False},
        {"final": True},
        {"views": 0, "phases": [STEPS]},
        {"phases": [{**STEPS, "train": 1, "learning_rate": 0.01}]},
        {"network": {"weights": "none"}, "phases": []},
        {"overfit": 12},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_it_is_left_out_where_it_makes_no_sense(trained, changes):
    watch = Watch()
    run = trained(watch=watch, **{"epochs": 1, "phases": [SOLVED], **changes})
    assert run.info["status"] == "finished"
    assert "refit" not in run.info
    assert "validated" not in run.info
    assert not run.checkpoint(REFIT).exists()
    assert not [said for said in watch.said if said.startswith("Refit")]


@pytest.mark.parametrize("phase", [SOLVED, STEPS], ids=["solved", "in steps"])
@pytest.mark.parametrize("time", [1, 2], ids=["in the phase", "in the refit"])
def test_a_run_that_is_stopped_goes_on_to_the_same_bits(trained, phase, time):
    whole = trained(phases=[phase], into="whole")
    with pytest.raises(KeyboardInterrupt, match="discern train --resume"):
        trained(phases=[phase], into="stopped", watch=Watch("Training the head", time))
    run = discern.open_run(whole.path.parent.parent / "stopped" / whole.name)
    assert run.info["status"] == "training"
    discern.resume(run.path, progress=Watch())
    assert run.info["checkpoint"] == REFIT
    assert (run.path / "predictions.parquet").read_bytes() == (whole.path / "predictions.parquet").read_bytes()
    for name in ("best_val_loss", "best_val_acc", "last", REFIT):
        ours, theirs = weights_of(run, name), weights_of(whole, name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name


def test_a_run_resumed_after_the_refit_does_not_do_it_again(trained, monkeypatch, tmp_path):
    judge = discern.steps.train.judge

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(discern.steps.train, "judge", stop)
    with pytest.raises(KeyboardInterrupt):
        trained(watch=Watch())
    monkeypatch.setattr(discern.steps.train, "judge", judge)
    watch = Watch()
    assert discern.resume(tmp_path / "runs" / "test_resnet-1", progress=watch).info["checkpoint"] == REFIT
    assert not [said for said in watch.said if said.startswith("Refit")]


def test_a_head_that_is_not_one_layer_is_trained_in_steps_and_that_is_said(trained):
    watch = Watch()
    run = trained(watch=watch, network={"dense": [8]})
    assert "The head is trained in steps: there is more to it than a linear layer on features in memory." in watch.said
    assert all("learning_rate" in line for line in run.metrics)


def test_other_optimisers_and_rates_are_for_steps(trained):
    run = trained(phases=[], learning_rate=0.01, epochs=2)
    assert all("learning_rate" in line for line in run.metrics)


def test_images_that_a_refit_has_learned_from_may_not_choose_again(trained, place):
    run = trained()
    with pytest.raises(discern.DataError, match=r"are photos that .* was trained or chosen with"):
        discern.train(place / "photos", begin=str(run.path), runs=run.path.parent, seed=5, progress=Watch())
