"""Graph to kernels, run as plain Python text, against the NumPy oracle: every kind of primitive, every awkward shape."""

from __future__ import annotations

import numpy as np
import pytest

import autojit as aj
from autojit import ops  # noqa: F401
from autojit.autodiff.vjp import reverse
from autojit.backends.numpy.run import NumpyProgram
from autojit.dtypes import bool_, float32, float64, int8, int16, int32, int64, uint8
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, const, forget, placeholder
from autojit.ops.declare import P, back, full, spread
from autojit.ops.movement import pad_value
from autojit.ops.windows import unwindows, windows
from autojit.rewrite.simplify import simplify

from .graphs import agree, random_graph
from .plain import EAGER_TO_SPLIT, run_plain


def same(graph: Graph, arrays, **tolerance) -> None:
    """By its schedule, serial and in many chunks, a graph gives what the oracle gives."""
    want = NumpyProgram(graph)(arrays)
    for target in (None, EAGER_TO_SPLIT):
        difference = agree(run_plain(graph, arrays, target), want, **tolerance)
        assert difference is None, difference


def inputs(*avals):
    return [placeholder(aval(shape, dtype)) for shape, dtype in avals]


def normal(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def with_gradients(outputs, wrt):
    """The outputs, and gradients of the sum of the first."""
    top = outputs[0]
    loss = P.sum(top, tuple(range(top.ndim)))
    grads = reverse([loss], [const(1, top.dtype)], wrt)
    return [*outputs, *[g for g in grads if g is not None]]


@pytest.mark.parametrize("block", range(8))
def test_random_graphs(block):
    for seed in range(block * 15, block * 15 + 15):
        graph, arrays = random_graph(seed)
        want = NumpyProgram(graph)(arrays)
        target = EAGER_TO_SPLIT if seed % 2 else None
        for g in (graph, simplify(graph)):
            difference = agree(run_plain(g, arrays, target), want)
            assert difference is None, f"seed {seed}: {difference}"
        forget()


# ---------------------------------------------------------------- movement
def chain_reshape(x):
    return P.sum(P.exp(P.neg(P.reshape(P.permute(P.reshape(P.sin(x), (6, 4, 5)), (2, 0, 1)), (10, 12)))), (0,))


MOVES = {
    "reshape where factors disagree": lambda x: P.add(
        P.reshape(P.sin(x), (30, 28)), P.reshape(P.powi(P.reshape(P.cos(x), (21, 40)), 2), (30, 28))),
    "square, transposed": lambda x: (lambda s: P.mul(P.tanh(s), P.permute(s, (1, 0))))(P.reshape(x, (29, 29))),
    "permuted pairs of equal axes": lambda x: P.permute(P.reshape(x, (4, 5, 4, 5)), (0, 3, 2, 1)),
    "flipped": lambda x: P.mul(P.flip(P.reshape(x, (20, 42)), (1,)), P.reshape(x, (20, 42))),
    "strided slices": lambda x: P.slice(P.reshape(x, (20, 42)), (1, 3), (20, 40), (2, 5)),
    "pad of a slice of a pad": lambda x: P.pad(P.slice(P.pad(x, (3,), (900,), (1,)), (1,), (800,), (3,)), (5,), (600,), (2,)),
    "pad, then reshape": lambda x: P.sum(P.reshape(P.pad(P.reshape(x, (84, 10)), (2, 1), (90, 12), (1, 1)), (60, 18)), (1,)),
    "difference of neighbours": lambda x: P.powi(P.sub(P.slice(x, (1,), (840,), (1,)), P.slice(x, (0,), (839,), (1,))), 2),
    "windows that overlap": lambda x: P.sum(P.sin(windows(P.reshape(x, (4, 15, 14)), (3, 2), (2, 1), (1, 3))), (3,)),
    "windows added up": lambda x: unwindows(P.cos(P.reshape(x, (4, 5, 7, 3, 2))), (13, 13), (2, 1), (2, 5)),
    "windows side by side": lambda x: P.max(windows(P.sin(P.reshape(x, (4, 15, 14))), (2, 3), (2, 3), (1, 1)), (3, 4)),
    "numbers around, then reshape": lambda x: P.max(P.reshape(
        pad_value(P.reshape(x, (84, 10)), (0, 1), (84, 12), -9.0), (42, 2, 6, 2)), (1, 3)),
    "update": lambda x: P.update(P.exp(x), P.slice(x, (0,), (400,), (1,)), (17,), (2,)),
    "concat of unequal parts": lambda x: P.concat([x, P.exp(P.slice(x, (0,), (3,), (1,))), P.sin(x)], 0),
    "many parts": lambda x: P.concat([P.slice(x, (k,), (k + 40,), (1,)) for k in range(20)], 0),
}


@pytest.mark.parametrize("name", MOVES)
def test_movement_and_its_gradient(name):
    size = 841 if name.startswith("square") else 400 if "pairs" in name else 840
    (x,) = inputs(((size,), float32))
    same(Graph([x], with_gradients([MOVES[name](x)], [x])), [normal(size)])


def test_many_slices_of_one_array():
    """A loop over the rows of an input: the gradient is a sum of pads, stored one by one."""
    (x,) = inputs(((30, 4, 3), float32))
    h = P.reshape(P.slice(x, (0, 0, 0), (1, 4, 3), (1, 1, 1)), (4, 3))
    for t in range(1, 30):
        h = P.tanh(P.add(h, P.reshape(P.slice(x, (t, 0, 0), (t + 1, 4, 3), (1, 1, 1)), (4, 3))))
    same(Graph([x], with_gradients([h], [x])), [normal(30, 4, 3)])


# ---------------------------------------------------------------- reductions
def test_arg_takes_the_first_and_nan():
    (x,) = inputs(((5, 40), float32))
    a = np.round(normal(5, 40), 1)
    a[1, 7] = a[1, 3] = np.nan
    a[2, 5] = a[2, 9] = 8
    same(Graph([x], [P.argmax(x, 1), P.argmin(x, 1), P.argmax(x, 0)]), [a])


def test_ties_share_the_gradient():
    (x,) = inputs(((20, 30), float32))
    same(Graph([x], with_gradients([P.mul(P.max(x, (1,)), P.max(x, (1,)))], [x])), [np.round(normal(20, 30))])


def test_extremes_over_everything():
    (x,) = inputs(((40, 30), float64))
    outs = [P.max(x, (0, 1)), P.min(x, (0,)), P.prod(P.add(x, full(1, x.shape, float64)), (1,)), P.sum(x, ())]
    same(Graph([x], outs), [normal(40, 30, dtype=np.float64)])


def test_reduction_that_feeds_its_own_axis():
    """Batch norm: the sum over rows goes into every row; then over equal extents."""
    for shape in ((60, 40), (40, 40)):
        x, g = inputs((shape, float32), ((40,), float32))
        mu = back(P.mul(P.sum(x, (0,)), full(1 / shape[0], (40,), float32)), (0,), shape)
        d = P.sub(x, mu)
        var = P.mul(P.sum(P.mul(d, d), (0,)), full(1 / shape[0], (40,), float32))
        y = P.div(d, back(P.sqrt(P.add(var, full(1e-5, (40,), float32))), (0,), shape))
        top = P.mul(P.tanh(P.mul(y, spread(g, shape))), x)
        same(Graph([x, g], with_gradients([top], [x, g])), [normal(*shape), normal(40)])


def test_sums_in_both_directions():
    (x,) = inputs(((40, 60), float32))
    a = P.powi(P.sum(x, (0,)), 2)
    b = P.powi(P.sum(P.exp(x), (1,)), 2)
    top = P.mul(P.sum(a, (0,)), P.sum(b, (0,)))
    same(Graph([x], with_gradients([top], [x])), [normal(40, 60) * np.float32(0.1)], rtol=1e-3)


def test_softmax_rows_of_scores():
    """Scores as a sum of products, softmax of rows, column sums of the result: stages of kernels."""
    q, k = inputs(((50, 6), float32), ((50, 6), float32))
    shape = (50, 50, 6)
    s = P.sum(P.mul(P.expand(P.reshape(q, (50, 1, 6)), shape), P.expand(P.reshape(k, (1, 50, 6)), shape)), (2,))
    e = P.exp(P.sub(s, back(P.max(s, (1,)), (1,), s.shape)))
    p = P.div(e, back(P.sum(e, (1,)), (1,), s.shape))
    top = P.add(P.sum(P.mul(p, p), (0, 1)), P.sum(P.powi(P.sum(p, (0,)), 2), (0,)))
    same(Graph([q, k], with_gradients([top], [q, k])), [normal(50, 6), normal(50, 6, seed=1)])


# ---------------------------------------------------------------- dtypes
@pytest.mark.parametrize("dtype", [uint8, int8, int16, int32, int64])
def test_integers_wrap(dtype):
    x, y = inputs(((7, 20), dtype), ((7, 20), dtype))
    info = np.iinfo(dtype.np)
    rng = np.random.default_rng(0)
    arrays = [rng.integers(info.min, info.max, (7, 20), dtype.np, endpoint=True) for _ in range(2)]
    arrays[1][0, :4] = 0
    outs = [P.add(x, y), P.sub(x, y), P.mul(x, y), P.neg(x), P.abs(x), P.maximum(x, y), P.bitwise_xor(x, y), P.bitwise_not(x),
            P.sign(x), P.powi(x, 3), P.floor_divide(x, y), P.remainder(x, y), P.trunc_divide(x, y), P.lt(x, y), P.sum(x, (1,)),
            P.prod(x, (0,)), P.max(x, (0, 1)), P.min(x, (1,)), P.cast(x, float32), P.cast(x, int8), P.cast(x, bool_)]
    same(Graph([x, y], outs), arrays)


def test_bools_are_logic():
    x, y = inputs(((40,), bool_), ((40,), bool_))
    rng = np.random.default_rng(0)
    arrays = [rng.random(40) > 0.5 for _ in range(2)]
    outs = [P.bitwise_and(x, y), P.bitwise_or(x, y), P.bitwise_xor(x, y), P.bitwise_not(x), P.eq(x, y), P.ne(x, y), P.lt(x, y),
            P.le(x, y), P.gt(x, y), P.ge(x, y), P.max(x, (0,)), P.min(x, (0,)), P.where(x, y, P.bitwise_not(y)),
            P.cast(x, float32), P.sum(P.cast(x, int64), (0,))]
    same(Graph([x, y], outs), arrays)


def test_mixed_dtypes_in_one_kernel():
    x, y = inputs(((20,), float32), ((20,), int32))
    wide = P.mul(P.cast(x, float64), P.cast(y, float64))
    outs = [wide, P.cast(P.sum(wide, (0,)), float32), P.cast(P.mul(x, full(3, (20,), float32)), int64)]
    same(Graph([x, y], outs), [normal(20), np.arange(20, dtype=np.int32)])


# ---------------------------------------------------------------- special numbers
def test_nan_inf_zero_and_denormals_go_through():
    (x,) = inputs(((3, 40), float32))
    a = normal(3, 40)
    a[0, :6] = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-41]
    a[1, 0], a[2, 0] = np.inf, 3e38
    total = back(P.sum(x, (1,)), (1,), x.shape)
    top = back(P.max(x, (1,)), (1,), x.shape)
    e = P.exp(P.sub(x, top))
    outs = [P.sub(P.add(x, full(np.inf, x.shape, float32)), full(np.inf, x.shape, float32)), P.div(x, total), P.relu(x),
            P.sign(x), P.div(e, back(P.sum(e, (1,)), (1,), x.shape)), P.mul(x, full(0, x.shape, float32)), P.isnan(x),
            P.div(full(1, x.shape, float32), x)]
    same(Graph([x], outs), [a])


