"""What the sides that learn CIFAR-10 from scratch share: when to stop, and what they tell."""

import json
import os
import sys
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def since_start():
    """Seconds since this process began, imports included."""
    began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / TICK
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began


class Diary:
    """Seconds and accuracies after each epoch; looking at the test images is not on the clock."""

    def __init__(self, goal):
        self.goal, self.epochs, self._aside = goal, [], 0.0

    def add(self, val, test):
        """An epoch's validation accuracy, and a function for that on the test images; whether to stop."""
        now = since_start()
        self.epochs.append({"seconds": now - self._aside, "val": float(val), "test": float(test())})
        self._aside += since_start() - now
        print(self.epochs[-1], flush=True)
        return self.goal is not None and val >= self.goal


def run(main):
    """Call a side as it is called: SIDE FOLDER SEED EPOCHS GOAL ANSWER; a goal of 0 is none."""
    folder, seed, epochs, goal, answer = sys.argv[1:]
    diary = Diary(float(goal) or None)
    main(Path(folder), int(seed), int(epochs), diary)
    Path(answer).write_text(json.dumps({"epochs": diary.epochs}))
