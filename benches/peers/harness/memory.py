"""Memory of a row's inference, system by system: `python -m harness.memory`, started by `run.py --memory`.

Linux only: numbers are VmRSS and VmHWM of /proc/PID/status, in MiB. A system's *base* is its process before it has
seen the model; what it has *above the weights* is the rest without the bytes of the weights themselves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from harness.measure import REPOSITORY, lacks_module, module_of, pin
from harness.row import Row, load_row, row_names
from harness.systems import PEERS, Graphc, thread_environment

MIB = 1 << 20
POLL_S = 0.01

# What graphc runs to find its base.
SMALLEST = "models/digits_mlp/digits_mlp.json"


@dataclass
class Usage:
    """Bytes of one system."""

    system: str
    base: int
    settled: int  # resident after many runs
    peak: int  # the most that ever was resident
    planned: int | None = None  # what the system said it would need; graphc alone


def resident(process: int | str) -> tuple[int, int]:
    """Resident bytes of a process, now and at most."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return tuple(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))


def watch(command: list[str], environment: dict[str, str]) -> tuple[int, int, str]:
    """Runs a command; its resident bytes in the second half of its time, the most of all, and what it printed."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    seen = []
    while process.poll() is None:
        try:
            seen.append(resident(process.pid))
        except (OSError, KeyError):
            break  # it has ended meanwhile
        time.sleep(POLL_S)
    output = process.communicate()[0]
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} exited with {process.returncode}")
    settled = statistics.median(now for now, _ in seen[len(seen) // 2 :])
    return int(settled), max(peak for _, peak in seen), output


def graphc_usage(row: Row, module: Path, options: argparse.Namespace, folder: Path) -> Usage:
    """Of `graphc bench`."""
    system = Graphc(options.graphc, module, row, options.threads, folder, with_state=False)
    # A process that ends at once cannot be watched; a model of next to no weights can.
    small = [str(REPOSITORY / SMALLEST), "--fn", "predict", "--threads", str(options.threads), "--seconds", "0.3"]
    base = watch([*system.command, "bench", *small], system.environment)[0]
    command = [*system.command, "bench", *system.arguments, "--seconds", str(options.seconds), "--json"]
    settled, peak, output = watch(command, system.environment)
    return Usage("graphc", base, settled, peak, json.loads(output)["peak_bytes"])


def onnx_usage(row: Row, options: argparse.Namespace, folder: Path) -> Usage:
    """Of ONNX Runtime on the row's exported file, in a process that has nothing else."""
    environment = thread_environment(options.threads)
    for stage in ("export", "run"):
        command = [sys.executable, "-m", "harness.resident", stage, row.name, folder, options.threads, options.seconds]
        done = subprocess.run(
            [str(word) for word in command], cwd=PEERS, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
    return Usage("onnxruntime", **json.loads(done.stdout))


def table(row: Row, weights: int, usages: list[Usage]) -> str:
    """The row's lines of the report."""
    lines = [
        f"{row.name}: {row.title}; weights {weights / MIB:.1f} MiB",
        f"  {'MiB':<12}{'planned':>9}{'base':>8}{'settled':>9}{'peak':>8}{'settled above weights':>23}{'peak above':>12}",
    ]
    for u in usages:
        planned = "-" if u.planned is None else f"{u.planned / MIB:.1f}"
        numbers = [u.base, u.settled, u.peak, u.settled - u.base - weights, u.peak - u.base - weights]
        widths = (8, 9, 8, 23, 12)
        line = "".join(f"{n / MIB:>{w}.1f}" for n, w in zip(numbers, widths, strict=True))
        lines.append(f"  {u.system:<12}{planned:>9}{line}")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """The options of `run.py` that concern memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--graphc", type=Path, required=True)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("rows", nargs="*")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    pin(options.threads)
    rows = [load_row(name) for name in options.rows or row_names()]
    good = True
    for row in rows:
        if not row.exports or lacks_module(row, options):
            print(f"{row.name}: skipped, {'its module is absent' if row.exports else 'it exports no ONNX file'}\n")
            good = good and not options.rows
            continue
        with tempfile.TemporaryDirectory(prefix="graphc-peers-") as temporary:
            folder = Path(temporary)
            module = module_of(row, options, folder)
            weights = sum(array.nbytes for array in row.state().values())
            usages = [graphc_usage(row, module, options, folder), onnx_usage(row, options, folder)]
            print(table(row, weights, usages) + "\n", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
