"""How cotangents are computed while the reverse pass walks: as nodes, or as tensors with a history of their own.

In: a record and the cotangents of its results.  Out: (cotangent, mask or None) for each argument, or None.  One template
serves both ways: any order of derivative needs nothing new.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from ..autodiff.vjp import plus
from ..errors import explain
from ..ir.graph import Node, node
from ..ir.primitive import REGISTRY, Primitive
from ..ops.placement import ones, sent, zeros
from ..ops.placement import placed as on_device
from .apply import apply, caller
from .placing import type_name
from .state import state
from .tape import Output, Record, Saved, origin
from .template import ALIAS, AS_VIEW, primitive_rule, template
from .tensor import Tensor, new, value, wrap
from .views import emit_node, put

Pair = tuple[Any, Any]                                    # cotangent, and the mask outside which it is zero (or None)


class Mode:
    """What differs between the two ways.  Values are nodes or, where they are `recorded`, tensors."""

    recorded = False

    def start(self, root: Tensor, ct: Tensor | None) -> Pair:
        raise NotImplementedError

    def plus(self, a: Pair, b: Pair) -> Pair:
        raise NotImplementedError

    def hooked(self, hooks: Sequence[Any], ct: Any) -> Any:
        raise NotImplementedError

    def pull(self, record: Record, cts: list[Pair | None]) -> Sequence[Pair | None]:
        raise NotImplementedError


def checked(hook: Any, result: Any, g: Tensor) -> Tensor:
    """What a hook gave back.  Errors in torch's words."""
    if not isinstance(result, Tensor):
        raise explain(TypeError(f"expected Variable, but hook returned '{type(result).__name__}'"))
    name = getattr(hook, "__name__", repr(hook))
    if result.aval.dtype is not g.aval.dtype or result.aval.device != g.aval.device:
        raise explain(RuntimeError(f"hook '{name}' has changed the type of value (was {type_name(g.aval)} got "
                                   f"{type_name(result.aval)})"))
    if result.aval.shape != g.aval.shape:
        raise explain(RuntimeError(f"hook '{name}' has changed the size of value"))
    return result


class Symbolic(Mode):
    """Cotangents are nodes: nothing is recorded, nothing runs unless a hook looks.  `values`: saved values by record, where
    they are known already."""

    __slots__ = ("values",)

    def __init__(self, values: dict[Record, list[Node]] | None = None) -> None:
        self.values = values

    def start(self, root: Tensor, ct: Tensor | None) -> Pair:
        return (ones(root.aval) if ct is None else value(ct), None)

    def plus(self, a: Pair, b: Pair) -> Pair:
        return plus(a, b)

    def hooked(self, hooks: Sequence[Any], ct: Node) -> Node:
        grad, state.grad = state.grad, False
        try:
            g = wrap(ct)
            for hook in hooks:
                result = hook(g)
                if result is not None:
                    g = checked(hook, result, g)
        finally:
            state.grad = grad
        return value(g)

    def pull(self, record: Record, cts: list[Pair | None]) -> Sequence[Pair | None]:
        if record.custom:
            return record.pull_nodes(cts)  # type: ignore[attr-defined, no-any-return]
        saved = self.values[record] if self.values is not None else [s.node() if type(s) is Saved else s for s in record.saved]
        if record.slices is None:
            return _pull_nodes(record, cts, saved)
        chain, _ = record.slices                          # base' = put(base, view, op(view(base)))
        whole = cts[0][0]  # type: ignore[index]
        part = whole
        for prim, params in chain:
            part = node(prim, (part,), params)
        g, *rest = _pull_nodes(record, [(part, None)], saved)
        return [(put(whole, chain, zeros(part.aval) if g is None else g[0], emit_node), None), *rest]


def _pull_nodes(record: Record, cts: list[Pair | None], saved: Sequence[Node]) -> Sequence[Pair | None]:
    p = record.template.pull(tuple([None if c is None else c[1] is not None for c in cts]))
    arguments = [c[0] for c in cts if c is not None] + [c[1] for c in cts if c is not None and c[1] is not None]
    found: Sequence[Pair | None] = p.spread(p.recipe([*arguments, *saved]))
    if record.template.device == "cpu":
        return found
    return [g if g is None or a is None else (on_device(g[0], a.aval.device), g[1])      # zeros come out as numbers alone
            for g, a in zip(found, record.template.placeholders)]


def emit_tensor(prim: Primitive, inputs: list[Any], params: tuple[Any, ...]) -> Tensor:
    """A primitive as a recorded operation on tensors."""
    return apply(primitive_rule(prim), inputs, params)  # type: ignore[no-any-return]


def add_tensors(a: Tensor, b: Tensor) -> Tensor:
    return emit_tensor(REGISTRY["add"], [a, b], ())


