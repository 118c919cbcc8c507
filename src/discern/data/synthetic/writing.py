"""Writing one planned set into a folder: renders in parallel, then the copies, then the truth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from queue import Empty, SimpleQueue

import polars as pl
from PIL import Image

from discern.data.synthetic.faults import as_jpeg, edited
from discern.data.synthetic.plan import Entry
from discern.data.synthetic.render import VERSION, generator
from discern.data.synthetic.specification import Parts
from discern.data.synthetic.worker import produce
from discern.errors import DataError

Report = Callable[[int, int], None]
"""Called with the files done so far and their total."""

_SERIAL = 24  # a worker takes about a second to start, as long as rendering this many


def fill(folder: Path, entries: list[Entry], parts: Parts, *, workers: int | None, report: Report | None) -> None:
    """Write every planned file, the masks and the truth into an existing, empty folder."""
    for path in {(folder / p).parent for e in entries for p in (e.path, e.mask) if p is not None}:
        path.mkdir(parents=True, exist_ok=True)
    (folder / ".truth").mkdir(exist_ok=True)
    done, lock = 0, threading.Lock()

    def advance() -> None:
        nonlocal done
        with lock:
            done += 1
            if report is not None:
                report(done, len(entries))

    originals = [e for e in entries if e.origin is None]
    wanted = min(workers or _cores(), len(originals))
    if wanted == 1 or (workers is None and len(originals) < _SERIAL):
        for entry in originals:
            produce(folder, entry, seed=parts.seed, size=parts.size, domain=parts.domain)
            advance()
    else:
        _share_out(folder, originals, parts, wanted, advance)
    for entry in entries:
        if entry.origin is not None:
            _copy(folder, entries[entry.origin], entry, parts)
            advance()
    _truth(entries).write_parquet(folder / ".truth" / "truth.parquet")
    text = json.dumps({"version": VERSION, "key": parts.key(), **asdict(parts)}, indent=2)
    (folder / ".truth" / "parts.json").write_text(text + "\n", encoding="utf-8")


def _cores() -> int:
    """Cores this process may use, which a container can make fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _share_out(folder: Path, entries: list[Entry], parts: Parts, workers: int, advance: Callable[[], None]) -> None:
    """Hand the entries to child processes, one at a time each, so that none waits for a slow one."""
    jobs: SimpleQueue[Entry] = SimpleQueue()
    for entry in entries:
        jobs.put(entry)
    single = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "POLARS")}
    environment = {
        **os.environ,
        **single,
        "POLARS_MAX_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    command = [sys.executable, "-c", "from discern.data.synthetic.worker import main; main()"]
    shared: dict[str, object] = {
        "folder": str(folder.resolve()),
        "seed": parts.seed,
        "size": parts.size,
        "domain": parts.domain,
    }

    children: list[subprocess.Popen[str]] = []
    try:
        for _ in range(workers):
            pipe = subprocess.PIPE
            children.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment))
        with ThreadPoolExecutor(workers) as threads:
            served = [threads.submit(_serve, child, jobs, shared, advance) for child in children]
            try:
                wait(served, return_when=FIRST_EXCEPTION)
            finally:
                failed = [f for f in served if f.done() and f.exception() is not None]
                if failed or not all(f.done() for f in served):
                    for child in children:
                        child.kill()  # their threads then see the end of the pipe and stop
            for f in failed or served:
                f.result()
    finally:
        for child in children:
            child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout):
                if stream is not None and not stream.closed:
                    stream.close()


def _serve(
    child: subprocess.Popen[str], jobs: SimpleQueue[Entry], shared: dict[str, object], advance: Callable[[], None]
) -> None:
    """Hand one child process entries until there are none left."""
    assert child.stdin is not None
    assert child.stdout is not None
    while True:
        try:
            entry = jobs.get_nowait()
        except Empty:
            child.stdin.close()
            return
        try:
            child.stdin.write(json.dumps({**shared, "entry": asdict(entry)}) + "\n")
            child.stdin.flush()
            answer = child.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer != "done\n":
            raise DataError(
                f"A rendering process ended at {entry.path} with exit code {child.wait()}: see its error above."
            )
        advance()


def _copy(folder: Path, source: Entry, entry: Entry, parts: Parts) -> None:
    """Write a duplicate of a rendered file, with its mask."""
    assert source.mask is not None
    assert entry.mask is not None
    data, mask = (folder / source.path).read_bytes(), (folder / source.mask).read_bytes()
    if entry.detail is None:
        (folder / entry.path).write_bytes(data)
        (folder / entry.mask).write_bytes(mask)
        return
    rng = generator("edit", parts.seed, parts.domain, entry.path)
    with Image.open(folder / source.path) as image, Image.open(folder / source.mask) as outline:
        changed, cut, quality = edited(image, outline, entry.detail, rng)
        (folder / entry.path).write_bytes(as_jpeg(changed, quality))
        cut.save(folder / entry.mask, compress_level=3)


def _truth(entries: list[Entry]) -> pl.DataFrame:
    """The truth table: one row per file, sorted by path."""
    rows = [
        {
            "path": e.path,
            "split": e.split,
            "stored_class": e.stored_class,
            "true_class": e.true_class,
            "mask": e.mask,
            "fault": e.fault,
            "source": None if e.origin is None else entries[e.origin].path,
            "detail": e.detail,
        }
        for e in entries
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(rows[0], pl.String)).sort("path")
