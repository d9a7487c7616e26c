"""Every primitive, from the registry: values, dtypes, shapes, rules to second order, 0-d and empty operands."""

from __future__ import annotations

import numpy as np
import pytest

from autojit import ops  # noqa: F401
from autojit.dtypes import FLOAT, float64
from autojit.ir.aval import aval
from autojit.ir.graph import node, placeholder
from autojit.ir.primitive import ELEMENTWISE, LEAF, REGISTRY
from autojit.ops.declare import P, full
from autojit.ops.special import SCALARS

from .checking import check_gradient, run
from .linalg_samples import PRIMITIVES
from .samples_complex import PRIMITIVES as COMPLEX

DTYPES = ("float32", "float64", "int64", "int32", "uint8", "bool")


ELEMENT = [p for p in REGISTRY.values() if p.kind == ELEMENTWISE and p.name not in ("where", "cast", "powi")]


def operands(prim, shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    count = 2 if "{1}" in prim.emit else 1
    lo, hi = prim.domain
    kind = np.dtype(dtype).kind
    make = {"f": lambda: rng.uniform(lo, hi, shape), "b": lambda: rng.random(shape) < 0.5,
            "i": lambda: rng.integers(1, 5, shape), "u": lambda: rng.integers(1, 5, shape)}[kind]
    return [np.asarray(make()).astype(dtype) for _ in range(count)]


def accepts(prim, arrays):
    try:
        return prim.infer(*[aval(a.shape, _dtype(a)) for a in arrays])
    except TypeError:
        return None


def _dtype(a):
    from autojit.dtypes import as_dtype
    return as_dtype(a.dtype)


@pytest.mark.parametrize("prim", ELEMENT, ids=lambda p: p.name)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,), (2, 0, 3)], ids=str)
def test_elementwise_values_have_the_dtype_and_shape_inferred(prim, shape):
    for dtype in DTYPES:
        arrays = operands(prim, shape, dtype)
        a = accepts(prim, arrays)
        if a is None:
            continue
        if dtype == "bool" and prim.name in ("neg", "abs", "sign", "relu", "remainder", "fmod", "floor_divide", "trunc_divide"):
            continue                                      # NumPy has none; public ops refuse them
        assert a.shape == shape
        got, = run(lambda *n: node(prim, n), arrays)
        assert got.shape == shape and got.dtype == a.dtype.np
        raw = np.asarray(prim.ref(*arrays))
        assert raw.dtype == a.dtype.np, f"the reference of {prim.name} gives {raw.dtype}, inferred is {a.dtype}"
        np.testing.assert_array_equal(got, raw)


@pytest.mark.parametrize("prim", [p for p in ELEMENT if p.vjp is not None], ids=lambda p: p.name)
def test_elementwise_rules(prim):
    for shape in ((), (2, 3)):
        check_gradient(lambda *n: node(prim, n), operands(prim, shape, "float64", 3))


@pytest.mark.parametrize("prim", [p for p in ELEMENT if p.vjp is None], ids=lambda p: p.name)
def test_a_primitive_without_a_rule_is_flat_or_not_floating(prim):
    arrays = operands(prim, (5,), "float64", 4)
    a = accepts(prim, arrays)
    if a is None or a.dtype.category < FLOAT or prim.name == "stop":
        return
    near = [x + 1e-9 for x in arrays]
    np.testing.assert_array_equal(run(lambda *n: node(prim, n), arrays)[0], run(lambda *n: node(prim, n), near)[0])


