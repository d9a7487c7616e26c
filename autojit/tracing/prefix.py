"""The values of a recording that is under way: what has been recorded so far, on the arguments of this call.

In: an open trace, and the call that it records.  Out: which way a branch goes.  A loop's turns build on values that are
remembered, so that each costs what it adds.  Never compiles on the CPU; never changes what is recorded.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np

from ..backends.devices import to_host
from ..backends.numpy.run import NumpyProgram
from ..eager.state import state
from ..engine import programs
from ..engine.cuts import plain
from ..errors import TraceError, explain
from ..ir.graph import Graph, Node, const, linearise, placeholder, private, substitute
from ..ir.primitive import BUFFER, CONST, LEAF, MOVEMENT, PLACEHOLDER, SCALAR
from ..rewrite.inline import inline
from .plan import Asked, array_of

ROOM = 1 << 27                                            # bytes of values that are remembered


class Prefix:
    """What a recording knows of its call."""

    __slots__ = ("trace", "asked", "arguments", "known", "held", "checked")

    def __init__(self, trace: Any, asked: Asked, arguments: dict[Node, Any]) -> None:
        self.trace, self.asked, self.arguments = trace, asked, arguments   # placeholder → tensor of the caller's
        self.known: OrderedDict[Node, Any] = OrderedDict()
        self.held = 0
        self.checked = 0                                  # of the trace's checks

    def outcome(self, flag: Node, place: str) -> bool:
        """Which way the next branch goes: as is known already, or as the values of this call say."""
        asked, k = self.asked, len(self.trace.guards)
        if k < len(asked.outcomes) and asked.places[k] == place:
            return asked.outcomes[k]
        del asked.outcomes[k:], asked.places[k:]
        before, state.trace = state.trace, None
        try:
            while self.checked < len(self.trace.checks):  # what an eager run would have refused by now
                check = self.trace.checks[self.checked]
                self.checked += 1
                check.array(self.array(check.index))
            found = bool(to_host(self.array(flag), flag.aval.device))
        finally:
            state.trace = before
        asked.found(found, place)
        return found

    def array(self, n: Node) -> Any:
        """The value of a node."""
        n = n.real or n
        if n.prim.kind == LEAF:
            return self._leaf(n)
        if n not in self.known:
            self._compute(n)
        return self.known[n]

    def _compute(self, n: Node) -> None:
        order = linearise([n], stop=self.known)
        env: dict[Node, Node] = {}
        arrays = []
        for m in order:
            if m in self.known or m.prim.kind == LEAF and m.prim not in (CONST, SCALAR):
                env[m] = placeholder(m.aval)
                arrays.append(self.known[m] if m in self.known else self._leaf(m))
            elif m.prim is SCALAR:
                env[m] = const(m.data, m.dtype)
        inputs = [env[m] for m in order if m in env and env[m].prim is PLACEHOLDER]
        wanted = [m for m in order if m not in env and (m is n or m.prim.kind not in (LEAF, MOVEMENT))]
        on_cpu = all([m.aval.device == "cpu" for m in order])
        if not on_cpu or sum([m.aval.size * m.dtype.np.itemsize for m in wanted]) > ROOM:
            wanted = [n]
        graph = Graph(inputs, substitute(wanted, env, private()))
        run = NumpyProgram(inline(graph)) if plain(graph) else programs.find(("asked", graph.key), lambda: graph)
        found = run(arrays)
        for m, a in zip(wanted, found):
            self._keep(m, a)
        self.known.move_to_end(n)
        while self.held > ROOM and len(self.known) > 1:
            _, a = self.known.popitem(last=False)
            self.held -= a.nbytes

    def _keep(self, n: Node, a: Any) -> None:
        self.known[n] = a
        self.held += a.nbytes

    def _leaf(self, n: Node) -> Any:
        """The array of a placeholder, of memory or of a number."""
        if n.prim is not PLACEHOLDER:
            return n.data if n.prim is BUFFER else np.asarray(n.data)
        t = self.arguments.get(n)
        if t is not None:
            return self._outside(t)
        for c in self.trace.captured.values():
            if c.placeholder is n:
                return self._outside(c.tensor)
        for k, (m, _) in enumerate(self.trace.draws):
            if m is n:
                return self.asked.draw([make for _, make in self.trace.draws])[k]
        raise explain(TraceError("a tensor of another recording is used in this one"))

    def _outside(self, t: Any) -> Any:
        """The array of a tensor from outside, whose storage may hold a placeholder now."""
        c = self.trace.captured.get(t.storage)
        if c is None:
            return array_of(t)
        s = t.storage
        now = s.value, s.mem, s.trace
        s.value, s.mem, s.trace = c.value, c.mem, c.trace
        try:
            return array_of(t)
        finally:
            c.value, c.mem, c.trace = s.value, s.mem, s.trace
            s.value, s.mem, s.trace = now
