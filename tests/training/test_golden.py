"""The golden run: 20 steps on a CPU, whose losses a refactor must repeat bit for bit.

    python tests/training/test_golden.py

writes golden.json anew for this machine. Do so only when the change is meant to alter training, and say in the commit
why. On another kind of machine, or with another torch or OpenCV, kernels round differently: there the losses must
agree to a thousandth.
"""

import json
import platform
import tempfile
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import torch

from discern.data.dataset import Dataset
from discern.data.pixels import Pixels
from discern.models.convnet import ConvNet, ConvNetConfig
from discern.models.preprocessing import Preprocessing
from discern.progress import Silent
from discern.runs.run import create_run
from discern.training.loop import Job, fit
from discern.training.recipe import recipe_from_mapping
from discern.training.runtime import Arithmetic, accelerator

GOLDEN = Path(__file__).with_name("golden.json")

# Everything that the loop can do is switched on: warm-up, cosine, decay, smoothing, augmentation, dropout, batch norm.
RECIPE = {
    "seed": 7,
    "size": 12,
    "epochs": 4,
    "batch_size": 8,
    "optimizer": "adamw",
    "learning_rate": 0.01,
    "weight_decay": 0.1,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "label_smoothing": 0.1,
    "augment": {"flip": 0.5, "vertical_flip": 0.2, "shift": 0.1, "rotate": 15, "zoom": 0.1},
    "precision": "float32",
    "channels_last": False,
    "patience": None,
}
NETWORK = ConvNetConfig(stages=((6, 8), (12,)), input_size=12, activation="gelu", dense=(10,), dropout=0.3)


def environment():
    """What the last bits depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "torch": torch.__version__,
        "opencv": cv2.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "processor": model,
    }


@contextmanager
def one_thread():
    """Sums are split over threads; one thread has one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def losses(folder):
    """Training and validation loss of every epoch of the golden run, made in `folder`."""
    rng = np.random.default_rng(0)
    labels = np.arange(52, dtype=np.int32) % 3
    pictures = rng.integers(0, 200, (52, 12, 12, 3))
    pictures[np.arange(52), :, :, labels] += 40
    table = pl.DataFrame(
        {
            "index": np.arange(52),
            "image": [f"{row}.png" for row in range(52)],
            "label": labels,
            "split": ["train"] * 40 + ["val"] * 12,
            "digest": [rng.bytes(16).hex() for _ in range(52)],
        }
    )
    recipe = recipe_from_mapping(RECIPE, "the golden run")
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = ConvNet(NETWORK, classes=3, size=12)
    job = Job(
        run=create_run(Path(folder), "golden", "golden", {}),
        recipe=recipe,
        model=model,
        dataset=Dataset(root=Path(folder), classes=("a", "b", "c"), table=table),
        pixels=Pixels(array=pictures.astype(np.uint8)),
        preprocessing=Preprocessing(size=12, fit="pad", mean=(0.4, 0.45, 0.5), std=(0.2, 0.21, 0.22)),
        arithmetic=Arithmetic(precision="float32", channels_last=False),
        accelerator=accelerator(),
    )
    with torch.random.fork_rng(), one_thread():
        assert fit(job, Silent()).step == 20
    return {name: [line[name] for line in job.run.metrics] for name in ("train_loss", "val_loss")}


@pytest.mark.skipif(torch.cuda.is_available(), reason="the golden run is a CPU's; here a GPU would make it")
def test_the_golden_run_is_repeated(tmp_path):
    golden, given = json.loads(GOLDEN.read_text()), losses(tmp_path)
    assert all(min(values) < values[0] for values in given.values()), "it learns something"
    expected = {name: [float.fromhex(value) for value in values] for name, values in golden["losses"].items()}
    if golden["environment"] == environment():
        assert given == expected
    else:
        for name, values in expected.items():
            assert given[name] == pytest.approx(values, rel=1e-3)


def test_the_golden_run_is_the_same_twice(tmp_path):
    assert losses(tmp_path / "first") == losses(tmp_path / "second")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = {name: [value.hex() for value in values] for name, values in losses(folder).items()}
    GOLDEN.write_text(json.dumps({"environment": environment(), "losses": found}, indent=2) + "\n")
    print(f"{GOLDEN} is written.")
