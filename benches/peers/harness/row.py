"""What a row of the comparison says: one function of one module, its data, and the same computation elsewhere."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

ROWS = Path(__file__).resolve().parent.parent / "rows"

Arrays = Mapping[str, np.ndarray]

# The present values of the state that a step has updated, by name.
State = Callable[[], Arrays]

# One complete run: it commits its updates, waits until they are done, and returns what `Row.output` names.
Step = Callable[[], object]


class Row(ABC):
    """One line of the table. A subclass sets the attributes and defines the four methods.

    Every array comes from a generator with a fixed seed, so that each process of a measurement makes the same ones.
    """

    name: str  # that of the file in rows/
    title: str  # one line for the report
    module: str  # the graphc module, relative to the repository; a model's name if it is made on demand
    on_demand: bool = False  # whether graphc-models writes the module, because the repository has none
    function: str  # its function to run
    output: str  # the output that is compared
    repeats: int  # how many runs in a row are compared, each committing its updates
    exports: bool = False  # whether `export` writes an ONNX file, for the comparison of memory
    tolerance: float  # largest relative L2 error of one run's output against `reference`

    @abstractmethod
    def feeds(self) -> Arrays:
        """Inputs by name, the same in every run."""

    @abstractmethod
    def state(self) -> Arrays:
        """Initial state by name. State of role `slot` is absent: it starts at zero everywhere."""

    @abstractmethod
    def reference(self) -> tuple[Step, State]:
        """The computation in float64, by NumPy or PyTorch, and the state that its steps leave (none without updates)."""

    def export(self, file: Path) -> None:
        """Writes the function as an ONNX file, with the row's state."""
        raise NotImplementedError(f"row {self.name} exports nothing")

    @abstractmethod
    def peers(self) -> Mapping[str, Callable[[], Step]]:
        """The other systems: name to a function that imports the system and returns a step from the initial state."""


def row_names() -> list[str]:
    """Names of all rows, sorted."""
    return sorted(path.stem for path in ROWS.glob("*.py") if path.stem != "__init__")


def load_row(name: str) -> Row:
    """The `ROW` of `rows/NAME.py`."""
    row = importlib.import_module(f"rows.{name}").ROW
    if row.name != name:
        raise ValueError(f"rows/{name}.py names its row {row.name!r}; the two must agree")
    return row
