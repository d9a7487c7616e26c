"""What the scheduler makes of programs: how many kernels, which loops, texts that do not depend on sizes; and its checker."""

from __future__ import annotations

import cProfile
import dataclasses
import re

import numpy as np
import pytest

from autojit import ops  # noqa: F401
from autojit.autodiff.vjp import reverse
from autojit.backends.cpu.emit import emit_kernel
from autojit.backends.numpy.run import NumpyProgram
from autojit.dtypes import float32, int64
from autojit.errors import VerifyError
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, Node, const, forget, placeholder
from autojit.ops.declare import P, back, full, spread
from autojit.schedule.cost import Target
from autojit.schedule.index import Size, Space, literal, provenance
from autojit.schedule.loops import (
    At,
    Buffer,
    Const,
    GemmStep,
    HostStep,
    Index,
    Kernel,
    KernelStep,
    Let,
    Loop,
    Run,
    Schedule,
    Store,
)
from autojit.schedule.plan import schedule
from autojit.schedule.verify import verify_schedule

from .graphs import agree
from .plain import run_plain, texts

WIDE = Target(serial=1000, grain=200)                     # the test's sizes count as large


def inputs(*shapes):
    return [placeholder(aval(s, float32)) for s in shapes]


def c(value: float, n: Node) -> Node:
    return full(value, n.shape, n.dtype)


def graph_of(loss: Node, wrt: list[Node], ins: list[Node]) -> Graph:
    return Graph(ins, [loss, *reverse([loss], [const(1, float32)], wrt)])


def mean(x: Node, axis: int) -> Node:
    s = P.sum(x, (axis,))
    return back(P.mul(s, c(1 / x.shape[axis], s)), (axis,), x.shape)


def kernels(plan: Schedule) -> list[Kernel]:
    return [s.kernel for s in plan.steps if isinstance(s, KernelStep)]


def loops(body, found=None) -> list[Loop | Run]:
    """All loops of a kernel, outermost first."""
    found = [] if found is None else found
    for s in body:
        if isinstance(s, (Loop, Run)):
            found.append(s)
            loops(s.body, found)
    return found


# ---------------------------------------------------------------- programs
def lnorm(rows: int, width: int) -> Graph:
    g, b, x = ins = inputs((width,), (width,), (rows, width))
    d = P.sub(x, mean(x, 1))
    s = P.sqrt(P.add(mean(P.mul(d, d), 1), c(1e-5, x)))
    y = P.tanh(P.add(P.mul(P.div(d, s), spread(g, x.shape)), spread(b, x.shape)))
    return graph_of(P.sum(P.mul(y, x), (0, 1)), ins, ins)


def cross_entropy(rows: int, classes: int) -> Graph:
    (z,) = inputs((rows, classes))
    y = placeholder(aval((rows, 1), int64))
    z1 = P.sub(z, back(P.max(z, (1,)), (1,), z.shape))
    each = P.sub(P.log(P.sum(P.exp(z1), (1,))), P.reshape(P.gather(z1, y, 1), (rows,)))
    total = P.sum(each, (0,))
    return graph_of(P.mul(total, c(1 / rows, total)), [z], [z, y])


def logistic(rows: int, features: int) -> Graph:
    w, x, y = ins = inputs((features, 1), (rows, features), (rows,))
    z = P.reshape(P.matmul(x, w), (rows,))
    loss = P.sub(P.add(P.log1p(P.exp(P.neg(P.abs(z)))), P.relu(z)), P.mul(z, y))
    return graph_of(P.sum(loss, (0,)), [w], ins)


def mixture(points: int, parts: int, dims: int) -> Graph:
    mu, x = ins = inputs((parts, dims), (points, dims))
    shape = (points, parts, dims)
    d = P.sub(P.expand(P.reshape(x, (points, 1, dims)), shape), P.expand(P.reshape(mu, (1, parts, dims)), shape))
    q = P.sum(P.mul(d, d), (2,))
    e = P.exp(P.neg(P.sub(q, back(P.min(q, (1,)), (1,), q.shape))))
    return graph_of(P.sum(P.log(P.sum(e, (1,))), (0,)), [mu], ins)


def pairs(n: int) -> Graph:
    (x,) = ins = inputs((n, 3))
    shape = (n, n, 3)
    d = P.sub(P.expand(P.reshape(x, (n, 1, 3)), shape), P.expand(P.reshape(x, (1, n, 3)), shape))
    r = P.sqrt(P.add(P.sum(P.mul(d, d), (2,)), full(0.01, (n, n), float32)))
    return graph_of(P.sum(P.div(c(1, r), r), (0, 1)), ins, ins)


