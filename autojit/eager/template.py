"""Templates: what one public op does to one kind of arguments, worked out once on placeholders.

In: an op, avals, static values, which arguments need a gradient.  Out: `Template`: how to build the result (a Recipe), what
its rule reads, how to build cotangents.  There is one placeholder for each argument *position*, so nothing inside can be
confused with what the user passed (`x * x.detach()` has one node twice).  Never sees a value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from ..autodiff.vjp import Cotangent, masked, reverse_masked
from ..dtypes import COMPLEX, DEPENDENT, FLOAT, DType, bool_, default_float, float32
from ..errors import NoDerivative, explain
from ..ir.aval import Aval, aval
from ..ir.graph import Node, linearise, node, placeholder, substitute
from ..ir.primitive import BUFFER, ELEMENTWISE, LEAF, PARTS, PLACEHOLDER, TRANSFER, Primitive
from ..ir.recipe import Recipe
from ..ops.declare import cast, spread
from ..ops.placement import placed
from ..rewrite.half import widened
from .placing import check_kernels, together

Chain = tuple[tuple[Primitive, tuple[Any, ...]], ...]     # the movement steps from a storage to what a tensor shows of it


class Rule:
    """What stands in for a public op where there is none: a primitive under `create_graph`, a rebuilt view."""

    __slots__ = ("name", "fn", "grad_name", "reads_nothing", "across")

    vjp = None
    view = False
    returns = None

    def __init__(self, name: str, fn: Any, grad_name: str, across: bool = False) -> None:
        """`across`: it takes arguments that lie on several devices."""
        self.name, self.fn, self.grad_name, self.across = name, fn, grad_name, across

    def call(self, nodes: Sequence[Node], static: Sequence[Any]) -> Any:
        return self.fn(*nodes, *static)

    def label(self, static: Sequence[Any], nodes: Sequence[Any] = (), number: bool = False) -> str:
        return self.grad_name

    def __repr__(self) -> str:
        return f"<rule {self.name}>"


def along(n: Node, chain: Chain) -> Node:
    """`n` seen through a view chain."""
    for prim, params in chain:
        n = node(prim, (n,), params)
    return n


AS_VIEW = Rule("as_view", along, "AsStridedBackward0")
CLONE = Rule("clone", lambda n: n, "CloneBackward0")
CONTIGUOUS = Rule("contiguous", lambda n: n, "CloneBackward0")
ALIAS = Rule("alias", lambda n: n, "AliasBackward0")

_PRIMITIVES: dict[Primitive, Rule] = {}
_TORCH_NAMES = {"slice": "SliceBackward0", "reshape": "ViewBackward0", "permute": "PermuteBackward0", "matmul": "MmBackward0",
                "expand": "ExpandBackward0", "cast": "ToCopyBackward0", "powi": "PowBackward0", "concat": "CatBackward0"}


def primitive_rule(prim: Primitive) -> Rule:
    """A primitive as an op: what templates are replayed with under `create_graph`."""
    rule = _PRIMITIVES.get(prim)
    if rule is None:
        def fn(*more: Any) -> Node:
            k = 0
            while k < len(more) and type(more[k]) is Node:
                k += 1
            return node(prim, tuple(more[:k]), tuple(more[k:]))
        name = _TORCH_NAMES.get(prim.name) or "".join([w.capitalize() for w in prim.name.split("_")]) + "Backward0"
        rule = _PRIMITIVES[prim] = Rule(prim.name, fn, name, prim.kind == TRANSFER)
    return rule


class Pull:
    """The reverse of a template for one pattern of cotangents.  Arguments of its recipe: the cotangents that are there,
    then their masks, then what the rule reads.  `places`: for each argument of the op None, or where in the recipe's
    results its cotangent stands, and its mask (or None)."""

    __slots__ = ("recipe", "places")

    def __init__(self, recipe: Recipe, places: list[tuple[int, int | None] | None]) -> None:
        self.recipe, self.places = recipe, places

    def spread(self, results: Sequence[Any]) -> list[Any]:
        """(cotangent, mask) or None for each argument of the op."""
        return [None if p is None else (results[p[0]], None if p[1] is None else results[p[1]]) for p in self.places]


class Template:
    """op: with `call`, `label`, `vjp` (see ops.declare).  into: the result takes the shape and dtype of the first argument.
    outs: avals of the results.  reads: what the rule looks at: an argument's position, or ~k for the k-th result.
    chains: for a view op the chain of each result, else None.  records: a call has a place in the tape (a float comes out).
    given: the placeholders as the op sees them.  half: there are halves, and what the op makes of them is computed in float32
    and rounded once.  paired: an argument is complex, and the primitives' rules count, not the op's own.  pointwise: torch
    gives the result the memory order of the operands.  device: where it is computed."""

    __slots__ = ("op", "static", "needs", "into", "forward", "outs", "single", "label", "reads", "chains", "placeholders",
                 "results", "_pulls", "taken", "records", "pointwise", "device", "given",
                 "half", "paired")

    def __init__(self, op: Any, avals: Sequence[Aval | None], static: tuple[Any, ...], needs: tuple[bool, ...],
                 into: bool, number: bool) -> None:
        self.op, self.static, self.needs, self.into = op, static, needs, into
        self.placeholders = [None if a is None else placeholder(a) for a in avals]
        self.device, arguments = together(op, self.placeholders, number, into)
        self.half, self.given = _halves(avals, static), self.placeholders
        self.paired = any([a is not None and a.dtype.category == COMPLEX for a in avals])
        if self.half and number:
            arguments, self.given = _weak(arguments), _weak(self.placeholders)
        result = op.call(arguments, static)
        self.single = type(result) is Node
        outs = [result] if self.single else list(result)
        if self.device != "cpu" and not op.across:
            outs = [placed(o, self.device) for o in outs]
        if into:
            outs = [_fitted(outs[0], avals[0])]  # type: ignore[arg-type]
        if self.half:
            outs = widened(outs)
        self.results = outs
        self.forward = Recipe([p for p in self.placeholders if p is not None], outs)
        self.outs = tuple([o.aval for o in outs])
        self.label = op.label(static, self.placeholders, number)
        self.chains = [chain_to(o, self.placeholders[0]) for o in outs] if op.view else None  # type: ignore[arg-type]
        self._pulls: dict[tuple[Any, ...], Pull] = {}
        self.reads: tuple[int, ...] = ()
        self.taken: tuple[Node, ...] = ()
        kinds = [prim.kind for prim, _, _, _ in self.forward.steps if prim.name not in ("expand", "reshape")]
        self.pointwise = self.single and all([k == ELEMENTWISE or k == PARTS for k in kinds]) and (bool(kinds) or op is CLONE)
        self.records = any([a.dtype.category >= FLOAT for a in self.outs])
        if self.device != "cpu":
            check_kernels(self.device, self.forward.steps, f"{op.name}()")
        if any(needs):
            try:
                self._differentiate()
            except NoDerivative:                          # `pull` says so
                self.reads = ()

    def _differentiate(self) -> None:
        """The rule for cotangents of all results: it says what is read."""
        outs = [placeholder(a) for a in self.outs]
        cts = [placeholder(a) if a.dtype.category >= FLOAT else None for a in self.outs]
        grads = self._grads([None if c is None else (c, None) for c in cts], outs)
        reached = _leaves([n for g in grads if g is not None for n in g if n is not None])
        reads = [k for k, p in enumerate(self.placeholders) if p in reached]
        results = [~k for k, o in enumerate(outs) if o in reached]
        self.reads = tuple(reads + results)
        given = [p for k, p in enumerate(self.placeholders) if p is not None and k in reads]
        self.taken = (*given, *[outs[~k] for k in results])
        self.results = [*self.results, *outs]             # values, then what rules see in their place
        self._pulls[tuple([None if c is None else False for c in cts])] = self._recipe(cts, [None] * len(cts), grads)

    def _grads(self, cts: list[Cotangent | None], known: list[Node]) -> list[Cotangent | None]:
        outs = self.results[:len(self.outs)]
        wanted: list[Any] = [p for p, need in zip(self.placeholders, self.needs) if need]
        if self.op.vjp is not None and not self.into and not self.paired:
            bare = [None if c is None else c[0] for c in cts]
            if self.single:
                found = self.op.pull(bare[0], known[0], self.given, self.static)
            else:
                found = self.op.pull(tuple(bare), tuple(known), self.given, self.static)
            pulled = [None if g is None or not need else masked(g) for g, need in zip(found, self.needs)]
            return _widened(pulled) if self.half else pulled
        known_as = {o: k for o, k in zip(outs, known) if o.prim.kind != LEAF}
        if self.half:                                     # a rule that reads the result reads the rounded one
            known_as |= {o.inputs[0]: cast(k, o.inputs[0].dtype) for o, k in known_as.items()
                         if o.op == "cast" and o.inputs[0].prim.kind != LEAF}
        grads = self._by_results(reverse_masked(outs, cts, wanted, known_as), known_as)
        return [next(grads) if need else None for need in self.needs]

    def _by_results(self, grads: Sequence[Cotangent | None], known: dict[Node, Node]) -> Iterator[Cotangent | None]:
        """Where a rule computes again a result that is an index (of max, of sort), it reads that result, as torch's does."""
        indices = {o: k for o, k in known.items() if o.dtype.category < FLOAT} if len(self.outs) > 1 else {}
        for g in grads:
            if g is None or not indices:
                yield g
            else:
                there = [n for n in g if n is not None]
                yield (*substitute(there, dict(indices)), *[None] * (2 - len(there)))  # type: ignore[misc]

    def pull(self, pattern: tuple[Any, ...]) -> Pull:
        """The reverse for cotangents of this pattern: for each result None (none came), False (plain) or True (masked)."""
        p = self._pulls.get(pattern)
        if p is None:
            p = self._pulls[pattern] = self._make_pull(pattern)
        return p

    def _make_pull(self, pattern: tuple[Any, ...]) -> Pull:
        known = self.results[len(self.outs):]
        cts = [None if w is None else placeholder(a) for w, a in zip(pattern, self.outs)]
        masks = [placeholder(aval(a.shape, bool_, a.device)) if w else None for w, a in zip(pattern, self.outs)]
        return self._recipe(cts, masks, self._grads([None if c is None else (c, m) for c, m in zip(cts, masks)], known))

    def _recipe(self, cts: Sequence[Node | None], masks: Sequence[Node | None], grads: Sequence[Cotangent | None]) -> Pull:
        """`grads` as a function of the cotangents and masks that come, and of what the rule reads."""
        flat: list[Node] = []
        places: list[tuple[int, int | None] | None] = []
        for g in grads:
            if g is None:
                places.append(None)
                continue
            flat.append(g[0])
            if g[1] is not None:
                flat.append(g[1])
            places.append((len(flat) - 1, None) if g[1] is None else (len(flat) - 2, len(flat) - 1))
        arguments = [c for c in cts if c is not None] + [m for m in masks if m is not None] + list(self.taken)
        recipe = Recipe(arguments, flat)
        if self.device != "cpu":
            check_kernels(self.device, recipe.steps, f"the gradient of {self.op.name}()")
        return Pull(recipe, places)


