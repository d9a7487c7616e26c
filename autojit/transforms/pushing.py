"""Forward mode: `jvp`, `linearize`, `hvp`.

In: a function, where and in which direction it is differentiated.  Out: values and tangents, both from one graph that keeps
nothing for a reverse pass.  Where only the tape knows a function's derivatives (custom functions, hooks) its reverse is
differentiated by its cotangent, which gives the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import tree
from ..autodiff.forward import both
from ..eager import autograd
from ..eager.evaluate import realise_all
from ..eager.modes import enable_grad
from ..eager.state import state
from ..eager.tensor import Tensor, value, wrap
from ..errors import explain
from ..functional import grad
from ..ir.graph import Node, linearise, placeholder, substitute
from ..ir.primitive import LEAF
from ..ops.placement import zeros
from .arguments import Given, floating, kind_of, only_tensors, shown, split_aux
from .recording import FunctionTrace, Recorded, node_of, place, record


class Pushed:
    """A function recorded together with its tangents.

    r: the recording.  given: its arguments.  into: placeholders of the arguments' tangents.  values, tangents: of the outputs,
    the tangents None for zero.  aux: what the function returned beside its result, if asked for."""

    __slots__ = ("r", "given", "into", "values", "tangents", "aux")

    def __init__(self, func: Callable[..., Any], args: Any, what: str, has_aux: bool = False) -> None:
        self.given = Given(args)
        floating(self.given.leaves, what)
        self.r, self.aux = recorded(func, self.given, what, has_aux)
        self.into = [placeholder(t.aval) for t in self.given.tensors]
        self.values: list[Node] = self.r.outputs
        self.tangents: list[Node | None] = []
        if not self.r.cut:
            self.values, self.tangents = both(self.r.outputs, dict(zip(self.r.arguments, self.into)))

    def known(self, tangents: Sequence[Any] = ()) -> dict[Node, Any]:
        """What the placeholders are."""
        return self.r.outside | dict(zip(self.r.arguments, self.given.tensors)) | dict(zip(self.into, tangents))


class Aux:
    """What comes with a function's result: tensors that are recorded with it, and anything else as it is."""

    __slots__ = ("structure", "static", "nodes")

    structure: Any
    static: list[Any]
    nodes: list[Node]

    def show(self, known: dict[Node, Any], kind: Any) -> Any:
        it = iter([shown(t.detach() if state.trace is None else t, kind) for t in place("aux", self.nodes, known)]
                  if self.nodes else ())
        return tree.unflatten(self.structure, [next(it) if s is None else s for s in self.static])


def recorded(func: Callable[..., Any], given: Given, what: str, has_aux: bool, wants: Sequence[bool] | None = None,
             ) -> tuple[Recorded, Aux | None]:
    """`func` recorded to be differentiated by all of its arguments (or those that `wants` names); what else it returned."""
    def call(*args: Any) -> Any:
        out = func(*args)
        return split_aux(out, what) if has_aux else (out, ())

    trace = FunctionTrace()
    r = record(call, given.leaves, (tuple, (given.structure, (dict, (), ()))), wants or [True] * len(given.tensors), trace)
    out, beside = r.structure[1]
    count = _leaves(out)
    aux = Aux()
    aux.structure, aux.static = beside, r.static[count:]
    tensors = sum([s is None for s in r.static[:count]])
    aux.nodes = r.outputs[tensors:]
    r.structure, r.static, r.outputs, r.needs = out, r.static[:count], r.outputs[:tensors], r.needs[:tensors]
    only_tensors(what, r.static)
    return r, aux if has_aux else None


def _leaves(structure: Any) -> int:
    if structure == tree.LEAF:
        return 1
    return 0 if structure[0] is None else sum([_leaves(s) for s in structure[-1]])


