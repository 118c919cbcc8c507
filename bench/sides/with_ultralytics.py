"""Ultralytics' side of CIFAR-10 from scratch: `yolo classify train` with its smallest network, without weights.

python with_ultralytics.py FOLDER SEED EPOCHS GOAL ANSWER
"""

import os
import tempfile

os.environ["YOLO_OFFLINE"] = "true"

import scratch
import torch
from torchvision import transforms
from torchvision.datasets import ImageFolder
from ultralytics import YOLO

SIDE, BATCH = 32, 64


def right(model, batches):
    """Share of the test images that is right."""
    model = model.eval()
    with torch.no_grad():
        said = [(model(images), labels) for images, labels in batches]
    hits = [((out[0] if isinstance(out, tuple) else out).argmax(1) == labels).float() for out, labels in said]
    return torch.cat(hits).mean().item()


def main(folder, seed, epochs, diary):
    """Train, and look at validation after every epoch."""
    test = torch.utils.data.DataLoader(ImageFolder(folder / "test", transforms.ToTensor()), 256)

    def note(trainer):
        if diary.add(trainer.metrics["metrics/accuracy_top1"], lambda: right(trainer.ema.ema, test)):
            trainer.stop = True

    model = YOLO("yolo11n-cls.yaml")
    model.add_callback("on_fit_epoch_end", note)
    with tempfile.TemporaryDirectory() as own:
        model.train(
            data=str(folder),
            epochs=epochs,
            imgsz=SIDE,
            batch=BATCH,
            workers=2,
            device="cpu",
            seed=seed,
            plots=False,
            verbose=False,
            project=own,
        )


if __name__ == "__main__":  # workers may import this file again
    scratch.run(main)