def _halves(avals: Sequence[Aval | None], static: tuple[Any, ...]) -> bool:
    """Do halves come into this call?"""
    for a in avals:
        if a is not None and a.dtype.half:
            return True
    return default_float().half or any([type(v) is DType and v.half for v in static])


def _weak(given: Sequence[Node | None]) -> list[Node | None]:
    """A Python number beside half tensors comes as float32 and counts as half; its digits are kept (`rewrite.half`)."""
    floats = [p for p in given if p is not None and p.dtype.category == FLOAT]
    kinds = {p.dtype for p in floats if p.dtype.half}
    if len(kinds) != 1 or any([p.shape or p.dtype is not float32 for p in floats if not p.dtype.half]):
        return list(given)
    (d,) = kinds
    return [cast(p, d) if p is not None and p.dtype is float32 else p for p in given]


def _widened(grads: Sequence[Cotangent | None]) -> list[Cotangent | None]:
    """Cotangents of halves, rounded once."""
    values = iter(widened([g[0] for g in grads if g is not None]))
    return [None if g is None else (next(values), g[1]) for g in grads]


def _fitted(n: Node, to: Aval) -> Node:
    """What an in-place op leaves in memory: its result in the memory's dtype and shape.  RuntimeError in torch's words."""
    if n.dtype is not to.dtype:
        if n.dtype.category > to.dtype.category:
            raise RuntimeError(f"result type {scalar_type(n.dtype)} can't be cast to the desired output type "
                               f"{scalar_type(to.dtype)}")
        n = cast(n, to.dtype)
    if n.shape != to.shape:
        lead = len(to.shape) - len(n.shape)
        if lead < 0 or any(m not in (1, k) for m, k in zip(n.shape, to.shape[lead:])):
            raise RuntimeError(f"output with shape {list(to.shape)} doesn't match the broadcast shape {list(n.shape)}")
        n = spread(n, to.shape)
    return n