def test_rows_divided_by_denormal_and_huge_numbers():
    """A quotient by a row's invariant is a product with its reciprocal only where that loses nothing."""
    x, c = inputs(((6, 200), float32), ((6, 1), float32))
    q = P.div(x, P.expand(c, (6, 200)))
    a = normal(6, 200) * np.float32(1e-38)
    a[1] = normal(200) * np.float32(1e38)
    scales = np.array([[1e-40], [2e38], [0], [np.inf], [np.nan], [3e-39]], np.float32)
    a[2, :5] = 0
    with np.errstate(all="ignore"):
        want = (a.astype(np.float64) / scales.astype(np.float64)).astype(np.float32)
    for target in (None, EAGER_TO_SPLIT):
        (got,) = run_plain(Graph([x, c], [q]), [a, scales], target)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_allclose(got, want, rtol=3e-7)


def test_signs_of_zeros_are_kept():
    """x - y and y - x are one value under a sum only."""
    x, y = inputs(((20,), float32), ((20,), float32))
    one = full(1, (20,), float32)
    outs = [P.div(one, P.sub(x, y)), P.div(one, P.sub(y, x)), P.neg(P.sub(y, x)), P.sum(P.sub(x, y), (0,)),
            P.sum(P.sub(y, x), (0,))]
    a = np.repeat(normal(10), 2)
    same(Graph([x, y], outs), [a, a.copy()])


