import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from discern.errors import NotARun, UnknownName, UsageError
from discern.explanation.cam import grad_cam
from discern.models import zoo
from discern.training.checkpoint import save_weights

# Counted by the authors' own programs. Keras counts the batch norms' running means and variances too.
PARAMETERS = {
    ("simple-cnn", 10): 545_098,
    ("regularized-cnn", 10): 545_290,
    ("flexible-cnn", 10): 1_240_202,
    ("cnn-basic", 3): 4_755_267,
    ("resnet18-scratch", 3): 11_178_051,
    ("vgg19-c", 3): 139_598_915,
    ("vgg19-adapted", 3): 127_521_859,
    ("custom-vgg", 3): 22_538_051,
}
KERAS_COUNTS = {
    ("parts-cnn", 5): 305_957,
    ("efficientnetv2-b0-d", 5): 6_083_925,
    ("mobilenetv3-small-d", 5): 1_013_621,
    ("cifar-cnn", 10): 612_362,
    ("cifar-cnn-small", 10): 315_722,
}

SMALLER = {
    # The networks that would be too slow for a test, with everything but their size.
    "flexible-cnn": {"filters": [8] * 5},
    "vgg19-c": {"dense": [12, 10]},
    "vgg19-adapted": {"dense": [12, 10, 8]},
    "custom-vgg": {"convolutions": [[16, 1], [16, 3]], "dense": [12, 10]},
}
DRAWN = {name: {"weights": "none"} for name in zoo.MODELS if zoo.describe(name, classes=2)["weights"] == "published"}
"""Those that begin with published weights, without them: there may be no network."""


def small(name, *, classes=3, size=None):
    """The named network, not too slow for a test, at a size small enough for one but with a map of several pixels."""
    size = size or min(64, zoo.find(name).config.input_size)
    return zoo.build(
        name, classes=classes, size=224 if name == "flexible-cnn" else size, changes=(SMALLER | DRAWN).get(name)
    )


def images(model, count=2):
    return torch.randn(count, 3, model.size, model.size)


@pytest.mark.parametrize(("name", "classes"), [*PARAMETERS, *KERAS_COUNTS])
def test_the_reference_networks_have_exactly_their_authors_parameters(name, classes):
    with torch.device("meta"):
        model = zoo.build(name, classes=classes)
    described = zoo.describe(name, classes=classes)
    parameters = sum(p.numel() for p in model.parameters())
    state = sum(value.numel() for key, value in model.state_dict().items() if "num_batches" not in key)
    assert described["parameters"] == parameters
    assert described["keras_count"] == state
    if (name, classes) in PARAMETERS:
        assert parameters == PARAMETERS[name, classes]
    else:
        assert state == KERAS_COUNTS[name, classes]


@pytest.mark.parametrize("name", zoo.MODELS)
def test_every_network_takes_its_own_size_and_is_described_without_weights(name):
    size = zoo.find(name).config.input_size
    with torch.device("meta"):
        model = zoo.build(name, classes=4, changes=DRAWN.get(name)).eval()
        assert model(torch.zeros(1, 3, size, size)).shape == (1, 4)
    described = zoo.describe(name, classes=4)
    assert (described["name"], described["input_size"], described["classes"]) == (name, size, 4)
    assert described["trainable"] <= described["parameters"] <= described["keras_count"]
    assert described["family"] in zoo.FAMILIES
    assert described["weights"] in ("scratch", "scratch or published", "published")
    assert described["about"].endswith(".")
    json.dumps(described)


@pytest.mark.parametrize("name", zoo.MODELS)
def test_a_network_is_built_again_from_its_record_and_weights(name, tmp_path):
    model = small(name)
    model.train()(images(model, 4))  # so that no batch norm is as it was at first
    save_weights(tmp_path / "best.safetensors", model.eval().state_dict(), {})
    again = zoo.restore(json.loads(json.dumps(model.record())), tmp_path / "best.safetensors")
    inputs = images(model)
    assert type(again) is type(model)
    assert again.config == model.config
    assert again.record() == model.record()
    assert torch.equal(again(inputs), model(inputs))
    frozen = [(key, p.requires_grad) for key, p in model.named_parameters()]
    assert [(key, p.requires_grad) for key, p in again.named_parameters()] == frozen


