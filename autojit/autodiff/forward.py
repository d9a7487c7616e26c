"""The forward pass over nodes: tangents of some nodes in, tangents of outputs out, all of it graph.

No primitive has a rule for it.  A linear primitive is applied to the tangents; of any other the reverse rule, which is linear
in its cotangent, is transposed: what is left of it is the product of Jacobian and tangent, and the cotangent is gone.  So a
tangent needs what its own node has read and nothing else, and no value is kept for later.  Zeros stay symbolic (None).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..dtypes import FLOAT
from ..ir.graph import Node, linearise, node, placeholder, substitute
from ..ir.primitive import REGISTRY, Primitive
from ..ir.recipe import Recipe
from ..ops.declare import P, full, zeros_like
from ..ops.index import swap
from ..ops.recompute import at_once
from .loops import LOOPS, pushed
from .ruled import Ruled
from .vjp import is_zero, reverse

Tangents = Sequence[Node | None]
KEPT = 20_000                                             # recipes that are remembered
_RECIPES: dict[Any, Recipe | None] = {}


def both(outputs: Sequence[Node], tangents: dict[Node, Node]) -> tuple[list[Node], list[Node | None]]:
    """`outputs` and their tangents, where a loop gives its values and their tangents in one."""
    joint: dict[Node, Node] = {}
    found = forward(outputs, tangents, joint)
    roots = [*[o.real or o for o in outputs], *[t for t in found if t is not None]]
    while joint and any([n in joint for n in linearise(roots)]):
        roots = substitute(roots, dict(joint))            # what a loop takes may be another loop's
    values, moved = roots[:len(found)], iter(roots[len(found):])
    return values, [None if t is None else next(moved) for t in found]


def forward(outputs: Sequence[Node], tangents: dict[Node, Node], joint: dict[Node, Node] | None = None) -> list[Node | None]:
    """Tangents of `outputs`, given those of some nodes that they are made of; None where none comes, or only zeros.  `joint`
    takes down where else the value of a loop's result stands: beside its tangent."""
    found: dict[Node, Node] = dict(tangents)
    for n in linearise(outputs, stop=tangents):
        if n in found or n.dtype.category < FLOAT:
            continue
        inputs = [i.real or i for i in n.inputs]
        given = [found.get(i) for i in inputs]
        if all([t is None for t in given]):
            continue
        if n.op == "call":
            made = _called(n, inputs, given)
        elif n.op in LOOPS:
            made = pushed(n, inputs, given, both, joint)
        elif n.op == "custom":
            made = _customs(n, inputs, given)
        else:
            made = _pushed(n, inputs, given)
        if made is not None and not is_zero(made):
            found[n] = made
    return [found.get(o.real or o) for o in outputs]


def _pushed(n: Node, inputs: Sequence[Node], tangents: Tangents) -> Node | None:
    """The tangent of one node, by a recipe made once for this primitive and these kinds of operands."""
    key = (n.prim, n.params, tuple([(i.aval, t is None) for i, t in zip(inputs, tangents)]))
    if key not in _RECIPES:
        if len(_RECIPES) > KEPT:
            _RECIPES.clear()
        _RECIPES[key] = _recipe(n.prim, n.params, inputs, tangents)
    recipe = _RECIPES[key]
    return None if recipe is None else recipe([*inputs, n, *[t for t in tangents if t is not None]])[0]


def _recipe(prim: Primitive, params: tuple[Any, ...], inputs: Sequence[Node], tangents: Tangents) -> Recipe | None:
    """(operands, the result, tangents that are there) -> tangent of the result."""
    ins = [placeholder(i.aval) for i in inputs]
    ts = [None if t is None else placeholder(t.aval) for t in tangents]
    out = placeholder(node(prim, tuple(ins), params).aval)
    made = _tangent(prim, params, out, ins, ts)
    return None if made is None else Recipe([*ins, out, *[t for t in ts if t is not None]], [made])


def _tangent(prim: Primitive, params: tuple[Any, ...], out: Node, ins: Sequence[Node], ts: Tangents) -> Node | None:
    if prim.vjp is None:
        return None
    if prim.linear:
        return _linear(prim, params, ins, ts)
    if prim.name in BESIDE:
        return BESIDE[prim.name](out, ins, ts, *params)
    ct = placeholder(out.aval)
    grads = prim.vjp(ct, out, *ins, *params)
    pairs = [(g, t) for g, t in zip(grads, ts) if g is not None and t is not None]
    return _transposed([g for g, _ in pairs], [t for _, t in pairs], ct) if pairs else None


