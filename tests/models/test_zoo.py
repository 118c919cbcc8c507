import json

import pytest
import torch
from safetensors.torch import save_file

from discern.errors import NotARun, UnknownName
from discern.models import zoo
from discern.training.checkpoint import save_weights

# Counted by the authors' own programs. Keras counts the batch norms' running means and variances too.
PARAMETERS = {("simple-cnn", 10): 545_098, ("regularized-cnn", 10): 545_290, ("cnn-basic", 3): 4_755_267}
KERAS_COUNTS = {("parts-cnn", 5): 305_957, ("cifar-cnn", 10): 612_362, ("cifar-cnn-small", 10): 315_722}


@pytest.mark.parametrize(("name", "classes"), [*PARAMETERS, *KERAS_COUNTS])
def test_the_reference_networks_have_exactly_their_authors_parameters(name, classes):
    model, described = zoo.build(name, classes=classes), zoo.describe(name, classes=classes)
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
    model = zoo.build(name, classes=4).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, size, size)).shape == (1, 4)
    described = zoo.describe(name, classes=4)
    assert (described["name"], described["input_size"], described["classes"]) == (name, size, 4)
    assert described["about"].endswith(".")
    json.dumps(described)


def test_another_size_is_used_where_asked_for():
    assert zoo.build("simple-cnn", classes=2, size=16)(torch.zeros(1, 3, 16, 16)).shape == (1, 2)
    assert zoo.describe("simple-cnn", classes=2, size=16)["input_size"] == 16


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
    save_weights(path, model, {"epoch": 1})
    return model.eval(), path


def test_a_checkpoint_gives_the_network_back_in_inference_mode(trained):
    model, path = trained
    before = torch.get_rng_state()
    restored = zoo.restore(json.loads(json.dumps(model.record())), path)
    assert torch.equal(before, torch.get_rng_state()), "restoring drew from the caller's generator"
    assert not restored.training
    images = torch.randn(4, 3, 8, 8)
    assert torch.equal(restored(images), model(images))
    assert all(p.requires_grad and p.device.type == "cpu" for p in restored.parameters())


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
