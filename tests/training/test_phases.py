"""Phases: what each one changes and leaves, which of them is chosen, and that a run goes on from within each."""

import json
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import discern
import discern.steps.train
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.data.split import with_splits
from discern.errors import UnknownName, UsageError
from discern.models import zoo
from discern.models.layers import layers, trained
from discern.models.preprocessing import Preprocessing
from discern.progress import Silent
from discern.runs.run import CHECKPOINTS, create_run
from discern.training import loop
from discern.training.loop import Job, fit
from discern.training.optim import build_optimizer, groups_of
from discern.training.phases import TRANSFER
from discern.training.recipe import Recipe, load_recipe, recipe_from_mapping
from discern.training.runtime import Arithmetic, accelerator

SIDE = 64
STEPS = 5  # an epoch's: 66 training images in batches of 16
HEAD = {"train": "head", "epochs": 4, "learning_rate": 0.02, "patience": None}
TAIL = {"train": 2, "epochs": 4, "learning_rate": 0.003, "layer_decay": 0.5, "norms": "keep", "patience": None}
SETTINGS = {
    "model": "test_resnet",
    "size": SIDE,
    "phases": [HEAD, TAIL],
    "views": 2,
    "batch_size": 16,
    "precision": "float32",
    "channels_last": False,
}


def published(folder):
    """Weights in timm's layout that nobody trained; their batch norms have seen images."""
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", zero_init_last=False)
    for _ in range(20):
        network.train()(torch.randn(16, 3, SIDE, SIDE) * 2)
    folder.mkdir()
    save_file(network.state_dict(), folder / "model.safetensors")
    config = {"input_size": [3, SIDE, SIDE], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.3], "license": "mit"}
    (folder / "config.json").write_text(json.dumps({"architecture": "test_resnet", "pretrained_cfg": config}))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Photos of three classes whose colours differ a little, weights, and a cache that all runs share."""
    root, random = tmp_path_factory.mktemp("phases"), np.random.default_rng(0)
    for label, name in enumerate(("red", "green", "blue")):
        (root / "photos" / name).mkdir(parents=True)
        for number in range(30):
            picture = np.clip(random.normal(100, 50, (SIDE, SIDE, 3)) + random.normal(0, 12, 3), 0, 215)
            picture[..., label] += 40
            Image.fromarray(picture.astype(np.uint8)).save(root / "photos" / name / f"{number}.png")
    published(root / "weights")
    return root


@pytest.fixture(scope="module", autouse=True)
def short(place):
    """Without heat maps and reports, which nothing here looks at and which take half the time."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("explain", "write_report"):
            patch.setattr(discern.steps.train, name, lambda *arguments, **options: None)
        yield


@pytest.fixture(autouse=True)
def shared_cache(place, cache, monkeypatch):
    """Frozen work is done once for all tests, as for all runs of a user."""
    monkeypatch.setenv("DISCERN_CACHE", str(place / "cache"))


class Watch(Silent):
    """Keeps what was said and worked on; stops in the training's step `stop`, counted over the whole run."""

    def __init__(self, stop=None):
        self.said, self.work, self.left = [], [], stop

    def say(self, message):
        self.said.append(message)

    @contextmanager
    def track(self, label, total, unit="images"):
        self.work.append((label, total))

        def advance(done, note):
            if self.left is not None and label.startswith("Training") and done:
                self.left -= 1
                if not self.left:
                    raise KeyboardInterrupt

        yield advance


def fitted(place, runs, *, watch=None, **changes):
    network = {"weights": str(place / "weights"), **changes.pop("network", {})}
    settings = {**SETTINGS, "network": network, **changes}
    return discern.train(place / "photos", runs=runs, progress=watch or Watch(), **settings)


