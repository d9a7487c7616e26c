"""The scalar DAG: what one element is computed from.  Hash-consed, with the algebra of signs and sums.

In: primitives over scalars, loads at indices.  Out: `E` nodes; equal scalars are one object, so that sharing and merging
of loops follow by identity.  Every rewrite here keeps NaN, Inf and denormals; the sign of a zero is kept everywhere but
under a sum, which cannot see it.  Never recurses over the DAG, never knows graphs or loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import BOOL, FLOAT, DType, bool_, int64
from ..ir.primitive import REGISTRY
from .index import Ix, Range, Space
from .loops import Buffer

RED_COST = 1000                    # a reduction is never recomputed inside a loop
LONG = 64                          # turns of a loop from which a reciprocal of its invariant pays

_EVEN = {"abs", "cos", "cosh"}
_ODD = {"sin", "tan", "tanh", "sinh", "asin", "atan", "asinh", "atanh", "erf"}
_BLIND = {"exp", "sqrt", "log", "log1p", "expm1", "sigmoid", "exp2"} | _EVEN | _ODD    # blind to the sign of a zero


class TooMuch(Exception):
    """A group of nodes that would be computed at too many places: it is to be cut."""


class E:
    """One scalar: load, const, index, inside, red, or an elementwise primitive.  `free`: the ranges it varies with;
    `own`, `cost`: operations of its own, and in all if its reductions are ready; `chain`: dependent reductions below it;
    `turned`: it may have another form once the sign of zeros does not matter; `uses`: scalars made of it so far."""

    __slots__ = ("op", "args", "params", "dtype", "free", "own", "cost", "chain", "id", "turned", "uses")

    op: str
    args: tuple[E, ...]
    params: tuple[Any, ...]
    dtype: DType
    free: int
    own: int
    cost: int
    chain: int
    id: int
    turned: bool
    uses: int

    def __repr__(self) -> str:
        return f"<{self.op} {self.id} {self.dtype.code}>"


class Scalars:
    """The scalars of one group of kernels, over one `Space` of indices."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._table: dict[Any, E] = {}
        self._canonical: dict[E, tuple[bool, E]] = {}
        self.most = 1 << 60                                # scalars, above which TooMuch is raised
        self.tries = 0                                     # splits that are left for the sum that is being built

    # ------------------------------------------------------------------ nodes
    def make(self, op: str, args: tuple[E, ...], params: tuple[Any, ...], dtype: DType, free: int = 0, own: int = 1) -> E:
        key = (op, args, params, dtype)
        e = self._table.get(key)
        if e is None:
            if len(self._table) > self.most:
                raise TooMuch
            e = self._table[key] = E()
            e.op, e.args, e.params, e.dtype, e.own, e.id = op, args, params, dtype, own, len(self._table)
            cost, chain, turned, e.uses = own, 0, op == "neg", 0
            for a in args:
                a.uses += 1
                free |= a.free
                cost += a.cost
                if a.chain > chain:
                    chain = a.chain
                turned = turned or a.turned
            if op == "sub" and not turned:
                turned = ("sub", (args[1], args[0]), params, dtype) in self._table
            e.free, e.chain, e.turned = free, chain, turned
            e.cost = 1 if op == "red" else min(cost, 1 << 40)
        return e

    def known(self, op: str, args: tuple[E, ...], params: tuple[Any, ...], dtype: DType) -> E | None:
        """The scalar if it is already there."""
        return self._table.get((op, args, params, dtype))

    def const(self, value: Any, dtype: DType) -> E:
        data = dtype.number(value)
        key = ("const", data.tobytes(), dtype)
        e = self._table.get(key)
        if e is None:
            e = self._table[key] = E()
            e.op, e.args, e.params, e.dtype, e.own, e.id = "const", (), (data,), dtype, 0, len(self._table)
            e.free = e.cost = e.chain = e.uses = 0
            e.turned = False
        return e

    def load(self, buffer: Buffer, index: tuple[Ix, ...], shape: tuple[int, ...], guard: tuple[Any, ...]) -> E:
        """buffer[index], or zero where a condition of the guard fails.  A guard that is not needed goes."""
        free, data, safe = 0, [], True
        for ix, n in zip(index, shape):
            free |= ix.free
            safe = safe and 0 <= ix.lo and ix.hi < n and not ix.data
            data += [d for d in ix.data if d not in data]
        if guard and safe:
            guard = ()
        for ix, _ in guard:
            free |= ix.free
            data += [d for d in ix.data if d not in data]
        return self.make("load", tuple(data), (buffer, index, shape, guard), buffer.dtype, free, 1)

    def index(self, ix: Ix) -> E:
        if not ix.terms:
            return self.const(int(ix.const), int64)
        return self.make("index", ix.data, (ix,), int64, ix.free, 1)

    def inside(self, guard: tuple[Any, ...]) -> E:
        """Do all conditions hold?"""
        free, data = 0, []
        for ix, _ in guard:
            free |= ix.free
            data += [d for d in ix.data if d not in data]
        return self.make("inside", tuple(data), (guard,), bool_, free, 1)

    # ------------------------------------------------------------------ elementwise
    def apply(self, op: str, args: Sequence[E], params: tuple[Any, ...], dtype: DType) -> E:
        """op(args), simplified where the result is the same number."""
        for a in args:
            if a.op != "const":
                break
        else:
            if op != "where" and not dtype.half:
                return self._fold(op, args, params, dtype)
        rule = _RULES.get(op)
        if rule is not None:
            e = rule(self, args, params, dtype)
            if e is not None:
                return e  # type: ignore[no-any-return]
        prim = REGISTRY[op]
        if prim.commutative and args[0].id > args[1].id:
            args = (args[1], args[0])
        return self.make(op, tuple(args), params, dtype, 0, prim.cost)

    def _fold(self, op: str, args: Sequence[E], params: tuple[Any, ...], dtype: DType) -> E:
        ref = REGISTRY[op].ref
        assert ref is not None
        if op == "cast":
            params = (dtype,)
        with np.errstate(all="ignore"):
            value = np.asarray(ref(*[np.asarray(a.params[0]) for a in args], *params)).astype(dtype.np)
        return self.const(value[()], dtype)

    def neg(self, a: E) -> E:
        return self.apply("neg", (a,), (), a.dtype)

    def mul(self, a: E, b: E) -> E:
        return self.apply("mul", (a, b), (), a.dtype)

    def add(self, a: E, b: E) -> E:
        return self.apply("add", (a, b), (), a.dtype)

    def where(self, c: E, a: E, b: E) -> E:
        return self.apply("where", (c, a, b), (), a.dtype)

    # ------------------------------------------------------------------ the sign normal form
    def canonical(self, root: E) -> tuple[bool, E]:
        """(turned, e): root is -e or e, up to the sign of zeros.  x - y and y - x give the same e."""
        memo = self._canonical
        stack = [root]
        while stack:
            e = stack[-1]
            if e in memo:
                stack.pop()
                continue
            if not e.turned or e.dtype.category != FLOAT or e.dtype.half:
                memo[e] = (False, e)
                continue
            wanted = [e.args[k] for k in _SEEN_THROUGH.get(e.op, ()) if k < len(e.args)]
            todo = [a for a in wanted if a not in memo]
            if todo:
                stack.extend(todo)
                continue
            memo[e] = self._turn(e)
        return memo[root]

    def _turn(self, e: E) -> tuple[bool, E]:
        """The canonical form of e, whose arguments' forms are known."""
        memo, op = self._canonical, e.op
        if op not in _SEEN_THROUGH:
            return False, e
        forms = [memo[a] if k in _SEEN_THROUGH[op] else (False, a) for k, a in enumerate(e.args)]
        if op == "neg":
            return not forms[0][0], forms[0][1]
        (s, a) = forms[0]
        if op in ("add", "sub"):
            t, b = forms[1]
            return self._turn_sum(s, a, t != (op == "sub"), b, e.dtype)
        if op in ("mul", "div"):
            t, b = forms[1]
            return s != t, self.apply(op, (a, b), (), e.dtype)
        if op == "where":
            (t, b), (u, c) = forms[1], forms[2]
            if c.op == "const" and c.params[0] == 0:
                u = t
            if b.op == "const" and b.params[0] == 0:
                t = u
            if t == u:
                return t, self.where(a, b, c)
            return False, self.where(a, self.neg(b) if t else b, self.neg(c) if u else c)
        if op in _EVEN:
            return False, self.apply(op, (a,), e.params, e.dtype)
        if op in _ODD or op == "cast":
            return s, self.apply(op, (a,), e.params, e.dtype)
        return False, self.apply(op, (self.neg(a) if s else a,), e.params, e.dtype)

    def _turn_sum(self, s: bool, a: E, t: bool, b: E, dtype: DType) -> tuple[bool, E]:
        """Plus or minus a, plus or minus b."""
        if s == t:
            return s, self.add(a, b)
        if s:
            a, b = b, a                                     # b - a, as it stands
        if ("sub", (b, a), (), dtype) in self._table and not self._first(a, b, dtype):
            return True, self.apply("sub", (b, a), (), dtype)
        return False, self.apply("sub", (a, b), (), dtype)

    def _first(self, a: E, b: E, dtype: DType) -> bool:
        """Was a - b there before b - a?"""
        here, there = self._table.get(("sub", (a, b), (), dtype)), self._table.get(("sub", (b, a), (), dtype))
        return here is not None and (there is None or here.id < there.id)

    # ------------------------------------------------------------------ rewriting
    def rebuild(self, e: E, args: tuple[E, ...]) -> E:
        """e over other arguments.  (For a load or index whose scalars change, see `substitute`.)"""
        if args == e.args:
            return e
        if e.op == "red":
            free = 0
            for r in e.params[1]:
                free |= r.bit
            return self.red_node(e.params[0], e.params[1], args[0])
        if e.op in ("load", "index", "inside"):
            return self._moved(e, None, None, dict(zip(e.args, args)))
        return self.apply(e.op, args, e.params, e.dtype)

    def rewrite(self, root: E, memo: dict[E, E]) -> E:
        """root with the scalars in `memo` replaced."""
        stack = [root]
        while stack:
            e = stack[-1]
            if e in memo:
                stack.pop()
                continue
            todo = [a for a in e.args if a not in memo]
            if todo:
                stack.extend(todo)
                continue
            memo[e] = self.rebuild(e, tuple([memo[a] for a in e.args]))
        return memo[root]

    def in_axis(self, place: E, extent: int) -> E:
        """0 <= place < extent, as a scalar test."""
        low = self.apply("ge", (place, self.const(0, int64)), (), bool_)
        high = self.apply("lt", (place, self.const(int(extent), int64)), (), bool_)
        return self.apply("bitwise_and", (low, high), (), bool_)

    def _moved(self, e: E, r: Range | None, by: Ix | None, swap: dict[E, E], more: tuple[Any, ...] = ()) -> E:
        """A load, index or test with a range replaced by an index, and data scalars by others."""
        space = self.space
        probe = r or _NO_RANGE

        def move(ix: Ix) -> Ix:
            return _swapped(space, ix, probe, by, swap)

        if e.op == "index":
            return self.index(move(e.params[0]))
        guard = e.params[-1]
        guard = tuple([(move(ix), step) for ix, step in guard])
        if e.op == "inside":
            return self.inside(guard)
        buffer, index, shape, _ = e.params
        return self.load(buffer, tuple([move(ix) for ix in index]), shape, guard + more)

    def substitute(self, root: E, r: Range, by: Ix, guard: tuple[Any, ...]) -> E:
        """root at another place: the range r replaced by an index, which is only good where `guard` holds."""
        memo: dict[E, E] = {}
        stack = [root]
        while stack:
            e = stack[-1]
            if e in memo:
                stack.pop()
                continue
            if not e.free & r.bit:
                memo[e] = e
                continue
            todo = [a for a in e.args if a not in memo]
            if todo:
                stack.extend(todo)
                continue
            if e.op in ("load", "index", "inside"):
                memo[e] = self._moved(e, r, by, memo, guard)
            else:
                memo[e] = self.rebuild(e, tuple([memo[a] for a in e.args]))
        return memo[root]

    # ------------------------------------------------------------------ reductions (the algebra of sums is in sums.py)
    def red_node(self, op: str, ranges: tuple[Range, ...], body: E) -> E:
        mask = 0
        for r in ranges:
            mask |= r.bit
        e = self.make("red", (body,), (op, ranges), body.dtype, 0, RED_COST)
        if e.free & mask:
            e.free &= ~mask
            e.chain += 1
        return e


