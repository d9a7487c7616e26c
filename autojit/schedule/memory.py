"""The memory plan: where in one arena each temporary of a program lives.

In: (bytes, first step, last step) of each buffer.  Out: offsets and the arena's size.  Buffers whose lifetimes meet never
overlap: kernels promise LLVM so, and an overlap would be silent.  Greedy by size, which is within a few per cent of best.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping

ALIGN = 64


def place(buffers: Mapping[str, tuple[int, int, int]], align: int = ALIGN) -> tuple[dict[str, int], int]:
    """Offsets for `name -> (bytes, first, last)`, steps inclusive, and the total.

    >>> place({"a": (100, 0, 1), "b": (64, 1, 2), "c": (100, 2, 3)})
    ({'a': 0, 'c': 0, 'b': 128}, 192)
    """
    placed: list[tuple[int, int, int, int]] = []          # (offset, end, first, last), by offset
    offsets: dict[str, int] = {}
    total = 0
    for name, (size, first, last) in sorted(buffers.items(), key=lambda kv: (-kv[1][0], kv[1][1])):
        size = -(-max(size, 1) // align) * align
        at = 0
        for start, end, f, l in placed:
            if f > last or l < first:
                continue
            if at + size <= start:
                break
            at = max(at, end)
        offsets[name] = at
        insort(placed, (at, at + size, first, last))
        total = max(total, at + size)
    return offsets, total