@pytest.fixture
def fit_alone(place, tmp_path):
    """A factory: the training of `fitted` and nothing of what comes after it, in a new Run."""

    def train(*, watch=None, **changes):
        settings = {**SETTINGS, "network": {"weights": str(place / "weights")}, **changes}
        recipe = recipe_from_mapping(settings, "the test")
        published = zoo.published_for(recipe.model, recipe.network)
        scanned, pixels = scan(open_dataset(place / "photos"), size=SIDE, fit=recipe.fit)
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            model = zoo.build(recipe.model, classes=3, size=SIDE, changes=recipe.network, published=published)
        run = create_run(tmp_path / "runs", None, "run", {"checkpoint": f"best_{recipe.monitor}"})
        job = Job(
            run=run,
            recipe=recipe,
            model=model,
            dataset=with_splits(scanned, seed=0),
            pixels=pixels,
            preprocessing=Preprocessing(size=SIDE, fit=recipe.fit, mean=published.mean, std=published.std),
            arithmetic=Arithmetic(precision=recipe.precision, channels_last=recipe.channels_last),
            accelerator=accelerator(),
        )
        with torch.random.fork_rng():
            fit(job, watch or Watch())
        return run

    return train


@pytest.fixture(scope="module")
def whole(place, short, tmp_path_factory):
    """The run that nothing interrupted, and who watched it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISCERN_CACHE", str(place / "cache"))
        watch = Watch()
        return fitted(place, tmp_path_factory.mktemp("whole"), watch=watch), watch


def weights_of(run, name="last"):
    """Of a checkpoint, without the optimiser's."""
    state = load_file(run.checkpoint(name))
    return {key.removeprefix("model."): value for key, value in state.items() if key.startswith("model.")}


def as_published(place, run, name="last"):
    """Names below the head that are as they were published, and the others."""
    before = load_file(place / "weights" / "model.safetensors")
    state = {key: value for key, value in weights_of(run, name).items() if key.startswith("features.")}
    same = {key for key, value in state.items() if torch.equal(value, before[key.removeprefix("features.")])}
    return same, set(state) - same


def is_statistic(name):
    return name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")


def untimed(run):
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in run.metrics]


def assert_equal(run, other):
    assert run.info["status"] == "finished"
    assert untimed(run) == untimed(other)
    assert (run.path / "predictions.parquet").read_bytes() == (other.path / "predictions.parquet").read_bytes()
    assert (run.path / "evaluation.json").read_bytes() == (other.path / "evaluation.json").read_bytes()
    assert run.info["chosen_epoch"] == other.info["chosen_epoch"]
    for name in CHECKPOINTS:
        ours, theirs = load_file(run.checkpoint(name)), load_file(other.checkpoint(name))
        assert ours.keys() == theirs.keys()
        assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == [], name


def test_published_weights_are_trained_in_two_phases_unless_told_otherwise(place, tmp_path):
    watch = Watch()
    run = fitted(place, tmp_path, watch=watch, phases=[])
    assert load_recipe(str(run.recipe_file)).phases == TRANSFER
    assert len(TRANSFER) == 2
    phases = [line["phase"] for line in run.metrics]
    assert phases == sorted(phases)
    assert set(phases) == {1, 2}
    assert [line["epoch"] for line in run.metrics] == list(range(1, len(phases) + 1))
    assert run.info["weights"] == {"source": str(place / "weights"), "licence": "mit"}
    assert f"Weights: {place / 'weights'} (licence: mit)" in watch.said
    assert run.info["preprocessing"]["mean"] == [0.5, 0.4, 0.3]
    assert [phase["train"] for phase in run.info["phases"]] == ["head", 0.3]


def test_a_network_from_scratch_is_trained_in_one(place, tmp_path):
    run = fitted(place, tmp_path, network={"weights": "none"}, phases=[], epochs=2)
    assert [line["phase"] for line in run.metrics] == [1, 1]
    assert (run.info["weights"], "chosen_phase" in run.info) == (None, False)
    assert run.info["preprocessing"]["mean"] != [0.5, 0.4, 0.3]


