"""Anomaly detection: where a NaN came from.

In: `with detect_anomaly():`.  Out: an error at the operation, forward or backward, that first made a NaN (or an Inf, if
asked), with its name, the element and the user's line.  Every value is looked at: slow, for debugging only.
"""

from __future__ import annotations

import numpy as np

from ..dtypes import FLOAT
from ..errors import explain
from ..ir.graph import Node
from .placing import host
from .state import state


class Watch:
    """What is looked for."""

    __slots__ = ("nan", "inf")

    def __init__(self, nan: bool, inf: bool) -> None:
        self.nan, self.inf = nan, inf

    def check(self, n: Node, name: str, what: str, where: str) -> None:
        """RuntimeError if a value is not what it should be."""
        if n.dtype.category < FLOAT or state.trace is not None:
            return
        array = host(n)
        bad = np.zeros(array.shape, bool)
        if self.nan:
            bad |= np.isnan(array)
        if self.inf:
            bad |= np.isinf(array)
        if bad.any():
            at = tuple([int(i) for i in np.argwhere(bad)[0]])
            kind = "nan" if np.isnan(array[at]) else "inf"
            raise explain(RuntimeError(f"Function '{name}' returned {kind} values in its {what}."), where=where,
                          hint=f"the first one is element {at}" if at else None)


class detect_anomaly:
    """Context manager: stop at the operation that makes a NaN.

    check_nan: look for NaN (True).  check_inf: look for infinities too (False).
    """

    def __init__(self, check_nan: bool = True, check_inf: bool = False) -> None:
        self.watch = Watch(check_nan, check_inf)

    def __enter__(self) -> None:
        self.before, state.anomaly = state.anomaly, self.watch

    def __exit__(self, *exc: object) -> None:
        state.anomaly = self.before


class set_detect_anomaly(detect_anomaly):
    """The same as a switch: on or off from here on, or for the length of a `with` block."""

    def __init__(self, mode: bool, check_nan: bool = True, check_inf: bool = False) -> None:
        super().__init__(check_nan, check_inf)
        self.before = state.anomaly
        self.now = state.anomaly = self.watch if mode else None

    def __enter__(self) -> None:
        state.anomaly = self.now


def is_anomaly_enabled() -> bool:
    """Is anomaly detection on?"""
    return state.anomaly is not None
