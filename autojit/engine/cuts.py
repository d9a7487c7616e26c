"""Graphs over several devices, cut at transfers into programs of one device each, and what runs these in order.

In: a Graph whose nodes are on devices.  Out: `Cut`: its parts, and called with arrays, as any program, its results.  The graphs
of the parts know of no devices: every aval is plain, and no transfer is left.
Never decides where anything is computed: a node is where its operands are, and numbers go along with what they meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backends.devices import backend, from_host, to_host
from ..ir.graph import Graph, Node, const, linearise, placeholder, private, substitute
from ..ir.primitive import CREATE, LEAF, PLACEHOLDER, TRANSFER, Primitive

Place = tuple[int, str]                                   # which part of the program: when, and on which device
Run = Callable[[Sequence[Any]], Sequence[Any]]


def plain(graph: Graph) -> bool:
    """Is all of a graph on the CPU?"""
    return all([n.aval.device == "cpu" for n in graph.order])


def places(graph: Graph) -> dict[Node, Place | None]:
    """Where each node is computed; None for numbers and what is made of them, which go along."""
    at: dict[Node, Place | None] = {}
    inputs = set(graph.inputs)
    for n in graph.order:
        if n.prim.kind == LEAF or n.prim.kind == CREATE:
            number = n.prim is not PLACEHOLDER or n.aval.shape == () and n.aval.device == "cpu"
            at[n] = None if number else (0, n.aval.device)
            continue
        found = [p for p in [at[i.real or i] for i in n.inputs] if p is not None]
        if not found:
            at[n] = None
        elif n.prim.kind == TRANSFER:
            stage, device = found[0]
            waits = device != n.aval.device and (n.inputs[0].real or n.inputs[0]) not in inputs
            at[n] = (stage + waits, n.aval.device)
        else:
            at[n] = (max([stage for stage, _ in found]), n.aval.device)
    return at


class Part:
    """One program: the values that it takes and gives, as nodes of the whole graph; its own graph; `run`, once it is there."""

    __slots__ = ("place", "inputs", "outputs", "graph", "run")

    def __init__(self, place: Place, inputs: Sequence[Node], outputs: Sequence[Node]) -> None:
        self.place, self.inputs, self.outputs = place, list(inputs), list(outputs)
        env = {n: placeholder(n.aval.host) for n in inputs}
        found = substitute(outputs, dict(env), _without_devices())
        self.graph = Graph([env[n] for n in inputs], [_bare(n) for n in found])
        self.run: Run | None = None

    @property
    def device(self) -> str:
        return self.place[1]


def _bare(n: Node) -> Node:
    """A number without a device."""
    return n if n.aval.device == "cpu" else const(n.data, n.dtype)


def _without_devices() -> Callable[[Primitive, tuple[Node, ...], tuple[Any, ...]], Node]:
    """A builder that leaves devices out."""
    make = private()

    def build(prim: Primitive, ins: tuple[Node, ...], params: tuple[Any, ...]) -> Node:
        ins = tuple([_bare(i) for i in ins])
        return ins[0] if prim.kind == TRANSFER else make(prim, ins, params)
    return build


class Cut:
    """A graph without calls as parts.  `single`: the only part, which takes and gives what the graph does; else None.

    moved: value after a transfer → before it; copied when the part that made it has run, or at the start."""

    __slots__ = ("graph", "parts", "places", "moved", "single", "_steps", "_slots", "_results")

    def __init__(self, graph: Graph) -> None:
        self.graph, self.places = graph, places(graph)
        self.moved: dict[Node, Node] = {}
        for n in graph.order:
            if n.prim.kind == TRANSFER and self.places[n] is not None:
                sent = n.inputs[0].real or n.inputs[0]
                if self._place(sent)[1] != n.aval.device:
                    self.moved[n] = sent
        wanted = {p for p in self.places.values() if p is not None} | {self._place(o) for o in graph.outputs}
        self.single: Part | None = None
        if len(wanted) == 1 and not self.moved:
            self.single = Part(wanted.pop(), graph.inputs, graph.outputs)
        self.parts = [self.single] if self.single is not None else self._parts()
        self._slots: dict[Node, int] = {n: k for k, n in enumerate(graph.inputs)}
        self._steps = self._order()
        self._results = self._named()

    def _place(self, n: Node) -> Place:
        return self.places[n] or (0, n.aval.device)

    # ------------------------------------------------------------ cutting
    def _parts(self) -> list[Part]:
        """What is sent, what later parts of a device take, and results: all that parts have to give."""
        inputs, given = set(self.graph.inputs), {}
        for n in self.graph.order:
            for i in n.inputs:
                i = i.real or i
                if self.places[i] is not None and (n in self.moved or self.places[i] != self.places[n]):
                    given[i] = self._place(i)
        for o in self.graph.outputs:
            given[o] = self._place(o)
        by_place: dict[Place, list[Node]] = {}
        for n, place in given.items():
            if n not in inputs and n not in self.moved:
                by_place.setdefault(place, []).append(n)
        return [Part(place, self._taken(by_place[place], place), by_place[place]) for place in sorted(by_place)]

    def _taken(self, outputs: list[Node], place: Place) -> list[Node]:
        """What a part takes: inputs of the graph, values of other parts and what has been moved to its device."""
        inputs = set(self.graph.inputs)
        stop = {n: n for n, p in self.places.items() if n in inputs or n in self.moved or p is not None and p != place}
        return [n for n in linearise(outputs, stop=stop) if n in stop]

    # ------------------------------------------------------------ running
    def _slot(self, n: Node) -> int:
        return self._slots.setdefault(n, len(self._slots))

    def _order(self) -> list[tuple[Any, ...]]:
        """Runs and copies, with the numbers of their values."""
        steps: list[tuple[Any, ...]] = []
        left = dict(self.moved)

        def move() -> None:
            for n in list(left):                          # in the graph's order: what was moved may be moved on
                if left[n] in self._slots:
                    sent = left.pop(n)
                    steps.append((None, self._slots[sent], self._slot(n), sent.aval.device, n.aval))

        move()
        for part in self.parts:
            steps.append((part, [self._slots[n] for n in part.inputs], [self._slot(n) for n in part.outputs]))
            move()
        return steps

    def _named(self) -> list[tuple[int, str | None]]:
        """For each result its number, and the device on which it must be copied since somebody else has that array."""
        seen = set(self.graph.inputs)
        found: list[tuple[int, str | None]] = []
        for o in self.graph.outputs:
            found.append((self._slots[o], o.aval.device if o in seen else None))
            seen.add(o)
        return found

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        """Arrays of the graph's inputs, each on its device; arrays of its outputs, each on its own."""
        values: list[Any] = [None] * len(self._slots)
        values[:len(arrays)] = arrays
        for part, ins, outs, *more in self._steps:
            if part is None:
                device, a = more
                values[outs] = from_host(to_host(values[ins], device), a.dtype, a.device)
            else:
                for k, array in zip(outs, part.run([values[i] for i in ins])):
                    values[k] = array
        return [values[k] if device is None else _copy(values[k], device) for k, device in self._results]


def _copy(array: Any, device: str) -> Any:
    return np.array(array) if device == "cpu" else backend(device).copy(array)