def test_a_run_says_which_phase_and_epoch_it_chose(whole):
    run, watch = whole
    assert [line["phase"] for line in run.metrics] == [1] * 4 + [2] * 4
    chosen = run.metrics[run.info["chosen_epoch"] - 1]
    assert chosen["phase"] == run.info["chosen_phase"]
    assert [f"Chosen: phase {chosen['phase']} of 2, epoch {chosen['epoch']} " in said for said in watch.said].count(
        True
    ) == 1
    assert [label for label, _ in watch.work if label.startswith("Training")] == [
        "Training the head of test_resnet",
        "Training the last layers of test_resnet",
    ]


@pytest.mark.parametrize("views", [0, 2])
def test_training_the_head_leaves_everything_below_it_as_it_was_published(place, fit_alone, views):
    run = fit_alone(phases=[{**HEAD, "epochs": 2}], views=views)
    assert as_published(place, run)[1] == set()
    assert run.metrics[1]["train_loss"] < run.metrics[0]["train_loss"]


def test_the_tail_learns_and_what_is_frozen_stays(place, whole):
    same, changed = as_published(place, whole[0])
    assert {name.split(".")[1] for name in changed} == {"layer3", "layer4"}
    assert not any(map(is_statistic, changed)), "norms: keep"
    frozen = {name for name in same if not is_statistic(name)}
    assert {name.split(".")[1] for name in frozen} == {"conv1", "bn1", "layer1", "layer2"}


@pytest.mark.parametrize("views", [0, 2])
def test_batch_norms_that_learn_are_those_of_the_tail(place, fit_alone, views):
    run = fit_alone(phases=[{**TAIL, "epochs": 1, "norms": "learn"}], views=views)
    _, changed = as_published(place, run)
    assert {name.split(".")[1] for name in changed if is_statistic(name)} == {"layer3", "layer4"}


def test_a_layer_learns_at_a_share_of_the_rate_of_the_one_above_it():
    with torch.device("meta"):
        network = zoo.build("test_resnet", classes=3, size=SIDE, changes={"weights": "none", "dense": [8]})
    groups = groups_of(network, trained(network, 3), Recipe(), layer_decay=0.5)
    named = {id(value): name for name, value in network.named_parameters()}
    found = [({named[id(p)] for p in group["params"]}, group["factor"]) for group in groups]
    head = {name for name in named.values() if name.startswith("head.")}
    below = layers(network)[::-1][:3]
    assert found == [(head, 1.0), *((set(layer), 0.5**depth) for depth, layer in enumerate(below, 1))]
    assert [group["factor"] for group in groups_of(network, trained(network, "all"), Recipe())] == [1.0]
    some = groups_of(network, trained(network, ("layer1", "layer4")), Recipe(), layer_decay=0.5)
    assert [group["factor"] for group in some] == [1.0, 0.5, 0.0625], "by how deep a layer is, trained or not between"
    optimizer = build_optimizer(groups, Recipe())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(trained(network, 3))


@pytest.mark.parametrize("views", [0, 2])
def test_rates_fall_from_the_head_to_the_layers_below(place, fit_alone, views):
    steep, plain = ({**TAIL, "epochs": 2, "layer_decay": decay} for decay in (1e-9, 1.0))
    runs = [fit_alone(phases=[phase], views=views) for phase in (steep, plain)]
    before = load_file(place / "weights" / "model.safetensors")
    moved = [
        max((weights_of(run)[f"features.{key}"] - before[key]).abs().max().item() for key in before if "layer" in key)
        for run in runs
    ]
    assert moved[0] < 1e-8
    assert moved[1] > 1e-3
    rates = [[line["learning_rate"] for line in run.metrics] for run in runs]
    assert rates[0] == rates[1], "the rate that is told is the head's"
    assert runs[0].metrics[1]["train_loss"] < runs[0].metrics[0]["train_loss"]


