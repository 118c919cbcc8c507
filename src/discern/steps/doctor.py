"""Doctor: what this machine has, what it does fastest, and which extras are installed."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from typing import Any

import torch

from discern.deploy.predict import best_device
from discern.files import cache_folder
from discern.models import zoo
from discern.training.runtime import Arithmetic, seconds_per_image

# extra -> the modules it brings
EXTRAS = {
    "audit": ("cleanlab",),
    "ray": ("ray",),
    "slurm": ("submitit",),
    "export": ("onnx", "onnxruntime", "openvino"),
    "tracking": ("tensorboard", "wandb", "mlflow"),
    "generate": ("diffusers", "transformers"),
}

_PROBE = "parts-cnn"  # six ordinary convolutions with batch norm: what most networks spend their time on
_PROBE_SIZE = 128


def examine() -> dict[str, Any]:
    """Cores, memory, GPU, measured training speed of each arithmetic, extras; plain values."""
    device = best_device()
    model = zoo.build(_PROBE, classes=10, size=_PROBE_SIZE)
    speeds = {}
    for precision in ("float32", "bfloat16"):
        for channels_last in (False, True):
            arithmetic = Arithmetic(precision=precision, channels_last=channels_last)
            seconds = seconds_per_image(model, arithmetic, size=_PROBE_SIZE, device=device, budget=0.5)
            speeds[f"{precision}{', channels last' if channels_last else ''}"] = round(1 / seconds, 1)
    fastest = max(speeds, key=speeds.__getitem__)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(pages / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cache": str(cache_folder()),
        "disk_free_gib": round(shutil.disk_usage(_existing(str(cache_folder()))).free / 2**30, 1),
        "training_images_per_second": speeds,
        "fastest": fastest,
        "extras": {
            extra: {
                "installed": all(importlib.util.find_spec(module) for module in modules),
                "install": f"pip install 'discern-vision[{extra}]'",
            }
            for extra, modules in EXTRAS.items()
        },
    }


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path
