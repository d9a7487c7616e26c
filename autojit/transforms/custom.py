"""Functions with a say in their own derivative: `checkpoint`, `custom_vjp`.

In: a function, and for `custom_vjp` its forward and backward rules.  Out: a function that stands in the graph as `call`s of a
`Ruled` body: the rule is a graph too, so all transforms know what to do with it, to any order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..autodiff.ruled import Ruled
from ..dtypes import FLOAT
from ..eager.state import state
from ..eager.tensor import Tensor, wrap
from ..errors import explain
from ..ir.graph import Graph, Node, linearise, placeholder, substitute
from ..ir.primitive import CONST, LEAF
from ..ops.declare import P
from ..ops.placement import zeros
from ..ops.recompute import after
from ..tracing.recorder import NO_SECOND
from .arguments import Given, only_tensors
from .recording import FunctionTrace, Recorded, function_name, place, record

Pull = tuple[Node, list[tuple[Node, Node]]]               # a cotangent, and what it becomes for some inputs
KEPT = 256                                                # bodies that are remembered
_BODIES: dict[Any, Ruled] = {}


def _positional(structure: Any) -> Any:
    return (tuple, (structure, (dict, (), ())))


def _leaves_of(nodes: Sequence[Node]) -> list[Node]:
    return [n for n in linearise(nodes) if n.prim.kind == LEAF and n.prim is not CONST]


def _ruled(name: str, outputs: Sequence[Node], pulls: Sequence[Pull], refuse: str | None) -> tuple[Ruled, list[Node]]:
    """A body whose reverse is `pulls`, and its inputs.  Equal graphs give one body, so that programs are found again."""
    cts = [ct for ct, _ in pulls]
    roots = [*outputs, *[g for _, found in pulls for _, g in found]]
    inputs = [n for n in _leaves_of(roots) if n not in cts]
    number = {n: k for k, n in enumerate(inputs)}
    where = tuple([tuple([number.get(i, -1) for i, _ in found]) for _, found in pulls])
    key = (name, len(outputs), Graph([*inputs, *cts], roots).key, where, refuse)
    body = _BODIES.get(key)
    if body is None:
        if len(_BODIES) >= KEPT:
            _BODIES.clear()
        body = _BODIES[key] = Ruled(Graph(inputs, outputs), name)
        for k, (ct, found) in enumerate(pulls):
            places: list[int | None] = [None] * len(inputs)
            for j, (i, _) in enumerate(found):
                if i in number:
                    places[number[i]] = j
            body.preset_pull(k, inputs, ct, [g for _, g in found], places, refuse)
    return body, inputs


def _called(name: str, r: Recorded, pulls: Sequence[Pull], refuse: str | None, known: dict[Node, Any]) -> Any:
    """The results of the body over what is known."""
    body, inputs = _ruled(name, r.outputs, pulls, refuse)
    calls = [P.call(tuple(inputs), body, k) for k in range(len(r.outputs))] if inputs else r.outputs
    return r.nest(place(name, calls, known, r.needs) if calls else [])


# ---------------------------------------------------------------- recomputing
def checkpoint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A function that keeps none of its intermediate values for the reverse pass, which computes them again from the arguments.

    `checkpoint(f)` is the function; `checkpoint(f, *args)` calls it, as torch.utils.checkpoint does.  Values and gradients are
    those of `f`, memory for its intermediates is not held between the two passes.  Random numbers are drawn once: both
    passes see the same.

    >>> import autojit as aj
    >>> block = aj.checkpoint(lambda x: x.sin().exp().sin())
    >>> x = aj.tensor([0.0], requires_grad=True)
    >>> block(x).backward()
    >>> x.grad
    tensor([0.5403])
    """
    @functools.wraps(function)
    def recomputing(*args: Any, **kwargs: Any) -> Any:
        return _checkpointed(function, args, kwargs)
    return recomputing(*args, **kwargs) if args or kwargs else recomputing