def test_a_phase_that_is_no_better_does_not_count(fit_alone):
    watch, still = Watch(), {**TAIL, "epochs": 2, "learning_rate": 0.0, "weight_decay": 0.0}
    run, head_alone = fit_alone(watch=watch, phases=[HEAD, still]), fit_alone(phases=[HEAD])
    assert run.info["chosen_phase"] == 1
    assert "What came later was not better on validation by more than chance." in watch.said[-1]
    ours, theirs = weights_of(run, "best_val_loss"), weights_of(head_alone, "best_val_loss")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_phase_ends_when_its_own_patience_does(fit_alone):
    still = {**TAIL, "epochs": 9, "learning_rate": 0.0, "weight_decay": 0.0, "patience": 2}
    run = fit_alone(phases=[{**HEAD, "epochs": 2}, still, {**HEAD, "epochs": 1}])
    assert [line["phase"] for line in run.metrics] == [1, 1, 2, 2, 3]
    assert [phase["epochs"] for phase in run.info["phases"]] == [2, 2, 1]


@pytest.mark.parametrize(
    ("step", "pause", "kept"),
    [
        (2, -1, 0),
        (2 * STEPS + 1, -1, 2),
        (2 * STEPS + 1, 5, 0),  # epochs are quick, and not every one is kept
        (4 * STEPS + 2, -1, 4),  # in the first epoch of phase 2
        (6 * STEPS + 3, -1, 6),
        (6 * STEPS + 3, 5, 4),
        (8 * STEPS, -1, 7),
    ],
)
def test_a_run_stopped_in_any_phase_goes_on_to_the_same_bits(place, whole, tmp_path, monkeypatch, step, pause, kept):
    monkeypatch.setattr(loop, "_PAUSE", pause)
    with pytest.raises(KeyboardInterrupt, match="discern train --resume"):
        fitted(place, tmp_path, watch=Watch(step))
    run = discern.open_run(tmp_path / "test_resnet-1")
    assert run.info["status"] == "training"
    assert run.checkpoint("last").exists() == (kept > 0)
    assert len(run.metrics if kept else []) == kept
    assert_equal(discern.resume(run.path, progress=Watch()), whole[0])


@pytest.mark.parametrize("first", ["all", 3])
def test_what_an_earlier_phase_changed_is_not_forgotten_when_a_later_one_is_resumed(
    place, tmp_path, monkeypatch, first
):
    """The later phase's frozen work is about weights that the earlier one trained, not about the published ones."""
    monkeypatch.setattr(loop, "_PAUSE", -1.0)
    phases = [{**TAIL, "train": first, "epochs": 2, "norms": "learn"}, HEAD]
    uninterrupted = fitted(place, tmp_path / "whole", phases=phases)
    with pytest.raises(KeyboardInterrupt):
        fitted(place, tmp_path / "stopped", phases=phases, watch=Watch(4 * STEPS + 1))
    run = discern.open_run(tmp_path / "stopped" / "test_resnet-1")
    assert [line["phase"] for line in run.metrics] == [1, 1, 2, 2]
    assert_equal(discern.resume(run.path, progress=Watch()), uninterrupted)


def test_frozen_work_is_done_for_views_of_training_images_and_never_for_the_test_split(
    fit_alone, tmp_path, monkeypatch
):
    monkeypatch.setenv("DISCERN_CACHE", str(tmp_path / "empty"))
    watch = Watch()
    fit_alone(watch=watch, phases=[{**HEAD, "epochs": 1}])
    assert [total for label, total in watch.work if label.startswith("Features")] == [66 + 12, 2 * 66]


def test_a_second_run_finds_the_frozen_work_done(place, whole, tmp_path):
    watch = Watch()
    run = fitted(place, tmp_path, watch=watch)
    assert [label for label, _ in watch.work if label.startswith("Features")] == []
    assert_equal(run, whole[0])


@pytest.mark.parametrize("phase", [HEAD, TAIL], ids=["head", "tail"])
def test_without_augmentation_kept_features_train_as_the_whole_network_does(fit_alone, phase):
    still = dict.fromkeys(("flip", "shift", "rotate", "zoom"), 0)
    kept, direct = (fit_alone(phases=[phase], views=views, augment=still).metrics for views in (2, 0))
    for score in ("train_loss", "val_loss"):
        assert kept[0][score] == pytest.approx(direct[0][score], rel=0.02), "features are rounded when they are kept"
        assert kept[-1][score] == pytest.approx(direct[-1][score], rel=0.1)


