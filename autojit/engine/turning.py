"""Graphs with loops and branches for a device: the host turns the loops, what is in them and between them runs there.

In: a Graph that knows of no devices, a device's name.  Out: `Turning`, prepared and linked as any program of a device.  A
program runs for what is before a loop, one for each turn, one for what comes after; a `while` waits in each turn for its
test.  Never brings arrays to the host but the flags of tests and branches and the numbers of turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backends.devices import Backend, backend
from ..ir.graph import Graph, Node, linearise, placeholder, substitute
from ..ir.primitive import PLACEHOLDER
from ..ops.grouped import GROUPED, SOME, group_key
from ..rewrite.loops import has_loops, settled
from . import compile as pipeline

Run = Callable[[Sequence[Any]], list[Any]]


def prepare(graph: Graph, device: str) -> pipeline.OnDevice | Turning:
    """A graph for a device, whether it has loops or not."""
    return Turning(device, graph) if has_loops(graph) else pipeline.prepare_for(graph, device)


class Turning:
    """What the pipeline makes of such a graph.  pieces: each a program or a loop, with the numbers of the values that it takes
    and gives."""

    __slots__ = ("device", "graph", "pieces", "slots")

    def __init__(self, device: str, graph: Graph) -> None:
        self.device, self.graph = device, settled(graph)
        self.slots: dict[Node, int] = {n: k for k, n in enumerate(self.graph.inputs)}
        self.pieces: list[tuple[Any, list[int], list[int]]] = []
        self._cut()

    # ------------------------------------------------------------ pieces
    def _cut(self) -> None:
        """Stage 0, the loops that need no more than that, stage 1, ..."""
        stage: dict[Node, int] = {}
        free: set[Node] = set()                           # made of numbers alone: computed where it is read
        for n in self.graph.order:
            ins = [i.real or i for i in n.inputs]
            if n.prim is not PLACEHOLDER and all([i in free for i in ins]) and n.op not in GROUPED:
                free.add(n)
            stage[n] = max([stage[i] for i in ins], default=0) + (n.op in GROUPED)
        loops: dict[Any, list[Node]] = {}
        for n in self.graph.order:
            if n.op in GROUPED:
                loops.setdefault(group_key(n), []).append(n)
        wanted = dict.fromkeys([*[i for _, ins, _ in loops for i in ins], *[o.real or o for o in self.graph.outputs]])
        for n in self.graph.order:
            if n.op not in GROUPED:
                wanted |= dict.fromkeys([i for i in [i.real or i for i in n.inputs] if stage[i] < stage[n] and i not in free])
        for at in range(max(stage.values(), default=0) + 1):
            for (_, ins, spec), nodes in loops.items():
                if stage[nodes[0]] == at:
                    self._add(_Loop(self.device, spec, [n.params[1] for n in nodes]), ins, nodes)
            self._program([n for n in wanted if stage[n] == at and n not in self.slots])

    def _program(self, outputs: list[Node]) -> None:
        if outputs:
            takes = [n for n in linearise(outputs, stop=self.slots) if n in self.slots]
            env = {n: placeholder(n.aval) for n in takes}
            made = prepare(Graph(list(env.values()), substitute(outputs, dict(env))), self.device)
            self._add(made, takes, outputs)

    def _add(self, piece: Any, takes: Sequence[Node], gives: Sequence[Node]) -> None:
        ins = [self.slots[n] for n in takes]
        self.pieces.append((piece, ins, [self.slots.setdefault(n, len(self.slots)) for n in gives]))

    # ------------------------------------------------------------ as a prepared program
    def link(self) -> Run:
        """The program: arrays of the device in, fresh ones out."""
        at = backend(self.device)
        steps = [(piece.link(), ins, outs) for piece, ins, outs in self.pieces]
        inputs, count = self.graph.inputs, len(self.slots)
        ends = [self.slots[o.real or o] for o in self.graph.outputs]

        def run(arrays: Sequence[Any]) -> list[Any]:
            values = [at.from_host(a, n.dtype) if isinstance(a, np.ndarray) else a for n, a in zip(inputs, arrays)]
            values += [None] * (count - len(inputs))
            for step, ins, outs in steps:
                for k, found in zip(outs, step([values[i] for i in ins])):
                    values[k] = found
            given = set(range(len(inputs)))
            out = []
            for k in ends:
                out.append(at.copy(values[k]) if k in given else values[k])
                given.add(k)
            return out
        return run

    @property
    def summary(self) -> str:
        """One line: the pieces in order."""
        return "; ".join([piece.summary for piece, _, _ in self.pieces])

    @property
    def notes(self) -> Sequence[str]:
        return [note for piece, _, _ in self.pieces for note in piece.notes]

    def source(self) -> str:
        """The kernels of all pieces in the order they run."""
        return "\n".join([piece.source() for piece, _, _ in self.pieces])


class _Loop:
    """A loop or branch: its graphs, prepared, and which results are wanted."""

    def __init__(self, device: str, spec: Any, wanted: Sequence[int]) -> None:
        self.device, self.spec, self.wanted = device, spec, wanted
        bodies = spec.bodies[:2]                          # (the last of a `while` only moves carries)
        self.bodies: list[pipeline.OnDevice | Turning] = [prepare(b, device) for b in bodies]

    def link(self) -> Run:
        at, programs, wanted = backend(self.device), [b.link() for b in self.bodies], self.wanted
        turn = KINDS[type(self.spec).__name__]

        def run(arrays: Sequence[Any]) -> list[Any]:
            found = turn(self.spec, programs, arrays, at)
            return [found[k] for k in wanted]
        return run

    @property
    def summary(self) -> str:
        return f"{self.spec!r}, turned by the host: " + ", ".join([b.summary for b in self.bodies])

    @property
    def notes(self) -> Sequence[str]:
        return [note for b in self.bodies for note in b.notes]

    def source(self) -> str:
        return "\n".join([f"# {self.spec!r}, turned by the host", *[b.source() for b in self.bodies]])


# ---------------------------------------------------------------- turns
def _scan(spec: Any, programs: list[Run], arrays: Sequence[Any], at: Backend) -> list[Any]:
    (turn,), m, c = programs, spec.consts, spec.carries
    length = int(at.to_host(arrays[0])) if spec.length == SOME else spec.length
    consts, carry, xs = arrays[:m], list(arrays[m:m + c]), arrays[m + c:]
    rows = [(a.size // spec.length, a.shape[1:]) for a in spec.avals[c:]]
    stacks = [at.empty((length, *shape), a.dtype) for (_, shape), a in zip(rows, spec.avals[c:])]
    slices = [(x, i.aval.size, i.shape) for x, i in zip(xs, spec.body.inputs[m + c:])]
    for t in reversed(range(length)) if spec.reverse else range(length):
        outs = turn([*consts, *carry, *[at.part(x, t * size, shape) for x, size, shape in slices]])
        carry = outs[:c]
        for stack, (size, shape), y in zip(stacks, rows, outs[c:]):
            at.assign(at.part(stack, t * size, shape), y)
    return [*(carry if length else [at.copy(x) for x in carry]), *stacks]


def _while(spec: Any, programs: list[Run], arrays: Sequence[Any], at: Backend) -> list[Any]:
    test, turn = programs
    consts, carry = arrays[:spec.consts], [at.copy(x) for x in arrays[spec.consts:]]
    while at.to_host(test([*consts, *carry])[0]):
        carry = turn([*consts, *carry])
    return carry


def _branch(spec: Any, programs: list[Run], arrays: Sequence[Any], at: Backend) -> list[Any]:
    return programs[0 if at.to_host(arrays[0]) else 1](arrays[1:])


def _counted(spec: Any, programs: list[Run], arrays: Sequence[Any], at: Backend) -> list[Any]:
    return programs[0](arrays)


KINDS: dict[str, Callable[..., list[Any]]] = {"Scan": _scan, "While": _while, "Branch": _branch, "Counted": _counted}
