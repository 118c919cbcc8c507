"""torchvision's way from files to normalised, varied batches: ImageFolder, transforms on PIL images, two workers.

python load_torchvision.py PHOTOS EPOCHS ANSWER
"""

import json
import sys
import time
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageOps
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode

SIDE, BATCH, WORKERS = 224, 64, 2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def fitted(photo):
    """Letterboxed, as Discern does."""
    return ImageOps.pad(photo, (SIDE, SIDE), Image.Resampling.BILINEAR)


def load(photos, epochs):
    """Seconds of each epoch, its workers' start in the first; and the mean of all values."""
    ended = [time.perf_counter()]
    change = transforms.Compose(
        [
            transforms.Lambda(fitted),
            transforms.RandomHorizontalFlip(),
            transforms.RandomAffine(
                10, translate=(0.1, 0.1), scale=(0.9, 1.1), interpolation=InterpolationMode.BILINEAR
            ),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    loader = DataLoader(ImageFolder(photos, change), BATCH, True, num_workers=WORKERS, persistent_workers=True)
    means, images = [], 0
    for _ in range(epochs):
        means, images = [], 0
        for inputs, _ in loader:
            means.append(inputs[:, :, ::16, ::16].mean().item() * len(inputs))
            images += len(inputs)
        ended.append(time.perf_counter())
    seconds = [after - before for before, after in pairwise(ended)]
    return {"seconds": seconds, "images": images, "mean": sum(means) / images}


if __name__ == "__main__":
    photos, epochs, answer = sys.argv[1:]
    Path(answer).write_text(json.dumps(load(photos, int(epochs))))
