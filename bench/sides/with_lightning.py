"""Lightning's side of CIFAR-10 from scratch: ImageFolder, PIL transforms, two workers, system A's net.

python with_lightning.py FOLDER SEED EPOCHS GOAL ANSWER
"""

import logging
import warnings

import lightning
import scratch
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from with_system_a import BATCH, accuracy, network

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")


def loader(folder, *, taught):
    """Batches of a split."""
    varied = [transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, padding=4)] if taught else []
    photos = ImageFolder(folder, transforms.Compose([*varied, transforms.ToTensor()]))
    return DataLoader(photos, BATCH, shuffle=taught, num_workers=2, persistent_workers=True)


class Module(lightning.LightningModule):
    """The net and how it learns."""

    def __init__(self, diary, test):
        super().__init__()
        self.net, self.diary, self.test_batches = network(), diary, test

    def training_step(self, batch, _):
        """The loss of a batch."""
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def on_validation_epoch_start(self):
        """Nothing is right yet."""
        self.hits = []

    def validation_step(self, batch, _):
        """What is right."""
        self.hits.append((self.net(batch[0]).argmax(1) == batch[1]).float())

    def on_validation_epoch_end(self):
        """Note it, and stop when it is enough."""
        if not self.trainer.sanity_checking:
            val = torch.cat(self.hits).mean().item()
            self.trainer.should_stop = self.diary.add(val, lambda: accuracy(self.net, self.test_batches))

    def configure_optimizers(self):
        """Adam, as system A has it."""
        return torch.optim.Adam(self.parameters(), 1e-3, weight_decay=1e-4)


def main(folder, seed, epochs, diary):
    """Train, and look at validation after every epoch."""
    lightning.seed_everything(seed, verbose=False)
    train, val, test = (loader(folder / split, taught=split == "train") for split in ("train", "val", "test"))
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    lightning.Trainer(max_epochs=epochs, accelerator="cpu", **quiet).fit(Module(diary, test), train, val)


if __name__ == "__main__":  # workers may import this file again
    scratch.run(main)