def network(batch: int, width: int) -> Graph:
    w, b, v, x = ins = inputs((20, width), (width,), (width, 18), (batch, 20))
    h = P.tanh(P.add(P.matmul(x, w), spread(b, (batch, width))))
    z = P.matmul(h, v)
    return graph_of(P.sum(P.mul(z, z), (0, 1)), [w, b, v], ins)


def recurrence(steps: int) -> Graph:
    w, u, x = ins = inputs((20, 20), (6, 20), (steps, 8, 6))
    h = None
    for t in range(steps):
        xt = P.reshape(P.slice(x, (t, 0, 0), (t + 1, 8, 6), (1, 1, 1)), (8, 6))
        a = P.matmul(xt, u)
        h = P.tanh(a if h is None else P.add(P.matmul(h, w), a))
    return graph_of(P.sum(P.mul(h, h), (0, 1)), [w, u], ins)


def rosenbrock(n: int) -> Graph:
    (x,) = ins = inputs((n,))
    a, b = P.slice(x, (0,), (n - 1,), (1,)), P.slice(x, (1,), (n,), (1,))
    r, q = P.sub(b, P.mul(a, a)), P.sub(c(1, a), a)
    return graph_of(P.sum(P.add(P.mul(c(100, r), P.mul(r, r)), P.mul(q, q)), (0,)), ins, ins)


def predator(steps: int) -> Graph:
    """Euler steps of Lotka and Volterra's equations, driven by an input: one long program of numbers."""
    p, u = ins = inputs((4,), (steps,))

    def at(a: Node, k: int) -> Node:
        return P.reshape(P.slice(a, (k,), (k + 1,), (1,)), ())

    a, b, k, d = (at(p, j) for j in range(4))
    x, y = P.exp(a), P.exp(b)
    for t in range(steps):
        xy = P.mul(x, y)
        dx = P.add(P.sub(P.mul(a, x), P.mul(b, xy)), at(u, t))
        dy = P.sub(P.mul(d, xy), P.mul(k, y))
        x, y = P.add(x, P.mul(c(0.01, x), dx)), P.add(y, P.mul(c(0.01, y), dy))
    return graph_of(P.add(P.mul(x, x), P.mul(y, y)), [p], ins)


def draw(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(i.shape).astype(np.float32) if i.dtype is float32 else rng.integers(0, 5, i.shape)
            for i in graph.inputs]


