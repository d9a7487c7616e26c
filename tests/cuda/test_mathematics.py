"""Our own mathematics of the GPU, run on the processor: the same functions, written by the same Python."""

from __future__ import annotations

import ctypes
import re
from functools import cache

import llvmlite.binding as llvm
import mpmath
import numpy as np
import pytest
import scipy.special
from llvmlite import ir

from autojit.backends.cpu import interpret, objects, target
from autojit.backends.cuda import mathematics, polygamma
from tests import ulps

WIDTHS = {"f32": np.float32, "f64": np.float64}
LOOSE = dict.fromkeys((*ulps.SPECIAL, "pow"), 4.0)
GAMMA = ("lgamma", "digamma")
OURS = sorted(mathematics.functions())
LOADER = objects.Loader()


class Host(ir.IRBuilder):
    """Writes for this processor what it has no special instructions for."""

    native = False


@cache
def compiled(name):
    kind, arity = name[-3:], mathematics.ARITY[name]
    ty, i64 = (ir.FloatType() if kind == "f32" else ir.DoubleType()), ir.IntType(64)
    module = ir.Module(name)
    module.triple, module.data_layout = llvm.get_process_triple(), str(target.machine().target_data)
    inner = ir.Function(module, ir.FunctionType(ty, [ty] * arity), f"inner_{name}")
    mathematics.define(inner, name, Host)
    outer = ir.Function(module, ir.FunctionType(ir.VoidType(), [ty.as_pointer()] * (arity + 1) + [i64]), f"cuda_{name}")
    b = ir.IRBuilder(outer.append_basic_block("entry"))
    *arrays, n = outer.args
    loop, done = outer.append_basic_block("loop"), outer.append_basic_block("done")
    start = b.block
    b.branch(loop)
    b.position_at_end(loop)
    i = b.phi(i64)
    i.add_incoming(i64(0), start)
    b.store(b.call(inner, [b.load(b.gep(a, [i])) for a in arrays[:-1]]), b.gep(arrays[-1], [i]))
    more = b.add(i, i64(1))
    i.add_incoming(more, b.block)
    b.cbranch(b.icmp_signed("<", more, n), loop, done)
    b.position_at_end(done)
    b.ret_void()
    made = llvm.parse_assembly(str(module))
    made.verify()
    target.optimise(made, vectorise=False)
    address = LOADER.load(f"cuda_{name}", target.machine().emit_object(made))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (arity + 1), ctypes.c_int64)(address)


def call(name, *args):
    arrays = [np.ascontiguousarray(np.atleast_1d(np.asarray(a, WIDTHS[name[-3:]]))) for a in args]
    out = np.empty_like(arrays[0])
    compiled(name)(*[a.ctypes.data for a in (*arrays, out)], out.size)
    return out


def worst(errors, got, *args):
    i = int(np.argmax(errors))
    return f"{errors[i]:.3f} ulp at {[repr(a[i]) for a in args]}: got {got[i]!r}"


def test_every_word_is_given():
    assert {n.rsplit("_", 1)[0] for n in mathematics.ARITY} == set(interpret.MATH)
    assert set(mathematics.ARITY) == set(OURS) | set(mathematics.LIBDEVICE)


@pytest.mark.parametrize("name", OURS)
def test_distance(name):
    base, width = name.rsplit("_", 1)
    args = ulps.points(base, WIDTHS[width], 40_000 if width == "f32" else 4_000)
    if base in GAMMA:
        args = tuple(np.abs(a) for a in args)
    got = call(name, *args)
    errors = ulps.judge(base, got, *args)
    assert errors.max() <= LOOSE.get(base, 2.0), worst(errors, got, *args)


@pytest.mark.parametrize("name", [n for n in OURS if n.endswith("_f32")])
def test_float32_stays_in_float32(name):
    module = ir.Module()
    ty = ir.FloatType()
    function = ir.Function(module, ir.FunctionType(ty, [ty] * mathematics.ARITY[name]), "f")
    mathematics.define(function, name, mathematics.Portable)
    assert not re.search(r"\bdouble\b", str(module))


