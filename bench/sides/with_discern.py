"""Discern's side: list, scan, find copies, judge quality; everything an audit says without features of a network.

python with_discern.py PHOTOS WARM ANSWER
"""

import json
import os
import sys
import time
from pathlib import Path

import polars as pl

from discern.data.audit.checks import audit
from discern.data.duplicates.search import copies
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.steps.audit import size_for


def look(photos):
    """Seconds by stage, of the processor, and the clusters of copies by name."""
    worked, began = sum(os.times()[:4]), time.perf_counter()
    listing = open_dataset(photos)
    dataset, pixels = scan(listing, size=size_for(listing), fit="pad")
    scanned = time.perf_counter()
    good = dataset.filter(pl.col("problem").is_null())
    clusters, near = copies(good, pixels)
    compared = time.perf_counter()
    audit(good, clusters, near)
    ended = time.perf_counter()
    seconds = {"scan": scanned - began, "copies": compared - scanned, "findings": ended - compared}
    return {
        "seconds": seconds,
        "processor": sum(os.times()[:4]) - worked,
        "clusters": [[good.images[row] for row in cluster] for cluster in clusters],
    }


if __name__ == "__main__":  # pools of processes may import this file again
    photos, warm, answer = sys.argv[1:]
    look(warm)
    Path(answer).write_text('{"seconds": {}}')
    Path(answer).write_text(json.dumps(look(photos)))
