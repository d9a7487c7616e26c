"""`backward()` of a path that was walked before: its program is found at the step where the path ends, and nothing is recorded.

In: the path and the root.  Out: gradients in `.grad`, the root's value, a path that is over.  What the program of a path is,
is learned from an ordinary backward pass over the same path; what is not plain goes by the ordinary road each time.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

import numpy as np

from ..dtypes import FLOAT, memory
from ..ir.graph import Node, buffer, clock
from ..ir.primitive import BUFFER, SCALAR
from ..ops.declare import P, cast
from .apply import apply
from .evaluate import AGE, Note, replay
from .inplace import replace
from .path import EXTERN, LOCK, NUMBER, OP, Path, Step, become, start
from .state import OPEN, state
from .tensor import Tensor, of_buffer, value

PATIENCE = 4          # paths in a row that may be of no use; then some passes go without one
LONGEST = 100         # ... at most so many

SPENT: list[Any] = []                                     # paths that are over and that somebody may still hold


class Plan:
    """The program of a path.  inputs: the place of each array, or (places of a number, dtype).  leaves: places of the
    tensors whose gradients it gives, in order.  numbers: the arrays of the numbers that came last.  steps: of the path;
    results: places of its ops but the root's; kept: places of what the root's records need."""

    __slots__ = ("program", "inputs", "leaves", "numbers", "steps", "results", "kept")

    def __init__(self, program: Any, inputs: list[Any], leaves: list[int], steps: list[Step], root: int) -> None:
        self.program, self.inputs, self.leaves, self.steps = program, inputs, leaves, steps
        self.numbers: dict[int, tuple[Any, Any]] = {}
        self.results = [k for k, s in enumerate(steps) if s.kind == OP and k != root]
        self.kept = [k for k, s in enumerate(steps) if s.kind == NUMBER or s.kind == EXTERN and s.needs]

    def arrays(self, path: Path) -> list[Any] | None:
        """What the program takes; None where numbers differ that were equal when it was made."""
        found = []
        data, outs = path.data, path.outs
        for k, place in enumerate(self.inputs):
            if type(place) is int:
                found.append(data[place])
                continue
            v = outs[place[0][0]]
            known = self.numbers.get(k)
            if known is None or known[0] is not v:
                arrays = [number_array(outs[p], place[1]) for p in place[0]]
                if len(arrays) > 1 and any([a.tobytes() != arrays[0].tobytes() for a in arrays]):
                    return None
                known = (v, arrays[0])
                if len(place[0]) == 1:
                    self.numbers[k] = known
            found.append(known[1])
        return found


def number_array(v: Any, dtype: Any) -> Any:
    return memory(v.data if type(v) is Node else v, dtype)


def begin() -> None:
    """A pass is over: the next one may be known."""
    if state.open is not None and not state.open.begun:
        return
    if state.skip:
        state.skip -= 1
    else:
        if state.fails > PATIENCE:
            state.skip = min(state.fails, LONGEST)
        start()


def ran_ahead(root: Tensor) -> bool:
    """backward() of a tensor that ends a known path.  False: nothing has been done."""
    path: Path = state.path
    end = path.step
    plan = None if end.programs is None else end.programs.get(root.at)
    if plan is None:
        return False
    leaves = [path.outs[k] for k in plan.leaves]
    for x in leaves:
        if x.hooks is not None or x.calls is not None:
            return False
    arrays = plan.arrays(path)
    if arrays is None:
        return False
    found = replay(plan.program, arrays)
    with LOCK:
        if path.step is not end:                          # a finaliser used the path meanwhile, or another thread
            return False
        _end(path, root, plan, found[0])
    for x, g in zip(leaves, found[1:]):
        if x._grad is None:
            x._grad = of_buffer(g, x.aval)
        else:
            old = x._grad
            replace(old, P.add(value(old), cast(buffer(g, x.aval), old.aval.dtype)))
    state.fails = 0
    begin()
    for x in leaves:
        if x.post is not None:
            for hook in x.post:
                hook(x)
    return True


# ---------------------------------------------------------------- the end of a path
def _end(path: Path, root: Tensor, plan: Plan, array: Any) -> None:
    """The root has its value, and the path is over; who still holds a tensor of it may ask later.  The root, which programs
    keep for long, holds no more of it than its records need."""
    path.end, place = path.step, root.at
    path.root = place
    path.steps = plan.steps
    OPEN.pop(id(path), None)
    state.open = None
    for k in path.data:
        if path.outs[k].path is path:
            path.outs[k].path = None
    outs = path.outs
    others = [k for k in plan.results if outs[k]() is not None]
    tail = path
    if others:
        _views_of_leaves(path, others)
        tail = Path()
        tail.end, tail.root, tail.codes, tail.lasti, tail.steps = path.end, place, path.codes, path.lasti, path.steps
        tail.whole = ref(path)
        _remember(path)
    tail.outs = {k: outs[k] for k in plan.kept}
    tail.outs[place] = ref(root)
    if tail is path:
        path.data, path.twins, path.ids = {}, {}, {}
    tail.step = path.step
    path.close()
    tail.close()
    made = of_buffer(array, root.aval)
    made.storage.taped = True
    root.storage, root.cell, root.chain, root.base = made.storage, made.cell, made.chain, made.base
    root.seen, root.req, root.path = made.seen, made.req, tail


def _views_of_leaves(path: Path, alive: list[int]) -> None:
    """Views of leaves share their memory: they must not wait until the leaf is written to."""
    steps = path._steps(path.end)
    for k in alive:
        if not _of_leaf(steps, k):
            continue
        t = path.outs[k]()
        if t is None or t.path is None:
            continue
        chain = [k]
        while steps[chain[-1]].args and steps[chain[-1]].kind == OP:
            chain.append(steps[chain[-1]].args[0])
        x = path.outs[chain.pop()]
        for j in reversed(chain):
            known = path.outs[j]()
            if known is not None and known.path is None:
                x = known
                continue
            made = apply(steps[j].head.op, (x,), steps[j].head.static, steps[j].head.number)
            if made.fn is not None:
                made.fn.code, made.fn.lasti = path.codes.get(j, steps[j].code), path.lasti[j]
            if known is not None:
                become(known, made)
                path.early.add(j)
                made = known
            x = made


def _of_leaf(steps: list[Any], k: int) -> bool:
    """Is this a view of a leaf, or a view of such a view?"""
    while steps[k].kind == OP:
        if steps[k].chain is None:
            return False
        k = steps[k].args[0]
    return bool(steps[k].kind == EXTERN)


def _remember(path: Path) -> None:
    """What waits on an old path is computed after a while, as everything is: a list of activations must not keep the
    leaves of all passes."""
    SPENT.append((ref(path), clock.run))
    if len(SPENT) > 16:
        kept = []
        for reference, born in SPENT:
            p = reference()
            if p is None or p.settled:
                continue
            if clock.run - born >= AGE:
                p.settle()
            else:
                kept.append((reference, born))
        SPENT[:] = kept


# ---------------------------------------------------------------- learning
class Lesson:
    """An ordinary backward pass of a whole path, watched."""

    __slots__ = ("path", "end", "place", "note", "data", "ids")

    def __init__(self, path: Path, root: Tensor) -> None:
        self.path, self.end, self.place = path, path.step, root.at
        self.note = Note()
        self.data = {id(path.data[k]): k for k in reversed(path.data)}
        self.ids = {id(path.outs[k]): k for k in path.data}

    def learn(self, leaves: list[Tensor]) -> None:
        """Remember the program, if its inputs are what stands on the path."""
        numbers: dict[Any, list[int]] = {}
        steps = self.path._steps(self.end)
        values = [(k, self.path.outs[k]) for k, s in enumerate(steps) if s.kind == NUMBER]
        inputs: list[Any] = []
        for n in self.note.leaves:
            if n.prim is BUFFER:
                place: Any = self.data.get(id(n.data))
            elif n.prim is SCALAR:
                bits = n.data.tobytes()
                key = (n.dtype, bits)
                if key not in numbers:
                    numbers[key] = [k for k, v in values if _same(v, n)]
                place = (numbers[key], n.dtype) if numbers[key] else None
            else:
                place = None
            if place is None:
                return
            inputs.append(place)
        places = [self.ids.get(id(x)) for x in leaves]
        if None in places:
            return
        if self.end.programs is None:
            self.end.programs = {}
        self.end.programs[self.place] = Plan(self.note.program, inputs, places, steps, self.place)  # type: ignore[arg-type]


def lesson_of(path: Path, root: Tensor) -> Lesson | None:
    """What is to be learned from backward() of this tensor of the path."""
    step = path.at(root.at)
    plain = step.needs and step.kind == OP and step.chain is None and root.aval.size == 1
    return Lesson(path, root) if plain else None


def _same(v: Any, n: Node) -> bool:
    if type(v) is Node:
        return v.dtype is n.dtype and v.data.tobytes() == n.data.tobytes()
    if n.dtype.category < FLOAT:
        return False
    with np.errstate(all="ignore"):
        return bool(n.dtype.number(v).tobytes() == n.data.tobytes())


__all__ = ("begin", "lesson_of", "ran_ahead")
