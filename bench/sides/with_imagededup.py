"""imagededup's side: PHash with its own number of processes and its own threshold.

    python with_imagededup.py PHOTOS WARM ANSWER

The hashes are in ANSWER before the search begins, as that may be cut off; writing them is not on the clock.
"""

import json
import os
import sys
import time
import warnings
from pathlib import Path

from imagededup.methods import PHash

warnings.filterwarnings("ignore")  # it warns about an argument that was not given


def look(photos, answer):
    """Write seconds by stage, of the processor, and the pairs by name."""
    worked, began = sum(os.times()[:4]), time.perf_counter()
    method = PHash(verbose=False)
    hashes = method.encode_images(photos, recursive=True)
    record = {"seconds": {"hashes": time.perf_counter() - began}, "hashes": hashes}
    processor = sum(os.times()[:4]) - worked
    answer.write_text(json.dumps(record))
    worked, began = sum(os.times()[:4]), time.perf_counter()
    found = method.find_duplicates(encoding_map=hashes)
    record["seconds"]["search"] = time.perf_counter() - began
    record["processor"] = processor + sum(os.times()[:4]) - worked
    record["pairs"] = [[name, other] for name, others in found.items() for other in others if name < other]
    answer.write_text(json.dumps(record))


if __name__ == "__main__":  # pools of processes may import this file again
    photos, warm, answer = sys.argv[1:]
    look(warm, Path(answer).with_name("warm.json"))
    Path(answer).write_text('{"seconds": {}}')
    look(photos, Path(answer))
