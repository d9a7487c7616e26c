"""Operations that the CPU leaves to NumPy, or has kernels for that a person wrote, as steps and kernels of a GPU.

In: graphs and nodes.  Out: a graph whose scalar operations are elementwise (`with_words`), and the step of each other one
(`device_step`).  Values, indices and sources are in memory before it, whole; what is scattered into lies in the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from ..errors import CompileError
from ..ir.graph import Graph, Node, private, substitute
from ..ir.primitive import ELEMENTWISE, HOST, REGISTRY, Primitive
from .axes import operands
from .loops import Buffer, DeviceStep, ScanStep, ScatterStep, SetStep, SortStep

ORDERED = ("cumsum", "cumprod", "logcumsumexp", "cumarg", "sort", "argsort")
INTO = ("index_add", "scatter_add", "index_set", "scatter_set")    # their first operand is what lies in the output before


@cache
def _word(prim: Primitive) -> Primitive:
    """The same operation as a scalar word."""
    return Primitive(prim.name, ELEMENTWISE, prim.infer, prim.ref, prim.vjp, emit=prim.emit, cost=prim.cost)


def with_words(graph: Graph) -> Graph:
    """The graph with host operations that have a word for a scalar as elementwise ones."""
    if not any([n.prim.kind == HOST and n.prim.emit for n in graph.order]):
        return graph
    make = private()

    def build(prim: Primitive, inputs: tuple[Node, ...], params: tuple[Any, ...]) -> Node:
        return make(_word(prim) if prim.kind == HOST and prim.emit else prim, inputs, params)

    env = {i: i for i in graph.inputs}
    return Graph(graph.inputs, substitute(graph.outputs, env, build))


def in_memory(n: Node) -> list[Node]:
    """The operands that its step reads."""
    return list(operands(n))[1:] if n.op in INTO else list(operands(n))


def without_step() -> frozenset[str]:
    """Host primitives that a GPU has neither a step nor a word for.  (Calls are inlined before.)"""
    return frozenset([p.name for p in REGISTRY.values()
                      if p.kind == HOST and not p.emit and p.name not in (*ORDERED, *INTO, "call")])


def device_step(n: Node, memory: dict[Node, Buffer], out: Buffer) -> DeviceStep:
    """The step of a node; CompileError if a GPU has none for it."""
    if n.op in INTO:
        return _placing(n, memory, out)
    if n.op not in ORDERED:
        raise CompileError(f"{n.op} has no kernel for GPUs: compute it on the CPU (x.cpu()) and move the result")
    (x,) = operands(n)
    source, axis = memory[x].name, n.params[0]
    outer, length, inner = _around(x.shape, axis)
    if n.op in ("sort", "argsort"):
        return SortStep(source, out.name, outer, length, inner, bool(n.params[1]), n.op == "argsort")
    op = n.op if n.op != "cumarg" else "cummax" if n.params[1] else "cummin"
    return ScanStep(op, source, out.name, outer, length, inner)


def _placing(n: Node, memory: dict[Node, Buffer], out: Buffer) -> DeviceStep:
    a, i, v = operands(n)
    (axis,) = n.params
    kind = ScatterStep if n.op in ("index_add", "scatter_add") else SetStep
    index, values, extent = memory[i].name, memory[v].name, a.shape[axis]
    if n.op in ("index_add", "index_set"):
        outer, length, inner = _around(a.shape, axis)
        return kind(index, values, out.name, outer, i.aval.size, length, inner, extent)
    strides = [_size(a.shape[d + 1:]) for d in range(len(a.shape))]
    dims = _merged([(k, 0 if d == axis else strides[d]) for d, k in enumerate(i.shape)])
    return kind(index, values, out.name, 1, i.aval.size, a.aval.size, 1, extent, dims, strides[axis])


def _merged(dims: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Dimensions that are counted through as one are one; those of one element go."""
    out: list[tuple[int, int]] = []
    for extent, stride in dims:
        if extent == 1:
            continue
        if out and out[-1][1] == extent * stride:
            out[-1] = (out[-1][0] * extent, stride)
        else:
            out.append((extent, stride))
    return tuple(out) or ((1, 0),)


def _around(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    return _size(shape[:axis]), shape[axis] if shape else 1, _size(shape[axis + 1:])


def _size(shape: Sequence[int]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size
