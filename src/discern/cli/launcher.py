"""Launching: the same command in several processes that train together on this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

_STOPPED = (75, 130)
"""Exit codes of processes that were told to stop."""

_PATIENCE = 30.0
"""Seconds that processes have to end after one of them has failed."""


def launch(words: Sequence[str], count: int) -> int:
    """Run `discern WORDS` in `count` processes; the exit code of the first that fails, else 0.

    The first process alone speaks. When one dies the others are told to end, and then made to.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    common |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores // count)))}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "discern", *words],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=None if rank == 0 else subprocess.DEVNULL,
            stderr=None if rank == 0 else subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C comes to them through this process, once
        )
        for rank in range(count)
    ]
    try:
        return _watched(started)
    finally:
        for process in started:
            process.kill()


def _watched(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    def hand_on(number: int, frame: object) -> None:
        for process in processes:
            process.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not any(process.poll() for process in processes):
            if all(process.poll() == 0 for process in processes):
                return 0
            time.sleep(0.05)
        failed = next(process.returncode for process in processes if process.poll())
        until = time.monotonic() + _PATIENCE
        if failed not in _STOPPED:  # the others would wait for it; stopped ones end by themselves, with all kept
            hand_on(signal.SIGTERM, None)
        while time.monotonic() < until and any(process.poll() is None for process in processes):
            time.sleep(0.05)
        # What the first process said belongs to its own exit code.
        own = processes[0].poll()
        return own if own and own > 0 else failed if failed > 0 else 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])