PROGRAMS = {                       # program, kernels beside combines and epilogues, passes over a row
    "lnorm": (lambda: lnorm(60, 40), 1),
    "cross_entropy": (lambda: cross_entropy(60, 40), 1),
    "logistic, in blocks of rows": (lambda: logistic(1100, 36), 1),
    "mixture, rows in lanes": (lambda: mixture(1100, 3, 12), 1),
    "pairs": (lambda: pairs(40), 1),
    "rosenbrock": (lambda: rosenbrock(10), 1),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_one_kernel_does_the_work(name):
    """Forward and backward in one parallel kernel; the others combine what its chunks have summed."""
    make, heavy = PROGRAMS[name]
    graph = make()
    plan = schedule(graph, WIDE)
    verify_schedule(plan)
    steps = [s for s in plan.steps if isinstance(s, KernelStep)]
    assert len(steps) == len(plan.steps)
    assert sum(s.chunks > 1 for s in steps) == heavy or name == "rosenbrock" and len(steps) == 1
    arrays = draw(graph)
    difference = agree(run_plain(graph, arrays, WIDE), NumpyProgram(graph)(arrays), rtol=1e-3, atol=1e-4)
    assert difference is None, difference


# ---------------------------------------------------------------- the shape of kernels
def test_layer_norm_visits_a_row_four_times():
    """Mean; variance; tanh and all sums of the backward pass; the gradient.  The sums' algebra saves the fifth."""
    kernel = kernels(schedule(lnorm(60, 40), WIDE))[0]
    (run,) = [s for s in kernel.body if isinstance(s, Run)]     # after some rows their sums go to the float64 areas
    rows = run.body[0]
    assert isinstance(rows, Loop) and rows.span == "run"
    assert len([s for s in rows.body if isinstance(s, Loop)]) == 4


def test_both_sides_of_a_pair_cost_one():
    """x - y and y - x are one value under a sum: one square root for each pair, none for the other side."""
    text = texts(schedule(pairs(40), WIDE))[0]
    assert text.count("sqrt_f32(") == 1


def test_layouts_of_short_rows():
    block = kernels(schedule(logistic(1100, 36), WIDE))[0]
    (run,) = [s for s in block.body if isinstance(s, Run)]
    assert all(s.span == "run" for s in run.body if isinstance(s, Loop) and s.range is run.range)
    lanes = kernels(schedule(mixture(1100, 3, 12), WIDE))[0]
    (run,) = [s for s in lanes.body if isinstance(s, Run)]
    innermost = [s for s in loops(run.body) if not any(isinstance(q, Loop) for q in s.body)]
    work = [s for s in innermost if any(isinstance(q, Let) and q.op not in ("load", "cast") for q in s.body)]
    assert work and all(s.span == "run" for s in work)      # the others hand sums on


def test_tiny_axes_are_written_out_but_not_a_batch():
    assert "for" not in texts(schedule(rosenbrock(10)))[0]
    x = placeholder(aval((8, 40), float32))
    (text,) = texts(schedule(Graph([x], [P.sum(x, (0,))])))
    assert "for" in text and not re.search(r"range\(8\)", text)


def test_columns_are_summed_along_the_rows():
    """A sum over the outer axis runs with the inner axis innermost, where memory is contiguous."""
    x = placeholder(aval((50, 40), float32))
    kernel = kernels(schedule(Graph([x], [P.exp(P.sum(x, (0,)))])))[0]
    outer = [s for s in kernel.body if isinstance(s, Loop) and any(isinstance(q, Loop) for q in s.body)]
    assert len(outer) == 1 and int(outer[0].range.extent) == 50


def test_products_take_views_as_they_are():
    """Transposed, shared and sliced operands are strides of the original memory."""
    x, w = inputs((3, 20, 24), (24, 24))
    y = P.matmul(x, P.expand(P.reshape(w, (1, 24, 24)), (3, 24, 24)))
    plan = schedule(graph_of(P.sum(P.mul(y, y), (0, 1, 2)), [x, w], [x, w]))
    gemms = [s for s in plan.steps if isinstance(s, GemmStep)]
    assert [(s.trans_a, s.trans_b, s.m, s.n, s.k, s.batch) for s in gemms] == [
        (False, False, 60, 24, 24, 1), (False, True, 60, 24, 24, 1), (True, False, 24, 24, 60, 1)]
    assert len(kernels(plan)) <= 2


def test_the_loop_over_a_slice_copies_nothing():
    plan = schedule(recurrence(5))
    sliced = [s for s in plan.steps if isinstance(s, GemmStep) and s.a == plan.inputs[2]]
    assert [s.offsets[0] for s in sliced] == [t * 48 for t in range(5)] + [t * 48 for t in range(5)][::-1]


# ---------------------------------------------------------------- texts
@pytest.mark.parametrize("make", [lambda n: lnorm(n, 40), lambda n: cross_entropy(n, 40), lambda n: network(n, 40),
                                  lambda n: logistic(1000 + n, 36), lambda n: mixture(2000 + n, 3, 12)])
def test_a_new_batch_size_is_the_same_text(make):
    """Also where the batch happens to be as wide as a layer."""
    want = texts(schedule(make(50), WIDE))
    for n in (40, 64, 77):
        assert texts(schedule(make(n), WIDE)) == want
        forget()


def test_a_longer_loop_is_the_same_kernels():
    few = set(texts(schedule(recurrence(12))))
    assert len(few) < 14
    for steps in (25, 40):
        forget()
        assert set(texts(schedule(recurrence(steps)))) == few


def test_a_long_program_of_numbers_is_rolled_into_loops():
    graph = predator(90)
    arrays = draw(graph)
    difference = agree(run_plain(graph, arrays), NumpyProgram(graph)(arrays), rtol=1e-4)
    assert difference is None, difference
    (text,) = texts(schedule(graph))
    assert text.count("for ") >= 2 and text.count("\n") < 400
    forget()
    assert texts(schedule(predator(150))) == texts(schedule(predator(230)))


def test_what_does_not_repeat_stays_straight():
    (x,) = inputs((3,))
    y = P.reshape(P.slice(x, (0,), (1,), (1,)), ())
    rng = np.random.default_rng(0)
    for _ in range(300):
        name = ["sin", "tanh", "exp", "neg", "abs", "sigmoid"][rng.integers(6)]
        y = P.mul(getattr(P, name)(y), c(0.7, y))
    graph = graph_of(y, [x], [x])
    arrays = draw(graph)
    assert agree(run_plain(graph, arrays), NumpyProgram(graph)(arrays)) is None


def test_numbers_are_slots():
    (x,) = inputs((40,))
    a, b = (texts(schedule(Graph([x], [P.mul(x, c(value, x))]))) for value in (3.25, 7.5))
    assert a == b
    assert texts(schedule(Graph([x], [P.mul(x, c(0.5, x))]))) != a


def test_texts_do_not_depend_on_what_came_before():
    first = texts(schedule(lnorm(60, 40), WIDE))
    forget()
    schedule(pairs(30), WIDE)
    assert texts(schedule(lnorm(60, 40), WIDE)) == first


# ---------------------------------------------------------------- scale
def test_deep_graphs_and_many_pieces_take_linear_time():
    def deep(n: int) -> Graph:
        (x,) = inputs((30,))
        y = x
        for _ in range(n):
            y = P.add(P.mul(y, c(0.99, y)), P.sin(y))
        return graph_of(P.sum(y, (0,)), [x], [x])

    def wide(n: int) -> Graph:
        (x,) = inputs((n, 8, 4))
        parts = [P.tanh(P.slice(x, (k, 0, 0), (k + 1, 8, 4), (1, 1, 1))) for k in range(n)]
        y = P.concat(parts, 0)
        return graph_of(P.sum(P.mul(y, y), (0, 1, 2)), [x], [x])

    for make, small in ((deep, 400), (wide, 60), (recurrence, 20)):
        calls = []
        for n in (small, 4 * small):
            graph = make(n)
            profile = cProfile.Profile()
            profile.runcall(schedule, graph)              # calls are counted, not seconds: the machine may be busy
            calls.append(sum([e.callcount for e in profile.getstats()]))
            forget()
        assert calls[1] < 6 * calls[0], (make, calls)     # quadratic would be 16


def test_deep_chains_of_arrays_go_in_kernels_of_one_text():
    def deep(n: int) -> Graph:
        (x,) = inputs((30,))
        y = x
        for _ in range(n):
            y = P.add(P.mul(y, c(0.99, y)), P.sin(y))
        return Graph([x], [y])

    assert len(texts(schedule(deep(1200)))) <= 3
    graph = deep(300)
    arrays = draw(graph)
    assert agree(run_plain(graph, arrays), NumpyProgram(graph)(arrays), rtol=1e-3) is None


def test_results_do_not_depend_on_the_machine():
    plan = schedule(lnorm(60, 40), WIDE)
    again = schedule(lnorm(60, 40), WIDE)
    assert [(s.n, s.chunks) for s in plan.steps] == [(s.n, s.chunks) for s in again.steps]
    assert all(s.chunks <= 2 * WIDE.threads for s in plan.steps)


def test_refusals_are_named():
    (x,) = inputs((30, 40))
    i = placeholder(aval((9,), int64))
    plan = schedule(Graph([x, i], [P.cumsum(x, 1), P.index_add(x, i, P.take(x, i, 0), 0)]))
    assert any("host" in n for n in plan.notes) and any("data" in n for n in plan.notes)
    assert sum(isinstance(s, HostStep) for s in plan.steps) == 1


# ---------------------------------------------------------------- sizes
def test_sizes_keep_their_origin():
    a, b = Size(32, ("axis", 1)), Size(32, ("axis", 2))
    assert a == b == 32 and provenance(a) != provenance(b)
    assert provenance(a * b) == provenance(b * a) and provenance(a * 2 + a) == provenance(3 * a)
    assert provenance(a + b - b) == provenance(a) and literal(a - a + 5) and not literal(a * 4)


def test_index_division_is_exact():
    space = Space()
    i, j = space.range(0, 0, 7), space.range(1, 0, 5)
    row = space.add(space.scale(space.var(i), 5), space.var(j))
    assert space.divmod(row, 5) == (space.var(i), space.var(j))
    high, low = space.divmod(row, 4)
    assert (high.lo, high.hi, low.lo, low.hi) == (0, 8, 0, 3)
    back_ = space.shift(space.scale(space.var(j), -1), 4)
    assert (back_.lo, back_.hi) == (0, 4) and space.divmod(back_, 2)[0].hi == 2


# ---------------------------------------------------------------- the checker
def simple() -> Schedule:
    (x,) = inputs((30, 40))
    return schedule(Graph([x], [P.sum(P.exp(x), (1,))]))


def changed(plan: Schedule, change) -> Schedule:
    """The plan with every statement of its kernels passed through `change`."""
    def walk(body):
        out = []
        for s in body:
            s = dataclasses.replace(s, body=walk(s.body)) if isinstance(s, (Loop, Run)) else s
            out += [q for q in (change(s),) if q is not None]
        return tuple(out)

    steps = [dataclasses.replace(s, kernel=dataclasses.replace(s.kernel, body=walk(s.kernel.body))) for s in plan.steps]
    return Schedule(steps, plan.buffers, plan.inputs, plan.outputs, plan.notes)


def test_the_checker_accepts_what_is_right():
    verify_schedule(simple())


def test_the_checker_sees_an_index_out_of_bounds():
    def shift(s):
        if isinstance(s, Let) and s.op == "load":
            at = s.params[0]
            index = (dataclasses.replace(at.index[0], const=1), *at.index[1:])
            return dataclasses.replace(s, params=(dataclasses.replace(at, index=index), ()))
        return s
    with pytest.raises(VerifyError, match="places along a dimension"):
        verify_schedule(changed(simple(), shift))


def test_the_checker_sees_a_missing_definition():
    with pytest.raises(VerifyError, match="not defined"):
        verify_schedule(changed(simple(), lambda s: None if isinstance(s, Let) and s.op == "exp" else s))


def test_the_checker_sees_what_nothing_wrote():
    plan = simple()
    plan.steps.reverse()
    lonely = Schedule([], plan.buffers, plan.inputs, plan.outputs, [])
    with pytest.raises(VerifyError, match="no step writes"):
        verify_schedule(lonely)


def test_the_checker_sees_a_scratch_read_before_it_is_filled():
    b = Buffer("scratch0", "scratch", float32, 144, True)
    out = Buffer("output1", "output", float32, 1)
    at = At(b, (Index(0, ()),), (1,))
    body = (Let("t1", "load", float32, (), (at, ())), Store(at, Const(np.float32(0), float32)),
            Store(At(out, (Index(0, ()),), (1,)), "t1"))
    with pytest.raises(VerifyError, match="which nothing has written"):
        verify_schedule(Schedule([KernelStep(Kernel(body), 1, 1)], {b.name: b, out.name: out}, [], [out.name], []))


def test_the_checker_sees_chunks_that_write_to_one_place():
    plan = schedule(lnorm(60, 40), WIDE)
    outputs = {plan.buffers[name].name for name in plan.outputs}

    def fold(s):
        if isinstance(s, Store) and s.at.buffer.name in outputs and len(s.at.index) == 2:
            return dataclasses.replace(s, at=dataclasses.replace(s.at, index=(Index(0, ()), s.at.index[1])))
        return s
    with pytest.raises(VerifyError, match="same place"):
        verify_schedule(changed(plan, fold))


def test_places_that_are_data_are_never_split_among_chunks():
    """Rows added at places that are data: parallel over the columns, or not at all."""
    x, v = inputs((50, 40), (300, 40))
    i = placeholder(aval((300,), int64))
    plan = schedule(Graph([x, i, v], [P.index_add(x, i, v, 0)]), WIDE)
    verify_schedule(plan)
    adding = [s for s in plan.steps if isinstance(s, KernelStep) and "x" in emit_kernel(s.kernel).text][-1]
    assert adding.chunks == 1 or int(adding.kernel.parallel.extent) == 40


# ---------------------------------------------------------------- emission
def test_text_is_readable_python():
    text = emit_kernel(kernels(schedule(lnorm(60, 40), WIDE))[0]).text
    assert compile(text, "<kernel>", "exec") and max(map(len, text.splitlines())) < 140


def test_loops_of_eleven_turns_stay_loops():
    """LLVM unrolls a constant dozen turns before it makes vectors, and then gathers along the rows."""
    for n in (11, 12, 16):
        x = placeholder(aval((50_000, n), float32))
        (text,) = texts(schedule(Graph([x], [P.sum(P.mul(x, x), (1,))])))
        assert f"range({n})" not in text
