"""The NumPy backend: a graph run node by node with the primitives' references.  Oracle, and tier 0.

In: a Graph and arrays for its inputs.  Out: arrays for its outputs, each owning its memory.  Never imports a compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...dtypes import memory
from ...ir.graph import Graph
from ...ops.grouped import GROUPED, group_key, set_hook
from ...rewrite.half import lowered
from ...rewrite.inline import inline
from ...rewrite.loops import settled


class NumpyProgram:
    """Instructions over numbered values; intermediate arrays are let go after their last use."""

    __slots__ = ("code", "inputs", "outputs", "count", "consts")

    def __init__(self, graph: Graph) -> None:
        graph = settled(lowered(graph))
        number = {n: k for k, n in enumerate(graph.order)}
        self.inputs = [number[i] for i in graph.inputs]
        self.outputs = [number[o] for o in graph.outputs]
        self.consts = [(number[n], memory(n.data, n.dtype)) for n in graph.order if n.op == "const"]
        last: dict[int, int] = {}
        loops: dict[Any, int] = {}                        # a loop or branch -> the value that is all its results
        self.count = len(number)
        steps: list[tuple[Any, int, tuple[int, ...], tuple[Any, ...], Any]] = []
        for n in graph.order:
            if n.prim.ref is not None and n not in graph.inputs:
                ref, args, params = n.prim.ref, tuple([number[i.real or i] for i in n.inputs]), n.params
                if n.op in GROUPED:
                    key = group_key(n)
                    if key not in loops:
                        loops[key] = self.count
                        self.count += 1
                        last.update(dict.fromkeys(args, len(steps)))
                        steps.append((_all, loops[key], args, params[:1], None))
                    ref, args, params = _one, (loops[key],), params[1:]
                last.update(dict.fromkeys(args, len(steps)))
                steps.append((ref, number[n], args, params, n.dtype.np))
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
                if type(r) is np.ndarray and r.dtype == dtype or dtype is None:
                    values[out] = r
                else:
                    values[out] = np.asarray(r, dtype)
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


def _all(*more: Any) -> list[Any]:
    """All results of a loop or branch."""
    *arrays, spec = more
    return spec.run(arrays)  # type: ignore[no-any-return]


def _one(results: list[Any], k: int) -> Any:
    return results[k]


set_hook("program", lambda graph: NumpyProgram(inline(graph)))