def test_a_sum_of_zeros_is_plus_zero():
    """Also where the sign, or a negative factor, has left the sum."""
    x, c = inputs(((3, 20), float32), ((3, 1), float32))
    turned = P.sub(P.expand(c, (3, 20)), P.neg(P.mul(x, P.expand(c, (3, 20)))))
    outs = [P.sum(P.neg(x), (1,)), P.sum(P.mul(x, full(-2, (3, 20), float32)), (1,)), P.sum(P.neg(x), (0, 1)),
            P.sum(P.mul(x, P.expand(c, (3, 20))), (1,)), P.sum(turned, (1,))]
    arrays = [np.zeros((3, 20), np.float32), np.array([[-1], [-0.0], [2]], np.float32)]
    graph = Graph([x, c], outs)
    want = NumpyProgram(graph)(arrays)
    for target in (None, EAGER_TO_SPLIT):
        for got, w in zip(run_plain(graph, arrays, target), want, strict=True):
            np.testing.assert_array_equal(got, w)
            np.testing.assert_array_equal(np.signbit(got), np.signbit(w))


def test_split_sums_do_not_cancel():
    """Sums of small differences of big numbers keep their digits: no split into the difference of big sums."""
    (x,) = inputs(((4, 512), float32))
    top = back(P.max(x, (1,)), (1,), x.shape)
    mu = back(P.mul(P.sum(x, (1,)), full(1 / 512, (4,), float32)), (1,), x.shape)
    d = P.sub(x, mu)
    outs = [P.sum(P.sub(x, top), (1,)), P.sum(P.mul(d, d), (1,))]
    a = (10000 + np.random.default_rng(0).integers(0, 64, (4, 512)) / 64).astype(np.float32)
    exact = a.astype(np.float64)
    want = [(exact - exact.max(1, keepdims=True)).sum(1), ((exact - exact.mean(1, keepdims=True)) ** 2).sum(1)]
    for target in (None, EAGER_TO_SPLIT):
        got = run_plain(Graph([x], outs), [a], target)
        np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
        np.testing.assert_allclose(got[1], want[1], rtol=1e-3)  # the mean itself is summed in float32