def test_a_head_on_kept_features_is_as_accurate_as_the_straightforward_loop(place, tmp_path):
    phases = [{**HEAD, "epochs": 12}]
    accuracy = {}
    for views in (6, 0):
        said = fitted(place, tmp_path, phases=phases, views=views).predictions
        accuracy[views] = (said.probabilities.argmax(axis=1) == said.labels).mean()
    margin = 1.96 * np.sqrt(accuracy[6] * (1 - accuracy[6]) / len(said.labels))
    assert accuracy[0] > 0.6, "there is something to learn"
    assert abs(accuracy[6] - accuracy[0]) <= margin


def test_weights_whose_licence_forbids_uses_have_to_be_accepted(place, tmp_path):
    told = json.loads((place / "weights" / "config.json").read_text())
    told["pretrained_cfg"]["license"] = "cc-by-nc-4.0"
    strict = tmp_path / "strict"
    strict.mkdir()
    (strict / "config.json").write_text(json.dumps(told))
    (strict / "model.safetensors").symlink_to(place / "weights" / "model.safetensors")
    options = {"network": {"weights": str(strict)}, "phases": [{**HEAD, "epochs": 1}]}
    with pytest.raises(UsageError, match=r"under the licence cc-by-nc-4\.0, .* give --accept-license"):
        fitted(place, tmp_path / "runs", **options)
    assert not (tmp_path / "runs").exists()
    run = fitted(place, tmp_path / "runs", accept_license=True, **options)
    assert run.info["weights"]["licence"] == "cc-by-nc-4.0"


def test_phases_are_written_as_they_are_read():
    phases = [
        {"train": "head", "epochs": 3},
        {"train": 2, "layer_decay": 0.5},
        {"train": 0.3, "norms": "keep"},
        {"train": ["layer4", "bn1"], "learning_rate": 0.1},
    ]
    recipe = recipe_from_mapping({"phases": phases}, "the test")
    assert [phase.train for phase in recipe.phases] == ["head", 2, 0.3, ("layer4", "bn1")]
    assert recipe_from_mapping(asdict(recipe), "the test") == recipe


def test_a_recipe_file_keeps_phases(tmp_path):
    recipe = recipe_from_mapping({"phases": [{"train": ["layer4"]}, {"train": 0.3}, {"train": 1}]}, "the test")
    recipe.write(tmp_path / "recipe.yaml")
    assert load_recipe(str(tmp_path / "recipe.yaml")) == recipe


@pytest.mark.parametrize(
    "phase",
    [
        *({"train": what} for what in (0, -1, 1.5, 0.0, "tail", True)),
        *({"layer_decay": 0}, {"layer_decay": 2}, {"norms": "freeze"}),
        *({"learning_rate": -1}, {"patience": 0}, {"epochs": 0}),
    ],
)
def test_a_phase_that_is_not_possible_is_refused_with_a_sentence(phase):
    with pytest.raises(UsageError, match=r"the test: phases[.:].* is not possible") as refusal:
        recipe_from_mapping({"phases": [phase]}, "the test")
    assert "\n" not in str(refusal.value)


def test_a_misspelt_key_of_a_phase_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="Unknown phase key 'trian' in the test: did you mean 'train'"):
        recipe_from_mapping({"phases": [{"trian": "head"}]}, "the test")


@pytest.mark.parametrize(
    ("what", "sentence"),
    [(6, "train = 6 is too much: the network has 5 layers"), (["layr4"], "Unknown layer 'layr4' in phases: did you")],
)
def test_layers_that_the_network_has_not_are_refused_before_anything_is_done(place, tmp_path, what, sentence):
    with pytest.raises(UsageError, match=sentence):
        fitted(place, tmp_path / "runs", phases=[HEAD, {**TAIL, "train": what}])
    assert not (tmp_path / "runs").exists()
