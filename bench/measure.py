"""Measuring: processes of their own with a clock and their memory, the machine in words, a section of RESULTS.md."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent

RESULTS = HERE / "RESULTS.md"

_EVERY = 0.02
"""Seconds between two looks at a process's memory."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A process that ran on its own."""

    seconds: float
    """From its start to its end, imports included."""
    in_time: bool
    """Whether it ended by itself; if not it was killed at the limit."""
    peak: int
    """Most bytes it held in memory at once, mapped files included."""
    own: int
    """Most bytes of memory of its own, without mapped files, which the system can take back at any time."""


def run(command: Sequence[str | Path], *, limit: float | None = None, **environment: str | Path) -> Ended:
    """Run a command to its end or, with all its own processes, to the limit; leave with its words if it fails."""
    words, more = [str(word) for word in command], {name: str(value) for name, value in environment.items()}
    with tempfile.TemporaryFile() as log:
        begin = time.perf_counter()
        child = subprocess.Popen(
            words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=os.environ | more, start_new_session=True
        )
        peak = own = 0
        descriptor = os.pidfd_open(child.pid)
        try:
            while not select.select([descriptor], [], [], _EVERY)[0]:
                held = memory(child.pid)
                peak, own = max(peak, held.get("VmHWM", 0)), max(own, held.get("RssAnon", 0))
                if limit is not None and time.perf_counter() - begin > limit:
                    return Ended(seconds=time.perf_counter() - begin, in_time=False, peak=peak, own=own)
            ended = Ended(seconds=time.perf_counter() - begin, in_time=True, peak=peak, own=own)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            os.close(descriptor)
        if child.returncode:
            log.seek(0)
            sys.exit(f"{' '.join(words)} failed:\n{log.read().decode(errors='replace')[-3000:]}")
    return ended


def memory(process: int | str = "self") -> dict[str, int]:
    """Bytes of a process by the kernel's names; nothing for one that has ended."""
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return {}
    sizes = re.findall(r"^(VmHWM|RssAnon|RssFile):\s+(\d+)", text, re.M)
    return {name: int(size) * 1024 for name, size in sizes}


def folder() -> Path:
    """$DISCERN_BENCH, else ~/.cache/discern-bench: peers and scratch files, outside the repository."""
    return Path(os.environ.get("DISCERN_BENCH") or Path.home() / ".cache" / "discern-bench")


@contextmanager
def scratch() -> Iterator[Path]:
    """A new folder that is gone when the block ends."""
    folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=folder()) as name:
        yield Path(name)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    middle, low, high = (f"{each:,.{digits}f}" for each in (statistics.median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where and of what something is measured, taken before it begins."""

    text: str
    """Command, commit, machine and how busy it was."""
    source: str
    """Digest of Discern's source: others may change it meanwhile."""


def setting() -> Setting:
    """What stands under a section."""
    command = " ".join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    busy = os.getloadavg()[0]
    text = (
        f"`{command}` at {_commit()}, {date.today()}. {_processor()}, {os.cpu_count()} cores, {gigabytes:.0f} GB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}; load {busy:.2f} at the start."
    )
    return Setting(text=text, source=_source())


def _source() -> str:
    digest = hashlib.blake2b(digest_size=12)
    for file in sorted((HERE.parent / "src").rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _processor() -> str:
    name = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    return name[1] if name else platform.machine()


def _commit() -> str:
    """Of the source that was measured, `+` for changes on top of it."""
    words = ["git", "-C", HERE, "describe", "--always", "--exclude=*", "--dirty=+"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def write_section(title: str, text: str) -> None:
    """Put a section into RESULTS.md in the place of the one with its title, the others left as they are."""
    whole = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Results\n"
    head, *sections = re.split(r"^(?=## )", whole, flags=re.M)
    new = f"## {title}\n\n{text.strip()}\n"
    others = [section.strip() + "\n" for section in sections]
    titles = [section.partition("\n")[0].removeprefix("## ") for section in others]
    if title in titles:
        others[titles.index(title)] = new
    else:
        others.append(new)
    RESULTS.write_text("\n".join([head.strip() + "\n", *others]), encoding="utf-8")


def publish(title: str, text: str, setting: Setting, *, quick: bool) -> None:
    """Print a section; what was measured in full, of one source from start to end, goes into RESULTS.md."""
    print(f"\n## {title}\n\n{text}\n\n{setting.text}")
    if setting.source != _source():
        print(
            "Discern's source was changed meanwhile: nothing is written to RESULTS.md; measure again.", file=sys.stderr
        )
    elif not quick:
        write_section(title, f"{text}\n\n{setting.text}")
