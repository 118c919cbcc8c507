"""Discern's way from files to normalised, varied batches: one scan, then gathered from what it keeps.

python load_discern.py PHOTOS EPOCHS ANSWER
"""

import json
import sys
import time
from itertools import pairwise
from pathlib import Path

import torch

from discern.data.augment import Augmentation
from discern.data.batches import training_batches
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.models.preprocessing import Preprocessing

SIDE, BATCH = 224, 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

AUGMENTATION = Augmentation(flip=0.5, shift=0.1, rotate=10.0, zoom=0.1)


def load(photos, epochs):
    """Seconds of each epoch, the scan in the first; and the mean of all values, to see that they are the same."""
    preprocessing = Preprocessing(size=SIDE, fit="pad", mean=MEAN, std=STD)
    ended, means, images = [time.perf_counter()], [], 0
    dataset, pixels = scan(open_dataset(photos), size=SIDE, fit="pad")
    for epoch in range(epochs):
        batches = training_batches(
            dataset,
            pixels,
            batch_size=BATCH,
            augmentation=AUGMENTATION,
            balance="none",
            seed=0,
            epoch=epoch,
            device=torch.device("cpu"),
        )
        means, images = [], 0
        for batch in batches:
            inputs = preprocessing.normalize(batch.images)
            means.append(inputs[:, :, ::16, ::16].mean().item() * len(inputs))
            images += len(inputs)
        ended.append(time.perf_counter())
    seconds = [after - before for before, after in pairwise(ended)]
    return {"seconds": seconds, "images": images, "mean": sum(means) / images}


if __name__ == "__main__":
    photos, epochs, answer = sys.argv[1:]
    Path(answer).write_text(json.dumps(load(photos, int(epochs))))
