"""Every public op goes through `apply`: nodes in, tensors and a record out.

In: an op, its tensor arguments (tensors, nodes of numbers, or None), its static ones.  Out: tensors.  Shapes and dtypes are
inferred, and errors raised, here; values are not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import _getframe
from typing import Any
from weakref import ref

from ..dtypes import FLOAT
from ..errors import internal, user_place
from ..ir.graph import Node, node
from .evaluate import pend
from .state import state
from .storage import Storage
from .tape import Output, Record, Saved, short
from .template import TEMPLATES, Template, key_of, make_template
from .tensor import Tensor, value, view_of
from .views import layout_of, pointwise_strides

_new = object.__new__
Argument = Any                                            # Tensor, Node (a number) or None


def gather(op: Any, args: Sequence[Argument], static: tuple[Any, ...], number: bool, into: bool, trace: Any,
           recording: bool) -> tuple[list[Node], list[Any] | None, Template, bool]:
    """The nodes of the arguments that are given; places in the tape, or None if nothing is to be recorded; the template; is
    all memory in row-major order."""
    nodes: list[Node] = []
    edges: list[Any] = []
    avals: list[Any] = []
    needs, bit, plain = 0, 1, True                        # needs: which arguments need a gradient, as bits
    for a in args:
        edge = None
        if isinstance(a, Tensor):
            s = a.storage
            n = s.value if s.mem is None and s.trace is trace else s.read(a)
            if n.real is not None:
                n = n.real
            if a.chain:
                plain = False
                for prim, params in a.chain:
                    n = node(prim, (n,), params)
            elif s.strides is not None:
                plain = False
            nodes.append(n)
            avals.append(a.aval)
            if recording:
                edge = a.fn if a.base is None else a.edge()
                if edge is None and a.req:
                    edge = a
                if edge is not None:
                    needs += bit
            if trace is not None:
                nodes[-1] = trace.through(a, n, edge)
        elif a is None:
            avals.append(None)
        else:
            nodes.append(a)
            avals.append(a.aval)
        edges.append(edge)
        bit += bit
    key = (op, key_of(static), needs, into, number, *avals)
    t = TEMPLATES.get(key)
    if t is None:
        t = make_template(key, op, avals, static, tuple([bool(needs >> k & 1) for k in range(len(avals))]), into, number)
    return nodes, edges if needs and t.records else None, t, plain


def caller() -> Any:
    """The user's frame."""
    f = _getframe(2)
    while internal(f.f_code.co_filename):
        if f.f_back is None:
            return f
        f = f.f_back
    return f


def saved_of(t: Template, args: Sequence[Argument], own: Any = None) -> list[Any]:
    """What the rule reads: tensors with their version, numbers as nodes; results are filled in later (None).  `own` is
    the node that an in-place op overwrites: it has no version."""
    saved: list[Any] = []
    for k in t.reads:
        a = None if k < 0 else args[k]
        saved.append(Saved(a) if isinstance(a, Tensor) and (k or own is None) else own if k == 0 and own is not None else a)
    return saved


def apply(op: Any, args: Sequence[Argument], static: tuple[Any, ...] = (), number: bool = False) -> Any:
    """A tensor, or a tuple of tensors where the op has several results."""
    path = state.path
    if path is not None:
        out = path.record(op, args, static, number)
        if out is not None:
            return out
    return record_op(op, args, static, number)


def record_op(op: Any, args: Sequence[Argument], static: tuple[Any, ...], number: bool = False) -> Any:
    """`apply` for whoever has found that there is no path, or that the op cannot stand on it."""
    now = state.__dict__
    trace = now["trace"]
    if trace is not None and trace.light is not None:
        return trace.light.record(op, args, static, number)
    nodes, edges, t, plain = gather(op, args, static, number, False, trace, now["grad"])
    record = None
    if edges is not None:
        record = Record(t, edges, saved_of(t, args) if t.reads else (), caller())
    if t.chains is not None:
        outs = _views(args[0], t)
    else:
        outs = [_result(n, record is not None, trace) for n in t.forward(nodes)]
        if now["inference"] and trace is None:
            for out in outs:
                out.frozen = True
        if not plain and t.pointwise:
            outs[0].storage.strides = pointwise_strides(outs[0].aval.shape, [
                (a.aval.shape, layout_of(a)[0]) for a in args if isinstance(a, Tensor)])
        if now["anomaly"] is not None:
            for k, out in enumerate(outs):
                state.anomaly.check(value(out), t.label, f"{k}th output of the forward pass", user_place())
    if record is not None:
        _attach(record, outs, t)
    if trace is not None:
        trace.calls.append((op, static, number, now["grad"], args, outs))
    return outs[0] if t.single else tuple(outs)


def _result(n: Node, taped: bool, trace: Any) -> Tensor:
    s = _new(Storage)
    s.version, s.last, s.strides, s.value, s.mem, s.taped, s.trace = 0, None, None, n, None, taped, trace
    t = _new(Tensor)
    t.storage = t.cell = s
    t.aval, t.fn, t.chain, t.base, t.seen, t.req, t.path = n.aval, None, (), None, 0, False, None
    if trace is None:
        pend(s)
    return t


def _views(t: Any, tmpl: Template) -> list[Tensor]:
    outs = [view_of(t, c, a) for c, a in zip(tmpl.chains, tmpl.outs)]  # type: ignore[arg-type]
    for k, out in enumerate(outs):
        if t.blind or not state.grad:
            out.blind = True
        if t.frozen:
            out.frozen = True
        if not tmpl.single:
            out.several = f"Output {k} of {short(tmpl.label)}"
    return outs


def _attach(record: Record, outs: list[Tensor], t: Template) -> None:
    """Give results their history."""
    if len(outs) == 1:
        outs[0].fn = record
    else:
        kept: list[Any] = []
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


