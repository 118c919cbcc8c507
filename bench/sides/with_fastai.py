"""fastai's side: `vision_learner` and `fine_tune`, an epoch of the head and then some of the whole network.

    python with_fastai.py LIST WEIGHTS SEED EPOCHS ANSWER

LIST has a line for each photo: file, label, split. The loss weighs classes as Discern's does.
"""

import json
import sys
import time
from pathlib import Path

import pandas
import torch
from fastai.vision.all import (
    Callback,
    CrossEntropyLossFlat,
    ImageDataLoaders,
    Resize,
    accuracy,
    aug_transforms,
    set_seed,
    vision_learner,
)

SIDE, BATCH = 224, 32


class Clock(Callback):
    """Seconds of each epoch, validation included."""

    def __init__(self):
        self.seconds = []

    def before_epoch(self):
        self.began = time.perf_counter()

    def after_epoch(self):
        self.seconds.append(time.perf_counter() - self.began)


def main(photos, weights, seed, epochs):
    """Train and judge."""
    set_seed(seed, reproducible=True)
    table = pandas.read_csv(photos)
    train, test = (table[table.split == split] for split in ("train", "test"))
    loaders = ImageDataLoaders.from_df(
        table[table.split != "test"].assign(val=table.split == "val"),
        path="/",
        fn_col="file",
        label_col="label",
        valid_col="val",
        item_tfms=Resize(SIDE),
        batch_tfms=aug_transforms(),
        bs=BATCH,
        num_workers=2,
    )
    classes, counts = list(loaders.vocab), train.label.value_counts()
    balance = torch.tensor([len(train) / (len(classes) * counts[name]) for name in classes], dtype=torch.float)
    clock = Clock()
    learner = vision_learner(
        loaders,
        f"local-dir:{weights}",
        loss_func=CrossEntropyLossFlat(weight=balance),
        metrics=accuracy,
        cbs=[clock],
    )
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)
        said, _ = learner.get_preds(dl=loaders.test_dl(test.file.map(Path).tolist()))
    right = said.argmax(1) == torch.tensor([classes.index(name) for name in test.label])
    return {"epochs": clock.seconds[: epochs + 1], "right": dict(zip(test.image, right.tolist(), strict=True))}


if __name__ == "__main__":  # workers may import this file again
    Path(sys.argv[5]).write_text(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
