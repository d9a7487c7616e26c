"""Numbers evenly spaced, in torch's order of operations.

In: the ends, how many, a dtype.  Out: an array as it lies in memory.  Never makes a tensor.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import FLOAT, DType, memory, readable


def line(start: float, end: float, steps: int, d: DType) -> Any:
    """torch's order of operations: from the start in the first half, from the end in the second."""
    if steps <= 1:
        return memory(np.full(steps, start, d.number), d)
    if d.half:
        return _half_line(start, end, steps, d)
    t = d.np.type if d.category == FLOAT else np.float64
    step = t((t(end) - t(start)) / t(steps - 1))
    k = np.arange(steps)
    first = k < steps // 2
    out = np.where(first, t(start) + step * k.astype(t), t(end) - step * (steps - 1 - k).astype(t))
    return out.astype(d.np)


def _half_line(start: float, end: float, steps: int, d: DType) -> Any:
    """`line` in halves: torch rounds after each operation."""
    def r(v: Any) -> Any:
        return np.asarray(readable(memory(v, d)), np.float32)

    start, end = r(start), r(end)
    step = r(r(end - start) / np.float32(steps - 1))
    k = np.arange(steps, dtype=np.float32)
    return memory(np.where(k < steps // 2, r(start + r(step * k)), r(end - r(step * (np.float32(steps - 1) - k)))), d)
