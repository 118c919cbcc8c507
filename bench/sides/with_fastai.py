"""fastai's side: `vision_learner` and `fine_tune`, one frozen epoch and then the whole network.

    python with_fastai.py LIST WEIGHTS ANSWER SEED EPOCHS

LIST has a line for each photo: file, label, split. The loss weighs classes as Discern's does.
"""

import json
import sys
from pathlib import Path

import pandas
import torch
from fastai.callback.core import Callback
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.torch_core import set_seed
from fastai.vision.augment import Resize, aug_transforms
from fastai.vision.data import ImageDataLoaders
from fastai.vision.learner import vision_learner
import fastai.callback.schedule  # fine_tune
import time, os

SIZE, BATCH = 224, int(os.environ.get("BS", 32))

class Epochs(Callback):
    def before_fit(self): 
        self.test = getattr(self, "test", []); self.secs = getattr(self, "secs", [])
    def before_epoch(self): self.t = time.perf_counter()
    def after_epoch(self):
        self.secs.append(round(time.perf_counter() - self.t, 1))
        print(self.secs[-1], self.learn.recorder.values[-1] if self.learn.recorder.values else None, flush=True)


def main(photos, weights, answer, seed, epochs):
    """Train and judge."""
    set_seed(seed, reproducible=True)
    table = pandas.read_csv(photos)
    used = table[table.split != "test"].assign(val=table.split == "val")
    loaders = ImageDataLoaders.from_df(
        used,
        path="/",
        fn_col="file",
        label_col="label",
        valid_col="val",
        item_tfms=Resize(SIZE, method=os.environ.get("METHOD", "crop"), pad_mode="zeros"),
        batch_tfms=aug_transforms(),
        bs=BATCH,
        num_workers=2,
        seed=seed,
    )
    classes = list(loaders.vocab)
    counts = table[table.split == "train"].label.value_counts()
    balance = torch.tensor([counts.sum() / (len(classes) * counts[name]) for name in classes], dtype=torch.float)
    learner = vision_learner(loaders, f"local-dir:{weights}", loss_func=CrossEntropyLossFlat(weight=balance), metrics=accuracy, cbs=[Epochs()])
    with learner.no_bar():
        learner.fine_tune(epochs)
    test = table[table.split == "test"]
    rows = loaders.test_dl(test.file.map(Path).tolist())
    with learner.no_bar():
        probabilities, _ = learner.get_preds(dl=rows)
        val, truth = learner.get_preds()
    truth = torch.tensor([classes.index(name) for name in test.label])
    right = (probabilities.argmax(1) == truth).float().mean().item()
    Path(answer).write_text(json.dumps({"accuracy": right}))
    print(answer, right)


if __name__ == "__main__":  # loaders' workers may import this file again
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
