"""Runs one peer of one row in a process of its own: `python -m harness.worker ROW PEER THREADS`.

A peer that is not measured must not take processor time from the one that is, hence a process each, asleep in a
read of standard input between its turns. Requests and answers are JSON lines:

    {"measure": SECONDS}             -> {"median_ms": M, "min_ms": M, "runs": N}
    {"results": COUNT, "path": FILE} -> {"path": FILE}    the outputs of COUNT runs, stacked, as .npy

Each request starts again from the row's initial state, as a run of the graphc binary does.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time

import numpy as np

from harness.row import Step, load_row

WARM_UP_SHARE = 0.25
MIN_RUNS = 5


def measure(step: Step, seconds: float) -> dict[str, float]:
    """Times runs for `seconds`, after untimed ones for a share of that."""
    run_for(step, seconds * WARM_UP_SHARE)
    times = run_for(step, seconds)
    return {"median_ms": statistics.median(times), "min_ms": min(times), "runs": len(times)}


def run_for(step: Step, seconds: float) -> list[float]:
    """Runs until `seconds` have passed, MIN_RUNS times at least; milliseconds of each run."""
    times = []
    end = time.perf_counter() + seconds
    now = time.perf_counter()
    while now < end or len(times) < MIN_RUNS:
        step()
        after = time.perf_counter()
        times.append((after - now) * 1e3)
        now = after
    return times


def main(row_name: str, peer: str, threads: int) -> None:
    # Libraries print to standard output; the answers keep it to themselves.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if peer.startswith("torch"):
        import torch

        torch.set_num_threads(threads)
    row = load_row(row_name)
    start = row.peers()[peer]
    for line in sys.stdin:
        request = json.loads(line)
        step = start()
        if "measure" in request:
            answer = measure(step, request["measure"])
        else:
            np.save(request["path"], np.stack([np.asarray(step()) for _ in range(request["results"])]))
            answer = {"path": request["path"]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
