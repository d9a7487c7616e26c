"""Schedules for GPUs: plain loops, few kernels, chunks that no card decides, steps of their own where the CPU asks NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import autojit as aj
from autojit.dtypes import DType, float32, int64
from autojit.errors import CompileError, VerifyError
from autojit.ir import primitive
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, Node, const, node, placeholder
from autojit.ops.declare import P, back, full
from autojit.rewrite.inline import inline
from autojit.rewrite.merge import merge
from autojit.rewrite.simplify import simplify
from autojit.rewrite.vectors import vectors
from autojit.schedule import lanes, simt
from autojit.schedule.cost import Target
from autojit.schedule.loops import (
    Accumulate,
    Buffer,
    GemmStep,
    HostStep,
    Init,
    KernelStep,
    Let,
    Loop,
    Run,
    ScanStep,
    Schedule,
    SetStep,
    SortStep,
    Store,
    touched,
)
from autojit.schedule.plan import schedule
from autojit.schedule.verify import verify_schedule
from perf.ours import autojit_namespace
from perf.workloads import WORKLOADS

from ..graphs import random_graph
from .harness import differences
from .programs import random_graphs

SIMT = Target(simt=True)
SMALL = {"kalman": {"steps": 8}, "ode": {"steps": 20}, "rnn": {"steps": 4}, "lstm": {"steps": 3}, "power": {"steps": 3}}


def planned(graph: Graph) -> Schedule:
    plan = schedule(vectors(merge(simplify(inline(graph)))), SIMT)
    verify_schedule(plan)
    return plan


def training(name: str) -> Graph:
    """A workload with its gradient."""
    w = WORKLOADS[name]
    sizes = {k: n for k, n in SMALL.get(name, {}).items() if k in w.sizes}
    traced = aj.trace(w.function(autojit_namespace(), **sizes))
    joint = aj.value_and_grad(traced, argnums=tuple(range(w.wrt)))
    given = tuple([aj.from_numpy(a) for a in w.arrays(**sizes)])
    leaves, structure, tensors = traced.leaves(given, {})
    return traced.plan(leaves, structure, joint.wrt(given, tensors)).graph


def inputs(*shapes: tuple[int, ...], dtype: DType = float32) -> list[Node]:
    return [placeholder(aval(s, dtype)) for s in shapes]


def kernels(plan: Schedule) -> list[KernelStep]:
    return [s for s in plan.steps if isinstance(s, KernelStep)]


def flat(body: Any) -> Iterator[Any]:
    for s in body:
        yield s
        if isinstance(s, (Loop, Run)):
            yield from flat(s.body)


def parts(plan: Schedule) -> list[Buffer]:
    return [b for b in plan.buffers.values() if b.kind == "part"]


def plain(plan: Schedule) -> None:
    """No runs, no loops in parts, no float64 that the program has not."""
    for step in plan.steps:
        assert not isinstance(step, HostStep)
        for s in flat(step.kernel.body) if isinstance(step, KernelStep) else ():
            assert not isinstance(s, Run)
            assert not isinstance(s, Loop) or s.span in ("all", "chunk") and not s.split
    assert {b.dtype.code for b in plan.buffers.values()} <= {"f32", "i64", "b1"}


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_programs_are_plain_loops(name):
    plan = planned(training(name))
    plain(plan)
    if name in ("ode", "kalman"):                            # loops over tiny values: one thread's
        assert len(kernels(plan)) <= 3


@pytest.mark.parametrize("name, most", [("elem", 2), ("bs", 2), ("softmax_ce", 2), ("pair", 2), ("lnorm", 4), ("gp", 3),
                                        ("gmm", 8), ("logreg", 3), ("mlp", 7)])
def test_programs_are_few_kernels(name, most):
    assert len(planned(training(name)).steps) <= most


@pytest.mark.parametrize("seed", range(0, 60))
def test_random_graphs_are_scheduled(seed):
    graph, _ = random_graph(seed)
    for step in planned(graph).steps:
        assert not isinstance(step, HostStep)
        assert not any(isinstance(s, Run) for s in (flat(step.kernel.body) if isinstance(step, KernelStep) else ()))


# ------------------------------------------------------------------------------------------------ shapes of kernels
def test_small_work_is_one_group_and_from_some_hundred_points_on_it_is_parallel():
    for n, parallel in ((200, False), (300, True), (100_000, True)):
        (x,) = inputs((n,))
        (step,) = kernels(planned(Graph([x], [P.exp(x)])))
        assert (step.kernel.parallel is not None) == parallel


def test_a_sum_of_everything_is_added_up_by_the_kernel_after_it():
    (x,) = inputs((1 << 20,))
    mean = P.mul(P.sum(P.exp(x), (0,)), full(0.5, (), float32))
    first, second = kernels(planned(Graph([x], [mean])))
    assert first.chunks > 132
    assert second.kernel.parallel is None                    # puts the chunks' sums together, and scales
    assert [s.op for s in flat(second.kernel.body) if isinstance(s, Accumulate)] == ["sum"]


def test_column_sums_stay_in_registers():
    """The loop over the rows stands inside, so nothing is added to memory."""
    (x,) = inputs((100_000, 300))
    plan = planned(Graph([x], [P.sum(P.exp(x), (0,))]))
    first, combine = kernels(plan)
    (columns,) = first.kernel.body
    assert columns.span == "all"
    assert [type(s) for s in columns.body] == [Init, Loop, Store]
    assert columns.body[1].span == "chunk"
    (part,) = parts(plan)
    assert (part.dtype, part.size, part.per_chunk) == (float32, 300, True)
    (rows,) = combine.kernel.body
    assert [type(s) for s in rows.body] == [Init, Loop, Store]


def test_what_is_stored_on_the_way_shares_the_loop_with_column_sums():
    a, b = inputs((50_000, 256), (50_000, 256))
    y = P.mul(P.exp(a), b)
    first = kernels(planned(Graph([a, b], [y, P.sum(y, (0,))])))[0]
    stores = [s.at.buffer.kind for s in flat(first.kernel.body) if isinstance(s, Store)]
    assert sorted(stores) == ["output", "part"]
    assert sum(isinstance(s, Let) and s.op == "exp" for s in flat(first.kernel.body)) == 1


def test_rows_that_need_their_own_sums_first_stand_outside():
    (x,) = inputs((4096, 1000))
    centred = P.sub(x, back(P.mul(P.sum(x, (1,)), full(1e-3, (4096,), float32)), (1,), x.shape))
    first = kernels(planned(Graph([x], [P.sum(P.mul(centred, centred), (0,))])))[0]
    outer = [s for s in first.kernel.body if isinstance(s, Loop) and s.span == "chunk"]
    assert len(outer) == 1
    assert sum(isinstance(s, Loop) for s in outer[0].body) == 2


def test_many_columns_of_few_rows_are_not_summed_in_parts():
    (x,) = inputs((100, 1 << 20))
    plan = planned(Graph([x], [P.sum(P.exp(x), (0,))]))
    assert len(plan.steps) == 1
    assert parts(plan) == []


def test_areas_of_all_chunks_have_a_bound():
    """Both sides of pairs of many points: sums of the other side are an array that each chunk has."""
    n = 100_000
    x, w = inputs((n,), (n,))
    pairs = P.exp(P.mul(back(x, (1,), (n, n)), back(w, (0,), (n, n))))
    scaled = P.mul(pairs, back(P.sum(pairs, (1,)), (1,), (n, n)))
    for part in parts(plan := planned(Graph([x, w], [P.sum(scaled, (0,))]))):
        chunks = max(s.chunks for s in kernels(plan) if any(
            isinstance(q, Store) and q.at.buffer is part for q in flat(s.kernel.body)))
        assert chunks * part.size <= 1 << 24


def test_sums_beside_rows_are_a_kernel_over_what_is_kept_of_the_rows():
    """The gradient of a mixture's means: responsibilities are kept, no chunk adds to an array of means for each point."""
    points, many, dims = 1_000_000, 16, 32
    x, mu = inputs((points, dims), (many, dims))
    apart = P.sub(back(x, (1,), (points, many, dims)), back(mu, (0,), (points, many, dims)))
    e = P.exp(P.neg(P.sum(P.mul(apart, apart), (2,))))
    weights = P.div(e, back(P.sum(e, (1,)), (1,), (points, many)))
    plan = planned(Graph([x, mu], [P.sum(P.mul(apart, back(weights, (2,), apart.shape)), (0,))]))
    rows, columns, combine = kernels(plan)
    (kept,) = [b for b in plan.buffers.values() if b.kind == "temp"]
    assert kept.size == points * many
    stores = [s for s in flat(columns.kernel.body) if isinstance(s, Store)]
    assert [(s.at.buffer.kind, s.op) for s in stores] == [("part", None)]
    assert {s.at.buffer.kind for s in flat(rows.kernel.body) if isinstance(s, Store)} <= {"temp", "scratch"}