@pytest.mark.parametrize("name", zoo.MODELS)
def test_forward_is_the_head_of_the_features_and_every_trainable_weight_learns(name):
    torch.manual_seed(0)
    model = small(name).eval()
    inputs = images(model, 4)
    maps = model.forward_features(inputs)
    assert maps.ndim == 4
    assert min(maps.shape[2:]) > 1
    logits = model(inputs)
    assert torch.equal(logits, model.forward_head(maps))
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    idle = [key for key, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not idle
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


@pytest.mark.parametrize("name", zoo.MODELS)
def test_every_network_can_be_explained(name):
    torch.manual_seed(0)
    model = small(name)
    model.train()(images(model, 4))
    heat = grad_cam(model.eval(), images(model, 3), torch.tensor([0, 1, 2]))
    assert heat.shape == (3, model.size, model.size)
    assert heat.min() >= 0
    assert heat.max() == 1
    assert heat.std(dim=(1, 2)).max() > 0.01, "no map shows anything"


@pytest.mark.parametrize("name", zoo.MODELS)
def test_every_network_trains_on_a_last_batch_of_one_image(name):
    model = small(name, size=zoo.find(name).config.input_size if name == "mini-cnn" else None).train()
    model(images(model, 4))
    before = {key: value.clone() for key, value in model.named_buffers()}
    loss = model(images(model, 1)).square().sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(layer.training for layer in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.named_buffers()), "one image moved the averages"


def test_a_frozen_batch_norm_stays_so_after_a_batch_of_one():
    model = small("parts-cnn").train()
    model.features[1].eval()
    model(images(model, 1))
    assert [layer.training for layer in model.features if isinstance(layer, nn.BatchNorm2d)] == [False] + [True] * 5


def test_another_size_is_used_where_asked_for():
    assert zoo.build("simple-cnn", classes=2, size=16)(torch.zeros(1, 3, 16, 16)).shape == (1, 2)
    assert zoo.describe("simple-cnn", classes=2, size=16)["input_size"] == 16


@pytest.mark.parametrize(
    ("name", "gpu", "size"),
    [
        ("cnn-basic", True, 224),
        ("cnn-basic", False, 112),
        ("resnet18-scratch", False, 112),
        ("custom-vgg", False, 112),
        ("efficientnetv2-b0-d", False, 112),
        ("flexible-cnn", False, 224),  # its head knows one size
        ("fast-cnn", False, 32),
    ],
)
def test_photos_are_halved_without_a_gpu_where_the_network_takes_any_size(name, gpu, size):
    assert zoo.default_size(name, gpu=gpu) == size


def test_a_change_of_the_pool_decides_whether_images_may_be_halved():
    assert zoo.default_size("cnn-basic", gpu=False, changes={"pool": "flatten"}) == 224


def test_a_named_network_is_built_with_changes():
    model = zoo.build("cifar-cnn", classes=3, changes={"stages": [[4], [6, 5]], "activation": "silu", "dropout": 0})
    assert model.config.stages == ((4,), (6, 5))
    assert [type(layer) for layer in model.features][1] is nn.SiLU
    assert zoo.find("cifar-cnn").config.activation == "relu", "the named network itself has changed"


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("flexible-cnn", {"kernal": 3}, "Unknown network key 'kernal' in the changes: did you mean 'kernel'"),
        ("flexible-cnn", {"stages": [[3]]}, "Unknown network key 'stages'"),
        ("flexible-cnn", {"input_size": 64}, "Unknown network key 'input_size'"),
        ("flexible-cnn", {7: 64}, "Unknown network key '7'"),
        (
            "flexible-cnn",
            {"kernel": 0},
            r"the changes: network.kernel = 0 is not possible: .*greater than or equal to 1",
        ),
        ("flexible-cnn", {"filters": []}, r"network.filters = \[\] is not possible: "),
        ("flexible-cnn", {"filters": [8, "many"]}, "network.filters = 'many' is not possible: .*valid integer"),
        ("flexible-cnn", {"dropout": 1}, "network.dropout = 1 is not possible: .*less than 1"),
        ("flexible-cnn", {"activation": "tanh"}, "network.activation = 'tanh' is not possible: .*'silu' or 'mish'"),
        ("cnn-basic", {"stages": [[8], []]}, r"network.stages = \[\] is not possible"),
        ("custom-vgg", {"split": "conv4_5"}, "network.split = 'conv4_5' is not possible: .*'conv4_4'"),
        ("custom-vgg", {"convolutions": [[8]]}, "network.convolutions = "),
        ("resnet18-scratch", {"blocks": [2, 2]}, "network = .* blocks and widths .* must be as many"),
        ("fast-cnn", {"widths": "64"}, "network.widths = '64' is not possible"),
        ("mobilenetv3-small-d", {"architecture": "vgg19"}, "Unknown network key 'architecture'"),
        ("mobilenetv3-small-d", {"weights": "nowhere"}, "No weights at nowhere"),
    ],
)
def test_a_change_that_is_not_possible_is_refused_with_a_sentence(name, changes, sentence):
    with pytest.raises(UsageError, match=sentence) as refusal:
        zoo.build(name, classes=2, changes=changes)
    assert "\n" not in str(refusal.value)