def _directions(primals: Given, tangents: Any) -> Given:
    """Tangents as tensors like the primals.  RuntimeError in torch's words."""
    given = Given(tangents)
    if given.structure != primals.structure:
        raise explain(RuntimeError("jvp(f, primals, tangents): Expected primals and tangents to have the same python "
                                   "structure. For example, if primals is a tuple of 3 tensors, tangents also must be. Got "
                                   f"primals with {len(primals.leaves)} and tangents with {len(given.leaves)} tensors"))
    floating(given.leaves, "jvp(f, primals, tangents)")
    for k, (t, p) in enumerate(zip(given.tensors, primals.tensors)):
        if t.aval.shape != p.aval.shape:
            raise explain(RuntimeError(
                f"Trying to set a forward gradient that has a different size than that of the original Tensor, this is not "
                f"supported. Tensor is of size {list(p.shape)} while the given forward gradient is of size {list(t.shape)}."))
        given.tensors[k] = t if t.aval is p.aval else t.to(p.aval.dtype)
    return given


def jvp(func: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...], *, strict: bool = False,
        has_aux: bool = False) -> tuple[Any, ...]:
    """(func(*primals), the product of its Jacobian with `tangents`): the derivative in one direction, forward.

    primals, tangents: tuples of nests of floating tensors, arrays or numbers, with equal shapes.  has_aux: `func` returns
    (result, anything else), which is returned as a third.  strict: an error where the result does not depend on the primals.
    Memory does not grow with the length of the computation, and both results can be differentiated again.
    RuntimeError for shapes or structures that do not fit and for primals that are not floating.

    >>> import autojit as aj
    >>> aj.jvp(lambda x: x.sin(), (aj.tensor([0.0, 0.0]),), (aj.tensor([1.0, 2.0]),))
    (tensor([0., 0.]), tensor([1., 2.]))
    """
    what = "jvp(f, primals, tangents)"
    if not isinstance(primals, tuple):
        raise explain(RuntimeError(f"{what}: Expected primals to be a tuple. E.g. it should be valid to call f(*primals)."))
    given = Given(primals)
    if not given.leaves:
        raise explain(RuntimeError(f"{what}: Expected primals to contain at least one Tensor."))
    into = _directions(given, tangents)
    p = Pushed(func, primals, what, has_aux)
    known = p.known(into.tensors)
    p.r.check(list, known)
    kind = kind_of([*given.kinds, *into.kinds])
    outs, moved = _by_tape(func, p, into, has_aux) if p.r.cut else _by_graph(p, known)
    if strict and not all(p.r.needs):
        raise explain(RuntimeError(f"{what}: The output of f is independent of the primals. This is not allowed with "
                                   "strict=True."))
    found = p.r.nest([shown(t, kind) for t in outs]), p.r.nest([shown(t, kind) for t in moved])
    return found if p.aux is None else (*found, p.aux.show(known, kind))


def _by_graph(p: Pushed, known: dict[Node, Any]) -> tuple[list[Tensor], list[Tensor]]:
    moved = [zeros(o.aval) if t is None else t for o, t in zip(p.r.outputs, p.tangents)]
    needs = [*p.r.needs, *[t is not None for t in p.tangents]]
    found = place("jvp", [*p.values, *moved], known, needs) if moved else []
    return found[:len(moved)], found[len(moved):]


def _by_tape(func: Callable[..., Any], p: Pushed, into: Given, has_aux: bool) -> tuple[list[Tensor], list[Tensor]]:
    """The reverse of `func` is linear in its cotangents: differentiated by them, in the direction of the tangents."""
    nested = state.trace is not None or state.grad and any([t.requires_grad for t in [*p.given.tensors, *into.tensors]])
    with enable_grad():
        inner: list[Any] = [t.view_as(t) if t.requires_grad else t.detach().requires_grad_() for t in p.given.tensors]
        out = func(*tree.unflatten(p.given.structure, inner))
        outs = tree.flatten(out[0] if has_aux else out)[0]
        reached = [o for o in outs if o.requires_grad]
        cts = [wrap(zeros(o.aval)).requires_grad_() for o in reached]
        loose = {"allow_unused": True, "materialize_grads": True}
        pulled: Any = autograd.grad(reached, inner, cts, create_graph=True, **loose) if cts else ()
        pairs = [(g, t) for g, t in zip(pulled, into.tensors) if g.requires_grad]
        found: Any = iter(autograd.grad([g for g, _ in pairs], cts, [t for _, t in pairs], create_graph=nested, **loose)
                          if pairs else [wrap(zeros(c.aval)) for c in cts])
    moved = [next(found) if o.requires_grad else wrap(zeros(o.aval)) for o in outs]
    return (outs, moved) if nested else ([o.detach() for o in outs], [t.detach() for t in moved])


