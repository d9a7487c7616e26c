"""How kernels are dealt to threads and written: texts to read, every way to deal them run, what text may depend on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from autojit.backends.cuda import emit, mapping
from autojit.backends.cuda.deals import Deal, Way
from autojit.backends.cuda.emit import emit_step
from autojit.backends.cuda.emitted import Emitted
from autojit.backends.cuda.interpret import KernelFault, run
from autojit.dtypes import DType, bool_, float16, float32, float64, int32
from autojit.engine import compile as pipeline
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, Node, placeholder
from autojit.ops.declare import P, back, cast, full
from autojit.schedule.index import Range, Size
from autojit.schedule.loops import (
    Accumulate,
    At,
    Buffer,
    Condition,
    Const,
    Index,
    Init,
    Kernel,
    KernelStep,
    Let,
    Loop,
    Schedule,
    Store,
)

from .harness import differences
from .programs import LARGER, Program, benchmarks, differentiated, drawn, random_graphs

pytestmark = pytest.mark.usefixtures("standin")


def kernels(graph: Graph) -> list[Emitted]:
    return [e for step in pipeline.prepare_for(graph, "cuda").emitted.values() for e in step.launches]


def elementwise(n: int) -> Graph:
    x, y = placeholder(aval((n,), float32)), placeholder(aval((n,), float32))
    return Graph([x, y], [P.mul(P.exp(P.neg(x)), y)])


def total(n: int, dtype: DType = float32) -> Graph:
    x = placeholder(aval((n,), dtype))
    return Graph([x], [P.sum(P.sin(x), (0,))])


def normed(x: Node) -> Node:
    """Each row less its mean, over its deviation."""
    rows, width = x.shape
    share = full(1 / width, (rows,), float32)
    d = P.sub(x, back(P.mul(P.sum(x, (1,)), share), (1,), x.shape))
    square = P.add(P.mul(P.sum(P.mul(d, d), (1,)), share), full(1e-5, (rows,), float32))
    return P.div(d, back(P.sqrt(square), (1,), x.shape))


def layer_norm(rows: int, width: int) -> Graph:
    x = placeholder(aval((rows, width), float32))
    return Graph([x], [normed(x)])


# ------------------------------------------------------------------------------------------------ texts
def test_text_of_an_elementwise_kernel():
    """Four neighbours a thread, by loads of 16 bytes; what is left of a length that four does not divide goes one by one."""
    kernel, = kernels(elementwise(3_000_000))
    assert kernel.text == """\
