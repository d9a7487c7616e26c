"""The path of a thread: ops that were asked for and not recorded yet, because the same ones were asked for before.

In: calls of public ops.  Out: tensors that know nothing but their aval and their place on the path; when anybody asks one of
them for more (storage, record, version ...), `settle` records all of it by the ordinary road, in order, as if it had been
recorded at once.  A path is a walk through a tree of `Step`s that all programs share: (op, static values, numbers of the
arguments) leads from one step to the next, so that an op that was seen before costs one look-up.  Whoever changes memory, or
what a leaf is, settles the paths first (`state.disturb`).  Never computes; `ahead.py` finds the program of a whole path.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from sys import _getframe
from typing import Any
from weakref import ref

import numpy as np

from ..dtypes import DEPENDENT, memory
from ..errors import internal
from ..ir.graph import Node, base, buffer, const, placeholder, scalar
from ..ir.primitive import BUFFER, CONST, SCALAR
from .apply import apply
from .evaluate import held, realise, settle_untaped
from .state import OPEN, state
from .storage import Storage
from .tape import Record, Saved
from .template import TEMPLATES, key_of, make_template
from .tensor import Tensor, new
from .views import layout, pointwise_strides

LENGTH = 20_000       # steps of one path
STEPS = 60_000        # steps of all; then the tree begins anew
NOT_GIVEN = -9        # the number of an argument that is None
ZERO = -1             # the numbers of what stays in the program (graph.SPECIAL); the others are values of the path
SPECIAL = {-1: 0.0, -2: 1.0, -3: -1.0, -4: 2.0, -5: 0.5}
INTS = {0: -1, 1: -2, -1: -3, 2: -4}
FLOATS = {1.0: -2, -1.0: -3, 2.0: -4, 0.5: -5}            # not zero: it has a sign
EXTERN, NUMBER, OP, REFUSED = 0, 1, 2, 3

LOCK = threading.RLock()
_make = object.__new__


class Head:
    """An op with its static values; `number`: an argument is a Python number."""

    __slots__ = ("op", "static", "number")

    def __init__(self, op: Any, static: tuple[Any, ...], number: bool) -> None:
        self.op, self.static, self.number = op, static, number


HEADS: dict[Any, Head] = {}


def head_of(op: Any, static: tuple[Any, ...], number: bool) -> Head:
    """The one Head of these."""
    key = (op, key_of(static), number)
    h = HEADS.get(key)
    if h is None:
        h = Head(op, static, number)
        if len(HEADS) < STEPS:                            # beyond, what is new is never known again
            h = HEADS.setdefault(key, h)
    return h


class Step:
    """What comes after other steps: a leaf tensor that is met (EXTERN), a number (NUMBER), or an op.

    next: the steps that came after this one.  args of an op: a place, (place of a number, its dtype), a Node or None.
    needs: it wants a gradient.  strides: of its memory, where that is not in row-major order.  chain: a view's, from its
    argument.  code: the user's code object that called it.
    programs: what `ahead` has learned about paths that end here, by the place of the root."""

    __slots__ = ("next", "parent", "index", "kind", "head", "args", "aval", "needs", "strides", "chain", "code", "programs")

    def __init__(self, parent: Step | None, kind: int, aval: Any = None, needs: bool = False) -> None:
        self.next: dict[Any, Step] = {}
        self.parent, self.kind, self.aval, self.needs = parent, kind, aval, needs
        self.index: int = -1 if parent is None else parent.index + 1
        self.head: Any = None
        self.args: tuple[Any, ...] = ()
        self.strides: Any = None
        self.chain: Any = None
        self.code: Any = None
        self.programs: Any = None


START = Step(None, REFUSED)
CLOSED = Step(None, REFUSED)                              # nothing leads on from here
_REFUSED = Step(None, REFUSED)


class _Count:
    steps = 0


def _grow(step: Step, key: Any, new_step: Step) -> Step:
    _Count.steps += 1
    if _Count.steps > STEPS:
        _Count.steps = 0
        START.next = {}
    return step.next.setdefault(key, new_step)


class Path:
    """One walk.  By place: outs (the leaf tensor, the number, or a weak reference to the result), lasti (the instruction
    that called it; codes: its code object, where it is not the step's), data (arrays of leaves), versions (of leaves).

    root: the place of the tensor whose backward() has run, or None.  whole: a light path, kept by the root alone, knows
    the full one as long as others keep it.  early: views of leaves that were made real when the path ended."""

    __slots__ = ("step", "end", "head", "outs", "lasti", "codes", "ids", "twins", "data", "versions", "ints", "floats", "steps",
                 "settled", "root", "whole", "early", "__weakref__")

    def __init__(self) -> None:
        self.step = self.end = START
        self.head: Any = None                             # of the last op that did not take the short way
        self.outs: dict[int, Any] = {}
        self.lasti: dict[int, int] = {}
        self.codes: dict[int, Any] = {}
        self.ids: dict[Any, int] = {}
        self.twins: dict[Node, int] = {}
        self.data: dict[int, Any] = {}
        self.versions: dict[int, int] = {}
        self.ints, self.floats = INTS.copy(), FLOATS.copy()
        self.steps: list[Step] = []
        self.settled = False
        self.root: int | None = None
        self.whole: Any = None
        self.early: set[int] = set()

    @property
    def begun(self) -> bool:
        return self.step is not START and not self.settled

    def reads(self, storage: Storage) -> bool:
        """Does a leaf of the path show this memory?"""
        return any([self.outs[place].storage is storage for place in list(self.data)])

    def at(self, place: int) -> Step:
        """The step of a place."""
        return self._steps(self.step)[place]

    def layout(self, place: int) -> tuple[tuple[int, ...], int] | None:
        """Strides and offset of a result that is not real yet; None for others."""
        if self.step is CLOSED or self.at(place).kind != OP:
            return None
        return self._layout(place)

    def in_rows(self, place: int) -> bool:
        """Is a tensor of the path no view, and its memory in row-major order?"""
        s = self._steps(self.step)[place]
        return s.chain is None and s.strides is None

    def leaf(self, place: int) -> Any:
        """The leaf tensor of which a result is a view; None if it is none."""
        steps = self._steps(self.step)
        while steps[place].chain is not None:
            place = steps[place].args[0]
        return self.outs[place] if steps[place].kind == EXTERN else None

    def _layout(self, place: int) -> tuple[tuple[int, ...], int]:
        steps, chain = self.steps, ()
        while steps[place].chain is not None:
            chain = steps[place].chain + chain
            place = steps[place].args[0]
        return layout(steps[place].aval.shape, steps[place].strides, chain)

    def _steps(self, last: Step) -> list[Step]:
        steps = self.steps
        if len(steps) <= last.index:
            with LOCK:
                missing = []
                s = last
                while s.index >= len(steps):
                    missing.append(s)
                    s = s.parent  # type: ignore[assignment]
                steps += reversed(missing)
        return steps

    # ------------------------------------------------------------ going on
    def record(self, op: Any, args: Sequence[Any], static: tuple[Any, ...], number: bool) -> Tensor | None:
        """The result of an op, if it can stand on the path.  None where it cannot: the ordinary road answers, which makes
        the path real where it needs to."""
        if self.step is CLOSED:
            state.open = None                             # another thread made it real
            return None
        head = self.head = head_of(op, static, number)
        key: list[Any] = [head]
        for a in args:
            if isinstance(a, Tensor):
                place = a.at if a.path is self else self.enter(a)
            elif a is None:
                place = NOT_GIVEN
            elif type(a) is Node:
                place = self._node(a)
            else:
                place = self.number(a)
            if place is None:
                return None
            key.append(place)
        step, whole = self.step, tuple(key)
        if step is CLOSED:
            return None
        found = step.next.get(whole)
        if found is None:
            found = self._extend(step, whole, head, args)
        return None if found.kind == REFUSED else self._result(step, found)

    def _result(self, step: Step, found: Step) -> Tensor | None:
        out: Tensor = _make(Tensor)
        out.path, out.at, out.aval = self, found.index, found.aval
        f = _getframe(3)
        while internal(f.f_code.co_filename) and f.f_back is not None:
            f = f.f_back
        code, last, weak, place = f.f_code, f.f_lasti, ref(out), found.index
        if found.code is None:
            found.code = code
        if self.step is not step:                         # a finaliser or another thread came between
            return None
        self.outs[place], self.lasti[place] = weak, last  # from here no call, so that none can
        if code is not found.code:
            self.codes[place] = code
        self.step = found
        return out

    def enter(self, t: Tensor) -> int | None:
        """The place of a leaf tensor; None if its value cannot be an argument of a program."""
        place = self.ids.get(id(t))
        if place is not None:
            return place
        s = t.storage
        if t.chain or t.base is not None or t.fn is not None or t.frozen or s.strides is not None or s.trace is not None:
            return None
        n = s.value
        if s.mem is not None:
            n = s.read(t)
            if s.mem is not None:
                return None                               # others may write to it at any time
        n = n.real or n
        if n.prim is not BUFFER:
            n = _computed(s, n)
            if n is None:
                return None
        step, twin = self.step, self.twins.get(n)
        if step is CLOSED:
            return None
        key = (t.aval, t.req, twin)
        found = step.next.get(key) or _grow(step, key, Step(step, EXTERN, t.aval, t.req))
        place, own = found.index, id(t)
        if self.step is not step:
            return None
        self.outs[place], self.data[place], self.versions[place] = t, n.data, t.cell.version
        self.step = found
        self.ids[own] = place
        if twin is None:
            self.twins[n] = place
        t.path, t.at = self, place
        return place

    def number(self, v: Any) -> int | None:
        """The place of a Python number beside floating tensors."""
        known: dict[Any, int] = self.ints if type(v) is int else self.floats
        place = known.get(v)
        if place is None:
            if type(v) is float and v == 0.0:
                return ZERO if np.copysign(1.0, v) > 0 else None
            if v != v or (type(v) is int and not -1 << 53 < v < 1 << 53):
                return None
            place = self._value(v)
            if place is not None:
                known[v] = place
        return place

    def _node(self, n: Node) -> Any:
        """What stands in a key for a number that is a node already."""
        if n.prim is CONST:
            return (n.aval, n.params)
        if n.prim is not SCALAR:
            return None
        key: Any = (n.aval, n.data.tobytes())
        place = self.ids.get(key)
        if place is None:
            place = self._value(n)
            if place is not None:
                self.ids[key] = place
        return place

    def _value(self, v: Any) -> int | None:
        step = self.step
        if step is CLOSED:
            return None
        found = step.next.get(NUMBER) or _grow(step, NUMBER, Step(step, NUMBER))
        place = found.index
        if self.step is not step:
            return None
        self.outs[place] = v
        self.step = found
        return place

    # ------------------------------------------------------------ steps that are new
    def _extend(self, step: Step, key: Any, head: Head, args: Sequence[Any]) -> Step:
        """The step that this op leads to, with all checks of shapes and dtypes; or one that says that it cannot stand on a
        path."""
        if step.index >= LENGTH:
            return _REFUSED
        steps = self._steps(step)
        dtype = next((a.aval.dtype.weak for a in args if isinstance(a, Tensor)), None)
        avals: list[Any] = []
        kept: list[Any] = []
        needs, plain = 0, True
        for k, (place, a) in enumerate(zip(key[1:], args)):
            if isinstance(a, Tensor):
                kept.append(place)
                avals.append(a.aval)
                needs += steps[place].needs << k
                plain = plain and steps[place].strides is None and steps[place].chain is None
            elif a is None or type(a) is Node:
                kept.append(a if a is None or a.prim is CONST else (place, a.aval.dtype))
                avals.append(None if a is None else a.aval)
            else:
                special = const(SPECIAL[place], dtype) if place < 0 else scalar(a, dtype)  # type: ignore[arg-type]
                kept.append(special if place < 0 else (place, dtype))
                avals.append(special.aval)
        op, static = head.op, head.static
        full = (op, key_of(static), needs, False, head.number, *avals)
        t = TEMPLATES.get(full)
        if t is None:
            t = make_template(full, op, avals, static, tuple([bool(needs >> k & 1) for k in range(len(avals))]), False,
                              head.number)
        if not t.single:
            return _grow(step, key, _REFUSED)
        found = Step(step, OP, t.outs[0], bool(needs) and t.records)
        found.head, found.args = head, tuple(kept)
        if t.chains is not None:
            found.chain = t.chains[0]
        elif t.pointwise and not plain:
            found.strides = pointwise_strides(found.aval.shape, [
                (a.aval.shape, self._layout(place)[0]) for a, place in zip(args, key[1:]) if isinstance(a, Tensor)])
        return _grow(step, key, found)

    # ------------------------------------------------------------ becoming real
    def settle(self) -> None:
        """Record everything by the ordinary road.  Called when anybody asks for what a path does not know."""
        with LOCK:
            if self.settled:
                return
            full = self.whole() if self.whole is not None else None
            if full is not None:
                full.settle()                             # it knows the root, too
                self.settled = True
                return
            self.close()
            mode = state.grad, state.inference, state.trace, state.anomaly, state.open
            state.open = None
            state.grad, state.inference, state.trace, state.anomaly = True, False, None, None
            try:
                with held():
                    Replay(self).run()
            finally:
                state.grad, state.inference, state.trace, state.anomaly, state.open = mode
            self.settled = True

    def close(self) -> None:
        """Nothing is added any more.  A path without gradients makes place for the next; one with them was of no use."""
        if self.step is CLOSED:
            return
        self.end, self.step = self.step, CLOSED
        OPEN.pop(id(self), None)
        for place in self.data:
            if self.outs[place].path is self:
                self.outs[place].path = None
        if state.open is self:
            state.open = None
            if any([s.needs and s.kind == OP for s in self._steps(self.end)]):
                state.fails += 1
            else:
                start()


def forget() -> None:
    """Make all paths real and forget all steps: what follows from the default dtype, when it changes; for tests."""
    for reference in list(OPEN.values()):
        path = reference()
        if path is not None and path.begun:
            path.settle()
    START.next = {}


DEPENDENT.insert(0, forget)


def start() -> None:
    """Open a path in this thread."""
    if len(OPEN) > 100:                                   # threads have come and gone
        for key in [k for k, reference in list(OPEN.items()) if reference() is None]:
            OPEN.pop(key, None)
    path = Path()
    OPEN[id(path)] = ref(path)
    state.open = path


def _computed(s: Storage, n: Node) -> Node | None:
    """The buffer of a leaf that waits: parameters after an update, and zeros.  None for what belongs to a tape."""
    if s.taped:
        return None
    number = base(n, ("expand", "reshape"))
    if number.prim is CONST and n.aval.device != "cpu":
        s.value = buffer(realise(n), n.aval)
    elif number.prim is CONST:
        s.value = buffer(np.full(n.aval.shape, memory(number.data, n.aval.dtype), n.aval.dtype.np), n.aval)
    else:
        settle_untaped(n)
        s.value = n.real or n
    return s.value if s.value.prim is BUFFER else None


class Replay:
    """A path on its way to be real.  After backward() has run, leaves may have changed: stand-ins hold what they were, and
    what remembers them is told the real ones."""

    __slots__ = ("path", "made", "real")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.made: list[Any] = []
        self.real: dict[Any, Any] = {}                    # stand-in -> leaf; record of a stand-in's view -> that of the view

    def run(self) -> None:
        path, made = self.path, self.made
        for k, s in enumerate(path._steps(path.end)):
            kept = path.outs.get(k)
            if s.kind == EXTERN:
                made.append(kept if path.root is None else self._stand_in(k, kept, s))
            elif s.kind == NUMBER:
                made.append(kept)
            else:
                alive = None if kept is None else kept()
                if alive is not None and alive.path is None and k not in path.early:
                    made.append(alive)                    # an earlier try came this far
                    continue
                out = apply(s.head.op, [self._argument(a) for a in s.args], s.head.static, s.head.number)
                if out.fn is not None:
                    out.fn.code, out.fn.lasti = path.codes.get(k, s.code), path.lasti[k]
                    if path.root is not None:
                        self._correct(out.fn)
                made.append(self._hand_over(k, out, alive))
        if path.root is not None:
            free(made[path.root].fn)

    def _argument(self, a: Any) -> Any:
        if type(a) is int:
            return self.made[a]
        if type(a) is tuple:
            v = self.made[a[0]]
            return v if type(v) is Node else scalar(v, a[1])
        return a

    def _hand_over(self, k: int, out: Tensor, alive: Any) -> Tensor:
        """The user's tensor, if it is still there, becomes what was made."""
        if alive is None:
            return out
        if k in self.path.early:
            if out.fn is not None:
                self.real[out.fn] = alive.fn
            return out
        if k != self.path.root:
            become(alive, out)
        alive.fn = out.fn
        alive.path = None
        return alive  # type: ignore[no-any-return]

    def _stand_in(self, k: int, leaf: Any, s: Step) -> Tensor:
        data = self.path.data.get(k)
        t = new(Storage(placeholder(s.aval) if data is None else buffer(data, s.aval)), s.aval)
        t.req = s.needs
        self.real[t] = leaf
        self.real[t.storage] = (leaf, self.path.versions.get(k, 0))
        return t

    def _correct(self, record: Record) -> None:
        real = self.real
        record.edges = tuple([None if e is None else real.get(e, e) for e in record.edges])
        for s in record.saved:
            if type(s) is Saved and s.storage in real:
                leaf, version = real[s.storage]
                if leaf is not None:
                    s.storage, s.cell, s.version = leaf.storage, leaf.cell, version
                    s.leaf = None if s.leaf is None else leaf


def become(t: Tensor, made: Tensor) -> None:
    """A tensor of a path gets what an ordinary one has."""
    t.storage, t.cell, t.chain, t.base = made.storage, made.cell, made.chain, made.base
    t.seen, t.req, t.fn, t.path = made.seen, made.req, made.fn, None
    if made.blind:
        t.blind = True


def free(record: Any) -> None:
    """Let go of what the rules of all records below have read: backward() has been here."""
    seen = {record}
    stack = [record]
    while stack:
        r = stack.pop()
        r.free()
        for e in r.edges:
            if isinstance(e, Record) and e not in seen:
                seen.add(e)
                stack.append(e)


__all__: Sequence[str] = ("HEADS", "LENGTH", "Head", "Path", "Step", "forget", "head_of", "start")