def _transposed(grads: Sequence[Node], tangents: Tangents, ct: Node) -> Node | None:
    """`grads` are linear in `ct`: the same matrix applied from the other side."""
    (made,) = reverse(grads, tangents, [ct])
    if made is not None and ct in linearise([made]):
        raise NotImplementedError("a reverse rule that is not linear in its cotangent has no transpose")
    return made


def _linear(prim: Primitive, params: tuple[Any, ...], ins: Sequence[Node], ts: Tangents) -> Node:
    """What is linear in all its floating operands does to tangents what it does to values."""
    if prim.name in ("add", "sub") and None in ts:
        there = ts[0] if ts[0] is not None else ts[1]
        assert there is not None
        return there if prim.name == "add" or ts[0] is not None else P.neg(there)
    given = [t if t is not None else zeros_like(i) if i.dtype.category >= FLOAT else i for i, t in zip(ins, ts)]
    return node(prim, tuple(given), params)


# ---------------------------------------------------------------- rules that are not linear in their cotangent
def _logcumsumexp(out: Node, ins: Sequence[Node], ts: Tangents, axis: int) -> Node:
    """The running sum of exp(a - out) * t, in logarithms, the two signs of t apart, so that nothing overflows.  Where nothing
    but -Inf has come so far it is 0."""
    (a,), (t,) = ins, ts
    assert t is not None
    zero, one, low = zeros_like(t), full(1, t.shape, t.dtype), full(-np.inf, t.shape, t.dtype)

    whole = P.where(P.eq(out, low), zero, out)

    def part(t: Node) -> Node:
        keep = P.gt(t, zero)
        weight = P.where(keep, P.add(P.log(P.where(keep, t, one)), a), low)
        return P.exp(P.sub(P.logcumsumexp(weight, axis), whole))

    return P.sub(part(t), part(P.neg(t)))


def _expm(out: Node, ins: Sequence[Node], ts: Tangents) -> Node:
    """The reverse rule is the exponential of a matrix that holds the cotangent: of the transposed matrix it is the tangent."""
    (a,), (t,) = ins, ts
    (made,) = REGISTRY["expm"].vjp(t, out, swap(a))  # type: ignore[misc]
    return made  # type: ignore[no-any-return]


BESIDE: dict[str, Callable[..., Node]] = {"logcumsumexp": _logcumsumexp, "expm": _expm}


# ---------------------------------------------------------------- sub-graphs
def _called(n: Node, inputs: Sequence[Node], tangents: Tangents) -> Node | None:
    body, k = n.params
    if not isinstance(body, Ruled):
        (made,) = forward([body.inline(inputs, node)[k]], {i: t for i, t in zip(inputs, tangents) if t is not None})
        return made
    pull, reads, where = body.pull(k)
    ct = pull.graph.inputs[-1]
    pairs = [(pull.graph.outputs[j], t) for j, t in zip(where, tangents) if j is not None and t is not None]
    if not pairs:
        return None
    once = substitute([g for g, _ in pairs], {i: i for i in pull.graph.inputs}, at_once)
    pairs = list(zip(once, [t for _, t in pairs]))
    made = _transposed([g for g, _ in pairs], [t for _, t in pairs], ct)
    if made is None:
        return None
    env = dict(zip(pull.graph.inputs[:-1], [inputs[j] for j in reads]))
    env |= {t: t for _, t in pairs if t is not None}      # made outside: stays as it is
    return substitute([made], env)[0]


def _customs(n: Node, inputs: Sequence[Node], tangents: Tangents) -> Node | None:
    """The tangent of one result of a function that the user has compiled: of its reverse, if that is written in ops."""
    spec, k = n.params
    if spec.rule is None or not spec.rule.linear:
        raise RuntimeError(f"{spec.name} has no forward derivative: a rule in ops, @{spec.name}.defvjp, would give it one")
    ct = placeholder(n.aval)
    grads = spec.pull(inputs, [ct if j == k else None for j in range(len(spec.avals))])
    pairs = [(g, t) for g, t in zip(grads, tangents) if g is not None and t is not None]
    return _transposed([g for g, _ in pairs], [t for _, t in pairs], ct) if pairs else None