def kernel(x0, x1, x2, rows):
    for i in range((block() * 256 + thread()) * 4, rows - 3, blocks() * 256 * 4):
        t1, t2, t3, t4 = load4_f32(x0, i)
        t5, t6, t7, t8 = load4_f32(x1, i)
        y1 = exp_f32(-t1) * t5
        y2 = exp_f32(-t2) * t6
        y3 = exp_f32(-t3) * t7
        y4 = exp_f32(-t4) * t8
        store4_f32(x2, i, y1, y2, y3, y4)
    for i in range(rows // 4 * 4 + block() * 256 + thread(), rows, blocks() * 256):
        x2[i] = exp_f32(-x0[i]) * x1[i]
"""
    assert kernel.signature == ("*f32", "*f32", "*f32", "ix") and kernel.table[-1] == ("rows",)
    assert kernel.threads == 256 and kernel.vector == ("input0", "input1", "output2") and not kernel.wide


def test_text_of_a_layer_norm():
    """A warp for each row: its sums are in all lanes after `warp_sum`, and each lane reads again what it has read before."""
    kernel, = kernels(layer_norm(4096, 1024))
    assert kernel.text == """\
def kernel(x0, x1, n0, c0, c1, rows):
    lane = thread() % 32
    team = thread() // 32
    for i in range(block() * 8 + team, rows, blocks() * 8):
        acc1 = f4(0.0)
        for j in range(lane * 4, n0, 128):
            t1, t2, t3, t4 = load4_f32(x0, i * n0 + j)
            acc1 = add_f32(acc1, t1)
            acc1 = add_f32(acc1, t2)
            acc1 = add_f32(acc1, t3)
            acc1 = add_f32(acc1, t4)
        acc1 = warp_sum_f32(acc1, 32)
        t5 = acc1 * c0
        acc2 = f4(0.0)
        for j in range(lane * 4, n0, 128):
            t6, t7, t8, t9 = load4_f32(x0, i * n0 + j)
            t10 = t6 - t5
            acc2 = add_f32(acc2, t10 * t10)
            t11 = t7 - t5
            acc2 = add_f32(acc2, t11 * t11)
            t12 = t8 - t5
            acc2 = add_f32(acc2, t12 * t12)
            t13 = t9 - t5
            acc2 = add_f32(acc2, t13 * t13)
        acc2 = warp_sum_f32(acc2, 32)
        t14 = f4(1.0) / sqrt_f32((c0 * acc2) + c1)
        for j in range(lane * 4, n0, 128):
            t15, t16, t17, t18 = load4_f32(x0, i * n0 + j)
            y1 = (t15 - t5) * t14
            y2 = (t16 - t5) * t14
            y3 = (t17 - t5) * t14
            y4 = (t18 - t5) * t14
            store4_f32(x1, i * n0 + j, y1, y2, y3, y4)
"""


def test_text_of_a_sum():
    """Each thread adds up its share, the block the shares of its threads, a warp of a second kernel those of the blocks."""
    first, second = kernels(total(50_000))
    assert first.text == """\
def kernel(x0, x1, n0, rows):
    p0 = shared_f32(32)
    chunk = block()
    acc1 = f4(0.0)
    for i in range(block() * 256 + thread(), rows, blocks() * 256):
        acc1 = add_f32(acc1, sin_f32(x0[i]))
    acc1 = block_sum_f32(acc1, p0)
    if thread() == 0:
        x1[chunk * n0] = acc1
"""
    assert second.text == """\
def kernel(x0, x1, n0, n1, rows):
    lane = thread() % 32
    team = thread() // 32
    for i in range(block() * 2 + team, rows, blocks() * 2):
        acc1 = f4(0.0)
        for j in range(lane, n0, 32):
            acc1 = add_f32(acc1, x0[i + j * n1])
        acc1 = warp_sum_f32(acc1, 32)
        if lane == 0:
            x1[i] = acc1
"""
    assert second.blocks == 1


@pytest.mark.parametrize("make", [elementwise, total, lambda n: layer_norm(n, 1024), lambda n: layer_norm(n, 5)])
def test_text_does_not_depend_on_the_batch(make: Callable[[int], Graph]):
    """Sizes of one class have one text: only tables and grids differ."""
    one, other = kernels(make(4001)), kernels(make(3333))
    assert [e.text for e in one] == [e.text for e in other]
    assert [(e.table, e.blocks) for e in one] != [(e.table, e.blocks) for e in other]


def test_vectors_where_rows_are_divisible():
    """A row whose length four does not divide begins anywhere: no loads of 16 bytes then, and another text."""
    even, odd = kernels(layer_norm(4096, 1024))[0], kernels(layer_norm(4096, 1021))[0]
    assert "load4_f32" in even.text and even.vector == ("input0", "output1")
    assert "load4" not in odd.text and odd.vector == ()


def test_double_precision_takes_two():
    kernel = kernels(total(3_000_000, float64))[0]
    assert "load2_f64" in kernel.text and "f32" not in kernel.text


def test_wide_indices():
    """2**31 elements and more are counted with 64 bits; nobody pays for that with less."""
    assert [kernels(elementwise(n))[0].wide for n in (1 << 30, (1 << 31) + 8)] == [False, True]


def test_equal_steps_have_one_text():
    """Layers of other widths differ in numbers only."""
    inputs = [placeholder(aval(shape, float32)) for shape in ((300, 200), (200, 400), (400, 500), (500, 600))]
    y = inputs[0]
    for w in inputs[1:]:
        y = P.tanh(P.matmul(y, w))
    made = kernels(Graph(inputs, [y]))
    assert len(made) == 3 and len({e.text for e in made}) == 1


def test_a_text_known_before_gets_its_own_numbers():
    """Kernels that differ in constants and names of buffers are written once."""
    x = placeholder(aval((5000,), float32))
    one, other = (kernels(Graph([x], [P.mul(x, full(c, x.shape, float32))]))[0] for c in (3.0, 5.0))
    assert one.text == other.text
    assert [e[1] for e in (*one.table, *other.table) if e[0] == "const"] == [3.0, 5.0]


# ------------------------------------------------------------------------------------------------ every way to deal a kernel
WAYS = [Way(32, 32, 32), Way(128, 128, 128), Way(64, 64, 32), Way(128, 128, 8), Way(64, 64, 4), Way(128, 32, 32), Way(64, 8, 8),
        Way(64, 1, 1)]
SHAPES = [Program(f"{name} {k}", lambda f=fn, s=specs: differentiated(f, drawn(s)))
          for name in ("sum", "prod", "max", "min", "permute") for k, (fn, specs) in enumerate(LARGER[name])]


def forced(patch: pytest.MonkeyPatch, way: Way) -> None:
    def ways(nest):
        return [way if nest.kernel.parallel is not None else Way(way.threads, way.threads, way.threads)]

    patch.setattr(mapping, "_ways", ways)
    patch.setattr(emit, "_KNOWN", {})                       # what was written before is dealt otherwise
    patch.setattr(mapping, "MANY", 1)                       # vectors wherever they can be


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_way_is_right(way: Way, monkeypatch: pytest.MonkeyPatch):
    """What the costs would never choose gives the same values: deals, reductions and barriers hold whatever is chosen."""
    forced(monkeypatch, way)
    assert {e.threads for e in kernels(layer_norm(400, 33))} == {way.threads}
    small = [p for p in benchmarks() if p.name in ("lnorm", "gmm", "bnorm", "softmax_ce", "lnorm other", "attn")]
    assert differences([*SHAPES, *small, *random_graphs(12)]) == []


# ------------------------------------------------------------------------------------------------ kernels made by hand
def row_and_column(n: int, m: int) -> tuple[Range, Range]:
    return Range(1, 0, Size(n, ("axis", 1)), 0, 0), Range(2, 0, Size(m, ("axis", 2)), 1, 1)


def index(*terms: tuple[Range, int], const: int = 0) -> Index:
    return Index(const, terms)


def emitted(body: tuple[object, ...], p: Range | None, n: int, chunks: int = 1) -> Emitted:
    return emit_step(KernelStep(Kernel(body, p), n, chunks), Schedule([], {}, [], [], []))


def load(name: str, at: At) -> Let:
    return Let(name, "load", at.buffer.dtype, (), (at, ()))


def execute(kernel: Emitted, arrays: dict[str, np.ndarray], rows: int = 1, chunks: int = 1) -> None:
    given = {"rows": rows, "chunks": chunks}
    args = [arrays[e[1]] if e[0] == "buffer" else given[e[0]] if e[0] in given else e[1] for e in kernel.table]
    run(kernel.text, kernel.signature, args, kernel.blocks, kernel.threads)


def test_turns_that_follow_each_other_stay_with_one_thread():
    """y[j] := y[j - 1] + x[j]: no two turns may run at once."""
    _, j = row_and_column(1, 40)
    x, y = Buffer("x", "input", float32, 41), Buffer("y", "output", float32, 41)
    before, here = At(y, (index((j, 1)),), (41,)), At(y, (index((j, 1), const=1),), (41,))
    body = (Loop(j, (load("t1", before), load("t2", At(x, (index((j, 1)),), (41,))), Let("t3", "add", float32, ("t1", "t2")),
                     Store(here, "t3"))),)
    kernel = emitted(body, None, 1)
    assert "for i in range(n0):" in kernel.text and "if thread() == 0:" in kernel.text
    a, b = aligned(41, np.float32), aligned(41, np.float32)
    a[:], b[:] = np.arange(41), 0
    execute(kernel, {"x": a, "y": b})
    assert b[1:].tolist() == np.cumsum(a[:40]).tolist()


def test_barriers_are_needed(monkeypatch: pytest.MonkeyPatch):
    """y[j] := x[j], then z[j] := y[99 - j]: threads read what others have stored."""
    _, j = row_and_column(1, 100)
    x, y, z = Buffer("x", "input", float32, 100), Buffer("y", "output", float32, 100), Buffer("z", "output", float32, 100)
    here, mirrored = (index((j, 1)),), (index((j, -1), const=99),)
    body = (Loop(j, (load("t1", At(x, here, (100,))), Store(At(y, here, (100,)), "t1"))),
            Loop(j, (load("t2", At(y, mirrored, (100,))), Store(At(z, here, (100,)), "t2"))))
    arrays = {name: aligned(100, np.float32) for name in "xyz"}
    arrays["x"][:] = np.arange(100)
    forced(monkeypatch, Way(64, 64, 64))
    kernel = emitted(body, None, 1)
    assert "    sync()" in kernel.text and kernel.blocks == 1
    execute(kernel, arrays)
    assert (arrays["z"] == arrays["x"][::-1]).all()
    with pytest.raises(KernelFault, match="race"):
        execute(dataclasses.replace(kernel, text=kernel.text.replace("    sync()\n", "")), arrays)


@pytest.mark.parametrize("cut, blocks, head", [
    ("lanes", 3 * 10, "for i in range(block() % slices * 32 + thread(), n0, slices * 32)"),
    ("turns", 3 * 300, "for i in range(block() % slices, n0, slices)"), ("", 3, "for i in range(thread(), n0, 32)")])
def test_a_chunk_for_several_blocks(cut: str, blocks: int, head: str, monkeypatch: pytest.MonkeyPatch):
    """Column sums of a chunk: threads of several blocks, or several blocks, take a column each; none waits for another."""
    forced(monkeypatch, Way(32, 32, 32))
    monkeypatch.setattr(mapping, "_cuts", lambda nest, way: [cut])
    i, j = row_and_column(40, 300)
    x, part = Buffer("x", "input", float32, 12000), Buffer("part", "part", float32, 300, True)
    value = load("t1", At(x, (index((i, 1)), index((j, 1))), (i.extent, j.extent)))
    body = (Loop(j, (Init("a", "sum", float32), Loop(i, (value, Accumulate("a", "sum", float32, "t1")), "chunk"),
                     Store(At(part, (index((j, 1)),), (j.extent,)), "a"))),)
    kernel = emitted(body, i, 40, 3)
    assert head in kernel.text and kernel.blocks == blocks
    arrays = {"x": aligned(12000, np.float32), "part": aligned(900, np.float32)}
    arrays["x"][:] = np.arange(12000) % 7
    execute(kernel, arrays, 40, 3)
    assert (arrays["part"].reshape(3, 300).sum(0) == arrays["x"].reshape(40, 300).sum(0)).all()


def test_places_that_two_turns_share_are_not_written_at_once():
    """z[i] += x[i, j] with j dealt to lanes would lose terms: the place varies with i alone."""
    i, j = row_and_column(5, 1000)
    x, z = Buffer("x", "input", float32, 5000), Buffer("z", "output", float32, 5)
    value = load("t1", At(x, (index((i, 1)), index((j, 1))), (5, j.extent)))
    body = (Loop(j, (Loop(i, (value, Store(At(z, (index((i, 1)),), (5,)), "t1", "sum"))),)),)
    mapped = mapping.mapped(KernelStep(Kernel(body), 1, 1))
    outer = mapped.body[0]
    assert isinstance(outer, Deal) and outer.by == "turns" and outer.body[0].by == "lanes"


@pytest.mark.parametrize("dtype, op, word", [(bool_, "max", "warp_max_i64(to_i64(acc1), 32) != to_i64(0)"),
                                             (int32, "sum", "to_i32(warp_sum_i64(acc1, 32))"),
                                             (float64, "min", "warp_min_f64(acc1, 32)")])
def test_reductions_of_other_dtypes(dtype: DType, op: str, word: str, monkeypatch: pytest.MonkeyPatch):
    forced(monkeypatch, Way(64, 64, 32))
    i, j = row_and_column(50, 100)
    x, y = Buffer("x", "input", dtype, 5000), Buffer("y", "output", dtype, 50)
    value = load("t1", At(x, (index((i, 1)), index((j, 1))), (i.extent, j.extent)))
    body = (Loop(i, (Init("a", op, dtype), Loop(j, (value, Accumulate("a", op, dtype, "t1"))),
                     Store(At(y, (index((i, 1)),), (i.extent,)), "a")), "chunk"),)
    assert f"acc1 = {word}" in emitted(body, i, 50).text


def test_rows_that_another_loop_reads_stay_with_their_block(monkeypatch: pytest.MonkeyPatch):
    """Points of rows and columns may go to any block, but not if a later loop over the rows reads other columns of them."""
    i, j = row_and_column(2000, 7)
    x, y, z = Buffer("x", "input", float32, 14000), Buffer("y", "output", float32, 14000), Buffer("z", "output", float32, 14000)
    shape = (i.extent, j.extent)
    here, mirrored = (index((i, 1)), index((j, 1))), (index((i, 1)), index((j, -1), const=6))
    first = Loop(i, (Loop(j, (load("t1", At(x, here, shape)), Store(At(y, here, shape), "t1"))),), "chunk")
    last = Loop(i, (Loop(j, (load("t2", At(y, mirrored, shape)), Store(At(z, here, shape), "t2"))),), "chunk")
    forced(monkeypatch, Way(256, 256, 256))
    alone = mapping.mapped(KernelStep(Kernel((first,), i), 2000, 1))
    assert isinstance(alone.body[0], Deal) and alone.body[0].ranges == (i, j)
    both = mapping.mapped(KernelStep(Kernel((first, last), i), 2000, 1))
    assert all(d.ranges == () for d in both.body if isinstance(d, Deal))
    kernel = emitted((first, last), i, 2000)
    a, b, c = (aligned(14000, np.float32) for _ in range(3))
    a[:] = np.arange(14000)
    execute(kernel, {"x": a, "y": b, "z": c}, 2000)
    assert (c.reshape(2000, 7) == a.reshape(2000, 7)[:, ::-1]).all()


def aligned(n: int, dtype: type) -> np.ndarray:
    raw = np.zeros(n * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start:start + n * np.dtype(dtype).itemsize].view(dtype)


def test_halves_are_only_cast():
    """Sixteen bytes are eight halves; a half is a value that casts alone read."""
    x = placeholder(aval((400_000,), float16))
    kernel = kernels(Graph([x], [cast(P.exp(cast(x, float32)), float16)]))[0]
    assert "load8_f16" in kernel.text and "exp_f32(to_f32(" in kernel.text and "store8_f16" in kernel.text


def test_conditions_are_written_once():
    """The value of a pad is a select, and the loads under it have the same conditions."""
    x, y = placeholder(aval((5000,), float32)), placeholder(aval((5000,), float32))
    kernel, = kernels(Graph([x, y], [P.sin(P.pad(P.add(P.exp(x), y), (2,), (5007,), (1,)))]))
    assert kernel.text.count(">= 0") == 2 and kernel.text.count("if t1 else f4(0.0)") == 2


def test_a_choice_keeps_its_parentheses():
    """relu(x[j] if inside else 0): the comparison is of the choice, not of its second side."""
    _, j = row_and_column(1, 100)
    x, y = Buffer("x", "input", float32, 100), Buffer("y", "output", float32, 100)
    at = At(x, (index((j, 1)),), (j.extent,))
    tests = (Condition(index((j, -1), const=59)),)
    body = (Loop(j, (Let("t1", "inside", bool_, (), tests), Let("t2", "load", float32, (), (at, tests)),
                     Let("t3", "relu", float32, ("t2",)),
                     Let("t4", "where", float32, ("t1", "t3", Const(np.float32(2), float32))),
                     Store(At(y, (index((j, 1)),), (j.extent,)), "t4"))),)
    kernel = emitted(body, None, 1)
    assert "(x0[i] if t1 else f4(0.0)) <= f4(0.0)" in kernel.text
    arrays = {"x": aligned(100, np.float32), "y": aligned(100, np.float32)}
    arrays["x"][:] = np.arange(100) - 30
    execute(kernel, arrays)
    assert arrays["y"].tolist() == [max(v - 30.0, 0.0) if v < 60 else 2.0 for v in range(100)]
