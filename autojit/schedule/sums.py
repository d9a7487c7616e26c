"""The algebra of reductions: what need not stand inside a loop is taken out of it.

In: a body and the ranges to reduce over.  Out: a scalar in which invariant factors stand outside, one-hot sums are
selects, and sums whose parts are ready a pass earlier are split.  A split never replaces a small difference by the
difference of two big sums: both parts must carry a factor that comes out (a rounded product), or be one-hot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import BOOL, FLOAT, DType, int64
from .index import Range, mask_of
from .scalar import E, Scalars, at_least

DEEP = 24                          # levels of additions that a split may follow
TRIES = 512                        # splits tried for one sum: products of long sums have 4 to the power of their length


def identity(op: str, dtype: DType) -> Any:
    """What a reduction starts from."""
    if op in ("sum", "prod"):
        return op == "prod"
    if dtype.category == BOOL:
        return op == "min"
    if dtype.category == FLOAT:
        return -np.inf if op == "max" else np.inf
    info = np.iinfo(dtype.np)
    return info.min if op == "max" else info.max


def reduce(s: Scalars, op: str, ranges: Sequence[Range], body: E) -> E:
    """The reduction of `body` over `ranges`, none of them empty."""
    inside = tuple(sorted([r for r in ranges if r.bit & body.free], key=lambda r: r.uid))
    idle = 1
    for r in ranges:
        if not r.bit & body.free:
            idle *= r.hi + 1
    if op == "sum" and body.dtype.category == FLOAT:
        turned, body = s.canonical(body)
        s.tries = TRIES
        e = _sum(s, inside, body, 0) if inside else body
        e = s.neg(e) if turned else e
    elif op == "sum" and body.dtype.category != BOOL:
        e = _one_hot(s, inside, body, 0) or _plain(s, op, inside, body)
    else:
        e = _plain(s, op, inside, body)
    if idle > 1 and op == "sum" and body.dtype.category != BOOL:
        e = s.mul(e, s.const(idle, e.dtype))
    if op == "sum" and body.dtype.category == FLOAT and not _never_minus_zero(e, 8):
        e = s.add(e, s.const(0, e.dtype))                   # a sum of zeros is +0, whatever stands before it
    elif idle > 1 and op == "prod" and body.dtype.category != BOOL:
        e = s.apply("powi", (e,), (idle,), e.dtype)
    return e


def _never_minus_zero(e: E, depth: int) -> bool:
    """Can e not be -0?  Sums as such begin with +0 and never are."""
    if e.op == "red":
        return e.params[0] == "sum"
    if e.op == "const":
        return not np.signbit(e.params[0])
    if e.op in ("exp", "exp2", "abs", "sigmoid") or e.op == "mul" and e.args[0] is e.args[1]:
        return True
    if e.op == "where" and depth:
        return all([_never_minus_zero(a, depth - 1) for a in e.args[1:]])
    if depth == 0 or e.op not in ("add", "sub", "mul", "div"):
        return False
    a, b = e.args
    if e.op in ("add", "sub"):
        return _never_minus_zero(a, depth - 1) and (e.op == "sub" or _never_minus_zero(b, depth - 1))
    return any([at_least(x) >= 0 and _never_minus_zero(y, depth - 1) for x, y in ((a, b), (b, a))])


def combine(s: Scalars, op: str, a: E, b: E) -> E:
    """The same reduction of two values."""
    name = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}[op]
    return s.apply(name, (a, b), (), a.dtype)


def _plain(s: Scalars, op: str, ranges: tuple[Range, ...], body: E) -> E:
    return s.red_node(op, ranges, body) if ranges else body


def _sum(s: Scalars, ranges: tuple[Range, ...], body: E, depth: int) -> E:
    """A float sum; every range is one that the body varies with, or none is left."""
    mask = mask_of(ranges)
    if not body.free & mask:
        count = s.space.points(mask)
        return body if count == 1 else s.mul(body, s.const(count, body.dtype))
    idle = mask & ~body.free
    if idle:
        rest = tuple([r for r in ranges if r.bit & body.free])
        return s.mul(_sum(s, rest, body, depth), s.const(s.space.points(idle), body.dtype))
    if body.op == "neg":
        return s.neg(_sum(s, ranges, body.args[0], depth))
    if body.op == "mul":
        return _sum_of_product(s, ranges, mask, body, depth)
    if body.op == "div" and not body.args[1].free & mask:
        return s.apply("div", (_sum(s, ranges, body.args[0], depth), body.args[1]), (), body.dtype)
    if body.op == "where":
        return _one_hot(s, ranges, body, depth) or _plain(s, "sum", ranges, body)
    if body.op == "add" and body.args[0] is body.args[1]:
        return s.mul(_sum(s, ranges, body.args[0], depth), s.const(2, body.dtype))
    if body.op in ("add", "sub") and depth < DEEP:
        split = _split(s, ranges, body, depth)
        if split is not None:
            return split
    return _plain(s, "sum", ranges, body)


def _sum_of_product(s: Scalars, ranges: tuple[Range, ...], mask: int, body: E, depth: int) -> E:
    outer, inner = _stripped(s, body, mask)
    if outer:
        assert inner is not None
        return s.mul(_product(s, outer), _sum(s, ranges, inner, depth))
    if depth < DEEP:
        a, b = body.args
        for x, y in ((a, b), (b, a)):                       # x * (v + c) with a late invariant c
            if y.op in ("add", "sub") and y.chain >= x.chain:
                spread = s.apply(y.op, (s.mul(x, y.args[0]), s.mul(x, y.args[1])), (), body.dtype)
                if spread.op in ("add", "sub"):
                    split = _split(s, ranges, spread, depth)
                    if split is not None and split.chain < body.chain + 1:
                        return split
    return _plain(s, "sum", ranges, body)


def _stripped(s: Scalars, e: E, mask: int, depth: int = 0) -> tuple[list[E], E | None]:
    """The factors of a product that do not vary, and the product without them.  The varying ones stay associated as they
    were, since (huge * 0) * huge is not huge * huge * 0, and what others use too stays whole."""
    if not e.free & mask:
        return [e], None
    if depth and e.uses > 1:
        return [], e
    if depth < DEEP and e.op == "mul":
        (p, a), (q, b) = (_stripped(s, x, mask, depth + 1) for x in e.args)
        if not p and not q:
            return [], e
        return p + q, b if a is None else a if b is None else s.mul(a, b)
    if e.op == "add" and e.args[0] is e.args[1]:
        p, a = _stripped(s, e.args[0], mask, depth + 1)
        return [*p, s.const(2, e.dtype)], a
    return [], e


def _product(s: Scalars, factors: list[E]) -> E:
    factors = sorted(factors, key=lambda f: f.id)
    e = factors[0]
    for f in factors[1:]:
        e = s.mul(e, f)
    return e


def _split(s: Scalars, ranges: tuple[Range, ...], body: E, depth: int) -> E | None:
    """Sum of parts, where that is ready a pass earlier and cancels no more than the terms themselves."""
    if body.chain == 0 or s.tries <= 0:
        return None
    s.tries -= 1
    parts = [_sum(s, ranges, part, depth + 1) for part in body.args]
    if max([p.chain for p in parts]) > body.chain or any([p.op == "red" for p in parts]):
        return None
    return s.apply(body.op, parts, (), body.dtype)


def _one_hot(s: Scalars, ranges: tuple[Range, ...], body: E, depth: int) -> E | None:
    """Sum over j of (x if j == y else 0) is x at j = y, if y lies in the axis."""
    if body.op != "where":
        return None
    test, value, other = body.args
    if other.op != "const" or other.params[0] != 0:
        return None
    mask = mask_of(ranges)
    if not test.free & mask:
        zero = s.const(0, body.dtype)
        return s.where(test, _sum(s, ranges, value, depth) if body.dtype.category == FLOAT
                       else reduce(s, "sum", ranges, value), zero)
    if test.op != "eq" or test.args[0].dtype is not int64:
        return None
    for place, wanted in (test.args, test.args[::-1]):
        if place.op != "index" or wanted.free & mask:
            continue
        ix = place.params[0]
        if len(ix.terms) != 1 or type(ix.terms[0][0]) is not Range or int(ix.terms[0][1]) != 1 or int(ix.const) != 0:
            continue
        r = ix.terms[0][0]
        if not r.bit & mask:
            continue
        return _selected(s, ranges, r, wanted, value, depth)
    return None


def _selected(s: Scalars, ranges: tuple[Range, ...], r: Range, wanted: E, value: E, depth: int) -> E:
    space = s.space
    y = space.data(wanted, r.extent)
    if wanted.op == "index":
        y = wanted.params[0]
    guard = ((y, 0), (space.add(space.const(r.extent - 1), y, -1), 0))
    if value.free & r.bit:
        value = s.substitute(value, r, y, guard)
    rest = tuple([q for q in ranges if q is not r])
    if rest:
        inner = s.where(s.in_axis(wanted, r.extent), value, s.const(0, value.dtype))
        return _sum(s, rest, inner, depth) if value.dtype.category == FLOAT else reduce(s, "sum", rest, inner)
    return s.where(s.in_axis(wanted, r.extent), value, s.const(0, value.dtype))