class _NoRange:
    bit = 0


_NO_RANGE: Any = _NoRange()


def _swapped(space: Space, ix: Ix, r: Any, by: Ix | None, swap: dict[E, E]) -> Ix:
    if not ix.free & r.bit and not any([swap.get(d, d) is not d for d in ix.data]):
        return ix
    out, rest = space.const(ix.const), {}
    for t, c in ix.terms:
        if t is r:
            assert by is not None
            out = space.add(out, space.scale(by, c))
        elif type(t) is Range:
            rest[t] = c
        else:
            if t.kind == "data":
                new = space.data(swap.get(t.of, t.of), t.hi + 1)
            else:
                of = _swapped(space, t.of, r, by, swap)
                new = space.clamp(of) if t.kind == "clamp" else space.divmod(of, t.n)[t.kind == "mod"]
            out = space.add(out, space.scale(new, c))
    return space.add(out, space.make(0, rest)) if rest else out


# arguments whose sign can be seen through the op, given that the sign of zeros does not matter
_SEEN_THROUGH: dict[str, tuple[int, ...]] = {"neg": (0,), "add": (0, 1), "sub": (0, 1), "mul": (0, 1), "div": (0,),
                                             "where": (1, 2), "cast": (0,), **{op: (0,) for op in _BLIND}}