def test_checked_changes_are_plain_and_of_the_right_type():
    changes = zoo.checked("flexible-cnn", {"filters": (8.0, "16"), "dropout": 0, "batch_norm": "no"}, place="here")
    assert changes == {"filters": [8, 16], "dropout": 0.0, "batch_norm": False}
    assert json.loads(json.dumps(changes)) == changes


def test_weights_come_from_torchs_generator():
    torch.manual_seed(3)
    first = zoo.build("simple-cnn", classes=2, size=8).head[-1].weight
    torch.manual_seed(3)
    assert torch.equal(first, zoo.build("simple-cnn", classes=2, size=8).head[-1].weight)
    assert not torch.equal(first, zoo.build("simple-cnn", classes=2, size=8).head[-1].weight)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="Unknown model 'simplecnn': did you mean 'simple-cnn'"):
        zoo.build("simplecnn", classes=2)
    with pytest.raises(UnknownName, match="known: cifar-cnn, cifar-cnn-small"):
        zoo.describe("zzzzzz", classes=2)


@pytest.fixture
def trained(tmp_path):
    """A network that has seen a batch (its batch-norm statistics are not the initial ones), and its checkpoint."""
    model = zoo.build("regularized-cnn", classes=3, size=8)
    model.train()(torch.randn(16, 3, 8, 8) * 3 + 1)
    path = tmp_path / "best.safetensors"
    save_weights(path, model.state_dict(), {"epoch": 1})
    return model.eval(), path


def test_a_checkpoint_gives_the_network_back_in_inference_mode(trained):
    model, path = trained
    before = torch.get_rng_state()
    restored = zoo.restore(json.loads(json.dumps(model.record())), path)
    assert torch.equal(before, torch.get_rng_state()), "restoring drew from the caller's generator"
    assert not restored.training
    inputs = torch.randn(4, 3, 8, 8)
    assert torch.equal(restored(inputs), model(inputs))
    assert all(p.requires_grad and p.device.type == "cpu" for p in restored.parameters())


def test_a_family_of_another_version_is_refused(trained):
    model, path = trained
    with pytest.raises(NotARun, match="of the family 'quantum', which this Discern does not know; use the version"):
        zoo.restore({**model.record(), "family": "quantum"}, path)


def test_a_missing_checkpoint_is_refused(trained, tmp_path):
    model, _ = trained
    with pytest.raises(NotARun, match=r"No checkpoint .*gone.safetensors: .* train it first"):
        zoo.restore(model.record(), tmp_path / "gone.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, -1])
def test_a_truncated_checkpoint_is_refused(trained, keep):
    model, path = trained
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)] if isinstance(keep, float) else data[:keep])
    with pytest.raises(NotARun, match=r"best.safetensors is damaged or of another network"):
        zoo.restore(model.record(), path)


@pytest.mark.parametrize(("name", "classes"), [("regularized-cnn", 4), ("simple-cnn", 3), ("cifar-cnn", 3)])
def test_a_checkpoint_of_another_network_is_refused(trained, name, classes):
    _, path = trained
    with pytest.raises(NotARun, match="of another network"):
        zoo.restore(zoo.build(name, classes=classes, size=8).record(), path)


def test_a_foreign_safetensors_file_is_refused(trained):
    model, path = trained
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(NotARun, match="of another network"):
        zoo.restore(model.record(), path)
