"""Where lazy values become arrays: one program for what was asked and what waits too long.

In: nodes.  Out: arrays, and nodes that remember them (`Node.real`).  Never differentiates (the caller hands in how) and
never compiles (the engine does).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..backends.devices import from_host
from ..dtypes import memory
from ..engine import programs
from ..errors import TraceError, explain
from ..ir.graph import Graph, Node, base, buffer, clock, forget, linearise, placeholder, private, structure, substitute
from ..ir.primitive import BUFFER, CONST, LEAF, PLACEHOLDER
from .state import state

LIMIT = 5000          # operations that may wait; then everything alive is computed
HEAVY = 1 << 28       # bytes of new memory that waiting nodes may keep alive
AGE = 2               # runs that a value may wait before it comes along unasked

PENDING: dict[Any, None] = {}                             # storages written since the last run, and those still waiting
_lock = threading.RLock()


class _Load:
    """Bytes of user data that became leaves since the last run."""

    bytes = 0


class Note:
    """What a run was: its program, and the leaves it took, in order.  Nothing else comes along in a run that is noted."""

    __slots__ = ("program", "leaves")

    program: Any
    leaves: list[Node]


def _alone() -> int:
    """The reference count of an object that only the table of waiting storages holds, as the loop in `_waiting` sees it."""
    table: dict[Any, None] = {object(): None}
    snapshot = list(table)
    return [sys.getrefcount(s) for s in snapshot][0]


_ALONE = _alone()


def pend(storage: Any) -> None:
    """A storage has a value that nobody has computed yet."""
    PENDING[storage] = None
    if len(PENDING) >= LIMIT and not held.depth:
        flush()


class held:
    """While a path becomes real: what it makes is dropped at its end, if nobody holds it, and need not be computed."""

    depth = 0

    def __enter__(self) -> None:
        held.depth += 1

    def __exit__(self, *exc: object) -> None:
        held.depth -= 1
        if len(PENDING) >= LIMIT:
            _waiting()


def load(nbytes: int) -> None:
    """New memory came in: the table of nodes must not keep it alive for long."""
    _Load.bytes += nbytes
    if _Load.bytes > HEAVY:
        _Load.bytes = 0
        if state.open is not None and state.open.begun:
            state.open.settle()
        forget()
        _waiting()


def _waiting() -> list[Any]:
    """Storages that are still named by somebody and still uncomputed; the others are struck off."""
    snapshot = list(PENDING)                              # other threads may add to the table meanwhile
    counts = [sys.getrefcount(s) for s in snapshot]
    alive = []
    for s, count in zip(snapshot, counts):
        v = s.value
        if count > _ALONE and v is not None and v.prim is not BUFFER and v.real is None and s.trace is None:
            alive.append(s)
        else:
            PENDING.pop(s, None)
    return alive


def flush() -> None:
    """Compute everything that is alive and waits."""
    if state.trace is None:
        nodes = [s.value for s in _waiting()]
        if nodes:
            run(nodes)
        forget()


def _carried(reached: dict[Node, int], device: str) -> tuple[list[Any], list[Any]]:
    """Waiting storages that this run computes though nobody asked, or a loop's graph would grow without end: what it
    reaches outside the tape (leaves, optimiser state), and what has waited for AGE runs.  Young values of the tape stay
    fused away, even if they have a name; they are computed again should anybody look.  And what waits on other
    devices, which has a run of its own."""
    found = [s for s in _waiting()
             if (s.value in reached and not s.taped) or clock.run - s.value.born >= AGE]
    apart = [s for s in found if s.value.aval.device != device and s.value not in reached]
    return ([s for s in found if s not in apart] if apart else found), apart


def settle_untaped(n: Node) -> None:
    """Compute `n` and whatever waits outside the tape: parameters after an update."""
    run(list(dict.fromkeys([n, *[s.value for s in _waiting() if not s.taped]])))


def replay(program: Any, arrays: Sequence[Any]) -> list[Any]:
    """A run whose program is known already; what has waited too long is computed by a run of its own."""
    with _lock:
        found: list[Any] = program(arrays)
        clock.run += 1
        _Load.bytes = 0
        forget()
        if PENDING:
            old = [s.value for s in _waiting() if clock.run - s.value.born >= AGE]
            if old:
                run(old)
    return found


def run(wanted: Sequence[Node], keyed: Sequence[Node] = (), sign: Callable[[dict[Node, int]], Any] | None = None,
        build: Callable[[], list[Node]] | None = None, note: Note | None = None) -> list[Any]:
    """Arrays for `wanted` and for what `build()` adds to them, by one program.  `note` takes down which.

    The program is looked up by the structure of what was recorded (`wanted` and `keyed`) and by `sign(numbers)`, before
    `build` makes the reverse pass.  Every leaf that `build` reaches must be reached by `wanted` or `keyed`.
    """
    trace = state.trace
    if trace is not None:
        return trace.look(list(wanted))  # type: ignore[no-any-return]
    with _lock:
        base = [n.real or n for n in (*wanted, *keyed)]
        order = linearise(base)
        number = {n: k for k, n in enumerate(order)}
        along, apart = _carried(number, base[0].aval.device) if note is None else ([], [])
        extra = [s.value for s in along]
        if any(n not in number for n in extra):
            order = linearise([*base, *extra])
            number = {n: k for k, n in enumerate(order)}
        key = (structure(order, number), tuple([number[n] for n in base]), tuple([number[n] for n in extra]),
               sign(number) if sign is not None else None)
        leaves = [n for n in order if n.prim.kind == LEAF and n.prim is not CONST]

        def graph() -> Graph:
            outputs = [*base[:len(wanted)], *(build() if build is not None else ()), *extra]
            inputs = [placeholder(n.aval) for n in leaves]
            return Graph(inputs, substitute(outputs, dict(zip(leaves, inputs)), private()))

        program = programs.find(key, graph)
        if note is not None:
            note.program, note.leaves = program, leaves
        arrays = program([_data(n) for n in leaves])
        clock.run += 1
        _Load.bytes = 0
        forget()
        for n, a in zip(base, arrays[:len(wanted)]):
            settle(n, a)
        for s, n, a in zip(along, extra, arrays[len(arrays) - len(extra):]):
            s.value = settle(n, a)
        if apart:
            run([s.value for s in apart])
    return arrays[:len(arrays) - len(extra)]


def _data(leaf: Node) -> Any:
    if leaf.prim is PLACEHOLDER:
        raise explain(TraceError("a tensor that belongs to a traced function is used outside of it"),
                      hint="return it from the function instead of storing it elsewhere")
    return leaf.data if leaf.prim is BUFFER else memory(leaf.data, leaf.dtype) if leaf.dtype.half else np.asarray(leaf.data)


def settle(n: Node, array: Any) -> Node:
    """`n` has been computed: readers find the buffer, and its past is let go.  Constants stay constants in keys."""
    if n.prim.kind == LEAF:
        return n if n.prim is BUFFER else buffer(array, n.aval)
    if n.real is None:
        b = buffer(array, n.aval)
        if _constant(n):
            return b
        n.real = b
    return n.real


def _constant(n: Node) -> bool:
    return base(n, ("expand", "reshape")).prim is CONST


def realise(n: Node) -> Any:
    """The array that a node stands for.  It may be a buffer others read: never write to it."""
    n = n.real or n
    if n.prim is BUFFER:
        return n.data
    if state.trace is None and n.prim.kind == LEAF and n.prim is not PLACEHOLDER:
        return from_host(memory(n.data, n.dtype), n.dtype, n.aval.device)
    return run([n])[0]


def realise_all(nodes: Iterable[Node]) -> list[Any]:
    """Arrays of several nodes, by one program."""
    nodes = [n.real or n for n in nodes]
    todo = list(dict.fromkeys([n for n in nodes if n.prim is not BUFFER]))
    done = dict(zip(todo, run(todo))) if todo else {}
    return [n.data if n.prim is BUFFER else done[n] for n in nodes]
