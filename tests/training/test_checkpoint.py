import copy
import json
import struct

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from discern.errors import NotARun
from discern.models import zoo
from discern.training.checkpoint import Position, load_resumable, save_resumable, save_weights
from discern.training.optim import build_optimizer
from discern.training.recipe import Recipe
from discern.training.runtime import Arithmetic

HERE = Position(epoch=3, step=40, best_val_loss=0.1 + 0.2, best_val_acc=2 / 3, stale=2, seconds=1.5)


def fresh(optimizer, channels_last=False, seed=0):
    torch.manual_seed(seed)
    model = zoo.build("regularized-cnn", classes=3, size=8)
    Arithmetic(precision="float32", channels_last=channels_last).place(model, torch.device("cpu"))
    return model.train(), build_optimizer(
        [{"params": list(model.parameters()), "factor": 1.0}], Recipe(optimizer=optimizer, learning_rate=0.01)
    )


def steps(model, optimizer, count, *, seed):
    losses = []
    for number in range(count):
        torch.manual_seed(1000 * seed + number)
        images = torch.randn(8, 8, 8, 3).permute(0, 3, 1, 2)
        loss = nn.functional.cross_entropy(model(images), torch.arange(8) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_the_next_steps_are_the_same_to_the_last_bit_with_and_without_a_restart(tmp_path, optimizer, channels_last):
    path = tmp_path / "last.safetensors"
    model, state = fresh(optimizer, channels_last)
    steps(model, state, 4, seed=1)
    save_resumable(path, model, state, HERE, {})
    expected = steps(model, state, 3, seed=2)

    other, other_state = fresh(optimizer, channels_last, seed=9)
    assert load_resumable(path, other, other_state) == HERE
    assert steps(other, other_state, 3, seed=2) == expected
    for (name, ours), theirs in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
        assert ours.stride() == theirs.stride(), name


def test_saving_changes_nothing(tmp_path):
    model, state = fresh("adamw")
    steps(model, state, 2, seed=1)
    before = copy.deepcopy((model.state_dict(), state.state_dict()))
    save_resumable(tmp_path / "last.safetensors", model, state, HERE, {})
    torch.testing.assert_close((model.state_dict(), state.state_dict()), before, rtol=0, atol=0)


def test_the_first_position_survives_too(tmp_path):
    model, state = fresh("sgd")
    save_resumable(tmp_path / "a", model, state, Position(), {})
    assert load_resumable(tmp_path / "a", model, state) == Position()


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "last.safetensors"
    model, state = fresh("adamw")
    steps(model, state, 1, seed=1)
    save_resumable(path, model, state, HERE, {"val_acc": 0.5})
    return path


def header(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def test_a_checkpoint_is_a_json_header_and_raw_numbers_and_no_pickle(saved):
    fields, numbers = header(saved)
    note = json.loads(fields.pop("__metadata__")["discern"])
    assert note["position"]["epoch"] == 3
    assert note["val_acc"] == 0.5
    sizes = {"F32": 4, "I64": 8}
    assert {field["dtype"] for field in fields.values()} == set(sizes)
    ends = [field["data_offsets"] for field in fields.values()]
    assert sum(end - start for start, end in ends) == len(numbers) == max(end for _, end in ends)
    assert {name.partition(".")[0] for name in fields} == {"model", "optimizer"}


def test_weights_alone_hold_no_optimiser(tmp_path):
    model, _ = fresh("adamw")
    save_weights(tmp_path / "best.safetensors", model.state_dict(), {"epoch": 2})
    fields, _ = header(tmp_path / "best.safetensors")
    assert json.loads(fields.pop("__metadata__")["discern"]) == {"epoch": 2}
    assert set(fields) == {f"model.{name}" for name in model.state_dict()}


def foreign(path):
    save_file({"model.weight": torch.zeros(2)}, path)


def other_note(path):
    save_file({"model.weight": torch.zeros(2)}, path, metadata={"discern": "not JSON"})


def no_position(path):
    model, state = fresh("adamw")
    save_resumable(path, model, state, HERE, {})
    data = path.read_bytes().replace(b'"position', b'"positiox')
    path.write_bytes(data)


def too_many_parameters(path):
    model, _ = fresh("adamw")
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    note = json.dumps({"position": {}})
    save_file({**tensors, "optimizer.999.step": torch.zeros(1)}, path, metadata={"discern": note})


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-7]),
        lambda path: path.write_bytes(path.read_bytes()[:300]),
        lambda path: path.write_bytes(b"\xff" * 4000),
        lambda path: path.unlink(),
        foreign,
        other_note,
        no_position,
        too_many_parameters,
    ],
    ids=["empty", "cut", "cut in the header", "noise", "gone", "no note", "strange note", "no position", "too many"],
)
def test_a_damaged_checkpoint_is_refused_with_a_sentence(saved, damage):
    damage(saved)
    with pytest.raises(NotARun, match=r"last.safetensors is damaged and cannot be resumed .*; train anew\."):
        load_resumable(saved, *fresh("adamw"))


def test_the_checkpoint_of_another_network_is_refused(saved):
    model = zoo.build("simple-cnn", classes=3, size=8)
    with pytest.raises(NotARun, match="cannot be resumed"):
        load_resumable(saved, model, build_optimizer([{"params": list(model.parameters()), "factor": 1.0}], Recipe()))