def test_what_all_rows_share_is_made_before_them():
    x, w = inputs((100_000, 64), (64, 200))
    total = P.sum(P.exp(w), (1,))
    y = P.mul(x, back(total, (0,), x.shape))
    plan = planned(Graph([x, w], [P.sum(P.exp(y), (1,))]))
    assert len(kernels(plan)) == 2
    big = kernels(plan)[1].kernel.body
    assert not any(isinstance(s, Let) and s.op == "load" and s.params[0].buffer.name == plan.inputs[1] for s in flat(big))


def test_chunks_are_as_many_as_the_rows_of_a_class_have_and_no_card_is_asked():
    def count(n: int) -> int:
        (x,) = inputs((n,))
        return kernels(planned(Graph([x], [P.sum(P.exp(x), (0,))])))[0].chunks

    assert count(1 << 26) == count((1 << 26) - 5) == 132 * 8
    assert count(5_000_000) == 132 * 8


def test_big_values_are_made_again_and_row_sums_kept():
    """Between a softmax and its gradient stand the probabilities that a product reads, and what rows have in common."""
    x, w, ct = inputs((4096, 512), (512, 512), (4096, 512))
    e = P.exp(P.sub(x, back(P.max(x, (1,)), (1,), x.shape)))
    p = P.div(e, back(P.sum(e, (1,)), (1,), x.shape))
    g = P.mul(e, P.matmul(ct, w))
    plan = planned(Graph([x, w, ct], [P.matmul(p, w), P.matmul(P.mul(g, g), w)]))
    large = [b for b in plan.buffers.values() if b.kind == "temp" and b.size >= x.aval.size]
    assert len(large) == 3                                   # p, ct @ w, and the last product's operand: not e


