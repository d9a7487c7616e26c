"""Every public op goes through `apply`: nodes in, tensors and a record out.

In: an op, its tensor arguments (tensors, nodes of numbers, or None), its static ones.  Out: tensors.  Shapes and dtypes are
inferred, and errors raised, here; values are not computed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any
from weakref import ref

from ..dtypes import FLOAT
from ..errors import internal, user_place
from ..ir.graph import Node
from .evaluate import pend
from .state import state
from .storage import Storage
from .tape import Output, Record, Saved, short
from .template import Template, template
from .tensor import Tensor, new, value, view_of

Argument = Any                                            # Tensor, Node (a number) or None


def nodes_of(args: Sequence[Argument]) -> list[Any]:
    """The node of each argument; None where none was given."""
    return [value(a) if isinstance(a, Tensor) else a for a in args]


def edges_of(args: Sequence[Argument]) -> list[Any] | None:
    """Places in the tape, or None if nothing is to be recorded."""
    if not state.grad:
        return None
    edges = [a.edge() if isinstance(a, Tensor) and a.aval.dtype.category >= FLOAT else None for a in args]
    for e in edges:
        if e is not None:
            return edges
    return None


def caller() -> Any:
    """The user's frame."""
    f = sys._getframe(2)
    while internal(f.f_code.co_filename):
        if f.f_back is None:
            return f
        f = f.f_back
    return f


def saved_of(t: Template, args: Sequence[Argument], nodes: Sequence[Any], own: Any = None) -> list[Any]:
    """What the rule reads: tensors with their version, numbers as nodes; results are filled in later (None).  `own` is the
    tensor that is written in place: of it the overwritten node is kept, which has no version."""
    return [None if k < 0 else nodes[k] if not isinstance(args[k], Tensor) or (k == 0 and own is not None) else Saved(args[k])
            for k in t.reads]


def prepare(op: Any, args: Sequence[Argument], static: tuple[Any, ...], number: bool,
            into: bool) -> tuple[list[Any], Any, Template]:
    """Nodes, edges and template of a call."""
    nodes = nodes_of(args)
    edges = edges_of(args)
    needs = () if edges is None else tuple([e is not None for e in edges])
    t = template(op, tuple([None if n is None else n.aval for n in nodes]), static, needs, into, number)
    return nodes, edges, t


def apply(op: Any, args: Sequence[Argument], static: tuple[Any, ...] = (), number: bool = False) -> Any:
    """A tensor, or a tuple of tensors where the op has several results."""
    nodes, edges, t = prepare(op, args, static, number, False)
    record = None
    if edges is not None:
        record = Record(t, edges, saved_of(t, args, nodes) if t.reads else (), caller())
    if t.chains is not None:
        outs = [_view(args[0], c, a) for c, a in zip(t.chains, t.outs)]
        if not t.single:
            for k, out in enumerate(outs):
                out.several = f"Output {k} of {short(t.label)}"
    else:
        given = nodes if None not in nodes else [n for n in nodes if n is not None]
        outs = [_result(n, record is not None) for n in t.forward(given)]
        if state.anomaly is not None:
            for k, out in enumerate(outs):
                state.anomaly.check(value(out), t.label, f"{k}th output of the forward pass", user_place())
    if record is not None:
        _attach(record, outs, t)
    return outs[0] if t.single else tuple(outs)


def _result(n: Node, taped: bool) -> Tensor:
    s = Storage(n, None, taped)
    if state.trace is None:
        pend(s)
    out = new(s, n.aval)
    if state.inference:
        out.frozen = True
    return out


def _view(t: Any, chain: Any, a: Any) -> Tensor:
    out = view_of(t, chain, a)
    if t.blind or not state.grad:
        out.blind = True
    if t.frozen:
        out.frozen = True
    return out


def _attach(record: Record, outs: list[Tensor], t: Template) -> None:
    """Give results their history."""
    if len(outs) == 1:
        outs[0].fn = record
    else:
        kept = []
        for k, out in enumerate(outs):
            if out.aval.dtype.category >= FLOAT:
                out.fn = Output(record, k)
                kept.append(ref(out.fn))
            else:
                kept.append(None)
        record.outs = kept
    if t.reads and t.reads[-1] < 0:
        for i, k in enumerate(t.reads):
            if k < 0:
                record.saved[i] = Saved(outs[~k])


