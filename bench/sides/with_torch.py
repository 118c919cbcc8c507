"""Plain PyTorch's side: a head on a frozen backbone, photos decoded and varied anew in every epoch by two workers.

    python with_torch.py LIST WEIGHTS SEED EPOCHS ANSWER

LIST has a line for each photo: file, label, split. Ends when the validation loss has not fallen for PATIENCE epochs,
after EPOCHS at the latest. What is told of each epoch: seconds since the process began, with validation and without
the test, which is judged only to know what stopping there would have given.
"""

import json
import os
import sys
import time
from pathlib import Path

import polars
import timm
import torch
from PIL import Image, ImageOps
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

SIDE, BATCH = 224, 32

PATIENCE = 5

TICK = os.sysconf("SC_CLK_TCK")


class Photos(Dataset):
    """Letterboxed photos."""

    def __init__(self, rows, classes, change):
        self.rows, self.classes, self.change = rows.rows(named=True), classes, change

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, at):
        with Image.open(self.rows[at]["file"]) as photo:
            square = ImageOps.pad(ImageOps.exif_transpose(photo).convert("RGB"), (SIDE, SIDE))
        return self.change(square), self.classes.index(self.rows[at]["label"])


def loaders_of(photos, config):
    """Batches of each split, and the share of each class in training."""
    table = polars.read_csv(photos)
    classes = sorted(table["label"].unique())
    scaled = [transforms.ToTensor(), transforms.Normalize(config["mean"], config["std"])]
    varied = [
        transforms.RandomHorizontalFlip(),
        transforms.RandomAffine(10, translate=(0.1, 0.1), scale=(0.9, 1.1)),
    ]
    loaders = {}
    for split in ("train", "val", "test"):
        taught = split == "train"
        rows = table.filter(polars.col("split") == split)
        data = Photos(rows, classes, transforms.Compose([*varied * taught, *scaled]))
        loaders[split] = DataLoader(data, BATCH, shuffle=taught, num_workers=2, persistent_workers=split != "test")
    labels = table.filter(polars.col("split") == "train")["label"].to_list()
    return loaders, torch.tensor([labels.count(name) / len(labels) for name in classes])


def judged(backbone, head, loader):
    """Logits and labels."""
    head.eval()
    with torch.no_grad():
        pairs = [(head(backbone(images)), labels) for images, labels in loader]
    return tuple(torch.cat(each) for each in zip(*pairs, strict=True))


def main(photos, weights, seed, epochs):
    """Train, and judge after every epoch."""
    torch.manual_seed(seed)
    backbone = timm.create_model(f"local-dir:{weights}", pretrained=True, num_classes=0).eval().requires_grad_(False)
    loaders, shares = loaders_of(photos, backbone.pretrained_cfg)
    names = [row["image"] for row in loaders["test"].dataset.rows]
    head = nn.Sequential(nn.Dropout(0.2), nn.Linear(backbone.num_features, len(shares)))
    optimizer = torch.optim.AdamW(head.parameters(), 1e-3)
    loss = nn.CrossEntropyLoss(1 / (len(shares) * shares))
    told, aside = [], 0.0
    while len(told) < epochs and (len(told) <= PATIENCE or lowest(told) >= len(told) - PATIENCE):
        head.train()
        for images, labels in loaders["train"]:
            with torch.no_grad():
                features = backbone(images)
            optimizer.zero_grad()
            loss(head(features), labels).backward()
            optimizer.step()
        logits, labels = judged(backbone, head, loaders["val"])
        scores = {"val": (logits.argmax(1) == labels).float().mean().item(), "val_loss": loss(logits, labels).item()}
        now = since_start()
        logits, labels = judged(backbone, head, loaders["test"])
        hits = (logits.argmax(1) == labels).tolist()
        told.append({"seconds": now - aside, **scores, "right": dict(zip(names, hits, strict=True))})
        aside += since_start() - now
    return {"epochs": told}


def lowest(told):
    """The epoch of the lowest validation loss, from 0."""
    return min(range(len(told)), key=lambda at: told[at]["val_loss"])


def since_start():
    """Seconds since this process began, imports included."""
    began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / TICK
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began


if __name__ == "__main__":  # workers may import this file again
    Path(sys.argv[5]).write_text(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
