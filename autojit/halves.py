"""bfloat16 in NumPy, which lacks it: memory holds its bits as uint16, numbers are float32.

In: arrays of float32, or of bits.  Out: the other.  Never imported for float16, which NumPy has.
"""

from __future__ import annotations

from typing import Any

import numpy as np

QUIET = np.uint32(0x40)                                   # the bit that keeps a NaN one when its low half goes


def bits(values: Any) -> Any:
    """float32 values rounded to the nearest bfloat16, ties to even, as uint16.

    >>> [hex(b) for b in bits(np.float32([1.0, 1.00390625, float("inf")]))]
    ['0x3f80', '0x3f80', '0x7f80']
    """
    a = np.ascontiguousarray(values, np.float32).reshape(np.shape(values))
    u = a.view(np.uint32)
    high = u >> np.uint32(16)
    near = (u + (np.uint32(0x7FFF) + (high & np.uint32(1)))) >> np.uint32(16)
    return np.where(np.isnan(a), high | QUIET, near).astype(np.uint16)


def values(memory: Any) -> Any:
    """Bits of bfloat16 as float32 values, exactly.

    >>> values(np.uint16([0x3f80, 0xc000])).tolist()
    [1.0, -2.0]
    """
    m = np.asarray(memory, np.uint16)
    return np.asarray(m.astype(np.uint32) << np.uint32(16)).view(np.float32)


def rounded(value: Any) -> Any:
    """A number as the nearest bfloat16, a NumPy float32."""
    with np.errstate(all="ignore"):
        return values(bits(np.float32(value)))[()]