_SCALAR_TYPES = {"bool": "Bool", "uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int", "int64": "Long",
                 "float16": "Half", "bfloat16": "BFloat16", "float32": "Float", "float64": "Double",
                 "complex64": "ComplexFloat", "complex128": "ComplexDouble"}


def scalar_type(d: DType) -> str:
    """torch's inner name of a dtype: Float, Long ..."""
    return _SCALAR_TYPES.get(d.name, d.name)


def _leaves(nodes: Sequence[Node]) -> set[Node]:
    return {n for n in linearise(nodes) if n.prim is PLACEHOLDER or n.prim is BUFFER}


def chain_to(n: Node, start: Node) -> Chain:
    """The movement steps that lead from `start` to `n`."""
    steps = []
    while n is not start:
        steps.append((n.prim, n.params))
        (n,) = n.inputs
    return tuple(reversed(steps))


TEMPLATES: dict[Any, Template] = {}
DEPENDENT.append(TEMPLATES.clear)
KEPT = 20_000                                             # templates that are remembered


def template(op: Any, avals: tuple[Aval | None, ...], static: tuple[Any, ...], needs: tuple[bool, ...] = (),
             into: bool = False, number: bool = False) -> Template:
    """The template for these kinds of arguments (None: not given); made, with all checks of shapes and dtypes, at the first
    call.  into: the result is written to the first argument.  number: an argument was a Python number."""
    bits = sum([1 << k for k, need in enumerate(needs) if need])
    key = (op, static and fingerprint(static), bits, into, number, *avals)
    return TEMPLATES.get(key) or make_template(key, op, avals, static, needs, into, number)


