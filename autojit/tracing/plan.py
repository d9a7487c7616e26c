"""A finished recording: its inputs and results, what it writes, and when it no longer fits.

In: what the recorder found.  Out: `Plan`, and the arrays of its inputs at each call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..backends.devices import to_host
from ..dtypes import FLOAT, as_dtype, default_float, memory
from ..eager.evaluate import realise
from ..eager.tensor import Tensor, of_array, value
from ..engine import programs
from ..errors import TraceError, explain
from ..ir.graph import Graph, Node
from ..ir.primitive import BUFFER
from ..ops.control import SubGraph
from ..ops.grouped import GROUPED
from ..rewrite.inline import inline
from .watch import Watch

STALE = 3                                                 # plans that no longer fit, and may again, which are kept
PATHS = 64                                                # of one signature


class Guard:
    """A branch by the truth of a traced value.  flag: the node of that truth; draws: how many random numbers were drawn
    before it."""

    __slots__ = ("flag", "outcome", "place", "draws")

    def __init__(self, flag: Node, outcome: bool, place: str, draws: int) -> None:
        self.flag, self.outcome, self.place, self.draws = flag, outcome, place, draws


class Asked:
    """A call whose path may not be known yet: its arguments, and what came out so far."""

    __slots__ = ("leaves", "structure", "tensors", "wrt", "key", "outcomes", "places", "drawn", "before")

    def __init__(self, leaves: list[Any], structure: Any, tensors: list[Tensor], wrt: tuple[int, ...] | None) -> None:
        self.leaves, self.structure, self.tensors, self.wrt = leaves, structure, tensors, wrt
        self.key: Any = None                              # of its signature
        self.outcomes: list[bool] = []                    # of the first branches, and the lines where they stand
        self.places: list[str] = []
        self.drawn: list[Any] = []                        # random numbers, and how their generators stood before each
        self.before: list[tuple[Any, int]] = []

    def draw(self, makes: Sequence[Callable[[], Any]]) -> list[Any]:
        """At least as many random numbers as there are `makes`, whose first ones may be drawn already."""
        for make in makes[len(self.drawn):]:
            generator = make.generator  # type: ignore[attr-defined]
            self.before.append((generator, generator.draws))
            self.drawn.append(make())
        return self.drawn

    def undraw(self, count: int) -> None:
        """As if only `count` random numbers had been drawn."""
        while len(self.drawn) > count:
            generator, draws = self.before.pop()
            generator.draws = draws
            self.drawn.pop()

    def found(self, outcome: bool, place: str) -> None:
        """The next branch goes this way."""
        self.outcomes.append(outcome)
        self.places.append(place)


class Plan:
    """One recording: graph inputs in order (arguments, captured tensors, draws), results, and what is written back."""

    __slots__ = ("watch", "captured", "states", "draws", "inputs", "results", "structure", "static", "writes", "grads",
                 "before", "after", "bumps", "body", "rule", "needs", "gradients", "program", "pure", "graph", "uses",
                 "guards", "codes", "asks", "apart", "grown", "felt", "__weakref__")

    watch: Watch
    captured: list[Any]                                   # tensors from outside, or what stands for them (GradOf, Fixed)
    states: list[tuple[Any, ...]]                         # how each looked when recorded
    draws: list[Callable[[], Any]]
    inputs: list[Node]
    results: list[Node]
    structure: Any
    static: list[Any]                                     # results that are no tensors, by position; None where one is
    writes: list[tuple[Any, int]]                         # (argument number or tensor, output number)
    grads: list[tuple[Any, int | None]]
    grown: frozenset[int]                                 # arguments whose gradients the function adds to
    felt: frozenset[int]                                  # arguments whose gradients it looked at, and saw none
    before: list[tuple[int, Any]]                         # (input number, check)
    after: list[tuple[int, int, Any]]                     # (output with the least, with the greatest, check)
    bumps: list[tuple[Any, int]]
    body: SubGraph
    rule: Any                                             # the op that stands for it in the tape; made when first needed
    needs: list[bool]                                     # which results want a gradient
    gradients: int                                        # how many outputs after the results are gradients
    program: programs.Program
    pure: bool
    graph: Graph
    uses: int                                             # calls that it has answered the general way
    guards: Sequence[Guard]                               # branches on values that the function took, in order
    codes: Sequence[tuple[int, int, int]]                 # outputs whose bits say which way they go; the number that each is
                                                          # on this path; how many branches it speaks of
    apart: bool                                           # is memory written that a gradient read by `GradOf` might share?
    asks: dict[Any, Any]                                  # programs of the guards alone; see `paths`
    held = 0                                              # bytes of temporaries that only this plan keeps

    def __init__(self) -> None:
        self.uses, self.guards, self.codes, self.asks, self.apart = 0, (), (), {}, False
        self.grown = self.felt = frozenset()

    @property
    def outcomes(self) -> list[bool]:
        """Which way each branch went."""
        return [g.outcome for g in self.guards]

    def stale(self) -> str | None:
        """Why this plan no longer fits, or None."""
        name = self.watch.changed()
        if name is not None:
            return f"{name} has changed"
        for t, old in zip(self.captured, self.states):
            if look_of(t) != old:
                return "a captured tensor has another shape, dtype, requires_grad or state of .grad"
        if self.apart:
            found = [c.storage for c in self.captured if not isinstance(c, Fixed)]
            if len(set(found)) != len(found):
                return "a gradient shares its memory"
        return None

    def nest(self, outs: Sequence[Tensor]) -> Any:
        """Results in the structure that the function returned."""
        it = iter(outs)
        return tree.unflatten(self.structure, [next(it) if s is None else s for s in self.static])

    def run(self, inputs: list[Any]) -> list[Any]:
        """The program on arrays, with the checks that only values can answer."""
        for k, check in self.before:
            check.array(inputs[k])
        arrays = self.program(inputs)
        for least, greatest, check in self.after:
            check.range(*[int(to_host(arrays[k], self.results[k].aval.device)) for k in (least, greatest)])
        return arrays


def daring(plan: Plan) -> bool:
    """May its program run before it is known that the call takes this path?  A loop might never end on another's values, and
    a user's own code may count on what the branch has asked."""
    found = plan.asks.get("daring")
    if found is None:
        found = plan.asks["daring"] = not any([n.op in GROUPED for n in inline(plan.graph).order])
    return found  # type: ignore[no-any-return]


