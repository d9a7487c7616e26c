"""Rewrites of products: which products there are afterwards, and that the function is the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from autojit import ops  # noqa: F401
from autojit.autodiff.vjp import reverse
from autojit.backends.numpy.run import NumpyProgram
from autojit.dtypes import float64
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, Node, const, placeholder
from autojit.ops.declare import P, spread
from autojit.rewrite import merge as merging
from autojit.rewrite import vectors as vectoring
from autojit.rewrite.merge import merge
from autojit.rewrite.simplify import simplify
from autojit.rewrite.vectors import vectors
from autojit.schedule.loops import GemmStep
from autojit.schedule.plan import schedule
from tests.plain import run_plain


def graph(f: Callable[..., Sequence[Node]], *shapes: tuple[int, ...], dtype=float64) -> Graph:
    inputs = [placeholder(aval(s, dtype)) for s in shapes]
    return simplify(Graph(inputs, list(f(*inputs))))


def arrays(g: Graph) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(i.shape).astype(i.dtype.np) for i in g.inputs]


def same(a: Graph, b: Graph) -> None:
    """Equal functions, by the oracle and by the kernels in plain Python."""
    given = arrays(a)
    expected = NumpyProgram(a)(given)
    for run in (lambda: NumpyProgram(b)(given), lambda: run_plain(b, given)):
        for x, y in zip(expected, run()):
            np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-9)


def products(g: Graph) -> list[tuple[int, ...]]:
    """(m, n, k) of each product."""
    return sorted([(*n.shape, n.inputs[0].shape[1]) for n in g.order if n.op == "matmul"])


def with_gradients(y: Node, *wrt: Node) -> list[Node]:
    return [y, *reverse([y], [const(1, y.dtype)], list(wrt))]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Sizes from which something is done, as small as tests want them."""
    for module, name, value in ((merging, "AREA", 4), (vectoring, "LARGE", 100), (vectoring, "LONG", 16),
                                (vectoring, "TERMS", 16)):
        monkeypatch.setattr(module, name, value)


# ---------------------------------------------------------------- products that become one
def steps(w: Node, u: Node, x: Node, count: int) -> Node:
    h = P.reshape(P.slice(x, (0, 0, 0), (1, *x.shape[1:]), (1, 1, 1)), x.shape[1:])
    h = P.mul(P.matmul(h, u), spread(const(0, h.dtype), (x.shape[1], w.shape[0])))
    for t in range(count):
        part = P.reshape(P.slice(x, (t, 0, 0), (t + 1, *x.shape[1:]), (1, 1, 1)), x.shape[1:])
        h = P.tanh(P.add(P.matmul(h, w), P.matmul(part, u)))
    return P.sum(P.mul(h, h), (0, 1))


@pytest.mark.parametrize("count", [5, 20])
def test_a_loop_has_one_product_of_its_inputs_and_one_for_each_weight(count):
    """20 steps: more pieces than one kernel stores, and rows of them that lie beside each other in memory."""
    g = graph(lambda w, u, x: with_gradients(steps(w, u, x, count), w, u), (6, 6), (4, 6), (count, 3, 4))
    m = merge(g)
    same(g, m)
    found = products(m)
    assert found.count((3 * count, 6, 4)) == 1 and found.count((3, 6, 4)) == 0, "x @ u"
    assert found.count((6, 6, 3 * count)) == 1, "the gradient of w"
    assert found.count((4, 6, 3 * count)) == 1, "the gradient of u"
    assert len(found) <= 2 * count + 4 < len(products(g))
    joined = [n for n in m.order if n.op == "concat"]
    assert len(joined) <= 3 and all(i.op != "slice" for n in joined for i in n.inputs), "inputs are not copied"


def test_a_sum_of_outer_products_is_one_product():
    def f(*vs):
        total = None
        for u, v in zip(vs[::2], vs[1::2]):
            term = P.mul(spread(P.reshape(u, (7, 1)), (7, 5)), spread(P.reshape(v, (1, 5)), (7, 5)))
            total = term if total is None else P.add(total, term)
        return [total]

    g = graph(f, *[(7,), (5,)] * 6)
    m = merge(g)
    assert products(m) == [(7, 5, 6)]
    same(g, m)


def test_the_rest_of_a_sum_stays():
    def f(a, b, c, d):
        products_ = [P.matmul(P.permute(x, (1, 0)), y) for x in (a, b) for y in (c, d)]
        other = P.exp(P.matmul(P.permute(a, (1, 0)), P.add(c, d)))
        return [P.add(P.add(P.add(products_[0], products_[1]), other), P.add(products_[2], products_[3]))]

    g = graph(f, (3, 6), (3, 6), (3, 4), (3, 4))
    m = merge(g)
    assert products(m) == [(6, 4, 3), (6, 4, 12)]
    same(g, m)


def test_products_that_others_use_stay():
    def f(a, b):
        parts = [P.matmul(P.exp(P.mul(a, spread(const(k, a.dtype), a.shape))), b) for k in range(5)]
        return [P.add(P.add(P.add(parts[0], parts[1]), parts[2]), P.add(parts[3], parts[4])), *parts]

    g = graph(f, (3, 3), (3, 4))
    assert merge(g) is g


