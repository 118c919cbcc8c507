"""The tools that Discern is measured against, each in a virtual environment of its own outside the repository.

python bench/peers.py        makes those that are missing below $DISCERN_BENCH or ~/.cache/discern-bench
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import measure

PEERS = {
    "cleanvision": ("cleanvision==0.3.7", "ImageHash==4.3.2", "numpy==2.4.6", "pillow==13.0.0", "PyWavelets==1.9.0"),
    "imagededup": ("imagededup==0.3.3.post2", "numpy==2.4.6", "pillow==13.0.0", "PyWavelets==1.9.0", "scipy==1.17.1"),
    "keras": ("keras==3.15.1", "tensorflow_cpu==2.21.0", "numpy==2.4.6"),
    "lightning": ("lightning==2.6.6", "torch==2.15.0", "torchvision==0.29.2", "pillow==13.0.0"),
    "ultralytics": ("ultralytics==8.4.190", "torch==2.15.0", "torchvision==0.29.2", "pillow==13.0.0"),
    "fastai": ("fastai==2.8.12", "torch==2.15.0", "timm==1.0.31", "torchvision==0.29.2", "pillow==13.0.0"),
}
"""What is installed: the tool first, then what does its arithmetic. imagededup and fastai bring PyTorch: several
gigabytes."""


def python_of(peer: str) -> Path:
    """Its interpreter; leaves with a sentence when it is missing or has another version than the one named above."""
    python = measure.folder() / peer / "bin" / "python"
    if not python.exists():
        sys.exit(f"{peer} is not in {python.parent.parent}: run `python bench/peers.py` once.")
    present = versions(peer)
    strange = [f"{name} {present.get(name)}" for name, pin in _pins(peer).items() if present.get(name) != pin]
    if strange:
        sys.exit(f"{python.parent.parent} has {', '.join(strange)}: remove it and run `python bench/peers.py`.")
    return python


def versions(peer: str) -> dict[str, str]:
    """Versions of its pinned packages as they are installed."""
    code = (
        "import importlib.metadata as m, json, sys; "
        "print(json.dumps({d.name: d.version for d in m.distributions() if d.name in sys.argv[1:]}))"
    )
    python = measure.folder() / peer / "bin" / "python"
    words = [python, "-c", code, *_pins(peer)]
    found: dict[str, str] = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return found


def _pins(peer: str) -> dict[str, str]:
    return {name: version for name, _, version in (pin.partition("==") for pin in PEERS[peer])}


def main() -> None:
    """Make the environments that are missing."""
    for peer, pins in PEERS.items():
        place = measure.folder() / peer
        if not (place / "bin" / "python").exists():
            print(f"Installing {pins[0]} into {place}", flush=True)
            subprocess.run([sys.executable, "-m", "venv", place], check=True)
            subprocess.run([place / "bin" / "python", "-m", "pip", "install", "--quiet", *pins], check=True)
        python_of(peer)
        print(f"{place}: {', '.join(f'{name} {version}' for name, version in versions(peer).items())}")


if __name__ == "__main__":
    main()