X = np.random.default_rng(5).uniform(0.5, 1.5, (2, 3, 4))
V = np.random.default_rng(6).uniform(0.5, 1.5, (2, 2, 4))
INDEX = np.array([2, 0, 0, 1])
PLACES = np.random.default_rng(7).integers(0, 3, (2, 5, 4))
OTHERS = {
    "powi": [(lambda x, n=n: P.powi(x, n), [X]) for n in (-3, -1, 0, 1, 2, 3, 5)],
    "where": [(lambda c, a, b: P.where(c, a, b), [X > 1, X, X + 1])],
    "cast": [(lambda x: P.cast(x, float64), [X])],
    "polygamma": [(lambda x: P.polygamma(x, 1), [X]), (lambda x: P.polygamma(x, 2), [X])],
    **{name: [(lambda x, f=name: getattr(P, f)(x), [X])] for name in SCALARS[:9]},
    "ndtri": [(lambda x: P.ndtri(x), [X / 2])],
    **{name: [(lambda x, f=name: getattr(P, f)(full(2.5, x.shape, x.dtype), x), [X])] for name in SCALARS[10:13]},
    "nextafter": [], "gcd": [],
    "scatter_fold": [(lambda x, i, v, how=how: P.scatter_fold(x, i, v, 1, how), [X, PLACES[:, :2], V])
                     for how in ("max", "min", "mul")],
    "philox": [], "int_pow": [], "shift": [], "argmax": [], "argmin": [], "argsort": [], "cumarg": [], "iota": [],
    "bitwise_and": [], "bitwise_or": [], "bitwise_xor": [], "bitwise_not": [],
    "sum": [(lambda x: P.sum(x, (0, 2)), [X]), (lambda x: P.sum(x, ()), [X])],
    "prod": [(lambda x: P.prod(x, (1,)), [X]), (lambda x: P.prod(x, (1,)), [np.where(X > 1.4, 0, X)]),
             (lambda x: P.prod(x, (2,)), [np.where(X > 1.0, 0, X)]), (lambda x: P.prod(x, (0, 1, 2)), [X])],
    "max": [(lambda x: P.max(x, (1,)), [X]), (lambda x: P.max(x, (0, 1, 2)), [X])],
    "min": [(lambda x: P.min(x, (0, 2)), [X])],
    "cumsum": [(lambda x: P.cumsum(x, 1), [X])],
    "cumprod": [(lambda x: P.cumprod(x, 2), [X]), (lambda x: P.cumprod(x, 1), [np.where(X > 1.3, 0, X)])],
    "logcumsumexp": [(lambda x: P.logcumsumexp(x, 1), [X])],
    "sort": [(lambda x: P.sort(x, 1, True), [X])],
    "reshape": [(lambda x: P.reshape(x, (4, 6)), [X])],
    "permute": [(lambda x: P.permute(x, (2, 0, 1)), [X])],
    "expand": [(lambda x: P.expand(x, (5, 3, 4)), [X[:1]])],
    "slice": [(lambda x: P.slice(x, (0, 1, 0), (2, 3, 4), (1, 1, 2)), [X])],
    "pad": [(lambda x: P.pad(x, (1, 0, 2), (4, 3, 12), (2, 1, 3)), [X])],
    "update": [(lambda x, v: P.update(x, v, (0, 0, 0), (1, 2, 1)), [X, V])],
    "shear": [(lambda x: P.shear(x, 0, 1, 2, 1, 2), [np.concatenate([X, X, X])]),
              (lambda x: P.shear(x, 2, 0, 1, 2, 2), [X]), (lambda x: P.shear(x, 2, 1, 3, 1, 1), [X]),
              (lambda x: P.shear(P.shear(P.expand(x, (2, 3, 4, 2, 2)), 1, 3, 1, 1, 2), 2, 4, 1, 2, 2), [X[..., None, None]])],
    "unshear": [(lambda x: P.unshear(x, 2, 1, 2, 1, 11), [X]), (lambda x: P.unshear(x, 2, 0, 1, 3, 7), [X]),
                (lambda x: P.sum(P.unshear(x, 0, 1, 1, 1, 4), (1,)), [X]), (lambda x: P.unshear(x, 0, 2, 5, 2, 14), [X])],
    "flip": [(lambda x: P.flip(x, (0, 2)), [X])],
    "concat": [(lambda x, v: P.concat((x, v), 1), [X, V])],
    "take": [(lambda x, i: P.take(x, i, 1), [X, INDEX])],
    "index_add": [(lambda x, i, v: P.index_add(x, i, v, 1), [X, INDEX, np.concatenate([V, V], 1)])],
    "index_set": [(lambda x, i, v: P.index_set(x, i, v, 1), [X, INDEX[[0, 1, 3]], X + 1])],
    "gather": [(lambda x, i: P.gather(x, i, 1), [X, PLACES])],
    "scatter_add": [(lambda x, i, v: P.scatter_add(x, i, v, 1), [X, PLACES[:, :2], V])],
    "scatter_set": [(lambda x, i, v: P.scatter_set(x, i, v, 1), [X, np.argsort(X, 1)[:, :2], V])],
    "matmul": [(lambda a, b: P.matmul(a, b), [X, X.transpose(0, 2, 1)])],
    **PRIMITIVES, **COMPLEX,
}


