"""What a measurement found, and its table."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

import numpy as np

from harness.row import Row


@dataclass
class Finding:
    """One system on one row."""

    system: str
    medians_ms: list[float] = field(default_factory=list)  # one a round
    min_ms: float = float("inf")  # over all rounds
    error: float | None = None  # against NumPy in float64
    state_error: float | None = None  # of the state after the runs; graphc alone
    failure: str | None = None

    @property
    def median_ms(self) -> float:
        """The median over rounds of the median within a round."""
        return statistics.median(self.medians_ms)


def worst_error(results: np.ndarray, reference: np.ndarray) -> float:
    """The largest relative L2 error of one run; infinite where shapes differ or a number is not finite."""
    if results.shape != reference.shape or not np.isfinite(results).all():
        return float("inf")
    runs = reference.shape[0]
    difference = np.linalg.norm((results - reference).reshape(runs, -1), axis=1)
    return float((difference / np.linalg.norm(reference.reshape(runs, -1), axis=1)).max())


def ratios(peer: Finding, graphc: Finding) -> list[float]:
    """Time of the peer over time of graphc, round by round, so that the clock's drift cancels."""
    return [p / g for p, g in zip(peer.medians_ms, graphc.medians_ms, strict=True)]


def table(row: Row, findings: list[Finding]) -> str:
    """The row's lines of the report."""
    lines = [
        f"{row.name}: {row.title}",
        f"  {'system':<12}{'median ms':>11}{'min ms':>10}{'/ graphc':>10}{'(range)':>16}{'error':>11}",
    ]
    graphc = next((f for f in findings if f.system == "graphc" and f.medians_ms), None)
    for finding in findings:
        line = f"  {finding.system:<12}"
        if finding.failure is not None:
            lines.append(f"{line}failed: {finding.failure}")
            continue
        line += f"{finding.median_ms:>11.4f}{finding.min_ms:>10.4f}"
        if graphc is not None and graphc.failure is None:
            each = ratios(finding, graphc)
            line += f"{statistics.median(each):>10.2f}{f'{min(each):.2f}-{max(each):.2f}':>16}"
        else:
            line += f"{'-':>10}{'-':>16}"
        mark = "" if finding.error <= row.tolerance else f"  above {row.tolerance:g}"
        if finding.state_error is not None:
            mark += f"  state {finding.state_error:.1e}"
            mark += "" if finding.state_error <= row.tolerance else f", above {row.tolerance:g}"
        lines.append(f"{line}{finding.error:>11.1e}{mark}")
    return "\n".join(lines)


def record(row: Row, findings: list[Finding]) -> dict[str, object]:
    """The row as plain data, for `--json`."""
    return {
        "row": row.name,
        "tolerance": row.tolerance,
        "systems": [
            {
                "system": f.system,
                "medians_ms": f.medians_ms,
                "min_ms": f.min_ms if f.medians_ms else None,
                "error": f.error if f.error is not None and np.isfinite(f.error) else None,
                "state_error": f.state_error if f.state_error is not None and np.isfinite(f.state_error) else None,
                "failure": f.failure,
            }
            for f in findings
        ],
    }


def passed(row: Row, findings: list[Finding]) -> bool:
    """Whether every system ran and agreed with the reference."""
    return all(
        f.failure is None
        and f.error is not None
        and f.error <= row.tolerance
        and (f.state_error is None or f.state_error <= row.tolerance)
        for f in findings
    )
