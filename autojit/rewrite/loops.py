"""Loops and branches of a graph: one for each that would run twice, without what nobody reads, their bodies rewritten.

In: a Graph with `scan`, `branch` nodes.  Out: the same with fewer and smaller ones.  Never changes a value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ir.graph import Graph, Node, node
from ..ir.primitive import LEAF
from ..ops.grouped import GROUPED, group_key


def has_loops(graph: Graph) -> bool:
    """Is there any?"""
    for n in graph.order:
        if n.op in GROUPED:
            return True
    return False


def settled(graph: Graph, body: Callable[[Graph], Graph] | None = None) -> Graph:
    """A loop that keeps more for a reverse pass stands in for the one that does not; results that nobody reads are not
    computed, and what only they need is not.  `body`: how the graphs inside are rewritten."""
    if not has_loops(graph):
        return graph
    graph = _merged(graph)
    while True:
        smaller = _pruned(graph)
        if smaller is None:
            break
        graph = smaller
    return graph if body is None else _inside(graph, body)


def _rebuilt(graph: Graph, change: Callable[[Node, tuple[Node, ...]], Node | None]) -> Graph:
    env: dict[Node, Node] = {i: i for i in graph.inputs}
    for n in graph.order:
        if n.prim.kind == LEAF:
            env[n] = n
            continue
        ins = tuple([env[i.real or i] for i in n.inputs])
        env[n] = change(n, ins) or node(n.prim, ins, n.params) if n.op in GROUPED else node(n.prim, ins, n.params)
    return Graph(graph.inputs, [env[o] for o in graph.outputs])


def _merged(graph: Graph) -> Graph:
    by_inputs: dict[Any, dict[Any, Any]] = {}             # (primitive, inputs) -> spec -> the longest that continues it
    for n in graph.order:
        if n.op in GROUPED:
            prim, ins, spec = group_key(n)
            known = by_inputs.setdefault((prim, ins), {})
            known.setdefault(spec, spec)
            while spec.base is not None:
                known[spec.base] = spec
                spec = spec.base

    def change(n: Node, ins: tuple[Node, ...]) -> Node | None:
        prim, old, spec = group_key(n)
        known = by_inputs[prim, old]
        while known[spec] is not spec:
            spec = known[spec]
        return node(prim, ins, (spec, n.params[1]))

    return _rebuilt(graph, change)


def _pruned(graph: Graph) -> Graph | None:
    used: dict[Any, set[int]] = {}
    for n in graph.order:
        if n.op in GROUPED:
            used.setdefault(group_key(n), set()).add(n.params[1])
    found = {key: key[2].pruned(sorted(ks)) for key, ks in used.items()}
    if all([spec is key[2] for key, (spec, _, _, _) in found.items()]):
        return None

    def change(n: Node, ins: tuple[Node, ...]) -> Node | None:
        spec, takes, number, same = found[group_key(n)]
        k = n.params[1]
        return ins[same[k]] if k in same else node(n.prim, tuple([ins[j] for j in takes]), (spec, number[k]))

    return _rebuilt(graph, change)


def _inside(graph: Graph, body: Callable[[Graph], Graph]) -> Graph:
    def change(n: Node, ins: tuple[Node, ...]) -> Node | None:
        spec, k = n.params
        return node(n.prim, ins, (made[spec], k))

    made = {n.params[0]: None for n in graph.order if n.op in GROUPED}
    made = {spec: spec.over([body(b) for b in spec.bodies]) for spec in made}
    return _rebuilt(graph, change)