def test_slices_with_gaps_are_no_row():
    def f(x, u):
        return [P.matmul(P.slice(x, (3 * k, 0), (3 * k + 2, 5), (1, 1)), u) for k in range(5)]

    g = graph(f, (15, 5), (5, 4))
    assert merge(g) is g


# ---------------------------------------------------------------- matrix times vector
def times(a: Node, v: Node) -> Node:
    return P.sum(P.mul(a, spread(v, a.shape)), (1,))


def test_a_matrix_is_read_once_for_each_product():
    """Power iteration: each step needs the whole of the step before."""
    def f(a, v):
        for _ in range(3):
            v = times(a, v)
            v = P.div(v, spread(P.sqrt(P.sum(P.mul(v, v), (0,))), v.shape))
        y = P.sum(P.mul(v, times(a, v)), (0,))
        return with_gradients(y, a, v)[:2]

    g = graph(f, (20, 20), (20,))
    m = vectors(merge(g))
    assert products(m) == sorted([(20, 1, 20)] * 7 + [(20, 20, 4)])
    same(g, m)


def test_one_pass_does_for_a_product_and_its_transpose():
    """Regression: X @ w and X.T @ (something of it) stay in one kernel, as sums or as products with a column."""
    def f(x, w, y):
        r = P.sub(times(x, w), y)
        return with_gradients(P.sum(P.mul(r, r), (0,)), w)

    g = graph(f, (50, 20), (20,), (50,))
    assert products(vectors(g)) == []
    same(g, vectors(g))

    def column(x, w, y):
        r = P.sub(P.matmul(x, w), y)
        return with_gradients(P.sum(P.mul(r, r), (0, 1)), w)

    g = graph(column, (50, 20), (20, 1), (50, 1))
    assert products(vectors(g)) == []
    same(g, vectors(g))


@pytest.mark.parametrize("f, shapes, found", [
    (lambda a, v: [times(a, v)], [(30, 40), (40,)], [(30, 1, 40)]),
    (lambda a, v: [times(P.permute(a, (1, 0)), v)], [(40, 30), (40,)], [(30, 1, 40)]),
    (lambda a, v: [P.matmul(v, a)], [(40, 30), (1, 40)], [(30, 1, 40)]),
    (lambda a, v: [times(P.exp(a), v)], [(30, 40), (40,)], []),             # the matrix is computed: it fuses
    (lambda a, v: [P.matmul(P.exp(a), v)], [(30, 40), (40, 1)], []),
    (lambda a, v: [times(a, v)], [(9, 40), (40,)], []),                    # small
    (lambda a, v: [P.matmul(a, v)], [(5, 4), (4, 1)], []),
])
def test_which_products_are_cut_out(f, shapes, found):
    g = graph(f, *shapes)
    m = vectors(g)
    assert products(m) == found
    same(g, m)


def test_dtypes_without_products_of_their_own_are_left_alone():
    from autojit.dtypes import int64

    a, v = placeholder(aval((30, 40), int64)), placeholder(aval((40,), int64))
    g = simplify(Graph([a, v], [times(a, v)]))
    assert products(vectors(g)) == []


# ---------------------------------------------------------------- where products lie
@pytest.mark.parametrize("f, shapes", [
    (lambda a, b: [P.reshape(P.permute(P.matmul(a, b), (0, 2, 1, 3)), (2, 8, 30))], [(2, 5, 8, 7), (2, 5, 7, 6)]),
    (lambda a, b: [P.permute(P.matmul(a, b), (1, 0))], [(20, 7), (7, 30)]),
    (lambda a, b: [P.reshape(P.permute(P.matmul(P.permute(a, (0, 2, 1)), b), (2, 0, 1)), (30, 16))], [(2, 7, 8), (2, 7, 30)]),
    (lambda a, b: [P.matmul(P.reshape(P.permute(P.matmul(a, b), (1, 0, 2)), (8, 30)), P.reshape(b, (30, 7)))],
     [(5, 8, 7), (5, 7, 6)]),
])
def test_a_product_is_stored_as_it_is_wanted(f, shapes):
    g = graph(f, *shapes)
    plan = schedule(g)
    assert all([isinstance(s, GemmStep) for s in plan.steps]), plan.steps
    same(g, g)


def test_a_product_that_is_read_as_it_is_too_stays():
    g = graph(lambda a, b: [P.permute(P.matmul(a, b), (1, 0)), P.exp(P.matmul(a, b))], (20, 7), (7, 30))
    assert len(schedule(g).steps) > 1
    same(g, g)


def test_a_matrix_that_many_small_products_read_transposed_is_turned_once():
    def f(w, *xs):
        return [P.matmul(x, P.permute(w, (1, 0))) for x in xs]

    g = graph(f, (40, 50), *[(3, 50)] * 9)
    steps_ = schedule(g).steps
    assert not any([s.trans_b for s in steps_ if isinstance(s, GemmStep)]) and len(steps_) == 10
    same(g, g)
    few = schedule(graph(f, (40, 50), *[(3, 50)] * 4)).steps
    assert all([s.trans_b for s in few]) and len(few) == 4
