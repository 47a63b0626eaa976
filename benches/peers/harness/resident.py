"""ONNX Runtime and a model, alone in a process: `python -m harness.resident export|run ROW FOLDER THREADS SECONDS`.

`export` writes the row's model and feeds into the folder; `run` loads them, without the system that exported them,
and prints its resident bytes as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np


def export(name: str, folder: Path) -> None:
    """Writes model.onnx and feeds.npz."""
    from harness.row import load_row

    row = load_row(name)
    # An exporter may print.
    os.dup2(2, 1)
    row.export(folder / "model.onnx")
    np.savez(folder / "feeds.npz", **row.feeds())


def run(folder: Path, threads: int, seconds: float) -> None:
    """Runs for `seconds`."""
    import onnxruntime

    from harness.memory import resident

    feeds = dict(np.load(folder / "feeds.npz"))
    base, _ = resident("self")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        session.run(None, feeds)
    settled, peak = resident("self")
    print(json.dumps({"base": base, "settled": settled, "peak": peak}))


if __name__ == "__main__":
    stage, name, folder, threads, seconds = sys.argv[1:]
    if stage == "export":
        export(name, Path(folder))
    else:
        run(Path(folder), int(threads), float(seconds))
