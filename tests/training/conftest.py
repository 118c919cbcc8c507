"""A toy task that a small network learns in a second, and the Job that trains on it."""

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.data.split import with_splits
from discern.models import zoo
from discern.models.preprocessing import Preprocessing
from discern.runs.run import create_run
from discern.training.loop import Job
from discern.training.recipe import recipe_from_mapping
from discern.training.runtime import Arithmetic, accelerator

TINY = {
    "size": 16,
    "epochs": 3,
    "batch_size": 8,
    "precision": "float32",
    "channels_last": False,
    "patience": None,
}


@pytest.fixture
def patches(tmp_path):
    """A factory of folders with three classes of noisy 16-pixel squares; `signal` is how much their colours differ."""

    def write(per_class=20, *, signal=60, into="patches"):
        rng = np.random.default_rng(0)
        for label, name in enumerate(("red", "green", "blue")):
            (tmp_path / into / name).mkdir(parents=True)
            for number in range(per_class):
                picture = rng.integers(0, 180, (16, 16, 3))
                picture[..., label] += signal
                Image.fromarray(picture.astype(np.uint8)).save(tmp_path / into / name / f"{number}.png")
        return tmp_path / into

    return write


@pytest.fixture
def make_job(tmp_path):
    """A factory: `make_job(photos, model="simple-cnn", epochs=2)` is a Job in a new Run, ready for `fit`.

    With `run` it goes on in that Run; with `model_seed` the first weights come from another seed than the rest.
    """

    def build(photos, *, run=None, model_seed=None, only=None, **changes):
        recipe = recipe_from_mapping({"model": "regularized-cnn", **TINY, **changes}, "the test")
        scanned, pixels = scan(open_dataset(photos), size=recipe.size, fit=recipe.fit)
        dataset = with_splits(scanned, seed=0, val_share=0.2)
        if only:
            dataset = dataset.filter(pl.col("split").is_in(only))
        mean, std = pixels.statistics(dataset.split("train").index)
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed if model_seed is None else model_seed)
            model = zoo.build(recipe.model, classes=len(dataset.classes), size=recipe.size)
        return Job(
            run=run or create_run(tmp_path / "runs", None, "run", {"checkpoint": f"best_{recipe.monitor}"}),
            recipe=recipe,
            model=model,
            dataset=dataset,
            pixels=pixels,
            preprocessing=Preprocessing(
                size=recipe.size, fit=recipe.fit, mean=tuple(mean.tolist()), std=tuple(std.tolist())
            ),
            arithmetic=Arithmetic(precision=recipe.precision, channels_last=recipe.channels_last),
            accelerator=accelerator(),
        )

    return build
