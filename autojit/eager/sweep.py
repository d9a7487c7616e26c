"""One walk over the tape, newest record first, and what flows along it.

In: root tensors with their cotangents, and perhaps the inputs that gradients are wanted for.  Out: `Sweep`, the records in
order; `Flow`, cotangents on their way; `joint`, values and gradients by one program.  Walks records, never bare nodes: equal
calls share a node, but only records know which ran under `no_grad`, has a hook, or is retained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import explain
from ..ir.aval import Aval
from ..ir.graph import Node
from ..ops.declare import P, cast
from ..ops.placement import placed, zeros
from .cotangents import Mode, Symbolic
from .evaluate import Note, run
from .state import state
from .tape import NOWHERE, Output, Record, Saved, origin
from .tensor import Tensor, value


class Sweep:
    """One walk over the tape: which records, in which order, and which leaves.

    order: records by falling sequence number.  leaves: leaf tensors that are reached and want a gradient.  targets: the
    edges of the tensors that gradients are wanted for, or None for all leaves.  ports: reached Outputs of each record."""

    __slots__ = ("roots", "starts", "order", "leaves", "targets", "ports", "seen")

    def __init__(self, roots: Sequence[Tensor], cts: Sequence[Tensor | None], inputs: Sequence[Tensor] | None) -> None:
        self.roots = roots
        self.starts = [(start_of(k, r), ct) for k, (r, ct) in enumerate(zip(roots, cts))]
        self.targets = None if inputs is None else [target_of(t) for t in inputs]
        seen: dict[Any, None] = {}
        self.ports: dict[Record, list[Output]] = {}
        stack = [e for e, _ in self.starts]
        stack.reverse()
        records: dict[Record, None] = {}
        while stack:
            e = stack.pop()
            if e is NOWHERE or e in seen:
                continue
            seen[e] = None
            r = origin(e)
            if r is None:
                continue
            if r is not e:
                self.ports.setdefault(r, []).append(e)
            if r not in records:
                records[r] = None
                stack.extend([x for x in reversed(r.edges) if x is not None])
        self.seen = seen
        order = sorted(records, key=_seq, reverse=True)
        wanted = None if self.targets is None else set(self.targets)
        self.order = order if wanted is None else _leading_to(order, wanted)
        self.leaves = [e for e in seen if isinstance(e, Tensor) and e.req and (wanted is None or e in wanted)]

    def check(self) -> None:
        for r in self.order:
            r.check()

    def plain(self) -> bool:
        """Can the result be known by structure alone, so that a program may be found before any rule runs?"""
        if state.anomaly is not None:
            return False
        for r in self.order:
            if r.custom or r.hooks is not None or r.calls is not None:
                return False
        for ports in self.ports.values():
            for o in ports:
                if o.hooks is not None:
                    return False
        return all(x.hooks is None and x.calls is None for x in self.leaves)

    def retained(self) -> list[tuple[Any, Tensor]]:
        """(edge, tensor) for each tensor that keeps its gradient."""
        found = []
        for r in self.order:
            for e in self.ports.get(r, (r,)):
                for reference in e.retains or ():
                    t = reference()
                    if t is not None:
                        found.append((e, t))
        return found

    def free(self) -> None:
        """Let go of what rules have read."""
        for r in self.order:
            r.free()


def _seq(r: Record) -> int:
    return r.seq


def _leading_to(order: list[Record], wanted: set[Any]) -> list[Record]:
    """The records from which a wanted edge can be reached, in the same order."""
    below: set[Record] = set()
    for r in reversed(order):
        for e in r.edges:
            if e is not None and (e in wanted or origin(e) in below):
                below.add(r)
                break
    return [r for r in order if r in below]


def start_of(k: int, root: Tensor) -> Any:
    e = root.edge()
    if e is None:
        raise explain(RuntimeError(f"element {k} of tensors does not require grad and does not have a grad_fn"),
                      hint="some input must be created with requires_grad=True, outside of torch.no_grad()")
    return e


def target_of(t: Tensor) -> Any:
    e = t.edge()
    if e is None:
        raise explain(RuntimeError("One of the differentiated Tensors does not require grad"))
    return e


class Flow:
    """Cotangents on their way through a sweep.  `got`: what arrived at each edge, hooks applied; `caught`: at targets,
    before their hooks, as torch's autograd.grad has it."""

    __slots__ = ("sweep", "mode", "cts", "got", "caught", "wanted")

    def __init__(self, sweep: Sweep, mode: Mode) -> None:
        self.sweep, self.mode = sweep, mode
        self.cts: dict[Any, Any] = {}
        self.got: dict[Any, Any] = {}
        self.caught: dict[Any, Any] = {}
        self.wanted = set(sweep.targets or ())

    def add(self, edge: Any, ct: Any) -> None:
        if edge is NOWHERE:                               # one for all, of any shape
            return
        old = self.cts.get(edge)
        self.cts[edge] = ct if old is None else self.mode.plus(old, ct)

    def arrive(self, edge: Any, ct: Any) -> Any:
        if edge in self.wanted and not isinstance(edge, Tensor):
            self.caught[edge] = ct[0]
        if edge.hooks:
            ct = (self.mode.hooked(edge.hooks, ct[0]), None)
        if isinstance(edge, Tensor) and edge.calls is not None and self.sweep.targets is None:
            from .nodehooks import before
            (ct,) = before(self.mode, edge.calls, [ct], (0,))
            if ct is None:
                return None
        self.got[edge] = ct[0]
        return ct

    def run(self) -> None:
        mode, sweep = self.mode, self.sweep
        for root, (edge, ct) in zip(sweep.roots, sweep.starts):
            self.add(edge, mode.start(root, ct))
        for r in sweep.order:
            ports = sweep.ports.get(r)
            if ports is None:
                ct = self.cts.pop(r, None)
                if ct is None and not r.custom:
                    continue
                cts = [None] * r.count if ct is None else [self.arrive(r, ct)]
            else:
                cts = [None] * r.count
                for o in ports:
                    ct = self.cts.pop(o, None)
                    if ct is not None:
                        cts[o.index] = self.arrive(o, ct)
                if not r.custom and not any(c is not None for c in cts):
                    continue
            for k, (e, g) in enumerate(zip(r.edges, mode.pull(r, cts) if r.calls is None else self._called(r, cts))):
                if e is not None and g is not None:
                    if state.anomaly is not None:
                        n = value(g[0]) if isinstance(g[0], Tensor) else g[0]
                        state.anomaly.check(n, r.name(), f"{k}th output", r.place)
                    self.add(e, g)
        for e in list(self.cts):
            self.arrive(e, self.cts[e])

    def _called(self, r: Record, cts: list[Any]) -> Sequence[Any]:
        """The reverse of a record that has hooks of its own."""
        from .nodehooks import after, before  # of no concern to most sweeps
        cts = before(self.mode, r.calls, cts, r.differentiable)
        found = self.mode.pull(r, cts) if any([c is not None for c in cts]) else [None] * len(r.edges)
        return after(self.mode, r.calls, found, r.floating, cts, r.differentiable)


