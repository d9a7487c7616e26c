"""Control flow that is compiled to real loops and branches: `scan`, `fori_loop`, `while_loop`, `cond`, as jax names them.

In: functions of tensors (or nests of them).  Out: what a loop in Python would give, as one node of the graph: the body is
recorded once, however many turns there are.  Differentiable in reverse to any order; eager, and under `@trace`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import tree
from .dtypes import FLOAT, bool_, int64
from .eager.creation import arange, as_tensor, zeros
from .eager.placing import shown as device_name
from .eager.tensor import Tensor
from .errors import TraceError, explain
from .ir.aval import Aval, aval
from .ir.graph import Graph, Node, const, linearise, node, placeholder, substitute
from .ir.primitive import CONST, LEAF, PLACEHOLDER, TRANSFER
from .ops.declare import P, full
from .ops.loops import BRANCH, SCAN, branch_spec, scan_spec
from .ops.random import split
from .ops.whiles import WHILE, while_spec
from .tracing.plan import as_tensor as run_time_tensor
from .tracing.plan import float_beside
from .transforms.arguments import kind_of, shown
from .transforms.recording import Answer, FunctionTrace, Recorded, function_name, place, record

_THROUGH = frozenset(("reshape", "permute", "expand", "flip", "slice", "stop", "cast"))


class _LoopTrace(FunctionTrace):
    """The recording of a body: what it asks for must be the same in every turn, or come through its arguments."""

    what = "scan"
    turn: Node | None = None                              # the number of the turn, if random numbers are drawn

    def draw(self, make: Callable[[], Any], a: Aval) -> Node:
        if self.what == "cond":
            return super().draw(make, a)
        if self.turn is None:
            self.turn = placeholder(aval((), int64))
        return split(super().draw(make, a), self.turn)

    def ask(self, nodes: Sequence[Node], answer: Callable[[list[Node]], Answer]) -> Answer:
        if any([m.prim is PLACEHOLDER for m in linearise(nodes)]):
            raise explain(TraceError(f"the value of a tensor is read in the body of a {self.what}, where it has none yet"),
                          hint="choose with aj.where or aj.cond")
        return super().ask(nodes, answer)


# ---------------------------------------------------------------- arguments
class _Nest:
    """A nest as tensors: `tensors`, `structure`, the kind of each leaf, and which were plain numbers."""

    def __init__(self, nest: Any, beside: Any) -> None:
        leaves, self.structure = tree.flatten(nest)
        self.tensors = [_tensor(x, beside) for x in leaves]
        self.kinds = [Tensor if isinstance(x, Tensor) else _kind(x) for x in leaves]
        self.weak = [isinstance(x, (bool, int, float)) for x in leaves]

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in _paths(tree.unflatten(self.structure, self.tensors))]


def _kind(x: Any) -> Any:
    return float if isinstance(x, (bool, int, float)) else type(x)


def _tensor(x: Any, beside: Any) -> Tensor:
    if isinstance(x, (bool, int)) and not isinstance(x, Tensor):
        return as_tensor(x)
    try:
        return run_time_tensor(x, beside)
    except (TypeError, ValueError):
        raise explain(TypeError(f"Value {x!r} with type {type(x)} is not a valid tensor type: control flow takes tensors, "
                                "arrays, numbers and nests of them")) from None


def _paths(nest: Any, at: str = "") -> list[tuple[str, Any]]:
    """(path, leaf) of each leaf, in order."""
    if isinstance(nest, dict):
        parts = [(f"{at}[{k!r}]", nest[k]) for k in tree.flatten(nest)[1][1]]
    elif isinstance(nest, tuple) and hasattr(nest, "_fields"):
        parts = [(f"{at}.{k}", v) for k, v in zip(nest._fields, nest)]
    elif isinstance(nest, (tuple, list)):
        parts = [(f"{at}[{k}]", v) for k, v in enumerate(nest)]
    else:
        return [] if nest is None else [(at, nest)]
    return [pair for path, part in parts for pair in _paths(part, path)]


def _together(tensors: Sequence[Any]) -> str:
    """The device of all; numbers go along."""
    found = dict.fromkeys([t.aval.device for t in tensors if t.aval.shape or t.aval.device != "cpu"])
    if len(found) > 1:
        raise explain(RuntimeError("Expected all tensors to be on the same device, but found at least two devices, "
                                   f"{' and '.join(map(device_name, found))}!"), hint="move one: x.to(device)")
    return next(iter(found), "cpu")


def _stays(what: str, outputs: Sequence[Node], varying: Sequence[Node]) -> None:
    """What turns compute is on one device; numbers go along."""
    for n in linearise(outputs):
        if n.prim.kind == TRANSFER:
            moved = n.inputs[0].real or n.inputs[0]
            if (moved.shape or moved.aval.device != "cpu") and not set(varying).isdisjoint(linearise([moved])):
                raise explain(RuntimeError(f"{what}: the body moves a tensor to another device"),
                              hint="move it before the loop")


def _differentiable(what: str, r: Recorded, tensors: Sequence[Any]) -> None:
    if r.cut and any([isinstance(t, Tensor) and t.requires_grad for t in [*tensors, *r.outside.values()]]):
        raise explain(RuntimeError(f"{what}: the body holds a custom autograd.Function or a hook, which only the tape can "
                                   "differentiate"), hint="use aj.custom_vjp in its place")


# ---------------------------------------------------------------- recording
def _leaves(nodes: Sequence[Node]) -> list[Node]:
    return [n for n in linearise(nodes) if n.prim.kind == LEAF and n.prim is not CONST]


def _invariant(outputs: Sequence[Node], varying: Sequence[Node]) -> list[Node]:
    """What every turn would compute anew from what no turn changes: computed before the loop, once."""
    moving = set(varying)
    fixed: set[Node] = set()
    out: dict[Node, None] = {}
    order = linearise(outputs)
    for n in order:
        ins = [i.real or i for i in n.inputs]
        if any([i in moving for i in ins]):
            moving.add(n)
        elif n not in moving and (n.prim.kind == LEAF and n.prim is not CONST or any([i in fixed for i in ins])):
            fixed.add(n)
    readers = [i.real or i for n in order if n in moving for i in n.inputs]
    for n in [*readers, *[o.real or o for o in outputs]]:
        while n.op in _THROUGH and n in fixed:
            n = n.inputs[0].real or n.inputs[0]
        if n in fixed:
            out[n] = None
    return list(out)


class _Body:
    """A recorded turn: `arguments` and `outputs`, nodes; `r`, what it took from outside; `turn`: see `_LoopTrace`."""

    def __init__(self, what: str, f: Callable[..., Any], structure: Any, tensors: Sequence[Tensor],
                 avals: Sequence[Aval], numbered: bool = False) -> None:
        trace = _LoopTrace()
        trace.what = what
        wants = [a.dtype.category >= FLOAT for a in avals]

        def own(*args: Any) -> Any:                       # a body may change its arguments in place: they are this turn's
            return f(*tree.tree_map(lambda t: t.clone(), args))

        self.r = record(own, list(tensors), (tuple, (structure, (dict, (), ()))), wants, trace, avals=list(avals))
        self.arguments, self.turn = self.r.arguments, trace.turn
        known = [t for t in self.r.outside.values() if isinstance(t, Tensor)]
        self.device = _together([*(tensors[:-1] if numbered else tensors), *known])
        _stays(what, self.r.outputs, self.arguments)
        _differentiable(what, self.r, tensors)
        self.known = self.r.outside | dict(zip(self.arguments, tensors))

    @property
    def moving(self) -> list[Node]:
        """What differs from turn to turn."""
        return self.arguments if self.turn is None else [*self.arguments, self.turn]


def _pair(what: str, out: Any) -> tuple[Any, Any]:
    if not isinstance(out, tuple) or len(out) != 2:
        raise explain(TypeError(f"{what} body output must be a pair, got {_described(out)}."))
    return out


def _described(x: Any) -> str:
    return f"a tensor of type {_look(x.aval)}" if isinstance(x, Tensor) else f"{type(x).__name__}"


def _as_tensors(nest: Any, like: Sequence[Tensor] = ()) -> Any:
    """Numbers and arrays among results as tensors; numbers take the dtype of what stands in their place in `like`."""
    leaves, structure = tree.flatten(nest)
    beside = float_beside(leaves)
    out = []
    for k, x in enumerate(leaves):
        d = like[k].aval.dtype if k < len(like) else None
        weak = isinstance(x, (bool, int, float)) and not isinstance(x, Tensor)
        if weak and d is not None and (d.category >= FLOAT or not isinstance(x, float)):
            out.append(as_tensor(x, dtype=d))
        else:
            out.append(_tensor(x, beside))
    return tree.unflatten(structure, out)


def _look(a: Aval) -> str:
    return f"{a.dtype.name}[{','.join(map(str, a.shape))}]"


def _same(what: str, name: str, before: _Nest, structure: Any, after: Sequence[Aval], avals: Sequence[Aval]) -> None:
    """A carry keeps its structure, shapes and dtypes from turn to turn."""
    head = (f"{what} body function carry input and carry output must have the same pytree structure, but they differ:\n")
    if structure != before.structure:
        raise explain(TypeError(f"{head}The input carry {name} is a {_shape_of(before.structure)} but the corresponding "
                                f"component of the carry output is a {_shape_of(structure)}."))
    wrong = []
    for path, old, new in zip(before.paths, avals, after):
        if old.shape != new.shape or old.dtype is not new.dtype:
            differs = {"shapes": old.shape != new.shape, "dtypes": old.dtype is not new.dtype}
            which = " and ".join([w for w, d in differs.items() if d])
            wrong.append(f"The input carry component {name}{path} has type {_look(old)} but the corresponding output carry "
                         f"component has type {_look(new)}, so the {which} do not match.")
    if wrong:
        raise explain(TypeError(f"{what} body function carry input and carry output must have equal types (e.g. shapes and "
                                "dtypes of arrays), but they differ:\n" + "\n".join(wrong)),
                      hint="make the first carry and what the body returns of one shape and dtype")


def _shape_of(structure: Any) -> str:
    kind = structure[0]
    if kind == "leaf":
        return "tensor"
    if kind is None:
        return "None"
    return f"{kind.__name__} of {len(structure[-1])}"


# ---------------------------------------------------------------- scan
def scan(f: Callable[..., Any], init: Any, xs: Any = None, length: int | None = None, reverse: bool = False) -> tuple[Any, Any]:
    """A loop that carries a value and stacks another: `carry, y = f(carry, x)` for each slice x of `xs` along its first axis.

    Returns the last carry and the stacked y, both nests as `f` gives them.  `xs` is a tensor, a nest of tensors of one length,
    or None (then `length` says how many turns).  reverse: from the last slice to the first; y stand where their x stood.
    The body is recorded once and compiled as one real loop: 10,000 turns compile as fast as 10.  Gradients run another loop
    backwards over what the turns left; sums over turns (of a weight's gradient) are carried along and not stored by turn.
    TypeError if the carry changes structure, shape or dtype; ValueError if lengths differ.

    >>> import autojit as aj
    >>> aj.scan(lambda c, x: (c + x, c * x), aj.tensor(0.0), aj.tensor([1.0, 2.0, 3.0]))
    (tensor(6.), tensor([0., 2., 9.]))
    """
    if not callable(f):
        raise explain(TypeError(f"scan takes a function, not {type(f).__name__}"))
    beside = float_beside([*tree.flatten(init)[0], *tree.flatten(xs)[0]])
    carry, slices = _Nest(init, beside), _Nest(xs, beside)
    turns = _length(slices, length)

    def body(c: Any, x: Any) -> Any:
        new, y = _pair("scan", f(c, x))
        return _as_tensors(new, carry.tensors), _as_tensors(y)

    return _scanned("scan", body, "carry", carry, slices, turns, reverse)  # type: ignore[no-any-return]


def _length(xs: _Nest, length: int | None) -> int:
    found = []
    for path, t in zip(xs.paths, xs.tensors):
        if not t.aval.shape:
            raise explain(ValueError(f"scan got a value with no leading axis: xs{path} has no dimensions"))
        found.append(t.aval.shape[0])
    if length is not None:
        if type(length) is not int or length < 0:
            raise explain(TypeError(f"scan's length must be a non-negative int, not {length!r}"))
        for path, n in zip(xs.paths, found):
            if n != length:
                raise explain(ValueError(f"scan got `length` argument of {length} which disagrees with leading axis sizes: "
                                         f"xs{path} has {n}"))
        return length
    if not found:
        raise explain(ValueError("scan got no values to scan over and `length` not provided."))
    if len(set(found)) > 1:
        raise explain(ValueError("scan got values with different leading axis sizes: " + ", ".join(map(str, found)) + "."))
    return found[0]


def _scanned(what: str, f: Callable[..., Any], name: str, carry: _Nest, xs: _Nest, turns: int, reverse: bool,
             start_at: int | None = None) -> Any:
    """`start_at`: the only x is the number of the turn, from this one on."""
    avals = [*[t.aval for t in carry.tensors], *[aval(t.aval.shape[1:], t.aval.dtype, t.aval.device) for t in xs.tensors]]
    tensors = [*carry.tensors, *xs.tensors]
    body = _Body(what, f, (tuple, (carry.structure, xs.structure)), tensors, avals, start_at is not None)
    n = len(carry.tensors)
    new, ys = body.r.structure[1]
    wider = _wider(carry, body, new)
    if wider:
        carry.tensors, carry.weak = wider, [False] * n
        return _scanned(what, f, name, carry, xs, turns, reverse, start_at)
    _same(what, name, carry, new, [o.aval for o in body.r.outputs[:n]], avals)
    if turns == 0:
        stacked = [zeros((0, *o.shape), dtype=o.dtype, device=body.device) for o in body.r.outputs[n:]]
        return tree.unflatten(carry.structure, carry.tensors), tree.unflatten(ys, stacked)
    made = _placed_scan(what, body, n, turns, reverse, start_at)
    kind = kind_of([*carry.kinds, *xs.kinds])
    return tree.unflatten(carry.structure, [shown(t, kind) for t in made[:n]]), \
        tree.unflatten(ys, [shown(t, kind) for t in made[n:]])


def _wider(carry: _Nest, body: _Body, structure: Any) -> list[Tensor]:
    """The first carry in the dtypes that the body gives; empty if they are these.  A number of Python's has no dtype."""
    if structure != carry.structure:
        return []
    outs = body.r.outputs[:len(carry.tensors)]
    differ = [weak and o.dtype is not t.aval.dtype and o.shape == t.aval.shape
              for weak, t, o in zip(carry.weak, carry.tensors, outs)]
    return [t.to(o.dtype) if d else t for t, o, d in zip(carry.tensors, outs, differ)] if any(differ) else []


def _placed_scan(what: str, body: _Body, carries: int, turns: int, reverse: bool, start_at: int | None) -> list[Tensor]:
    own, ends, checks = _watched(body)
    fixed = _invariant([*own, *ends], body.moving)
    start, xs = body.arguments[:carries], body.arguments[carries:]
    guards, first, worst = _guards(ends, checks)
    if start_at is not None:                              # the number of a turn is carried, not read from memory
        (number,), xs = xs, []
        guards, first, worst = [*guards, number], [*first, const(start_at, int64)], [*worst, P.add(number, const(1, int64))]
    if body.turn is not None:
        guards, first, worst = [*guards, body.turn], [*first, const(0, int64)], [*worst, P.add(body.turn, const(1, int64))]
    stand: dict[Node, Node] = {n: placeholder(n.aval) for n in fixed}
    outs = substitute([*own[:carries], *worst, *own[carries:]], dict(stand))
    spec = scan_spec(Graph([*stand.values(), *start, *guards, *xs], outs), turns, len(fixed), carries + len(guards), reverse)
    stacks = {placeholder(body.known[x].aval): body.known[x] for x in xs}
    inputs, known = (*fixed, *start, *first, *stacks), body.known | stacks
    calls = [node(SCAN, inputs, (spec, k)) for k in range(len(spec.avals))]
    _look_after(body, checks, calls[carries:carries + len(guards)], known)
    return place(what, [*calls[:carries], *calls[carries + len(guards):]], known, body.r.needs)


def _guards(ends: Sequence[Node], checks: Sequence[Any]) -> tuple[list[Node], list[Node], list[Node]]:
    """Carries for the least and greatest of places: what they are in a turn, at first, and after it."""
    guards = [placeholder(e.aval) for e in ends]
    first = [const(c.lowest, c.index.dtype) for c in checks for _ in range(2)]
    return guards, first, [(P.maximum if k % 2 else P.minimum)(g, e) for k, (g, e) in enumerate(zip(guards, ends))]


def _look_after(body: _Body, checks: Sequence[Any], ends: Sequence[Node], known: dict[Node, Any]) -> None:
    """Raise what is due for the places that the turns computed."""
    of = {c.index: P.concat([P.reshape(e, (1,)) for e in ends[2 * k:2 * k + 2]], 0) for k, c in enumerate(checks)}
    body.r.check(lambda nodes: [of.get(n, n) for n in nodes], known)


def _watched(body: _Body) -> tuple[list[Node], list[Node], list[Any]]:
    """Places that a turn computes are kept inside their axis, since native code does not look; their least and greatest are
    carried out of the loop and looked at there.  The results so changed, the least and greatest, and what asks for them."""
    moving = set(body.moving)
    checks = [c for c in body.r.checks if c.index.aval.size and not moving.isdisjoint(linearise([c.index]))]
    nodes = [*body.r.outputs, *[e for c in checks for e in c.ends(c.index)]]
    for c in checks:
        n = c.index
        low, high = (P.expand(P.reshape(const(k, n.dtype), (1,) * n.ndim), n.shape) for k in (c.lowest, c.end - 1))
        kept = P.minimum(P.maximum(n, low), high)
        if c.ignore is not None:
            kept = P.where(P.eq(n, full(c.ignore, n.shape, n.dtype)), n, kept)
        own = substitute(nodes[:len(body.r.outputs)], {n: kept})
        nodes[:len(own)] = own
    count = len(body.r.outputs)
    return nodes[:count], nodes[count:], checks


# ---------------------------------------------------------------- while_loop
def while_loop(cond_fun: Callable[..., Any], body_fun: Callable[..., Any], init_val: Any) -> Any:
    """`val = body_fun(val)` as long as `cond_fun(val)`; the last `val`, a nest of tensors.

    `cond_fun` gives one bool.  Both are recorded once and compiled as one real loop.  Gradients, of any order, turn forward
    again and keep what the way back reads, in memory made for as many turns as there were (MemoryError if there is none).
    TypeError if `val` changes structure, shape or dtype, or if cond_fun gives anything but one bool.

    >>> import autojit as aj
    >>> aj.while_loop(lambda v: v < 100, lambda v: v * 3, aj.tensor(1.0))
    tensor(243.)
    """
    for f in (cond_fun, body_fun):
        if not callable(f):
            raise explain(TypeError(f"while_loop: cond_fun and body_fun should be callable, not {type(f).__name__}"))
    carry = _Nest(init_val, float_beside(tree.flatten(init_val)[0]))
    avals = [t.aval for t in carry.tensors]
    structure = (tuple, (carry.structure,))
    body = _Body("while_loop", lambda v: _as_tensors(body_fun(v), carry.tensors), structure, carry.tensors, avals)
    new = body.r.structure
    wider = _wider(carry, body, new)
    if wider:
        return while_loop(cond_fun, body_fun, tree.unflatten(carry.structure, wider))
    _same("while_loop", "val", carry, new, [o.aval for o in body.r.outputs], avals)
    test = _Body("while_loop", lambda v: _asked(cond_fun(v)), structure, carry.tensors, avals)
    if any([not set(test.moving).isdisjoint(linearise([c.index])) for c in test.r.checks]):
        raise explain(RuntimeError("while_loop: cond_fun looks something up at a place that the loop computes"),
                      hint="look it up in body_fun, and carry what was found")
    test.r.check(list, test.known)
    made = _placed_while(body, test)
    return tree.unflatten(carry.structure, [shown(t, kind_of(carry.kinds)) for t in made])


def _asked(flag: Any) -> Tensor:
    if isinstance(flag, bool):
        return as_tensor(flag)
    if not isinstance(flag, Tensor) or flag.aval.shape or flag.aval.dtype is not bool_:
        found = _look(flag.aval) if isinstance(flag, Tensor) else repr(flag)
        raise explain(TypeError(f"cond_fun must return a boolean scalar, but got output type(s) [{found}]."))
    return flag


def _placed_while(body: _Body, test: _Body) -> list[Tensor]:
    own, ends, checks = _watched(body)
    turns = body.turn if body.turn is not None else placeholder(aval((), int64))
    asked = substitute(test.r.outputs, dict(zip(test.moving, [*body.arguments, turns])))
    fixed = _invariant([*own, *ends, *asked], [*body.arguments, turns])
    guards, first, worst = _guards(ends, checks)
    stand: dict[Node, Node] = {n: placeholder(n.aval) for n in fixed}
    known = test.known | body.known
    takes = [*stand.values(), *body.arguments, *guards, turns]             # the count: for random numbers and a reverse pass
    outs = [*own, *worst, P.add(turns, const(1, int64))]
    spec = while_spec(Graph(takes, substitute(asked, dict(stand))), Graph(takes, substitute(outs, dict(stand))), len(fixed))
    calls = [node(WHILE, (*fixed, *body.arguments, *first, const(0, int64)), (spec, k)) for k in range(len(spec.avals))]
    _look_after(body, checks, calls[len(own):-1], known)
    return place("while_loop", calls[:len(own)], known, body.r.needs)


# ---------------------------------------------------------------- fori_loop
def fori_loop(lower: Any, upper: Any, body_fun: Callable[..., Any], init_val: Any) -> Any:
    """`val = body_fun(i, val)` for i from `lower` to `upper` - 1; the last `val`.

    i is an int64 tensor without dimensions.  With ints as bounds it is `scan` over the numbers, with all that is said there;
    with an integer tensor it is a `while_loop`.
    TypeError if `val` changes structure, shape or dtype, or a bound is no integer.

    >>> import autojit as aj
    >>> aj.fori_loop(0, 5, lambda i, v: v + i, aj.tensor(0.0))
    tensor(10.)
    """
    for name, k in (("lower", lower), ("upper", upper)):
        whole = isinstance(k, Tensor) and not k.aval.shape and k.aval.dtype.category < FLOAT and k.aval.dtype is not bool_
        if type(k) is not int and not whole:
            found = _look(k.aval) if isinstance(k, Tensor) else type(k).__name__
            raise explain(TypeError(f"lower and upper arguments to fori_loop must be integers, got {found} for {name}"))
    if isinstance(lower, Tensor) or isinstance(upper, Tensor):
        start, end = [as_tensor(k, dtype=int64) if type(k) is int else k.to(int64) for k in (lower, upper)]
        return while_loop(lambda v: v[0] < end, lambda v: (v[0] + 1, body_fun(*v)), (start, init_val))[1]
    carry = _Nest(init_val, float_beside(tree.flatten(init_val)[0]))
    turns = max(upper - lower, 0)
    numbers = _Nest(arange(lower, lower + turns, dtype=int64), None)

    def body(c: Any, i: Any) -> Any:
        return _as_tensors(body_fun(i, c), carry.tensors), None

    numbers.kinds = []                                    # nothing of the caller's
    return _scanned("fori_loop", body, "val", carry, numbers, turns, False, lower)[0]


# ---------------------------------------------------------------- cond
def cond(pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any) -> Any:
    """`true_fun(*operands)` if `pred`, else `false_fun(*operands)`: both are recorded, one runs.

    `pred` is a bool, or a tensor or number with one element; results of both have one structure, and equal shapes and dtypes.
    TypeError if they have not, or if pred is no such scalar.  The gradient flows through the side that ran.

    >>> import autojit as aj
    >>> aj.cond(aj.tensor(2.0) > 1, lambda x: x * 10, lambda x: -x, aj.tensor(3.0))
    tensor(30.)
    """
    for f in (true_fun, false_fun):
        if not callable(f):
            raise explain(TypeError(f"cond: true_fun and false_fun arguments should be callable, not {type(f).__name__}"))
    choice = _predicate(pred)
    given = _Nest(operands, float_beside(tree.flatten(operands)[0]))
    avals = [t.aval for t in given.tensors]
    sides = [_Side(f, given, avals) for f in (true_fun, false_fun)]
    _alike(*sides)
    if choice.aval.device not in ("cpu", sides[0].device):
        choice = choice.to(sides[0].device)
    shared = sides[0].arguments
    env: dict[Node, Node] = dict(zip(sides[1].arguments, shared))
    outs = [sides[0].r.outputs, substitute(sides[1].r.outputs, env)]
    test = placeholder(choice.aval)
    known = sides[0].known | sides[1].r.outside | {test: choice}
    sides[0].r.check(list, known)
    sides[1].r.check(lambda nodes: substitute(nodes, dict(zip(sides[1].arguments, shared))), known)
    inputs = _leaves([*outs[0], *outs[1]])
    spec = branch_spec(*[Graph(inputs, o) for o in outs])
    calls = [node(BRANCH, (test, *inputs), (spec, k)) for k in range(len(spec.avals))]
    needs = [a or b for a, b in zip(sides[0].r.needs, sides[1].r.needs)]
    made = place("cond", calls, known, needs) if calls else []
    kind = kind_of([*given.kinds, *([Tensor] if isinstance(pred, Tensor) and not given.kinds else [])])
    return sides[0].r.nest([shown(t, kind) for t in made])


class _Side(_Body):
    """One side of a cond."""

    def __init__(self, f: Callable[..., Any], given: _Nest, avals: Sequence[Aval]) -> None:
        self.name = function_name(f)
        super().__init__("cond", lambda *args: _as_tensors(f(*args)), given.structure, given.tensors, avals)


def _predicate(pred: Any) -> Tensor:
    if isinstance(pred, (bool, int, float)):
        return as_tensor(bool(pred))
    if not isinstance(pred, Tensor):
        raise explain(TypeError(f"Pred must be a scalar, got {pred!r} of type {type(pred)}"))
    if pred.aval.shape:
        raise explain(TypeError(f"Pred must be a scalar, got {_look(pred.aval)} with shape {pred.aval.shape}."),
                      hint="aj.where chooses element by element")
    return pred if pred.aval.dtype is bool_ else pred != 0  # type: ignore[return-value]


def _alike(yes: _Side, no: _Side) -> None:
    if yes.r.structure != no.r.structure:
        raise explain(TypeError(f"true_fun output must have same type structure as false_fun output, but they differ: "
                                f"{_shape_of(yes.r.structure)} and {_shape_of(no.r.structure)}"))
    nests = [tree.unflatten(s.r.structure, s.r.outputs) for s in (yes, no)]
    wrong = [f"the output{path} of true_fun has type {_look(a.aval)} but that of false_fun has type {_look(b.aval)}"
             for (path, a), (_, b) in zip(*map(_paths, nests)) if (a.shape, a.dtype) != (b.shape, b.dtype)]
    if wrong:
        raise explain(TypeError("cond branches must have equal output types but they differ:\n" + "\n".join(wrong)))