@pytest.mark.parametrize("name", GAMMA)
def test_gamma_of_negative_arguments(name):
    """Between the poles both have zeros: measured by the larger term of the reflection."""
    x = -np.random.default_rng(2).uniform(0, 30, 4000).astype(np.float32)
    wide = ulps.by_numpy(name, x.astype(np.float64))
    mirrored = ulps.by_numpy(name, 1 - x.astype(np.float64))
    size = np.maximum(np.maximum(np.abs(wide), np.abs(mirrored)), 1).astype(np.float32)
    assert np.max(np.abs(call(f"{name}_f32", x) - wide) / np.spacing(size)) <= 4


@cache
def polygamma_of(kind, n):
    """polygamma of that order, over arrays."""
    ty, i64 = (ir.FloatType() if kind == "f32" else ir.DoubleType()), ir.IntType(64)
    module = ir.Module()
    module.triple, module.data_layout = llvm.get_process_triple(), str(target.machine().target_data)
    name = f"cuda_polygamma{n}_{kind}"
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ty.as_pointer()] * 2 + [i64]), name)
    b = ir.IRBuilder(function.append_basic_block("entry"))
    place = [b.gep(a, [function.args[2]]) for a in function.args[:2]]
    b.store(polygamma.called(b, b.load(place[0]), n), place[1])
    b.ret_void()
    floor = module.globals["__nv_floorf" if kind == "f32" else "__nv_floor"]  # libdevice's, by LLVM's own
    b = ir.IRBuilder(floor.append_basic_block("entry"))
    b.ret(b.call(module.declare_intrinsic("llvm.floor", [ty]), floor.args))
    made = llvm.parse_assembly(str(module))
    target.optimise(made, vectorise=False)
    address = LOADER.load(name, target.machine().emit_object(made))
    f = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(address)

    def over(x):
        out = np.empty_like(x)
        for i in range(x.size):
            f(x.ctypes.data, out.ctypes.data, i)
        return out
    return over


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_polygamma(n):
    rng = np.random.default_rng(n)
    x = np.concatenate([rng.uniform(0.05, 30, 300), 10.0 ** rng.uniform(-3, 6, 100), [1.0, 2.0, 9.0, 12.0]])
    exact = np.array([float(mpmath.polygamma(n, mpmath.mpf(v))) for v in x])
    np.testing.assert_allclose(polygamma_of("f64", n)(x), exact, rtol=3e-14)
    narrow = x.astype(np.float32)
    wide = scipy.special.polygamma(n, narrow.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(polygamma_of("f32", n)(narrow), wide, rtol=2e-6)
    below = -rng.uniform(0.1, 20, 100)
    below = below[np.abs(below - np.rint(below)) > 0.05]
    want = scipy.special.polygamma(n, below)
    assert np.max(np.abs(polygamma_of("f64", n)(below) - want) / np.maximum(np.abs(want), 1)) < 1e-11
    ends = polygamma_of("f64", n)(np.array([0.0, -1.0, -7.0, np.inf, np.nan]))
    assert (ends[:3] == (np.inf if n % 2 else -np.inf)).all() and ends[3] == 0 and np.isnan(ends[4])


EDGES = """
lgamma: 0->inf -0->inf inf->inf -inf->inf -3->inf 1->0 2->0 nan->nan
digamma: 0->-inf -0->inf inf->inf -3->nan nan->nan
hypot: inf,nan->inf nan,-inf->inf nan,1->nan 3,4->5 0,0->0 1e-42,0->1e-42 3e38,3e38->inf
asinh: 0->0 -0->-0 inf->inf -inf->-inf nan->nan 1e-30->1e-30
acosh: 1->0 .5->nan -2->nan inf->inf nan->nan
atanh: 0->0 -0->-0 1->inf -1->-inf 2->nan nan->nan
sin: 0->0 -0->-0 inf->nan nan->nan
cos: 0->1 inf->nan nan->nan
tan: 0->0 -0->-0 -inf->nan nan->nan
"""


@pytest.mark.parametrize("line", EDGES.strip().splitlines())
def test_edges(line):
    name, cases = line.split(": ")
    for case in cases.split():
        args, want = case.split("->")
        got = call(f"{name}_f32", *[[float(a)] for a in args.split(",")])[0]
        assert got.tobytes() == np.float32(want).tobytes() or np.isnan(got) and want == "nan", (case, got)
