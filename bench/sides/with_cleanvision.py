"""cleanvision's side: every issue it looks for by default, exact and near duplicates among them.

python with_cleanvision.py PHOTOS WARM ANSWER
"""

import json
import os
import sys
import time
from pathlib import Path

from cleanvision import Imagelab


def look(photos):
    """Seconds, of the processor, and the sets of copies by name."""
    worked, began = sum(os.times()[:4]), time.perf_counter()
    lab = Imagelab(data_path=photos, verbose=False)
    lab.find_issues(verbose=False)
    seconds = {"find_issues": time.perf_counter() - began}
    sets = [*lab.info["exact_duplicates"]["sets"], *lab.info["near_duplicates"]["sets"]]
    return {
        "seconds": seconds,
        "processor": sum(os.times()[:4]) - worked,  # its pools of processes are included, as they have ended
        "clusters": [[str(Path(name).relative_to(photos)) for name in names] for names in sets],
    }


if __name__ == "__main__":  # pools of processes may import this file again
    photos, warm, answer = sys.argv[1:]
    look(warm)
    Path(answer).write_text('{"seconds": {}}')
    Path(answer).write_text(json.dumps(look(photos)))
