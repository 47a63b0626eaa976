"""The systems of a row as the measurement sees them: graphc through its command line, a peer through its worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from harness.row import Arrays, Row

PEERS = Path(__file__).resolve().parent.parent


class SystemFailure(Exception):
    """A system could not run; the text says which, and what it said."""


def thread_environment(threads: int) -> dict[str, str]:
    """The environment that holds every system to `threads`: OpenMP and BLAS libraries, and XLA's pool (NPROC)."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
    return os.environ | {name: str(threads) for name in names}


class Graphc:
    """The graphc binary over one row; its feeds and state lie as .npy files in `folder`.

    Without the row's state the values of the module's own file are used.
    """

    name = "graphc"

    def __init__(self, binary: Path, module: Path, row: Row, threads: int, folder: Path, with_state: bool = True) -> None:
        self.row = row
        self.folder = folder
        self.command = [str(binary)]
        self.arguments = [str(module), "--fn", row.function, "--threads", str(threads)]
        self.arguments += values("-i", row.feeds(), folder)
        if with_state:
            self.arguments += values("--state", row.state(), folder)
            for name in zero_state(module, row.state()):
                self.arguments += ["--state", f"{name}=zeros"]
        self.environment = thread_environment(threads)

    def measure(self, seconds: float) -> dict[str, float]:
        """One `graphc bench`: its JSON object."""
        return json.loads(self._run("bench", "--seconds", str(seconds), "--json"))

    def results(self) -> np.ndarray:
        """The row's output of each of its `repeats` runs, stacked."""
        lines = self._run("run", "--repeat", str(self.row.repeats), "--json").splitlines()
        # Numbers that JSON has no form for are strings, which float64 parses.
        return np.stack([np.asarray(json.loads(line)[self.row.output]).astype(np.float64) for line in lines])

    def state(self) -> Arrays:
        """The state after the row's `repeats` runs."""
        saved = self.folder / "saved" / "module.json"
        saved.parent.mkdir(exist_ok=True)
        self._run("run", "--repeat", str(self.row.repeats), "--quiet", "--save", str(saved))
        state = json.loads(saved.read_text(encoding="utf-8"))["state"]
        weights = read_safetensors(saved.parent / next(s["init"]["file"] for s in state if "file" in s["init"]))
        return {entry["name"]: weights[entry["name"]] for entry in state if entry["name"] in weights}

    def close(self) -> None:
        """Nothing runs between calls."""

    def _run(self, verb: str, *options: str) -> str:
        command = [*self.command, verb, *self.arguments, *options]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemFailure(f"graphc {verb} exited with {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done.stdout


def values(flag: str, arrays: Arrays, folder: Path) -> list[str]:
    """Writes `arrays` into `folder` and returns the arguments that name the files."""
    arguments = []
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        np.save(path, array)
        arguments += [flag, f"{name}=@{path}"]
    return arguments


def read_safetensors(path: Path) -> Arrays:
    """The float32 tensors of a file: eight bytes with the length of a JSON header, the header, the data."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            first, end = (start + offset for offset in entry["data_offsets"])
            arrays[name] = np.frombuffer(raw[first:end], dtype="<f4").reshape(entry["shape"])
    return arrays


def zero_state(module: Path, given: Arrays) -> list[str]:
    """Names of the module's optimizer slots that the row leaves at zero."""
    state = json.loads(module.read_text(encoding="utf-8")).get("state", [])
    return [entry["name"] for entry in state if entry.get("role") == "slot" and entry["name"] not in given]


class Peer:
    """Another system, in a worker process that lives until `close`."""

    def __init__(self, name: str, row: Row, threads: int, folder: Path) -> None:
        self.name = name
        self.row = row
        self.path = folder / f"{name}-results.npy"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness.worker", row.name, name, str(threads)],
            cwd=PEERS,
            env=thread_environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self, seconds: float) -> dict[str, float]:
        """Times runs for `seconds`."""
        return self._ask({"measure": seconds})

    def results(self) -> np.ndarray:
        """The row's output of each of its `repeats` runs, stacked."""
        self._ask({"results": self.row.repeats, "path": str(self.path)})
        return np.load(self.path).astype(np.float64)

    def close(self) -> None:
        """Ends the worker."""
        self.process.stdin.close()
        self.process.wait()

    def _ask(self, request: dict[str, object]) -> dict[str, float]:
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise SystemFailure(f"the process of {self.name} has ended; its messages are above") from None
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemFailure(f"the process of {self.name} ended without an answer; its messages are above")
        return json.loads(answer)
