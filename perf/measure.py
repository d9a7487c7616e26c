"""Pure measuring: how far a result is from the reference, and how long a call takes.

In: arrays or a callable. Out: plain numbers. Knows no system and no workload.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from statistics import quantiles
from time import perf_counter

import numpy as np

from perf.workloads import Arrays

SAMPLE_SECONDS = 2e-4  # quick calls are timed in groups at least this long
LEAST_SAMPLES = 2


def worst_error(result: Arrays, reference: Arrays) -> float:
    """Greatest |result - reference| of all arrays, each by the greatest |reference| of its own.

    Infinite where count, shape or the places of NaN and infinity differ.
    """
    if [a.shape for a in result] != [a.shape for a in reference]:
        return float("inf")
    worst = 0.0
    for found, wanted in zip(result, reference, strict=True):
        finite = np.isfinite(wanted)
        exact = np.array_equal(found[~finite], wanted[~finite], equal_nan=True)
        if not exact or not np.isfinite(found[finite]).all():
            return float("inf")
        if finite.any():
            scale = float(np.abs(wanted[finite]).max()) or 1.0
            worst = max(worst, float(np.abs(found[finite] - wanted[finite]).max()) / scale)
    return worst


def sample(call: Callable[[], object], seconds: float) -> list[float]:
    """Seconds a call, once for each group of calls, for about `seconds` in all."""
    call()  # brings the data back into the caches that other processes used meanwhile
    start = perf_counter()
    call()
    once = perf_counter() - start
    group = max(1, int(SAMPLE_SECONDS / max(once, 1e-9)))
    times: list[float] = []
    end = perf_counter() + seconds
    while len(times) < LEAST_SAMPLES or perf_counter() < end:
        start = perf_counter()
        for _ in repeat(None, group):
            call()
        times.append((perf_counter() - start) / group)
    return times


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high