# ---------------------------------------------------------------- index and scatter
def test_one_index_a_row_is_a_select():
    z, y = inputs(((30, 20), float32), ((30, 1), int64))
    picked = P.gather(z, y, 1)
    same(Graph([z, y], with_gradients([P.mul(picked, picked)], [z])),
         [normal(30, 20), np.random.default_rng(0).integers(0, 20, (30, 1))])


def test_one_hot_outside_the_axis_is_zero():
    """A user's own `arange == y` may have no hit; the sum over it is then 0, not the last or first element."""
    x, y = inputs(((6, 20), float32), ((6,), int64))
    hot = P.eq(P.iota((6, 20), 1), P.expand(P.reshape(y, (6, 1)), (6, 20)))
    top = P.sum(P.where(hot, x, full(0, (6, 20), float32)), (1,))
    same(Graph([x, y], [top, P.sum(P.where(hot, full(3, (6, 20), float32), full(0, (6, 20), float32)), (1,))]),
         [normal(6, 20), np.array([0, 19, -1, 20, 7, 1000])])


@pytest.mark.parametrize("axis", [0, 1])
def test_embedding(axis):
    table, places = inputs(((30, 20), float32), ((7, 5), int64))
    rows = P.take(table, places, axis)
    same(Graph([table, places], with_gradients([P.mul(rows, P.sin(rows))], [table])),
         [normal(30, 20), np.random.default_rng(0).integers(0, 20, (7, 5))])


def test_scatter_at_many_places():
    a, i, v = inputs(((9, 20), float32), ((7, 11), int64), ((7, 11), float32))
    out = P.scatter_add(a, i, v, 1)
    same(Graph([a, i, v], with_gradients([P.exp(P.neg(out))], [a, v])),
         [normal(9, 20), np.random.default_rng(0).integers(0, 20, (7, 11)), normal(7, 11)])


def test_counting():
    (i,) = inputs(((50,), int64))
    counts = P.index_add(full(0, (6,), float32), i, full(1, (50,), float32), 0)
    same(Graph([i], [counts]), [np.random.default_rng(0).integers(0, 6, 50)])


def test_an_index_computed_inside():
    (x,) = inputs(((12, 20), float32))
    best = P.argmax(x, 1)
    same(Graph([x], [P.take(P.sum(x, (0,)), best, 0), P.gather(x, P.reshape(best, (12, 1)), 1)]), [normal(12, 20)])


