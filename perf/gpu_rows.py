"""The rows that are measured on a GPU, and what is asked of them.

A row is a program of `workloads` at a size of its own, in a dtype and a precision of products. In
`--standin` it runs at a tiny size, so that the script can be tried where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perf.workloads import WORKLOADS, Workload

FULL_BANDWIDTH = 0.85  # of the measured copy, for the bytes that must move
ELEMENTS = 1 << 26


@dataclass(frozen=True)
class Row:
    """sizes, tiny: of the real run and of the stand-in's. over: least ratio of the best of these
    peers' times to ours ("torch.compile": in any of its four ways). bandwidth: least share of the
    copy bandwidth. precision: of float32 products, "highest" or "high" (TF32)."""

    name: str
    base: str
    sizes: dict[str, int]
    tiny: dict[str, int]
    over: dict[str, float] = field(default_factory=dict)
    bandwidth: float | None = None
    dtype: str = "float32"
    precision: str = "highest"
    tolerance: float = 1e-4

    def workload(self, standin: bool) -> Workload:
        return WORKLOADS[self.base].variant("gpu", **(self.tiny if standin else self.sizes))


def _large(dtype: str, precision: str, tolerance: float) -> Row:
    return Row(
        f"attn, large, {'TF32' if precision == 'high' else dtype}",
        "attn",
        {"batch": 16, "length": 1024, "width": 1024, "inner": 4096, "heads": 16},
        {"batch": 2, "length": 5, "width": 12, "inner": 20, "heads": 3},
        {"torch.compile": 0.8},
        dtype=dtype,
        precision=precision,
        tolerance=tolerance,
    )


ROWS = (
    Row("elem", "elem", {"n": ELEMENTS}, {"n": 1037}, {"torch.compile": 1.0}, FULL_BANDWIDTH),
    Row(
        "lnorm",
        "lnorm",
        {"rows": ELEMENTS // 1024, "width": 1024},
        {"rows": 7, "width": 131},
        {"torch.compile": 1.0},
        FULL_BANDWIDTH,
    ),
    Row(
        "softmax CE",
        "softmax_ce",
        {"rows": ELEMENTS // 1000, "classes": 1000},
        {"rows": 9, "classes": 83},
        {"torch.compile": 1.0},
        FULL_BANDWIDTH,
    ),
    Row("Black-Scholes", "bs", {"n": ELEMENTS}, {"n": 517}, {"torch.compile": 1.0}, FULL_BANDWIDTH),
    Row("pair", "pair", {"n": 20_000}, {"n": 19}, {"torch.compile": 3.0}, tolerance=1e-3),
    Row(
        "gmm",
        "gmm",
        {"points": 1_000_000, "parts": 16, "dims": 32},
        {"points": 45, "parts": 5, "dims": 3},
        {"torch.compile": 3.0},
        tolerance=1e-3,
    ),
    Row(
        "mlp, batch 32",
        "mlp",
        {"batch": 32},
        {"batch": 5, "inputs": 19, "hidden": 11, "classes": 3},
        {"torch.compile": 1.3, "torch": 4.0},
    ),
    Row(
        "attn, 8x64x128",
        "attn",
        {"batch": 8, "length": 64, "width": 128},
        {"batch": 2, "length": 5, "width": 12, "inner": 20, "heads": 3},
        {"torch.compile": 1.3, "torch": 4.0},
        tolerance=1e-3,
    ),
    _large("bfloat16", "highest", 0.1),
    _large("float32", "high", 2e-2),
)
QUICK = ("elem", "pair", "mlp, batch 32")
BY_NAME = {row.name: row for row in ROWS}


def least_bytes(arrays: list[np.ndarray], wrt: int, itemsize: int) -> int:
    """Every argument read once, every gradient written once."""
    sizes = [a.size * itemsize if a.dtype.kind == "f" else a.nbytes for a in arrays]
    return sum(sizes) + sum(sizes[:wrt])


def digest(arrays: Iterable[np.ndarray], count: int = 20_000) -> list[np.ndarray]:
    """What stands for large results when they are compared: elements at even distances, and the sum of sizes."""
    out = []
    for a in arrays:
        flat = np.asarray(a).astype(np.float64).reshape(-1)
        out += [flat[:: max(1, flat.size // count)], np.abs(flat).sum(keepdims=True)]
    return out


def judged(row: Row, cells: dict[str, dict[str, Any]], copy: float | None) -> dict[str, Any]:
    """Ratios to peers, share of the bandwidth, and whether both suffice; cells: system -> {"us": ...}."""
    ours = cells.get("autojit", {})
    found: dict[str, Any] = {"ratios": {}, "pass": None}
    if "us" not in ours:
        return found
    verdicts = []
    for peer in ("torch", "torch.compile", "jax"):
        ways = [n for n in cells if n == peer or (peer == "torch.compile" and n.startswith(peer + "-"))]
        times = {n: cells[n]["us"] for n in ways if "us" in cells[n]}
        if not times:
            continue
        best = min(times, key=lambda n: times[n])
        ratio, target = times[best] / ours["us"], row.over.get(peer)
        found["ratios"][peer] = {"ratio": ratio, "by": best, "target": target}
        if target is not None:
            verdicts.append(ratio >= target)
    if copy and row.bandwidth is not None:
        found["share"] = ours["bytes"] / ours["us"] / 1e3 / copy
        verdicts.append(found["share"] >= row.bandwidth)
    if verdicts:
        found["pass"] = all(verdicts)
    return found
