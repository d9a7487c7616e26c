"""The open recording of a thread: what a traced function meets and what it changes.

In: calls from the eager face (`eager.state` lists them).  Out: captured storages with their placeholders, logs of writes,
gradients, versions and random draws.  Everything outside is put back when the trace ends.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backends.devices import to_host
from ..eager.checks import ends_on_device
from ..eager.evaluate import realise
from ..eager.state import state
from ..eager.storage import Storage, aval_of
from ..eager.tape import NOWHERE
from ..eager.tensor import Tensor, new
from ..errors import TraceError, explain, user_place
from ..ir.aval import Aval
from ..ir.graph import Node, base, buffer, linearise, placeholder
from ..ir.primitive import BUFFER, PLACEHOLDER
from ..ops.declare import P, full, truth
from .plan import Guard

SHOWN = ("reshape", "permute", "expand")                  # the same values in another shape


class Captured:
    """A storage from outside that a trace has met, and what it held."""

    __slots__ = ("tensor", "value", "mem", "trace", "placeholder")

    def __init__(self, tensor: Any, storage: Storage, a: Aval) -> None:
        self.tensor, self.value, self.mem, self.trace = tensor, storage.value, storage.mem, storage.trace
        self.placeholder = placeholder(a)


class Check:
    """What can only be refused by looking at values, at each run of a recording."""

    __slots__ = ("index", "lowest", "end", "error", "words", "ignore", "place", "guards", "aval", "seen")

    def __init__(self, index: Node, lowest: int, end: int, error: Any, words: str, ignore: int | None, place: str,
                 guards: int = 0) -> None:
        self.index, self.lowest, self.end, self.error, self.words = index, lowest, end, error, words
        self.ignore, self.place, self.guards = ignore, place, guards      # guards: how many branches come before it
        self.aval = index.aval                            # of the input that is looked at
        self.seen: Any = None                             # the array of a device's that was looked at last, weakly

    def sort_into(self, plan: Any, inputs: Sequence[Node], add: Callable[[Node], int]) -> None:
        """Places that are inputs are checked before the run; computed ones by their least and greatest, after it."""
        at = base(self.index, SHOWN)
        if at.prim is BUFFER:
            self.aval = at.aval
            self.array(at.data)
        elif at in inputs:
            self.aval = at.aval
            plan.before.append((inputs.index(at), self))
        elif self.index.aval.size:
            least, greatest = self.ends(self.index)
            plan.after.append((add(least), add(greatest), self))

    def ends(self, n: Node) -> tuple[Node, Node]:
        """The least and the greatest of the values that are asked about."""
        if self.ignore is not None:
            n = P.where(P.eq(n, full(self.ignore, n.shape, n.dtype)), full(self.lowest, n.shape, n.dtype), n)
        axes = tuple(range(len(n.shape)))
        return (P.min(n, axes), P.max(n, axes)) if axes else (n, n)

    def array(self, found: Any) -> None:
        """Raise what is due for an input's values.  Of a device's array the least and the greatest are computed there, once."""
        if not isinstance(found, np.ndarray):
            if self.seen is None or self.seen() is not found:
                ends = ends_on_device(buffer(found, self.aval), self.ignore)
                if ends is not None:
                    self.range(*ends)
                self.seen = weakref.ref(found)
            return
        if self.ignore is not None:
            found = found[found != self.ignore]
        if found.size:
            self.range(int(found.min()), int(found.max()))

    def range(self, least: int, greatest: int) -> None:
        if least < self.lowest or greatest >= self.end:
            bad = least if least < self.lowest else greatest
            raise explain(self.error(self.words.replace("{value}", str(bad))), where=self.place)


def flag_of(n: Node) -> Node:
    """The truth of a node with one element, without dimensions."""
    return P.reshape(truth(n), ()) if n.shape else truth(n)


def _asks(nodes: Sequence[Node]) -> bool:
    """Does a value depend on more than numbers that the function wrote?"""
    return any([m.prim is PLACEHOLDER for m in linearise(nodes)])


def _unknown() -> TraceError:
    return explain(TraceError("the value of a tensor is read inside a traced function, where it has none yet"),
                   hint="branch on the tensor itself (if t > 0), which is recorded path by path, choose with aj.where, keep "
                        "print() and item() outside of the traced function, or return the tensor and look at it there")


class Trace:
    """The open recording of one thread.  See `eager.state` for who calls what."""

    light: Any = None                                     # itself, if ops go to its `record` instead of the tape
    outcome: Any = None                                   # (flag, place) → which way a branch goes, where that can be known

    def __init__(self) -> None:
        self.closed = False
        self.captured: dict[Storage, Captured] = {}
        self.grads: dict[Tensor, Any] = {}
        self.read: dict[Tensor, Tensor] = {}              # tensors and their gradients from outside that were asked for
        self.grown: set[Tensor] = set()                   # whose gradients have only been added to
        self.felt: set[Tensor] = set()                    # whose gradients were asked for before they were replaced
        self.growing: Any = None
        self.bumps: dict[Any, int] = {}
        self.draws: list[tuple[Node, Callable[[], Any]]] = []
        self.checks: list[Check] = []
        self.guards: dict[Node, Guard] = {}               # branches on values, by the node of the truth that was asked for
        self.calls: list[tuple[Any, ...]] = []            # of public ops: see `light.signature`
        self.cut = False                                  # something stood between values and their derivatives
        self.watched: dict[Any, list[Any]] = {}           # of objects that were called: (dictionary, key, value)

    def touch(self, storage: Storage, tensor: Any) -> None:
        if storage in self.captured:
            return
        a = storage.value.aval if storage.value is not None else aval_of(storage.mem)
        if isinstance(tensor, Tensor) and tensor.chain:   # met through a view: the whole of the storage is captured
            base = tensor.base
            tensor = base if base is not None and not base.chain and base.storage is storage else new(storage, a)
        c = self.captured[storage] = Captured(tensor, storage, a)
        storage.value, storage.mem, storage.trace = c.placeholder, None, self

    def bump(self, cell: Any) -> None:
        self.bumps[cell] = self.bumps.get(cell, 0) + 1

    def through(self, tensor: Tensor, n: Node, edge: Any) -> Node:
        """The node of an argument of an op.  `edge`: its place in the tape as the op records it."""
        if edge is NOWHERE or edge is None and tensor.requires_grad:
            self.cut = True                               # what follows has no derivative, though its nodes look as if
        return n

    def detached(self, tensor: Tensor) -> None:
        """A tensor is shown without its history."""
        if tensor.requires_grad:
            self.cut = True

    def assign_grad(self, tensor: Tensor, old: Any) -> None:
        if self.growing is not tensor:
            self.grown.discard(tensor)
        elif tensor not in self.grads:
            self.grown.add(tensor)
        self.growing = None
        self.grads.setdefault(tensor, old)

    def read_grad(self, tensor: Tensor, g: Tensor | None, adding: bool = False) -> None:
        """A gradient is asked for.  Of one from outside the recording notes whose it is."""
        if not adding and (tensor in self.grown or tensor not in self.grads):
            self.felt.add(tensor)
        if g is not None and (g.storage.trace is not self or g.storage in self.captured):
            self.read.setdefault(tensor, g)

    def used_grads(self) -> tuple[dict[Storage, Tensor], list[Any]]:
        """Gradients from outside whose values are used: by their memory whose they are, where another object in their place
        will do as well; and where the others stood, to be watched."""
        used = [(t, g) for t, g in self.read.items() if g.storage in self.captured]
        plain = [g.storage for _, g in used if not g.requires_grad and g.base is None and not g.chain]
        owners = {g.storage: t for t, g in used if plain.count(g.storage) == 1}
        return owners, [(t.__dict__, "_grad", g) for t, g in used if g.storage not in owners]

    def draw(self, make: Callable[[], Any], a: Aval) -> Node:
        """Random numbers: an input that each call draws anew."""
        n = placeholder(a)
        self.draws.append((n, make))
        return n

    def check(self, index: Node, lowest: int, end: int, error: Any, words: str, ignore: int | None) -> None:
        """Values of an integer node must be in [lowest, end), or `ignore`: looked at when the program runs."""
        self.checks.append(Check(index, lowest, end, error, words, ignore, user_place(), len(self.guards)))

    def decide(self, n: Node) -> bool:
        """A branch asks for the truth of a node with one element."""
        flag = flag_of(n)
        if not _asks([flag]):
            return bool(to_host(self.look([flag])[0], flag.aval.device))
        guard = self.guards.get(flag)
        if guard is None:
            if self.outcome is None:
                raise _unknown()
            place = user_place()
            guard = self.guards[flag] = Guard(flag, self.outcome(flag, place), place, len(self.draws))
        return guard.outcome

    def look(self, nodes: Sequence[Node]) -> list[Any]:
        """A value is asked for: only constants have one."""
        if _asks(nodes):
            raise _unknown()
        me, state.trace = state.trace, None
        try:
            return [realise(n) for n in nodes]
        finally:
            state.trace = me

    def restore(self) -> None:
        """Everything outside as it was; the trace is over."""
        self.closed = True
        self.calls.clear()
        for storage, c in self.captured.items():
            storage.value, storage.mem, storage.trace = c.value, c.mem, c.trace
        for tensor, old in self.grads.items():
            tensor._grad = old
        for cell, k in self.bumps.items():
            cell.version -= k