def test_a_number_is_an_output():
    (x,) = inputs((3,))
    plan = planned(Graph([x], [P.sin(x), const(0.0, float32)]))
    assert len(plan.outputs) == 2


@pytest.mark.parametrize("card", [1, 100, 67_584])
def test_parallel_kernels_equal_the_oracle(standin, monkeypatch, card):
    """Whatever is worth it on some card, on arrays small enough to be interpreted."""
    for module in (lanes, simt):
        monkeypatch.setattr(module, "LAUNCH", 0.0)
        monkeypatch.setattr(module, "ALL", card)
    monkeypatch.setattr(lanes, "GROUP", 1)
    if card < 1000:
        for name, figure in (("COLUMNS", 2), ("LEAST", 1), ("MULTIPROCESSORS", 2)):
            monkeypatch.setattr(lanes, name, figure)
    assert differences(random_graphs(40)) == []


def test_products_of_few_terms_are_fused():
    a, b = inputs((64, 10), (10, 256))
    assert [type(s) for s in planned(Graph([a, b], [P.tanh(P.matmul(a, b))])).steps] == [KernelStep]
    assert [type(s) for s in schedule(Graph([a, b], [P.tanh(P.matmul(a, b))])).steps] == [GemmStep, KernelStep]


# ------------------------------------------------------------------------------------------------ steps
def test_steps_that_the_cpu_leaves_to_numpy():
    x, v = inputs((4, 100, 3), (4, 70, 3))
    i = placeholder(aval((70,), int64))
    kinds = {"cumsum": ScanStep, "cumprod": ScanStep, "logcumsumexp": ScanStep, "sort": SortStep, "argsort": SortStep}
    for name, kind in kinds.items():
        more = (False,) if kind is SortStep else ()
        (step,) = planned(Graph([x], [getattr(P, name)(x, 1, *more)])).steps
        assert type(step) is kind
        assert (step.outer, step.n, step.inner) == (4, 100, 3)
    plan = planned(Graph([x, i, v], [P.index_set(P.exp(x), i, P.exp(v), 1)]))
    assert type(plan.steps[-1]) is SetStep
    assert touched(plan.steps[-1])[1] == set(plan.outputs)   # exp(x) went there at once
    assert [type(s) for s in plan.steps[:-1]] == [KernelStep] * (len(plan.steps) - 1)


def test_scalar_words_are_fused():
    x, i = inputs((500,)), inputs((500,), dtype=int64)
    graph = Graph([*x, *i], [P.exp(P.polygamma(x[0], 2)), P.add(P.int_pow(i[0], i[0]), P.shift(i[0], i[0], True))])
    plan = planned(graph)
    ops = {s.op for step in kernels(plan) for s in flat(step.kernel.body) if isinstance(s, Let)}
    assert {"polygamma", "int_pow", "shift"} <= ops
    assert any(isinstance(s, HostStep) for s in schedule(graph).steps)       # the CPU still asks NumPy


def test_an_operation_without_a_kernel_is_refused_by_name():
    odd = primitive.Primitive("oddity", primitive.HOST, lambda a: a, None, None)
    (x,) = inputs((3,))
    with pytest.raises(CompileError, match="oddity has no kernel for GPUs"):
        planned(Graph([x], [node(odd, (x,), ())]))


def test_the_checker_knows_the_steps():
    def plan(step: Any, *kinds: str) -> Schedule:
        buffers = {n: Buffer(n, kind, float32, 6) for n, kind in zip("abc", kinds, strict=True)}
        return Schedule([step], buffers, ["a"], ["b"], [])

    verify_schedule(plan(ScanStep("cumsum", "a", "b", 1, 6, 1), "input", "output", "temp"))
    for wrong in (ScanStep("cumsum", "c", "b", 1, 6, 1),     # nothing has written c
                  ScanStep("cumsum", "b", "b", 1, 6, 1),
                  SetStep("a", "a", "b", 1, 6, 6, 1, 6)):    # nothing lies in b before
        with pytest.raises(VerifyError):
            verify_schedule(plan(wrong, "input", "output", "temp"))
    onto = Schedule([ScanStep("cumsum", "a", "a", 1, 6, 1)], {"a": Buffer("a", "temp", float32, 6)}, ["a"], ["a"], [])
    with pytest.raises(VerifyError, match="written while it is read"):
        verify_schedule(onto)
