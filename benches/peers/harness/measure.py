"""Measures rows, system against system: `python -m harness.measure`, started by run.py inside its environment."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from harness.report import Finding, passed, record, table, worst_error
from harness.row import Arrays, Row, load_row, row_names
from harness.systems import Graphc, Peer, SystemFailure

REPOSITORY = Path(__file__).resolve().parents[3]

# Threads of a pool may spin for a while after their last task; a turn begins when they are asleep.
PAUSE_S = 0.1


def module_of(row: Row, options: argparse.Namespace, folder: Path) -> Path:
    """The row's module, which is written into `folder` if it is one that is made on demand."""
    if not row.on_demand:
        return REPOSITORY / row.module
    subprocess.run([options.models, row.module, folder / "module"], check=True)
    return folder / "module" / f"{row.module}.json"


def lacks_module(row: Row, options: argparse.Namespace) -> bool:
    """Whether there is no module, and nothing that writes it."""
    return options.models is None if row.on_demand else not (REPOSITORY / row.module).is_file()


def measure_row(row: Row, options: argparse.Namespace) -> list[Finding]:
    """Errors of every system first, then the rounds."""
    with tempfile.TemporaryDirectory(prefix="graphc-peers-") as temporary:
        folder = Path(temporary)
        module = module_of(row, options, folder)
        systems = [Graphc(options.graphc, module, row, options.threads, folder)]
        systems += [Peer(name, row, options.threads, folder) for name in row.peers()]
        findings = {system.name: Finding(system.name) for system in systems}
        try:
            reference_step, reference_state = row.reference()
            reference = np.stack([np.asarray(reference_step()) for _ in range(row.repeats)])
            for system in systems:
                attempt(findings[system.name], lambda f, s=system: compare(f, s, reference))
            attempt(findings["graphc"], lambda f: compare_state(f, systems[0], reference_state()))
            for number in range(options.rounds):
                # Another system begins each round, so that none always follows the same one.
                turn = number % len(systems)
                for system in systems[turn:] + systems[:turn]:
                    attempt(findings[system.name], lambda f, s=system: time_round(f, s, options.seconds))
        finally:
            for system in systems:
                system.close()
    return list(findings.values())


def compare(finding: Finding, system: Graphc | Peer, reference: np.ndarray) -> None:
    """Notes the system's error."""
    finding.error = worst_error(system.results(), reference)


def compare_state(finding: Finding, graphc: Graphc, reference: Arrays) -> None:
    """Notes the error of the state that the same runs leave, if they update any."""
    if not reference:
        return
    state = graphc.state()
    absent = [name for name in reference if name not in state]
    if absent:
        raise SystemFailure(f"graphc saved no {', '.join(absent)}")
    finding.state_error = max(worst_error(state[n][None].astype(np.float64), a[None]) for n, a in reference.items())


def time_round(finding: Finding, system: Graphc | Peer, seconds: float) -> None:
    """Notes one turn of the system."""
    time.sleep(PAUSE_S)
    times = system.measure(seconds)
    finding.medians_ms.append(times["median_ms"])
    finding.min_ms = min(finding.min_ms, times["min_ms"])


def attempt(finding: Finding, action) -> None:
    """Runs `action` unless the system has failed before; a failure is noted, and the others go on."""
    if finding.failure is None:
        try:
            action(finding)
        except SystemFailure as failure:
            finding.failure = str(failure)


def pin(threads: int) -> None:
    """Confines this process, and the systems that it starts, to the first `threads` processors it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def arguments() -> argparse.Namespace:
    """The options of `run.py` that concern the measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--graphc", type=Path, required=True)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("rows", nargs="*")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    unknown = sorted(set(options.rows) - set(row_names()))
    if unknown:
        print(f"no such row: {', '.join(unknown)}; there are {', '.join(row_names())}", file=sys.stderr)
        return 2
    pin(options.threads)
    records, good = [], True
    for name in options.rows or row_names():
        row = load_row(name)
        if lacks_module(row, options):
            print(f"{row.name}: skipped, there is neither its module {row.module} nor who writes it\n", flush=True)
            # A row that was asked for by name has to be measured.
            good = good and not options.rows
            continue
        findings = measure_row(row, options)
        print(table(row, findings) + "\n", flush=True)
        records.append(record(row, findings))
        good = good and passed(row, findings)
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