# ---------------------------------------------------------------- gradients of a whole sweep
End = tuple[Any, Aval, Node | None]                       # an edge, the aval of its gradient, what the gradient is added to


def sums(flow: Flow, ends: Sequence[End]) -> list[Node | None]:
    """What each gradient becomes: old + new.  Where only symbolic zeros arrive it is zero; where a custom function gave
    nothing it stays as it is (None)."""
    custom = any(r.custom for r in flow.sweep.order)
    out: list[Node | None] = []
    for e, a, old in ends:
        g = flow.caught.get(e, flow.got.get(e))
        if g is None and custom:
            out.append(None)
        else:
            g = zeros(a) if g is None else placed(g, a.device)
            out.append(g if old is None else P.add(old, cast(g, a.dtype)))
    return out


def joint(sweep: Sweep, ends: Sequence[End], note: Note | None = None) -> list[Any]:
    """Gradients, and on the way the roots' values, by one program, which is looked up before any rule runs."""
    values = {r: [s.node() if type(s) is Saved else s for s in r.saved] for r in sweep.order}
    seeds = [None if c is None else value(c) for _, c in sweep.starts]
    tops = [value(r) for r in sweep.roots]
    flat = [n for r in sweep.order for n in values[r]] + [n for n in (*[old for _, _, old in ends], *seeds) if n is not None]
    others = [e for e, _, _ in ends if type(e) is not Output]
    place = {e: k for k, e in enumerate(dict.fromkeys([*sweep.order, *sweep.leaves, *others]))}

    def at(e: Any) -> Any:
        return (place.get(e.record), e.index) if type(e) is Output else place.get(e)

    def sign(number: dict[Node, int]) -> Any:
        def num(n: Node | None) -> int | None:
            return None if n is None else number[n.real or n]
        records = tuple([(r.template, r.slices, tuple([at(e) for e in r.edges]), tuple([num(n) for n in values[r]]))
                         for r in sweep.order])
        return (records, tuple([(at(e), a, num(old)) for e, a, old in ends]),
                tuple([(at(e), num(n)) for (e, _), n in zip(sweep.starts, seeds)]))

    def build() -> list[Node]:
        flow = Flow(sweep, Symbolic(values))
        flow.run()
        return sums(flow, ends)  # type: ignore[return-value]

    return run(tops, flat, sign, build, note)[len(tops):]