# ------------------------------------------------------------------------------------------------ exact rules
def _is(e: E, value: float) -> bool:
    return e.op == "const" and bool(e.params[0] == value)


def _minus_zero(e: E) -> bool:
    return e.op == "const" and e.params[0] == 0 and bool(np.signbit(e.params[0]))


def _rule_neg(s: Scalars, args: Sequence[E], params: Any, dtype: DType) -> E | None:
    return args[0].args[0] if args[0].op == "neg" else None


def _rule_add(s: Scalars, args: Sequence[E], params: Any, dtype: DType) -> E | None:
    a, b = args
    if dtype.category == BOOL:
        return None
    for x, y in ((a, b), (b, a)):
        if _is(y, 0) and (dtype.category != FLOAT or _minus_zero(y)):
            return x
    if dtype.category == FLOAT:
        if b.op == "neg":
            return s.apply("sub", (a, b.args[0]), (), dtype)
        if a.op == "neg":
            return s.apply("sub", (b, a.args[0]), (), dtype)
    return None


def _rule_sub(s: Scalars, args: Sequence[E], params: Any, dtype: DType) -> E | None:
    a, b = args
    if dtype.category == BOOL:
        return None
    if _is(b, 0) and not _minus_zero(b):
        return a
    if dtype.category == FLOAT and b.op == "neg":
        return s.add(a, b.args[0])
    return None