def test_every_primitive_is_checked():
    """Or elsewhere: calls in test_graph, transfers in cuda/test_face, loops in test_control, customs in test_custom_op."""
    known = {p.name for p in ELEMENT} | set(OTHERS) | {"call", "transfer", "scan", "branch", "while", "counted", "custom"}
    assert {n for n, p in REGISTRY.items() if p.kind != LEAF} <= known


@pytest.mark.parametrize("name", [n for n, c in OTHERS.items() if c])
def test_rules_of_the_other_primitives(name):
    for fn, arrays in OTHERS[name]:
        check_gradient(fn, arrays)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [n for n, c in OTHERS.items() if c])
def test_values_of_the_other_primitives(name, dtype):
    for fn, arrays in OTHERS[name]:
        cast = [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]
        leaves = [placeholder(aval(a.shape, _dtype(a))) for a in cast]
        n = fn(*leaves)
        got, = run(fn, cast)
        assert got.shape == n.shape and got.dtype == n.dtype.np


def test_places_of_extremes():
    a = np.array([[1.0, 3.0, 3.0], [np.nan, 5.0, 2.0]])
    assert run(lambda x: P.argmax(x, 1), [a])[0].tolist() == [1, 0]
    assert run(lambda x: P.argsort(x, 1, True), [a])[0].tolist() == [[1, 2, 0], [0, 1, 2]]
    assert run(lambda x: P.cumarg(x, 1, True), [a])[0].tolist() == [[0, 1, 2], [0, 0, 0]]
    base, exponent = np.array([2, -1, 3, 1]), np.array([10, -3, -1, -5])
    assert run(lambda x, y: P.int_pow(x, y), [base, exponent])[0].tolist() == [1024, -1, 0, 1]


# ---------------------------------------------------------------- the checker itself
def planted(name, rule):
    """Run the checker while a primitive has another rule."""
    prim = REGISTRY[name]
    old, prim.vjp = prim.vjp, rule
    try:
        check_gradient(lambda *n: node(prim, n), operands(prim, (2, 3), "float64", 3))
    finally:
        prim.vjp = old


WRONG = {
    "tanh": lambda ct, out, a: (P.mul(ct, P.sub(P.cosh(P.mul(a, P.sub(a, a))), out)),),       # 1 - out
    "exp": lambda ct, out, a: (ct,),
    "mul": lambda ct, out, a, b: (P.mul(ct, a), P.mul(ct, b)),
    "div": lambda ct, out, a, b: (P.div(ct, b), P.div(P.mul(ct, out), b)),
    "sin": lambda ct, out, a: (P.mul(ct, P.stop(P.cos(a))),),                                 # wrong in second order only
    "sigmoid": lambda ct, out, a: (None,),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_planted_wrong_rule_is_caught(name):
    with pytest.raises(AssertionError, match="derivative"):
        planted(name, WRONG[name])


def test_the_right_rule_passes_where_wrong_ones_are_caught():
    for name in WRONG:
        planted(name, REGISTRY[name].vjp)