class Recorded(Mode):
    """Cotangents are tensors, made by recorded operations."""

    __slots__ = ()
    recorded = True

    def start(self, root: Tensor, ct: Tensor | None) -> Pair:
        return (wrap(ones(root.aval)) if ct is None else ct, None)

    def plus(self, a: Pair, b: Pair) -> Pair:
        mask = None
        if a[1] is not None and b[1] is not None:
            mask = emit_tensor(REGISTRY["bitwise_or"], [a[1], b[1]], ())
        return add_tensors(a[0], b[0]), mask

    def hooked(self, hooks: Sequence[Any], ct: Tensor) -> Tensor:
        for hook in hooks:
            result = hook(ct)
            if result is not None:
                ct = checked(hook, result, ct)
        return ct

    def pull(self, record: Record, cts: list[Pair | None]) -> Sequence[Pair | None]:
        if record.custom:
            return record.pull_tensors(cts)  # type: ignore[attr-defined, no-any-return]
        saved = [unpack(record, k, s) for k, s in zip(record.template.reads, record.saved)]
        if record.slices is None:
            return _pull_tensors(record, cts, saved)
        chain, _ = record.slices
        whole = part = cts[0][0]  # type: ignore[index]
        for prim, params in chain:
            part = emit_tensor(prim, [part], params)
        g, *rest = _pull_tensors(record, [(part, None)], saved)
        new_part = wrap(zeros(part.aval)) if g is None else g[0]
        return [(put(whole, chain, new_part, emit_tensor), None), *rest]


def _pull_tensors(record: Record, cts: list[Pair | None], saved: Sequence[Any]) -> Sequence[Pair | None]:
    p = record.template.pull(tuple([None if c is None else c[1] is not None for c in cts]))
    arguments = [c[0] for c in cts if c is not None] + [c[1] for c in cts if c is not None and c[1] is not None]
    device = record.template.device
    if device == "cpu":
        return p.spread(p.recipe.replay([*arguments, *saved], wrap, emit_tensor))  # type: ignore[no-any-return]
    saved = [there(t, device) if type(s) is Node else t for s, t in zip(record.saved, saved)]
    constant, emit = functools.partial(_number, device=device), functools.partial(_emit_there, device=device)
    return p.spread(p.recipe.replay([*arguments, *saved], constant, emit))  # type: ignore[no-any-return]


def there(t: Tensor, device: str) -> Tensor:
    """A number that went along, as a tensor of its own."""
    return t if t.aval.device == device or t.fn is not None else wrap(sent(value(t), device))


def _number(n: Node, device: str) -> Tensor:
    return wrap(on_device(n, device))


def _emit_there(prim: Primitive, inputs: list[Any], params: tuple[Any, ...], device: str) -> Tensor:
    """`emit_tensor`, where what is made of numbers alone has to be on a device too."""
    return emit_tensor(prim, inputs, params) if inputs else wrap(on_device(node(prim, (), params), device))


# ---------------------------------------------------------------- saved values with their history
def unpack(record: Record, k: int, s: Any) -> Tensor:
    """A saved value as a tensor in its place in the tape: what rules get under create_graph.  k: see Template.reads."""
    if type(s) is Node:
        if s.aval.shape == () and (k < 0 or record.edges[k] is None):
            return wrap(s)
        t = wrap(s)
        return placed(t, _edge_of(record, k, t))
    if s.leaf is not None:
        return s.leaf  # type: ignore[no-any-return]
    t = new(s.storage, s.storage.read(s).aval)
    t.cell, t.chain, t.seen = s.cell, s.chain, s.cell.version
    t.aval = value(t).aval
    return placed(t, _edge_of(record, k, t))


def _edge_of(record: Record, k: int, t: Tensor) -> Any:
    """Where the saved value stands in the tape.  Under CopySlices the rule's own argument is a view: of the old base, or of
    the new one for the result."""
    if k < 0:
        e: Any = record if record.outs is None else _output(record, ~k)
    else:
        e = record.edges[k]
    if e is not None and record.slices is not None and k in (0, ~0):
        chain, base = record.slices
        return Record(template(AS_VIEW, (base,), (chain,), (True,)), (e,), (), caller())
    return e


def _output(record: Record, k: int) -> Any:
    if record.outs[k] is None:
        return None                                       # an index: no gradient
    found = record.outs[k]()
    return Output(record, k) if found is None else found


def placed(t: Tensor, edge: Any) -> Tensor:
    """`t` at this place in the tape."""
    if edge is None:
        return t
    if origin(edge) is None:                              # a snapshot of a leaf: an alias of it in the tape
        edge = Record(template(ALIAS, (t.aval,), (), (True,)), (edge,), (), caller())
    t.fn = edge
    return t