# ---------------------------------------------------------------- products
@pytest.mark.parametrize("shapes", [((5, 7), (7, 3)), ((20, 30), (30, 1)), ((1, 30), (30, 20)), ((4, 5, 6), (4, 6, 7)),
                                    ((3, 3), (3, 3)), ((2, 3, 20, 17), (2, 3, 17, 18)), ((0, 5), (5, 3)), ((5, 0), (0, 3)),
                                    ((17, 17), (17, 17))])
def test_products(shapes):
    a, b = inputs((shapes[0], float32), (shapes[1], float32))
    same(Graph([a, b], with_gradients([P.tanh(P.matmul(a, b))], [a, b])), [normal(*shapes[0]), normal(*shapes[1], seed=1)])


def test_products_of_integers():
    a, b = inputs(((4, 20), int64), ((20, 6), int64))
    rng = np.random.default_rng(0)
    same(Graph([a, b], [P.matmul(a, b)]), [rng.integers(-5, 5, (4, 20)), rng.integers(-5, 5, (20, 6))])


def test_heads_are_strided_not_copied():
    """The views of attention: split into heads, permuted, shared right-hand side, summed over the batch."""
    x, w = inputs(((3, 20, 24), float32), ((24, 24), float32))
    y = P.matmul(x, P.expand(P.reshape(w, (1, 24, 24)), (3, 24, 24)))
    heads = P.permute(P.reshape(y, (3, 20, 4, 6)), (0, 2, 1, 3))
    scores = P.matmul(heads, P.permute(heads, (0, 1, 3, 2)))
    graph = Graph([x, w], with_gradients([P.tanh(scores)], [x, w]))
    same(graph, [normal(3, 20, 24), normal(24, 24, seed=1)], rtol=1e-3)


# ---------------------------------------------------------------- host, empty, 0-d, outputs
def test_host_steps_between_kernels():
    (x,) = inputs(((6, 20), float32))
    s = P.cumsum(P.exp(x), 1)
    same(Graph([x], with_gradients([P.mul(P.sort(s, 1, True), x)], [x])), [normal(6, 20)])


def test_empty_arrays():
    x, y = inputs(((0, 5), float32), ((3, 0), float32))
    outs = [P.exp(x), P.sum(x, (0,)), P.sum(y, (1,)), P.prod(y, (1,)), P.pad(x, (1, 0), (3, 5), (1, 1)),
            P.concat([x, full(2, (2, 5), float32)], 0), P.matmul(y, x), P.reshape(x, (5, 0))]
    same(Graph([x, y], outs), [np.zeros((0, 5), np.float32), np.zeros((3, 0), np.float32)])


def test_numbers_without_dimensions():
    x, y = inputs(((), float32), ((), float64))
    z = P.mul(P.exp(x), P.cast(y, float32))
    graph = Graph([x, y], with_gradients([z, P.cast(z, float64)], [x, y]))
    same(graph, [np.float32(0.3).reshape(()), np.float64(2.0).reshape(())])


def test_outputs_have_buffers_of_their_own():
    """An input, a constant, and one value twice."""
    (x,) = inputs(((4, 20), float32))
    y = P.exp(x)
    same(Graph([x], [x, y, y, full(3, (4, 20), float32), const(2.5, float64), x]), [normal(4, 20)])


def test_graphs_without_inputs():
    same(Graph([], [P.iota((3, 20), 1), full(1.5, (7,), float32)]), [])


@pytest.mark.parametrize("n", [9, 10, 16])
def test_counted_places_in_sums_that_are_written_out(n):
    """One term's place is a constant, though it is read from a counted array."""
    @aj.trace
    def loss(x, y):
        return aj.nn.functional.cross_entropy(x[:, None] * y, aj.arange(n) % n)
    arrays = [normal(n, dtype=np.float64), normal(n, dtype=np.float64, seed=1)]
    aj.value_and_grad(loss, argnums=(0, 1))(*arrays)
    same(loss.last.graph, arrays)


@pytest.mark.parametrize("shape", [(2, 16), (16, 2), (3, 16), (7, 33)])
@pytest.mark.parametrize("apart", [1, 3])
def test_neighbours_in_a_turned_matrix(shape, apart):
    """The condition at the end speaks of the row and the column together."""
    (x,) = inputs((shape, float64))
    n = shape[0] * shape[1]
    flat = P.reshape(P.permute(x, (1, 0)), (n,))
    here, there = (P.slice(flat, (k,), (k + n - apart,), (1,)) for k in (0, apart))
    step = P.sub(there, here)
    same(simplify(Graph([x], with_gradients([P.sum(P.mul(step, step), (0,))], [x]))), [normal(*shape, dtype=np.float64)])