def with_path(name: str, plan: Plan, others: Sequence[Plan]) -> list[Plan]:
    """The other plans of a signature that are kept beside one of a new path.  TraceError where there are too many."""
    there = [(p, p.stale() is None) for p in others if p.outcomes != plan.outcomes]
    paths = [p for p, live in there if live]
    if len(paths) >= PATHS:
        common = max([_common(p.outcomes, plan.outcomes) for p in paths])
        raise explain(TraceError(f"{name} has taken more than {PATHS} paths for arguments of one kind: a branch or loop "
                                 "depends on values, and each new outcome is another program"), where=plan.guards[common].place,
                      hint="write it with aj.cond or aj.while_loop, which are one program, or choose with aj.where")
    return [*paths, *[p for p, live in there if not live][:STALE]]


def _common(a: Sequence[bool], b: Sequence[bool]) -> int:
    """How many of the first branches went the same way; there is one more in `b`."""
    return min([k for k, (x, y) in enumerate(zip(a, b)) if x is not y], default=min(len(a), len(b) - 1))


def look_of(t: Any) -> tuple[Any, ...]:
    if isinstance(t, GradOf):
        g = t.tensor._grad
        return () if g is None else (g.aval, g.requires_grad, g.base is None and not g.chain)
    if not isinstance(t, Tensor):
        return ()
    return (t.aval, t.requires_grad, t._grad is None)


class GradOf:
    """A gradient from outside, for programs: whatever object stands in `.grad` of its tensor when they run."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @property
    def storage(self) -> Any:
        return self.tensor._grad.storage

    @property
    def cell(self) -> Any:
        return self.tensor._grad.cell


class Fixed:
    """An array that the function made while it was recorded: the same at each call."""

    __slots__ = ("array", "aval")

    def __init__(self, n: Node) -> None:
        self.array, self.aval = n.data, n.aval


def contiguous(array: Any) -> Any:
    """In row-major order, as a device's arrays always are; NumPy's own function would give a 0-d array a dimension."""
    return array if not isinstance(array, np.ndarray) or array.flags.c_contiguous else np.ascontiguousarray(array)


def array_of(t: Any) -> Any:
    """The array of an argument or captured tensor, contiguous."""
    if isinstance(t, Tensor):
        s = t.storage
        if s.mem is None and not t.chain:
            n = s.value
            if n.real is not None and s.trace is None:
                s.value = n = n.real
            if n.prim is BUFFER:
                return n.data
        if t.chain:
            return contiguous(realise(value(t)))
    return contiguous(t.storage.array(t))


def run_time(x: Any) -> bool:
    """Is this argument data (a tensor, an array, a float)?  Everything else is part of the program."""
    return isinstance(x, (Tensor, np.ndarray, float, np.floating)) and not isinstance(x, np.bool_)


def as_tensor(x: Any, like: Any) -> Tensor:
    """A run-time argument as a tensor; floats take the dtype of the floating tensors beside them."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, np.ndarray):
        return of_array(np.array(x, order="C"))
    return of_array(memory(x, like))


def float_beside(leaves: Sequence[Any]) -> Any:
    found = None
    for x in leaves:
        d = x.aval.dtype if isinstance(x, Tensor) else as_dtype(x.dtype) if isinstance(x, np.ndarray) else None
        if d is not None and d.category == FLOAT and (found is None or d.rank > found.rank):
            found = d
    return found or default_float()


def drawn_avals(plan: Plan) -> list[Any]:
    """What is known of the random numbers of a call."""
    return [n.aval for n in plan.inputs[len(plan.inputs) - len(plan.draws):]]


def gather(plan: Plan, drawn: Sequence[Any]) -> list[Any]:
    """Arrays of the inputs that are no arguments."""
    return [*[c.array if isinstance(c, Fixed) else array_of(c) for c in plan.captured], *drawn]
