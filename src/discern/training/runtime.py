"""The machine: which device, which arithmetic and which memory order train fastest, measured."""

from __future__ import annotations

import copy
import ctypes
import math
import os
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from torch import Tensor, nn

from discern.errors import UsageError
from discern.models.layers import trained
from discern.models.network import Network, parameter_count
from discern.training.phases import Phase
from discern.training.recipe import Recipe

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of glibc's malloc.h


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """How the network computes."""

    precision: str
    """'float32' or 'bfloat16' (autocast: weights, sums and the loss stay float32)."""
    channels_last: bool
    """Whether images and filters lie in memory pixel by pixel instead of channel by channel."""

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """The context the forward pass runs in."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    def place(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model on the device, its filters in this memory order."""
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        placed: nn.Module = model.to(device=device, memory_format=order)  # type: ignore[call-overload]
        return placed


def accelerator() -> Accelerator:
    """The device at hand, through accelerate: the CUDA GPU when there is one, else the CPU; and the other processes.

    Precision is not accelerate's here: its setting holds for a whole process, ours for a run.
    """
    _keep_freed_memory()
    _as_slurm_says()
    patience = InitProcessGroupKwargs(timeout=timedelta(days=2))  # while the first process reads the images
    return Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available(), kwargs_handlers=[patience])


def _as_slurm_says() -> None:
    """Started by srun, the processes find each other as torch's own launcher would have it."""
    known = os.environ
    if "WORLD_SIZE" in known or int(known.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return
    known |= {
        "RANK": known["SLURM_PROCID"],
        "LOCAL_RANK": known["SLURM_LOCALID"],
        "WORLD_SIZE": known["SLURM_STEP_NUM_TASKS"],
        "MASTER_ADDR": known.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1"),
        "MASTER_PORT": str(20_000 + int(known["SLURM_JOB_ID"]) % 20_000),
    }


def _keep_freed_memory() -> None:
    """Let the C library keep what is freed for what is asked for next.

    It would give every large tensor back to the system and have it cleared anew: a forward pass of MobileNetV2 in
    batches of 32 then takes twice as long.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # a C library without it, such as musl
            allocator = ctypes.CDLL("libc.so.6")
            allocator.mallopt(_MMAP_THRESHOLD, 1 << 30)
            allocator.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


def refuse_large(network: Network, phases: Sequence[Phase], *, device: torch.device) -> None:
    """Raise UsageError when the weights, their gradients and the optimiser's state alone would not fit.

    The network may be an outline without weights.
    """
    total = parameter_count(network)
    known = {name: value.numel() for name, value in network.named_parameters()}
    most = max(sum(known[name] for name in trained(network, phase.train)) for phase in phases or (Phase(),))
    needed, free = 4 * (total + 3 * most), _free_memory(device)
    if needed > free:
        raise UsageError(
            f"Training these {total:,} parameters, {most:,} of them at once, needs more than {needed / 1e9:.1f} GB of "
            f"memory, and {free / 1e9:.1f} GB are free on this {device.type}: choose a smaller network (`discern "
            "models`), or train its head alone (--set 'phases=[{train: head}]')."
        )


def _free_memory(device: torch.device) -> float:
    """Bytes; without bound where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024.0 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable")))
    except (OSError, StopIteration, ValueError):
        return math.inf


def choose_arithmetic(
    recipe: Recipe,
    model: nn.Module,
    *,
    size: int,
    device: torch.device,
    crossing: Sequence[tuple[int, ...]] | None = None,
) -> Arithmetic:
    """The recipe's arithmetic; what it leaves open is measured on this model and takes the fastest.

    The model takes images of `size` pixels, or tensors of the shapes in `crossing` where it is the part behind a cut.
    Costs about a second on small networks; a training step of two images each way is the unit on large ones.
    """
    precisions = ["float32", "bfloat16"] if recipe.precision == "auto" else [recipe.precision]
    orders = [False, True] if recipe.channels_last is None else [recipe.channels_last]
    candidates = [Arithmetic(precision=p, channels_last=c) for p in precisions for c in orders]
    if len(candidates) == 1:
        return candidates[0]
    # Twice around, the better counting: other work on the machine then hits no candidate alone.
    seconds = dict.fromkeys(candidates, math.inf)
    for candidate in [*candidates, *candidates]:
        again = seconds_per_image(model, candidate, size=size, device=device, budget=0.1, crossing=crossing)
        seconds[candidate] = min(again, seconds[candidate])
    return min(seconds, key=seconds.__getitem__)


def forward_arithmetic(part: nn.Module, images: Tensor) -> Arithmetic:
    """What is fastest without a backward pass, on these images: bfloat16 where the processor has it."""
    device = images.device
    candidates = [Arithmetic(precision=p, channels_last=True) for p in ("float32", "bfloat16")]
    seconds = dict.fromkeys(candidates, math.inf)
    with torch.inference_mode():
        for candidate in candidates * 3:
            start = time.perf_counter()
            with candidate.autocast(device):
                part(images.contiguous(memory_format=torch.channels_last))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds[candidate] = min(time.perf_counter() - start, seconds[candidate])
    return min(seconds, key=seconds.__getitem__)


def seconds_per_image(
    model: nn.Module,
    arithmetic: Arithmetic,
    *,
    size: int,
    device: torch.device,
    budget: float,
    crossing: Sequence[tuple[int, ...]] | None = None,
) -> float:
    """Least seconds per image of a training step (forward and backward) within about `budget` seconds.

    Neither the model nor torch's generator is changed.
    """
    trial = arithmetic.place(copy.deepcopy(model), device).train()

    def step(count: int) -> float:
        inputs: Any = torch.rand(count, size, size, 3, device=device).permute(0, 3, 1, 2)
        if crossing is not None:
            inputs = tuple(torch.rand(count, *shape, device=device) for shape in crossing)
        start = time.perf_counter()
        with arithmetic.autocast(device):
            loss = trial(inputs).float().square().mean()
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    with torch.random.fork_rng():
        step(2)  # the first step pays for allocation and kernel choice
        once = step(2)
        count = max(2, min(32, int(2 * budget / 4 / once)))
        return min(step(count) for _ in range(3)) / count