def make_template(key: Any, op: Any, avals: Sequence[Aval | None], static: tuple[Any, ...], needs: tuple[bool, ...], into: bool,
                  number: bool) -> Template:
    """A new template, kept under `key`: (op, fingerprint of static, needs as bits, into, number, *avals)."""
    try:
        t = Template(op, avals, static, needs, into, number)
    except Exception as e:
        if not hasattr(e, "__notes__"):
            explain(e)                                    # the user's line
        raise
    if len(TEMPLATES) >= KEPT:
        TEMPLATES.clear()
    TEMPLATES[key] = t
    return t


_LASTING: dict[int, tuple[Any, Any]] = {}


def lasting(static: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same static values, which will come again as this very object: their key is worked out once."""
    if len(_LASTING) < KEPT:
        _LASTING[id(static)] = (static, fingerprint(static))
    return static


def key_of(static: tuple[Any, ...]) -> Any:
    """Static values as a dictionary key."""
    if not static:
        return static
    known = _LASTING.get(id(static))
    return known[1] if known is not None and known[0] is static else fingerprint(static)


def fingerprint(v: Any) -> Any:
    """A static value as a dictionary key: 1, 1.0 and True are three keys, -0.0 and 0.0 two, and NaN is found again."""
    kind = type(v)
    if kind is int or v is None or kind is str or kind is DType:
        return v
    if kind is tuple:
        return tuple([fingerprint(i) for i in v])
    if kind is float:
        return (float, struct.pack("d", v))
    if kind is bool:
        return (bool, v)
    if kind is dict:
        return (dict, tuple([(k, fingerprint(x)) for k, x in v.items()]))
    return v