def _checkpointed(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    given = Given((args, kwargs))
    wants = [t.requires_grad for t in given.tensors]
    r = record(function, given.leaves, given.structure, wants, FunctionTrace(), grad=None, pulls="always")
    only_tensors("checkpoint", r.static)
    known = r.outside | dict(zip(r.arguments, given.tensors))
    r.check(list, known)
    if not any(r.needs):
        return r.nest(place("checkpoint", r.outputs, known, r.needs) if r.outputs else [])
    pulls: list[Pull] = []
    own = [n for n in r.arguments if n.dtype.category >= FLOAT]
    for o, p in zip(r.outputs, r.pulls):
        ct, found = p if p is not None else (placeholder(o.aval), [])
        apart = own or [n for n in _leaves_of([g for _, g in found]) if n is not ct]       # what is captured is there anyway
        env: dict[Node, Node] = {n: after(n, ct) for n in apart if ct.aval.size}
        pulls.append((ct, list(zip([i for i, _ in found], substitute([g for _, g in found], env)))))
    return _called("checkpoint", r, pulls, NO_SECOND if r.cut else None, known)


# ---------------------------------------------------------------- a rule of one's own
class custom_vjp:  # noqa: N801 - a decorator
    """A function whose reverse rule is the user's.  `f.defvjp(fwd, bwd)`: `fwd(*args)` returns (result, residuals), any nest of
    tensors; `bwd(residuals, cotangent)` returns a tuple with a cotangent for each argument (None: zero).

    nondiff_argnums: arguments that are no data; `bwd` gets them first.  All three see tensors and are recorded each time, so
    that the rule may be differentiated itself, forward and reverse, and batched.

    >>> import autojit as aj
    >>> @aj.custom_vjp
    ... def clipped(x):
    ...     return x * x
    >>> clipped.defvjp(lambda x: (x * x, x), lambda x, ct: ((ct * 2 * x).clamp(-1, 1),))
    >>> aj.grad(clipped)(aj.tensor(3.0)), aj.grad(clipped)(aj.tensor(0.25))
    (tensor(1.), tensor(0.5000))
    """

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        if not callable(fun):
            raise explain(TypeError(f"custom_vjp takes a function, not {type(fun).__name__}"))
        functools.update_wrapper(self, fun)
        self.fun, self.nondiff_argnums = fun, tuple(nondiff_argnums)
        self.fwd: Callable[..., Any] | None = None
        self.bwd: Callable[..., Any] | None = None

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Give the rule; see the class."""
        self.fwd, self.bwd = fwd, bwd

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else functools.partial(self, owner)

    def __call__(self, *args: Any) -> Any:
        name = function_name(self.fun)
        if self.fwd is None or self.bwd is None:
            raise explain(AttributeError(f"No VJP defined for custom_vjp function {name} using defvjp."))
        fixed = {k % len(args): args[k] for k in self.nondiff_argnums}
        data = tuple([a for k, a in enumerate(args) if k not in fixed])
        given = Given(data)
        structure = _positional(given.structure)

        def whole(f: Callable[..., Any]) -> Callable[..., Any]:
            def call(*some: Any) -> Any:
                it = iter(some)
                return f(*[fixed[k] if k in fixed else next(it) for k in range(len(args))])
            return call

        wants = [t.aval.dtype.category >= FLOAT for t in given.tensors]
        r = record(whole(self.fun), given.leaves, structure, wants, FunctionTrace())
        r.name = name
        only_tensors(name, r.static)
        known = r.outside | dict(zip(r.arguments, given.tensors))
        r.check(list, known)
        if state.trace is None and not (state.grad and any([t.requires_grad for t in given.tensors])):
            return r.nest(place(name, r.outputs, known) if r.outputs else [])
        rule = _Rule(self, whole(self.fwd), tuple(fixed.values()), data, given, r)
        rule.fwd.check(list, rule.outside)
        return _called(name, r, rule.pulls, NO_SECOND if rule.cut else None, known | rule.outside)


class _Rule:
    """`bwd` after `fwd`, as the reverse of a recorded call.  pulls: one for each result; outside: what else they read."""

    def __init__(self, owner: custom_vjp, fwd: Callable[..., Any], fixed: tuple[Any, ...], data: Any, given: Given,
                 r: Recorded) -> None:
        self.name, self.owner, self.fixed, self.data = r.name, owner, fixed, data
        self.fwd = record(fwd, given.leaves, _positional(given.structure), [True if t.aval.dtype.category >= FLOAT else False
                                                                           for t in given.tensors], FunctionTrace())
        parts = self.fwd.structure
        if parts[0] is not tuple or len(parts[1]) != 2:
            raise explain(TypeError(f"Custom VJP fwd rule for function {self.name} must produce a pair (list or tuple of "
                                    "length two) where the first element represents the primal output and the second "
                                    "element represents residuals."))
        if parts[1][0] != r.structure or [o.aval for o in self.fwd.outputs[:len(r.outputs)]] != [o.aval for o in r.outputs]:
            raise explain(TypeError(f"Custom VJP fwd rule for function {self.name} must produce as its first element what "
                                    f"{self.name} returns"))
        self.cut = r.cut or self.fwd.cut
        same: dict[Node, Node] = dict(zip(self.fwd.arguments, r.arguments))
        self.residuals = substitute(self.fwd.outputs[len(r.outputs):], same)
        self.outside = dict(self.fwd.outside) | dict(zip(self.fwd.arguments, given.tensors))
        self.pulls = [self._pull(k, o, r) for k, o in enumerate(r.outputs)]

    def _pull(self, k: int, out: Node, r: Recorded) -> Pull:
        """The cotangents of all arguments for a cotangent of result k alone."""
        ct = placeholder(out.aval)
        if out.dtype.category < FLOAT:
            return ct, []
        structure, static = self.fwd.structure[1], self.fwd.static[len(r.outputs):]
        stand = [placeholder(n.aval) for n in self.residuals]

        def backward(residuals: Any, cts: Any) -> Any:
            assert self.owner.bwd is not None
            return self._checked(self.owner.bwd(*self.fixed, residuals, cts))

        holds = [wrap(p) for p in [*stand, *[placeholder(o.aval) for o in r.outputs]]]
        it = iter(holds[:len(stand)])
        leaves = [*[next(it) if s is None else s for s in static], *holds[len(stand):]]
        b = record(backward, leaves, _positional((tuple, (structure[1], r.structure))),
                   [p.aval.dtype.category >= FLOAT for p in holds], FunctionTrace())
        self.cut = self.cut or b.cut
        self.outside |= b.outside
        cts = [ct if j == k else zeros(o.aval) for j, o in enumerate(r.outputs)]
        env: dict[Node, Node] = dict(zip(b.arguments, [*self.residuals, *cts]))
        return ct, list(zip(self._wanted(r), substitute(b.outputs, env)))

    def _wanted(self, r: Recorded) -> list[Node]:
        """The arguments for which `bwd` gave a cotangent."""
        return [r.arguments[k] for k in self.places]

    def _checked(self, found: Any) -> list[Tensor]:
        """The cotangents that `bwd` returned, and `places`: which arguments they belong to."""
        if not isinstance(found, tuple) or len(found) != len(self.data):
            raise explain(TypeError(f"Custom VJP bwd rule for function {self.name} must produce a tuple of {len(self.data)} "
                                    f"cotangents, one for each argument, not "
                                    f"{len(found) if isinstance(found, tuple) else type(found).__name__}"))
        self.places: list[int] = []
        out: list[Tensor] = []
        at = 0
        for a, g in zip(self.data, found):
            own = Given(a)
            given = [None] * len(own.tensors) if g is None else Given(g).leaves
            if len(given) != len(own.tensors):
                raise explain(TypeError(f"Custom VJP bwd rule for function {self.name} must produce cotangents with the "
                                        "structure of the arguments"))
            for t, x in zip(given, own.tensors):
                if t is not None and x.aval.dtype.category >= FLOAT:
                    if not isinstance(t, Tensor) or t.aval.shape != x.aval.shape:
                        raise explain(ValueError(f"Custom VJP bwd rule for function {self.name}: a cotangent has another "
                                                 f"shape than its argument: {getattr(t, 'shape', type(t))} and {x.shape}"))
                    self.places.append(at)
                    out.append(t if t.aval.dtype is x.aval.dtype else t.to(x.aval.dtype))
                at += 1
        return out
