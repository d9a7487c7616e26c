"""A kernel whose text is remembered gets the text and the table that emitting it anew gives."""

from __future__ import annotations

import pytest

from autojit.autodiff.vjp import reverse
from autojit.backends.cpu import emit, known
from autojit.dtypes import float32, int64
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, const, placeholder
from autojit.ops.declare import P, full, spread
from autojit.rewrite.simplify import simplify
from autojit.schedule.index import Range, Size
from autojit.schedule.loops import At, Buffer, Index, Kernel, KernelStep, Let, Loop, Store
from autojit.schedule.plan import schedule
from tests.graphs import random_graph


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(known, "KNOWN", {})
    monkeypatch.setattr(emit, "KNOWN", known.KNOWN)


def kernels(graph: Graph) -> list[Kernel]:
    return [s.kernel for s in schedule(simplify(graph)).steps if isinstance(s, KernelStep)]


def check(found: list[Kernel]) -> int:
    """How many of the kernels were known."""
    hits = 0
    for k in found:
        hits += known.Look(k).key in known.KNOWN
        for _ in range(2):                                     # the second time it is known
            got, want = emit.emit_kernel(k), emit._Emitter(k).emitted()
            assert got.text == want.text
            assert repr(got.table) == repr(want.table)         # 1 is not 1.0, -0.0 not 0.0
    return hits


def network(n: int, m: int, classes: int = 10) -> Graph:
    """Softmax, a mean over each axis, a gather, and gradients: serial or parallel by size."""
    x, w, y = placeholder(aval((n, m), float32)), placeholder(aval((m,), float32)), placeholder(aval((n, 1), int64))
    z = P.tanh(P.mul(x, spread(w, (n, m))))
    top = spread(P.reshape(P.max(z, (1,)), (n, 1)), (n, m))
    e = P.exp(P.sub(z, top))
    p = P.div(e, spread(P.reshape(P.sum(e, (1,)), (n, 1)), (n, m)))
    rows, columns = full(1 / n, (m,), float32), full(1 / m, (n,), float32)
    means = P.add(P.sum(P.mul(P.sum(p, (0,)), rows), (0,)), P.sum(P.mul(P.sum(z, (1,)), columns), (0,)))
    loss = P.add(means, P.sum(P.log(P.gather(p, y, 1)), (0, 1)))
    grads = [g for g in reverse([loss], [const(1, float32)], [x, w]) if g is not None]
    return Graph([x, w, y], [loss, *grads])


@pytest.mark.parametrize("m", [5, 10, 33, 300])
def test_other_extents(m):
    hits = [check(kernels(network(n, m))) for n in (20, 21, 40, 300, 301, 2000, 3000, m, 700)]
    assert hits[0] == 0 and sum(h > 0 for h in hits) >= 4


def test_equal_extents_and_constants():
    """Where two extents are equal, so are constants made of them: a slot less, and another text."""
    check(kernels(network(64, 32)))
    for n, m in ((64, 64), (48, 96), (96, 48), (64, 128)):
        check(kernels(network(n, m)))


def test_random_graphs():
    for seed in range(60):
        check(kernels(random_graph(seed)[0]))


@pytest.mark.parametrize("straight", [True, False])
def test_the_order_of_strides_is_looked_at(straight):
    """The terms of an index are written by stride: which one is longer is no matter of structure."""
    def kernel(a: int, b: int) -> Kernel:
        i, k = Range(1, 0, Size(5, ("axis", 3)), 0, 0), Range(2, 0, Size(6, ("axis", 4)), 1, 1)
        index = Index(0, ((i, Size(a, ("axis", 1))), (k, Size(b, ("axis", 2)))))
        x, y = Buffer("input0", "input", float32, 1000), Buffer("output1", "output", int64 if straight else float32, 30)
        at = At(x, (index,), (1000,))
        let = Let("t1", "index", int64, (), (index,)) if straight else Let("t1", "load", float32, (), (at, ()))
        store = Store(At(y, (Index(0, ((i, 1),)), Index(0, ((k, 1),))), (i.extent, k.extent)), "t1")
        return Kernel((Loop(i, (Loop(k, (let, store)),)),))

    assert check([kernel(20, 30), kernel(40, 50), kernel(50, 40), kernel(7, 7), kernel(90, 30)]) == 3
    texts = {emit.emit_kernel(kernel(a, b)).text for a, b in ((20, 30), (30, 20))}
    assert len(texts) == 2


def test_few_are_kept(monkeypatch):
    monkeypatch.setattr(known, "LIMIT", 3)
    for n in range(2, 9):
        x = placeholder(aval((n,), float32))
        check(kernels(Graph([x], [P.sin(x)])))
        assert len(known.KNOWN) <= 3
