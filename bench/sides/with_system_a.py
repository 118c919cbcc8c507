"""Reference system A's loop on CIFAR-10: images in memory, PIL transforms, two workers, Adam, its regularised net.

python with_system_a.py FOLDER SEED EPOCHS GOAL ANSWER
"""

import numpy as np
import scratch
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

BATCH = 64


class Pictures(Dataset):
    """Arrays, as torchvision's CIFAR10 keeps them, given as PIL images to the transforms."""

    def __init__(self, folder, change):
        self.classes = sorted(place.name for place in folder.iterdir())
        files = [
            (file, label) for label, name in enumerate(self.classes) for file in sorted((folder / name).iterdir())
        ]
        self.pictures = np.stack([np.asarray(Image.open(file).convert("RGB")) for file, _ in files])
        self.labels, self.change = [label for _, label in files], change

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, at):
        return self.change(Image.fromarray(self.pictures[at])), self.labels[at]


def loader(folder, *, taught):
    """Batches of a split."""
    varied = [transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, padding=4)] if taught else []
    return DataLoader(
        Pictures(folder, transforms.Compose([*varied, transforms.ToTensor()])), BATCH, shuffle=taught, num_workers=2
    )


def network():
    """The regularised net: 545,290 parameters."""
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(4096, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)),
    )


def accuracy(net, batches):
    """Share that is right."""
    net.eval()
    with torch.no_grad():
        hits = [(net(images).argmax(1) == labels).float() for images, labels in batches]
    return torch.cat(hits).mean().item()


def main(folder, seed, epochs, diary):
    """Train, and look at validation after every epoch."""
    torch.manual_seed(seed)
    train, val, test = (loader(folder / split, taught=split == "train") for split in ("train", "val", "test"))
    net, loss = network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, weight_decay=1e-4)
    for _ in range(epochs):
        net.train()
        for images, labels in train:
            optimizer.zero_grad()
            loss(net(images), labels).backward()
            optimizer.step()
        if diary.add(accuracy(net, val), lambda: accuracy(net, test)):
            return


if __name__ == "__main__":  # workers may import this file again
    scratch.run(main)