# ---------------------------------------------------------------- a linear function that stays
def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """(func(*primals), push): `push(*tangents)` is the product of the Jacobian at `primals` with the tangents.

    What the product needs of the function's values is computed once, with the value; `push` may be called often.
    RuntimeError for tangents whose shapes or structure do not fit.

    >>> import autojit as aj
    >>> y, push = aj.linearize(lambda x: x ** 3, aj.tensor([1.0, 2.0]))
    >>> y, push(aj.tensor([1.0, 1.0])), push(aj.tensor([0.0, 1.0]))
    (tensor([1., 8.]), tensor([ 3., 12.]), tensor([ 0., 12.]))
    """
    p = Pushed(func, primals, "linearize(f, *primals)")
    kind = p.given.kind
    if not p.given.leaves:
        raise explain(RuntimeError("linearize(f, *primals): Expected primals to contain at least one Tensor."))
    known = p.known()
    p.r.check(list, known)
    outs = place("linearize", p.r.outputs, known, p.r.needs)
    fixed = state.trace is None and not p.r.cut and not any([isinstance(t, Tensor) and t.requires_grad for t in known.values()])
    if fixed:
        known = _evaluated(p, known, outs)

    def push(*tangents: Any) -> Any:
        into = Given(tangents)
        if into.structure != p.given.structure:
            raise explain(RuntimeError("linearize: the tangents must have the structure of the primals"))
        for k, (t, x) in enumerate(zip(into.tensors, p.given.tensors)):
            if t.aval.shape != x.aval.shape:
                raise explain(RuntimeError(f"tangent:{k} with shape {t.shape} in flattened pytree doesn't match the shape "
                                           f"{x.shape} of the corresponding primal."))
        into = _directions(p.given, tangents)
        if p.r.cut:
            _, moved = _by_tape(func, p, into, False)
        else:
            ends = [zeros(o.aval) if t is None else t for o, t in zip(p.r.outputs, p.tangents)]
            moved = place("push", ends, known | dict(zip(p.into, into.tensors))) if ends else []
        return p.r.nest([shown(t, kind) for t in moved])

    return p.r.nest([shown(t, kind) for t in outs]), push


def _evaluated(p: Pushed, known: dict[Node, Any], outs: Sequence[Tensor]) -> dict[Node, Any]:
    """Compute what the tangents read of the values, together with the results; tangents over that alone."""
    ends = [t for t in p.tangents if t is not None]
    moving: set[Node] = set(p.into)
    border: dict[Node, None] = {}
    for n in linearise(ends):
        inputs = [i.real or i for i in n.inputs]
        if any([i in moving for i in inputs]):
            moving.add(n)
            border.update(dict.fromkeys([i for i in inputs if i not in moving and _depends(i, known)]))
    nodes = substitute(list(border), {m: node_of(t) for m, t in known.items()})
    arrays = realise_all([*[value(o) for o in outs], *nodes])
    del arrays                                            # the nodes remember them
    kept = {b: placeholder(b.aval) for b in border}
    new = iter(substitute(ends, dict(kept)))
    p.tangents = [None if t is None else next(new) for t in p.tangents]
    return known | {kept[b]: wrap(n.real or n) for b, n in zip(border, nodes)}


def _depends(n: Node, known: dict[Node, Any]) -> bool:
    return any([m in known for m in linearise([n]) if m.prim.kind == LEAF])


# ---------------------------------------------------------------- second order
def hvp(func: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
    """The product of the Hessian of `func` (which returns one floating number) at `primals` with `tangents`.

    Forward over reverse: the cost of a few gradients, and no Hessian.  One primal: a nest of its structure; several: a tuple.

    >>> import autojit as aj
    >>> aj.hvp(lambda x: (x ** 3).sum(), (aj.tensor([1.0, 2.0]),), (aj.tensor([1.0, 0.0]),))
    tensor([6., 0.])
    """
    if not isinstance(primals, tuple):
        raise explain(RuntimeError("hvp(f, primals, tangents): Expected primals to be a tuple. E.g. it should be valid to call "
                                   "f(*primals)."))
    return jvp(grad(func, 0 if len(primals) == 1 else tuple(range(len(primals)))), primals, tangents)[1]