def _rule_mul(s: Scalars, args: Sequence[E], params: Any, dtype: DType) -> E | None:
    a, b = args
    if dtype.category == BOOL:
        return None
    for x, y in ((a, b), (b, a)):
        if _is(y, 1):
            return x
        if dtype.category == FLOAT:
            if _is(y, -1):
                return s.neg(x)
            if x.op == "neg":
                return s.mul(x.args[0], y.args[0]) if y.op == "neg" else s.neg(s.mul(x.args[0], y))
    return None


def _rule_div(s: Scalars, args: Sequence[E], params: Any, dtype: DType) -> E | None:
    a, b = args
    if _is(b, 1):
        return a
    if a.op == "neg" or b.op == "neg":
        bare = s.apply("div", (a.args[0] if a.op == "neg" else a, b.args[0] if b.op == "neg" else b), (), dtype)
        return bare if a.op == b.op else s.neg(bare)
    return reciprocal(s, a, b, dtype)


def _rule_where(s: Scalars, args: Sequence[E], params: Any, dtype: DType) -> E | None:
    c, a, b = args
    if a is b:
        return a
    if c.op == "const":
        return a if c.params[0] else b
    return None


def _rule_powi(s: Scalars, args: Sequence[E], params: Any, dtype: DType) -> E | None:
    (n,) = params
    if n == 1:
        return args[0]
    return s.mul(args[0], args[0]) if n == 2 else None


