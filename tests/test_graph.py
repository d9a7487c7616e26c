"""Nodes are hash-consed, keys are structural, constants are told apart by bits, passes do not recurse."""

from __future__ import annotations

import numpy as np
import pytest

from autojit import ops  # noqa: F401  (declares the primitives)
from autojit.autodiff.vjp import reverse
from autojit.backends.numpy.run import NumpyProgram
from autojit.dtypes import bool_, float32, int64
from autojit.errors import VerifyError
from autojit.ir import recipe
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, const, forget, node, placeholder, scalar
from autojit.ir.primitive import REGISTRY
from autojit.ir.recipe import Recipe
from autojit.ir.text import graph_text
from autojit.ir.verify import verify_graph
from autojit.ops.control import SubGraph
from autojit.ops.declare import P, full
from autojit.rewrite.inline import inline
from autojit.rewrite.simplify import simplify

F3 = aval((3,), float32)


def loss_of(x):
    return P.sum(P.mul(P.exp(P.neg(P.mul(x, x))), P.sin(x)), (0,))


def test_equal_expressions_are_one_node():
    x = placeholder(F3)
    assert P.exp(x) is P.exp(x)
    assert placeholder(F3) is not placeholder(F3)
    assert aval((3,), float32) is F3


def test_constants_are_told_apart_by_bits():
    assert const(0.0, float32) is not const(-0.0, float32)
    assert const(True, bool_) is not const(1, int64)
    assert const(float("nan"), float32) is const(float("nan"), float32)
    assert scalar(3.0, float32) is not const(3.0, float32)          # the user's 3 and a rule's 3
    assert scalar(2.0, float32) is const(2.0, float32)


def test_keys_number_leaves_by_first_use():
    def graph(swap):
        a, b = placeholder(F3), placeholder(F3)
        return Graph([a, b], [P.sub(b, a) if swap else P.sub(a, b)])
    assert graph(False).key == graph(False).key != graph(True).key
    x = placeholder(F3)
    assert Graph([x], [P.mul(x, full(3, (3,), float32))]).key != Graph([x], [P.mul(x, full(4, (3,), float32))]).key


def test_text_is_stable():
    x = placeholder(F3)
    assert graph_text(Graph([x], [P.sum(P.exp(x), (0,))])) == (
        "%0 = input : f32[3]\n%1 = exp %0 : f32[3]\n%2 = sum %1 (0,) : f32[]\nreturn %2")


def test_deep_graphs_do_not_recurse():
    x = placeholder(F3)
    h = x
    for _ in range(6000):
        h = P.mul(P.add(h, x), full(0.5, (3,), float32))
    g, = reverse([P.sum(h, (0,))], [const(1, float32)], [x])
    graph = simplify(Graph([x], [h, g]))
    verify_graph(graph, "test")
    y, dx = NumpyProgram(graph)([np.ones(3, np.float32)])
    assert np.allclose(y, 1) and np.allclose(dx, 1)
    forget()


def test_the_verifier_sees_a_wrong_aval_and_a_stray_leaf():
    x, y = placeholder(F3), placeholder(F3)
    with pytest.raises(VerifyError, match="no input"):
        verify_graph(Graph([x], [P.add(x, y)]), "test")
    bad = P.exp(placeholder(F3))
    bad.aval = aval((4,), float32)
    with pytest.raises(VerifyError, match="infers"):
        verify_graph(Graph(bad.inputs, [bad]), "test")


def test_masks_travel_to_the_side_not_taken():
    """d/dx where(x > 0, sqrt(x), 0) at x < 0 is 0, and stays 0 through what comes before."""
    x = placeholder(F3)
    inner = P.mul(x, full(2, (3,), float32))
    y = P.where(P.gt(inner, full(0, (3,), float32)), P.sqrt(inner), full(0, (3,), float32))
    g, = reverse([P.sum(y, (0,))], [const(1, float32)], [x])
    _, dx = NumpyProgram(Graph([x], [y, g]))([np.array([-1, 0, 2], np.float32)])
    assert dx.tolist() == [0, 0, 0.5]


def test_zeros_are_symbolic():
    x, z = placeholder(F3), placeholder(F3)
    assert reverse([P.sum(x, (0,))], [const(1, float32)], [z]) == [None]


@pytest.mark.parametrize("level", [1, 2])
def test_calls_inline_and_differentiate(level):
    x = placeholder(F3)
    body = SubGraph(Graph([x], [loss_of(x)]))
    for _ in range(level - 1):
        z = placeholder(F3)
        body = SubGraph(Graph([z], [P.call([z], body, 0)]))
    y = placeholder(F3)
    out = P.call([y], body, 0)
    g, = reverse([out], [const(1, float32)], [y])
    joint = Graph([y], [out, g])
    a = np.array([0.1, -0.5, 2], np.float32)
    direct, = reverse([loss_of(y)], [const(1, float32)], [y])
    want = NumpyProgram(Graph([y], [loss_of(y), direct]))([a])
    flat = simplify(inline(joint))
    assert not any(n.op == "call" for n in flat.order)
    for got in (NumpyProgram(joint)([a]), NumpyProgram(flat)([a])):
        assert all(np.allclose(p, q) for p, q in zip(got, want))


def test_simplify_keeps_every_bit():
    x = placeholder(F3)
    zero, one = full(0, (3,), float32), full(1, (3,), float32)
    graph = Graph([x], [P.add(x, zero), P.mul(x, zero), P.mul(x, one), P.sub(x, zero), P.neg(P.neg(x)),
                        P.add(x, P.neg(one)), P.reshape(P.reshape(x, (1, 3)), (3,)), P.where(P.isnan(x), one, one)])
    a = np.array([-0.0, np.inf, np.nan], np.float32)
    plain, simple = NumpyProgram(graph)([a]), NumpyProgram(simplify(graph))([a])
    assert all(p.tobytes() == q.tobytes() or np.array_equal(p, q, equal_nan=True) for p, q in zip(plain, simple))
    assert np.signbit(plain[3][0]) and not np.signbit(simple[0][0])
    assert simplify(graph).outputs[2] is x and simplify(graph).outputs[4] is x


def test_every_primitive_is_documented():
    assert all(p.doc for p in REGISTRY.values())
    with pytest.raises(TypeError):
        node(REGISTRY["add"], (placeholder(F3), placeholder(aval((4,), float32))))


def test_an_interrupt_leaves_no_half_made_node(monkeypatch):
    class Interrupting:
        @property
        def run(self):
            raise KeyboardInterrupt
    x, y = placeholder(F3), placeholder(F3)
    made = Recipe([x], [P.exp(P.sin(x))])
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "clock", Interrupting())
        with pytest.raises(KeyboardInterrupt):
            made([y])
    (out,) = made([y])
    assert out is P.exp(P.sin(y)) and out.born <= y.born
