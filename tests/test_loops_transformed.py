"""Loops and branches under forward mode and batching, as nodes: against the same without a loop."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from autojit.autodiff.batching import batch
from autojit.autodiff.forward import both, forward
from autojit.autodiff.vjp import reverse
from autojit.dtypes import bool_, float64
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, node, placeholder
from autojit.ops.declare import P, full
from autojit.ops.loops import BRANCH, SCAN, branch_spec, scan_spec
from autojit.ops.whiles import WHILE, while_spec

from .checking import evaluate

RNG = np.random.default_rng(0)
SIZE, LENGTH = 3, 4


def leaves(*shapes):
    return [placeholder(aval(s, float64)) for s in shapes]


def loop(reverse=False):
    """const w, carries h and a counter, slices x: h = tanh(h * w + x), stacked sin(h) and x * w."""
    w, h, count, x = leaves((2,), (2,), (), (2,))
    new = P.tanh(P.add(P.mul(h, w), x))
    body = Graph([w, h, count, x], [new, P.add(count, full(1, (), float64)), P.sin(new), P.mul(x, w)])
    return scan_spec(body, LENGTH, 1, 2, reverse)


def results(spec, inputs, count):
    return [node(SCAN, tuple(inputs), (spec, k)) for k in range(count)]


ARRAYS = [RNG.uniform(0.5, 1, (2,)), RNG.uniform(-1, 1, (2,)), np.array(0.0), RNG.uniform(-1, 1, (LENGTH, 2))]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("which", [(0,), (1,), (3,), (0, 1, 3)], ids=str)
def test_tangents_of_a_loop(which, backwards):
    ins = leaves(*[a.shape for a in ARRAYS])
    outs = results(loop(backwards), ins, 4)
    ways = {k: placeholder(ins[k].aval) for k in which}
    numbers = {k: RNG.uniform(-1, 1, ARRAYS[k].shape) for k in which}
    found = forward(outs, {ins[k]: t for k, t in ways.items()})
    assert found[1] is None                               # a counter has no tangent
    there = [t for t in found if t is not None]
    got = iter(evaluate(there, [*ins, *ways.values()], [*ARRAYS, *numbers.values()]))
    h = 1e-6
    low, high = (evaluate(outs, ins, [a + s * numbers.get(k, 0) for k, a in enumerate(ARRAYS)]) for s in (-h, h))
    for t, a, b in zip(found, low, high):
        np.testing.assert_allclose(0 if t is None else next(got), (b - a) / (2 * h), rtol=1e-6, atol=1e-8)


def test_values_and_tangents_are_one_loop():
    """Also of a loop that takes what another gives, and of one inside of another."""
    ins = leaves(*[a.shape for a in ARRAYS])
    first = results(loop(), ins, 1)[0]
    h, = leaves((2,))
    inner = node(SCAN, (ins[0], h, ins[2], ins[3]), (loop(), 0))
    outer = scan_spec(Graph([ins[0], ins[2], ins[3], h], [inner]), 2, 3, 1, False)
    out = node(SCAN, (ins[0], ins[2], ins[3], first), (outer, 0))
    t, = leaves((2,))
    (value,), (moved,) = both([out], {ins[0]: t})

    def loops(roots):
        return {(n.params[0], n.inputs) for n in Graph(ins, roots).order if n.op == "scan"}

    assert len(loops([value, moved])) == 2 == len(loops([moved]))
    (deep,) = [spec for spec, _ in loops([value]) if any(n.op == "scan" for n in spec.body.order)]
    assert len({n.params[0] for n in deep.body.order if n.op == "scan"}) == 1
    number, s = RNG.uniform(-1, 1, 2), 1e-6
    a, b = evaluate([value, moved], [*ins, t], [*ARRAYS, number])
    low, high = (evaluate([out], ins, [ARRAYS[0] + k * number, *ARRAYS[1:]])[0] for k in (-s, s))
    np.testing.assert_allclose(a, evaluate([out], ins, ARRAYS)[0])
    np.testing.assert_allclose(b, (high - low) / (2 * s), rtol=1e-6, atol=1e-8)


def test_second_order_of_a_loop():
    """Reverse over forward and forward over reverse."""
    ins = leaves(*[a.shape for a in ARRAYS])
    out = P.sum(results(loop(), ins, 1)[0], (0,))
    t, = leaves((2,))
    number = RNG.uniform(-1, 1, 2)
    moved, = forward([out], {ins[0]: t})
    one, = reverse([moved], [full(1, (), float64)], [ins[0]])
    grad, = reverse([out], [full(1, (), float64)], [ins[0]])
    other, = forward([grad], {ins[0]: t})
    a, b = evaluate([one, other], [*ins, t], [*ARRAYS, number])
    np.testing.assert_allclose(a, b, rtol=1e-10)
    h = 1e-5
    low, high = (evaluate([grad], ins, [ARRAYS[0] + s * number, *ARRAYS[1:]])[0] for s in (-h, h))
    np.testing.assert_allclose(a, (high - low) / (2 * h), rtol=1e-5)


def examples(roots, ins, arrays, flags):
    """Batched, and one by one."""
    columns = [[a + 0.1 * k if a.dtype != bool else a ^ bool(k % 2) for k in range(SIZE)] if f else [a] * SIZE
               for a, f in zip(arrays, flags)]
    want = zip(*[evaluate(roots, ins, [c[k] for c in columns]) for k in range(SIZE)])
    many = [placeholder(aval((SIZE, *n.shape), n.dtype)) if f else n for n, f in zip(ins, flags)]
    made = batch(roots, {n: m for n, m, f in zip(ins, many, flags) if f}, SIZE)
    got = evaluate([n for n, _ in made], many, [np.stack(c) if f else c[0] for c, f in zip(columns, flags)])
    for (_, whole), g, w in zip(made, got, want):
        assert whole
        assert g.shape == np.stack(w).shape
        np.testing.assert_allclose(g, np.stack(w), rtol=1e-12)


@pytest.mark.parametrize("flags", [f for f in itertools.product([False, True], repeat=4) if any(f)], ids=str)
def test_a_loop_for_many_examples(flags):
    ins = leaves(*[a.shape for a in ARRAYS])
    examples(results(loop(), ins, 4), ins, ARRAYS, flags)


# ---------------------------------------------------------------- until a graph says so
def until():
    """const w, carries h and a counter: h = h * w + h until it is over 3."""
    w, h, count = leaves((2,), (2,), ())
    over = P.lt(P.max(h, (0,)), full(3, (), float64))
    body = Graph([w, h, count], [P.add(P.mul(h, w), h), P.add(count, full(1, (), float64))])
    return while_spec(Graph([w, h, count], [over]), body, 1)


def test_tangents_of_a_while():
    ins = leaves((2,), (2,), ())
    outs = [node(WHILE, tuple(ins), (until(), k)) for k in range(2)]
    t, = leaves((2,))
    values, (moved, none) = both(outs, {ins[0]: t})
    assert none is None
    arrays, number, h = [np.array([0.5, 0.3]), np.array([0.4, 0.7]), np.array(0.0)], np.array([1.0, -0.5]), 1e-6
    a, turns, b = evaluate([*values, moved], [*ins, t], [*arrays, number])
    low, high = (evaluate([outs[0]], ins, [arrays[0] + s * number, *arrays[1:]])[0] for s in (-h, h))
    np.testing.assert_allclose(a, evaluate([outs[0]], ins, arrays)[0])
    np.testing.assert_allclose(b, (high - low) / (2 * h), rtol=1e-6)
    assert turns == 5 and len({n.params[0] for n in Graph(ins, [*values, moved]).order if n.op == "while"}) == 1


@pytest.mark.parametrize("flags", [f for f in itertools.product([False, True], repeat=3) if any(f)], ids=str)
def test_a_while_for_many_examples(flags):
    """Examples end at different turns."""
    ins = leaves((2,), (2,), ())
    outs = [node(WHILE, tuple(ins), (until(), k)) for k in range(2)]
    examples(outs, ins, [np.array([0.5, 0.3]), np.array([0.4, 0.7]), np.array(0.0)], flags)


def choice():
    """Three results of (p, a, b): one differs on both sides, one is a constant on one side, one everywhere."""
    def side(f):
        a, b = leaves((2,), (2,))
        return Graph([a, b], f(a, b))
    return branch_spec(side(lambda a, b: [P.mul(a, b), P.sin(a), full(1, (2,), float64)]),
                       side(lambda a, b: [P.add(a, b), full(2, (2,), float64), full(3, (2,), float64)]))


@pytest.mark.parametrize("taken", [True, False])
def test_tangents_of_a_branch(taken):
    p = placeholder(aval((), bool_))
    a, b, t = leaves((2,), (2,), (2,))
    outs = [node(BRANCH, (p, a, b), (choice(), k)) for k in range(3)]
    first, second, third = forward(outs, {a: t})
    x, y, v = np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([1.0, -1.0])
    assert third is None
    got = evaluate([first, second], [p, a, b, t], [np.array(taken), x, y, v])
    np.testing.assert_allclose(got[0], y * v if taken else v)
    np.testing.assert_allclose(got[1], np.cos(x) * v if taken else 0 * v)


@pytest.mark.parametrize("flags", [f for f in itertools.product([False, True], repeat=3) if any(f)], ids=str)
def test_a_branch_for_many_examples(flags):
    p = placeholder(aval((), bool_))
    a, b = leaves((2,), (2,))
    outs = [node(BRANCH, (p, a, b), (choice(), k)) for k in range(3)]
    examples(outs, [p, a, b], [np.array(True), np.array([1.0, 2.0]), np.array([3.0, 4.0])], flags)