def _rule_cast(s: Scalars, args: Sequence[E], params: Any, dtype: DType) -> E | None:
    return args[0] if args[0].dtype is dtype else None


_RULES: dict[str, Any] = {"neg": _rule_neg, "add": _rule_add, "sub": _rule_sub, "mul": _rule_mul, "div": _rule_div,
                          "where": _rule_where, "powi": _rule_powi, "cast": _rule_cast}


# ------------------------------------------------------------------------------------------------ division by an invariant
def reciprocal(s: Scalars, a: E, b: E, dtype: DType) -> E | None:
    """a / b as a * (1 / b) where a long loop varies a alone.  1 / b must neither overflow nor lose digits: if nothing is
    known of b, both are scaled by a power of two that keeps it normal, which is exact."""
    one = s.const(1, dtype)
    if b.op == "const":
        mantissa = np.frexp(b.params[0])[0]
        if abs(mantissa) == 0.5 and np.isfinite(b.params[0]) and 1e-30 < abs(float(b.params[0])) < 1e30:
            return s.mul(a, s.const(1 / b.params[0], dtype))
    there = s.known("div", (one, b), (), dtype)
    if _is(a, 1) or there is None and (s.space.points(a.free & ~b.free) < LONG or b.free & ~a.free):
        return None
    if b.op == "const" and np.isfinite(b.params[0]) and 1e-30 < abs(float(b.params[0])) < 1e30 \
            or at_least(b) > (2e-38 if dtype.itemsize == 4 else 1e-300):
        if there is not None and s.space.points(b.free) < LONG and s.space.points(a.free) < LONG:
            return None                                     # nothing to gain: keep the exact quotient
        return s.mul(a, s.apply("div", (one, b), (), dtype))
    if there is not None and s.space.points(a.free & ~b.free) < LONG or b.free & ~a.free:
        return None
    small, big, up = (2.0 ** -100, 2.0 ** 100, 2.0 ** 64) if dtype.itemsize == 4 else (2.0 ** -900, 2.0 ** 900, 2.0 ** 512)
    size = s.apply("abs", (b,), (), dtype)
    scale = s.where(s.apply("lt", (size, s.const(small, dtype)), (), bool_), s.const(up, dtype),
                    s.where(s.apply("gt", (size, s.const(big, dtype)), (), bool_), s.const(1 / up, dtype), one))
    return s.mul(s.mul(a, scale), s.apply("div", (one, s.mul(b, scale)), (), dtype))


_NOTHING = -np.inf


def at_least(e: E, depth: int = 8) -> float:
    """A number that e is never below (NaN aside); -inf if nothing is known."""
    if e.op == "const":
        return float(e.params[0]) if e.params[0] == e.params[0] else _NOTHING
    if depth == 0 or e.dtype.category != FLOAT:
        return _NOTHING
    if e.op in ("exp", "abs", "sigmoid", "exp2"):
        return 0.0
    if e.op == "mul" and e.args[0] is e.args[1]:
        return 0.0
    if e.op == "red" and e.params[0] == "sum":
        body = e.args[0]
        return (1.0 if _softmax_sum(e, body) else 0.0) if at_least(body, depth - 1) >= 0 else _NOTHING
    if e.op in ("add", "mul", "sqrt", "maximum", "div"):
        low = [at_least(a, depth - 1) for a in e.args]
        if e.op == "add":
            return (low[0] + low[1]) * (1 - 1e-6) if min(low) >= 0 else _NOTHING
        if e.op == "maximum":
            return max(low)
        if e.op == "sqrt":
            return float(np.sqrt(max(low[0], 0.0))) * (1 - 1e-6)
        return 0.0 if min(low) >= 0 else _NOTHING
    return _NOTHING


def _softmax_sum(e: E, body: E) -> bool:
    """Is it a sum of exp(x - max x) over the axis of the maximum?  Then one term is exp(0)."""
    if body.op != "exp" or body.args[0].op != "sub":
        return False
    x, m = body.args[0].args
    return m.op == "red" and m.params[0] == "max" and m.args[0] is x and set(m.params[1]) <= set(e.params[1])
