#!/usr/bin/env python3
"""Measures graphc against other systems on this machine. README.md says how, and what the numbers mean.

    python run.py --env /somewhere/outside/the/tree [two_layer ...]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]


def arguments() -> argparse.Namespace:
    """Options and the names of rows."""
    parser = argparse.ArgumentParser(description="Measures graphc against other systems, interleaved in one run.")
    parser.add_argument("--env", type=Path, required=True, help="folder of the virtual environment, made if absent")
    parser.add_argument("--graphc", type=Path, help="a graphc binary, beside graphc-models, instead of building them")
    parser.add_argument("--threads", type=int, default=2, help="threads of every system (default 2)")
    parser.add_argument("--seconds", type=float, default=1.0, help="time of one turn of one system (default 1)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each system (default 7)")
    parser.add_argument("--memory", action="store_true", help="compare resident memory instead of times (Linux)")
    parser.add_argument("--json", type=Path, help="also write the findings to this file")
    parser.add_argument("rows", nargs="*", help="rows to measure (default: all)")
    options = parser.parse_args()
    if options.env.resolve().is_relative_to(REPOSITORY):
        parser.error("--env must lie outside the repository")
    if options.memory and options.json:
        parser.error("--memory writes no --json")
    if options.threads < 1 or options.rounds < 1 or options.seconds <= 0:
        parser.error("--threads, --rounds and --seconds must be positive")
    return options


def ensure_environment(folder: Path) -> Path:
    """A virtual environment with the pinned peers in it; returns its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    requirements = str(HERE / "requirements.txt")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", requirements], check=True)
    return python


def build_graphc() -> Path:
    """The release binary, built from this tree; graphc-models lies beside it."""
    packages = ["--package", "graphc-cli", "--package", "graphc-models"]
    subprocess.run(["cargo", "build", "--release", *packages], cwd=REPOSITORY, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    return REPOSITORY / target / "release" / "graphc"


def main() -> int:
    options = arguments()
    graphc = options.graphc.resolve() if options.graphc else build_graphc()
    program = "harness.memory" if options.memory else "harness.measure"
    command = [ensure_environment(options.env.resolve()), "-m", program, "--graphc", graphc]
    command += ["--threads", str(options.threads), "--seconds", str(options.seconds), *options.rows]
    if not options.memory:
        command += ["--rounds", str(options.rounds)]
    models = graphc.with_name("graphc-models")
    if models.exists():
        command += ["--models", models]
    if options.json:
        command += ["--json", options.json.resolve()]
    return subprocess.run(command, cwd=HERE, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
