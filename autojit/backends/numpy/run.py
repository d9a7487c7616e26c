"""The NumPy backend: a graph run node by node with the primitives' references.  Oracle, and tier 0.

In: a Graph and arrays for its inputs.  Out: arrays for its outputs, each owning its memory.  Never imports a compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...dtypes import memory
from ...ir.graph import Graph
from ...rewrite.half import lowered


class NumpyProgram:
    """Instructions over numbered values; intermediate arrays are let go after their last use."""

    __slots__ = ("code", "inputs", "outputs", "count", "consts")

    def __init__(self, graph: Graph) -> None:
        graph = lowered(graph)
        number = {n: k for k, n in enumerate(graph.order)}
        self.count = len(number)
        self.inputs = [number[i] for i in graph.inputs]
        self.outputs = [number[o] for o in graph.outputs]
        self.consts = [(number[n], memory(n.data, n.dtype)) for n in graph.order if n.op == "const"]
        last: dict[int, int] = {}
        steps: list[tuple[Any, int, tuple[int, ...], tuple[Any, ...], Any]] = []
        for n in graph.order:
            if n.prim.ref is not None and n not in graph.inputs:
                args = tuple([number[i.real or i] for i in n.inputs])
                for a in args:
                    last[a] = len(steps)
                steps.append((n.prim.ref, number[n], args, n.params, n.dtype.np))
        held = {*self.inputs, *self.outputs, *[k for k, _ in self.consts]}
        drop: dict[int, list[int]] = {}
        for k, at in last.items():
            if k not in held:
                drop.setdefault(at, []).append(k)
        self.code = [(*s, tuple(drop.get(i, ()))) for i, s in enumerate(steps)]

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        values: list[Any] = [None] * self.count
        for k, a in zip(self.inputs, arrays):
            values[k] = a
        for k, c in self.consts:
            values[k] = c
        with np.errstate(all="ignore"):
            for ref, out, args, params, dtype, drop in self.code:
                r = ref(*[values[a] for a in args], *params)
                values[out] = r if type(r) is np.ndarray and r.dtype == dtype else np.asarray(r, dtype)
                for d in drop:
                    values[d] = None
        return self._own(values)

    def _own(self, values: list[Any]) -> list[Any]:
        """Each output in memory of its own: never an input's, a constant's, another output's, or a view."""
        taken: set[int] = {id(values[k]) for k in self.inputs} | {id(c) for _, c in self.consts}
        out = []
        for k in self.outputs:
            a = values[k]
            if a.base is not None or id(a) in taken or not a.flags.c_contiguous:
                a = np.array(a, order="C", copy=True)
            taken.add(id(a))
            out.append(a)
        return out
