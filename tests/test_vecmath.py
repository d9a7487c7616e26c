"""The vectorisable mathematics: distance to exact values, edges, huge angles, vector code."""

from __future__ import annotations

import ctypes
import math
import re
from functools import cache

import numpy as np
import pytest
from llvmlite import ir

from autojit.backends.cpu import codegen, interpret, mathcode, objects, target, vecmath
from autojit.backends.cpu.vecmath import core, powers, rescue
from tests import ulps

inf, nan = math.inf, math.nan
NAMES = sorted({name.rsplit("_", 1)[0] for name in vecmath.FUNCTIONS})
WIDTHS = {"f32": np.float32, "f64": np.float64}
LOOSE = dict.fromkeys((*ulps.SPECIAL, "pow"), 4.0)
GAMMA = ("lgamma", "digamma")


LOADER = objects.Loader()
ABI = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3)


def text_of(name, expression=None):
    """A kernel that maps a function over arrays."""
    words = ["x0"] + ["x1"] * (name.rsplit("_", 1)[0] in ulps.BINARY)
    n = len(words) + 1
    views = "".join(f"    x{k} = {name[-3:]}(args, {k}, {n})\n" for k in range(n))
    value = expression or f"{name}({', '.join(w + '[i]' for w in words)})"
    return f"def kernel(args, lo, hi, chunk):\n{views}    for i in range(lo, hi):\n        x{n - 1}[i] = {value}\n"


@cache
def run(text):
    """A kernel over whole arrays."""
    made = codegen.compile_text(text)
    kernel = ABI(LOADER.load(made.symbol, made.code, made.needs))

    def over(*arrays):
        table = np.array([a.ctypes.data for a in arrays], np.int64)
        kernel(None, None, table.ctypes.data, 0, arrays[-1].size, 0)

    return over


def call(name, *args):
    dtype = WIDTHS[name[-3:]]
    arrays = [np.ascontiguousarray(np.atleast_1d(np.asarray(a, dtype))) for a in args]
    out = np.empty_like(arrays[0])
    run(text_of(name))(*arrays, out)
    return out


def worst(errors, got, *args):
    i = int(np.argmax(errors))
    return f"{errors[i]:.3f} ulp at {[repr(a[i]) for a in args]}: got {got[i]!r}"


def test_every_word_of_the_kernel_language_is_there():
    assert set(interpret.MATH) <= set(NAMES)
    assert set(vecmath.FUNCTIONS) == {f"{n}_{w}" for n in NAMES for w in WIDTHS}


# ------------------------------------------------------------------------------------- accuracy
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_distance(name, width):
    args = ulps.points(name, WIDTHS[width], 10_000)
    if name in GAMMA:
        args = tuple(np.abs(a) for a in args)  # for x < 0 see test_gamma_of_negative_arguments
    got = call(f"{name}_{width}", *args)
    errors = ulps.judge(name, got, *args)
    assert errors.max() <= LOOSE.get(name, 2.0), worst(errors, got, *args)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ulps.SPECIAL])
def test_distance_by_mpmath(name):
    args = ulps.points(name, np.float64, 300, seed=1)
    got = call(f"{name}_f64", *args)
    exact = ulps.by_mpmath(name, *args)
    known = ~np.isnan(exact[:, 0])
    errors = ulps.distance(got[known], exact[known, 0], exact[known, 1])
    assert known.sum() > 60
    assert errors.max() <= LOOSE.get(name, 2.0), worst(errors, got[known], *(a[known] for a in args))


@pytest.mark.parametrize("name", GAMMA)
def test_gamma_of_negative_arguments(name):
    """Between the poles both have zeros: measured by the larger term of the reflection."""
    x = -np.random.default_rng(2).uniform(0, 30, 400)
    exact, mirrored = ulps.by_mpmath(name, x), ulps.by_mpmath(name, -x)
    size = np.maximum(np.abs(exact[:, 0]), np.maximum(np.abs(mirrored[:, 0]), 1.0))
    got = call(f"{name}_f64", x)
    assert np.max(np.abs((got - exact[:, 0]) - exact[:, 1]) / np.spacing(size)) <= 4
    narrow = x.astype(np.float32)
    wide = ulps.by_numpy(name, narrow.astype(np.float64))
    error = np.abs(call(f"{name}_f32", narrow) - wide)
    assert np.max(error / np.spacing(np.maximum(np.abs(wide), 1).astype(np.float32))) <= 1


def test_a_wrong_value_is_seen():
    x = np.linspace(0.5, 2, 50).astype(np.float32)
    right = np.exp(x.astype(np.float64))
    off = np.nextafter(np.nextafter(np.nextafter(right.astype(np.float32), inf), inf), inf)
    assert ulps.judge("exp", right.astype(np.float32), x).max() <= 0.5
    assert ulps.judge("exp", off, x).min() > 2
    assert ulps.distance(np.float32([inf, 1, nan]), np.array([1.0, inf, 1.0])).tolist() == [inf] * 3


# ---------------------------------------------------------------------------------------- edges
EDGES = """
exp: nan->nan inf->inf -inf->0 0->1 -0->1 -1e4->0 1e4->inf
exp2: nan->nan inf->inf -inf->0 0->1 -0->1 1->2 10->1024 -3->.125 -1e4->0 1e4->inf
expm1: nan->nan inf->inf -inf->-1 0->0 -0->-0 -1e4->-1 1e4->inf 1e-30->1e-30 -1e-30->-1e-30
log: nan->nan inf->inf -inf->nan 0->-inf -0->-inf 1->0 -1->nan
log2: nan->nan inf->inf -inf->nan 0->-inf -0->-inf 1->0 -1->nan 8->3 .25->-2
log10: nan->nan inf->inf -inf->nan 0->-inf -0->-inf 1->0 -1->nan 1000->3 .01->-2
log1p: nan->nan inf->inf -inf->nan 0->0 -0->-0 -1->-inf -2->nan 1e-30->1e-30 -1e-30->-1e-30
sin: nan->nan inf->nan -inf->nan 0->0 -0->-0 1e-30->1e-30
cos: nan->nan inf->nan -inf->nan 0->1 -0->1 1e-30->1
tan: nan->nan inf->nan -inf->nan 0->0 -0->-0 1e-30->1e-30
asin: nan->nan inf->nan -inf->nan 0->0 -0->-0 2->nan -2->nan 1e-30->1e-30
acos: nan->nan inf->nan -inf->nan 1->0 2->nan -2->nan
atan: nan->nan 0->0 -0->-0 1e-30->1e-30
sinh: nan->nan inf->inf -inf->-inf 0->0 -0->-0 1e4->inf -1e4->-inf 1e-30->1e-30
cosh: nan->nan inf->inf -inf->inf 0->1 -0->1 1e4->inf -1e4->inf
tanh: nan->nan inf->1 -inf->-1 0->0 -0->-0 50->1 -50->-1 1e-30->1e-30 -1e-30->-1e-30
asinh: nan->nan inf->inf -inf->-inf 0->0 -0->-0 1e-30->1e-30
acosh: nan->nan inf->inf -inf->nan 1->0 .5->nan -2->nan
atanh: nan->nan inf->nan 0->0 -0->-0 1->inf -1->-inf 2->nan -2->nan 1e-30->1e-30
sigmoid: nan->nan inf->1 -inf->0 0->.5 -0->.5 1e4->1 -1e4->0
softplus: nan->nan inf->inf -inf->0 1e4->1e4 -1e4->0
cbrt: nan->nan inf->inf -inf->-inf 0->0 -0->-0 27->3 -8->-2
rsqrt: nan->nan inf->0 -inf->nan 0->inf -0->-inf 4->.5 -1->nan
erf: nan->nan inf->1 -inf->-1 0->0 -0->-0 30->1 -30->-1
erfc: nan->nan inf->0 -inf->2 0->1 -0->1 30->0 -30->2
erfinv: nan->nan inf->nan -inf->nan 0->0 -0->-0 1->inf -1->-inf 2->nan -2->nan
lgamma: nan->nan inf->inf -inf->inf 0->inf -0->inf -1->inf -7->inf 1->0 2->0
digamma: nan->nan inf->inf -inf->nan 0->-inf -0->inf -1->nan -7->nan
hypot: nan,1->nan 1,nan->nan inf,nan->inf nan,-inf->inf -inf,1->inf 0,0->0 -0,-0->0 3,-4->5
pow: nan,0->1 nan,-0->1 1,nan->1 1,inf->1 1,-inf->1 -1,inf->1 -1,-inf->1 nan,1->nan 2,nan->nan \
 -1,nan->nan 0,3->0 -0,3->-0 0,2->0 -0,2->0 0,.5->0 -0,.5->0 0,-1->inf -0,-1->-inf 0,-2->inf \
 -0,-2->inf -0,-.5->inf 0,inf->0 -0,inf->0 0,-inf->inf -0,-inf->inf inf,2->inf inf,-2->0 inf,inf->inf \
 inf,-inf->0 inf,0->1 -inf,3->-inf -inf,2->inf -inf,.5->inf -inf,-3->-0 -inf,-2->0 -inf,inf->inf \
 -inf,-inf->0 .5,inf->0 .5,-inf->inf 2,inf->inf 2,-inf->0 -2,inf->inf -.5,inf->0 -.5,-inf->inf \
 -2,3->-8 -2,2->4 -2,-1->-.5 -2,.5->nan -1,3->-1 -1,1e20->1 2,10->1024 10,3->1000 9,.5->3 5,1->5 \
 0,0->1 -0,0->1 -2,1e30->inf
"""


def _edges():
    for line in EDGES.strip().replace("\\\n", "").splitlines():
        name, cases = line.split(":")
        for case in cases.split():
            args, value = case.split("->")
            yield name, tuple(map(float, args.split(","))), float(value)


@pytest.mark.parametrize("width", WIDTHS)
def test_edges(width):
    dtype, wrong = WIDTHS[width], []
    with np.errstate(over="ignore"):
        for name, args, value in _edges():
            got = call(f"{name}_{width}", *args)[0]
            exact = dtype(value)
            same = got == exact and np.signbit(got) == np.signbit(exact)
            if not (same or np.isnan(got) and np.isnan(exact)):
                wrong.append(f"{name}{args} = {got!r}, not {exact!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("width", WIDTHS)
def test_atan2_quadrants(width):
    """C99's table, which NumPy has from the C library."""
    special = np.array([0.0, -0.0, 1, -1, inf, -inf, nan], WIDTHS[width])
    y, x = (g.ravel() for g in np.meshgrid(special, special))
    got, exact = call(f"atan2_{width}", y, x), np.arctan2(y, x)
    np.testing.assert_array_max_ulp(np.nan_to_num(got, nan=7), np.nan_to_num(exact, nan=7), 1)
    assert (np.signbit(got) == np.signbit(exact))[~np.isnan(got)].all()


@pytest.mark.parametrize("width", WIDTHS)
def test_exact_where_one_expects_it(width):
    dtype = WIDTHS[width]
    least = -126 if dtype is np.float32 else -1022
    powers = np.arange(least, -least)
    twos = np.ldexp(dtype(1), powers)
    assert (call(f"log2_{width}", twos) == powers).all()
    assert (call(f"exp2_{width}", powers) == twos).all()
    assert (call(f"pow_{width}", np.full(powers.size, 2), powers) == twos).all()
    tens = np.array([float(f"1e{k}") for k in range(11 if dtype is np.float32 else 23)])
    assert (call(f"log10_{width}", tens) == np.arange(tens.size)).all()
    assert (call(f"pow_{width}", np.full(tens.size, 10.0), np.arange(tens.size)) == tens.astype(dtype)).all()
    cubes = np.arange(-60.0, 61) ** 3
    assert (call(f"cbrt_{width}", cubes) == np.arange(-60, 61)).all()


@pytest.mark.parametrize("width", WIDTHS)
def test_results_stay_in_bounds(width):
    (x,) = ulps.points("sin", WIDTHS[width], 4000, seed=3)
    x = np.concatenate([x, (np.arange(-500, 501) * math.pi / 2).astype(x.dtype)])
    x = x[np.isfinite(x)]
    for name in ("sin", "cos", "tanh", "erf"):
        assert (np.abs(call(f"{name}_{width}", x)) <= 1).all(), name
    s = call(f"sigmoid_{width}", x)
    assert ((s >= 0) & (s <= 1)).all()


def test_denormals_are_not_flushed():
    assert call("sigmoid_f32", -100.0)[0] == np.float32(np.exp(-100.0)) > 0
    assert call("exp_f32", -103.0)[0] == np.float32(np.exp(-103.0)) > 0
    assert call("exp_f64", -745.0)[0] == 5e-324
    assert call("log_f32", 1e-45)[0] == np.float32(math.log(np.float32(1e-45)))
    assert call("log_f64", 5e-324)[0] == math.log(5e-324)
    for name in ("sin", "tan", "asin", "atan", "sinh", "tanh", "asinh", "atanh", "expm1", "log1p"):
        assert call(f"{name}_f32", 1e-45)[0] == np.float32(1e-45), name
        assert call(f"{name}_f64", -5e-324)[0] == -5e-324, name


# --------------------------------------------------------------------------------- huge angles
HUGE_64 = [2.0**32, 2.0**32 + 1, 1e10, 1e22, 1e300, 1.7976931348623157e308,
           6381956970095103.0 * 2.0**797]  # the double nearest to a multiple of pi/2


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_huge_angles(name):
    x = np.array(HUGE_64 + [-v for v in HUGE_64])
    exact = ulps.by_mpmath(name, x)
    assert ulps.distance(call(f"{name}_f64", x), exact[:, 0], exact[:, 1]).max() <= 2
    x = np.array([2.0**18, 2.0**18 + 0.03125, 1e6, 1e30, 3.4028235e38, 16367173.0 * 2.0**72], np.float32)
    x = np.concatenate([x, -x])
    exact = ulps.by_mpmath(name, x)
    assert ulps.distance(call(f"{name}_f32", x), exact[:, 0], exact[:, 1]).max() <= 2


@pytest.mark.parametrize("width", WIDTHS)
def test_rescued_lanes_do_not_disturb_the_others(width):
    """Vectors of all lengths, with huge angles at odd places, against one element at a time."""
    rng = np.random.default_rng(4)
    for n in (1, 3, 8, 17, 40, 64, 70):
        x = rng.normal(size=n).astype(WIDTHS[width])
        x[rng.random(n) < 0.3] *= 1e25
        for name in ("sin", "cos", "tan"):
            one_by_one = [call(f"{name}_{width}", v)[0] for v in x]
            assert (call(f"{name}_{width}", x) == one_by_one).all()


@pytest.mark.parametrize("name", ["sin_f32", "tan_f64"])
def test_rescues_one_result_at_a_time(name, monkeypatch):
    """What older LLVM needs: it cannot vectorise calls of functions with several results."""
    monkeypatch.setattr(rescue, "STRUCTS", False)
    monkeypatch.setattr(mathcode, "_known", {})
    text = f"# apart\n{text_of(name)}"
    assert re.search(r"<\d+ x (float|double)> @llvm\.fma", str(codegen.lower(text)))
    x = np.array([0.5, 1e9, 2.0, -1e25, inf, nan, 3e20] * 5, WIDTHS[name[-3:]])
    got = np.empty_like(x)
    run(text)(x, got)
    np.testing.assert_array_equal(got, call(name, x))


# ---------------------------------------------------------------------------------- vector code
@cache
def code_of(text):
    return str(codegen.lower(text))


@pytest.mark.parametrize("name", sorted(vecmath.FUNCTIONS))
def test_loops_vectorise(name):
    code = code_of(text_of(name))
    assert re.search(r"(f(mul|add|sub|div)|llvm\.fma\S*\() ?<\d+ x (float|double)>|call <\d+ x", code)


@pytest.mark.parametrize("name", sorted(vecmath.FUNCTIONS))
def test_no_library_is_called(name):
    assert not codegen.compile_text(text_of(name)).needs


def test_constants_of_another_width_are_refused():
    builder = ir.IRBuilder(ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), [ir.FloatType()]), "f").append_basic_block())
    x = core.Value(builder, "f32", builder.function.args[0])
    with pytest.raises(TypeError, match="no f32"):
        x * 0.1
    with pytest.raises(TypeError, match="kinds differ"):
        x * core.f8(x)
    with pytest.raises(TypeError, match="select"):
        bool(x > 0.0)


@pytest.fixture
def haswell(monkeypatch):
    """A compiler for a processor with AVX2 and FMA, and nothing later."""
    if not re.search(r"\+avx2\b.*\+fma\b", target.features()):
        pytest.skip("needs AVX2 and FMA")
    monkeypatch.setattr(target, "features", lambda: "+avx2,+fma")
    monkeypatch.setattr(target, "cpu_name", lambda: "haswell")
    machine = target.fresh_machine()
    monkeypatch.setattr(target, "machine", lambda: machine)
    monkeypatch.setattr(mathcode, "_known", {})
    powers.native.cache_clear()
    yield
    powers.native.cache_clear()


def test_processors_without_wide_instructions(haswell):
    """Scaling and taking apart by integers: the same bounds, and no instruction of AVX-512."""
    dtypes = {"f32": np.float32, "f64": np.float64}
    for width, dtype in dtypes.items():
        for name in ("exp", "exp2", "log", "log2", "log10", "sigmoid", "softplus", "erfinv"):
            text = f"# haswell\n{text_of(f'{name}_{width}')}"
            assert "zmm" not in codegen.assembly(text)
            (x,) = ulps.points(name, dtype, 1500, seed=7)
            x = np.concatenate([x, np.array([0.0, -0.0, inf, -inf, nan, 1.0, 0.75, 1.5], dtype)])
            got = np.empty_like(x)
            run(text)(x, got)
            assert ulps.judge(name, got, x).max() <= LOOSE.get(name, 2.0), name


@pytest.mark.parametrize("both", ["sin_f32(x0[i]) * cos_f32(x0[i])", "erf_f32(x0[i]) * exp_f32(-(x0[i] * x0[i]))",
                                  "erf_f64(x0[i]) * exp_f64(-(x0[i] * x0[i]))"])
def test_functions_share_their_work(both):
    """What one function is made of, the other finds there: fewer products than in the two kernels apart."""
    def products(text):
        return len(re.findall(r"call (?:contract )?<\d+ x (?:float|double)> @llvm.fm", code_of(text)))

    first, second = both.split(" * ", 1)
    name = first.split("(")[0]
    apart = [products(text_of(name, e)) for e in (first, second)]
    assert 0 < products(text_of(name, both)) <= max(apart) + 3


@pytest.mark.parametrize("width", WIDTHS)
def test_long_loops_call_functions_of_vectors(width):
    """All functions, more of them than are inlined: the values of each alone, huge angles and odd lengths too."""
    names = [n for n in vecmath.FUNCTIONS if n.endswith(width)]
    names += names[: max(0, mathcode.MOST_IN_LOOPS + 1 - len(names))] + names[:9]
    k = len(names)
    views = f"    x = {width}(args, 0, {k + 1})\n" + "".join(f"    y{i} = {width}(args, {i + 1}, {k + 1})\n" for i in range(k))
    calls = [f"{n}(x[i]{', x[i]' * (n[:-4] in ulps.BINARY)})" for n in names]
    body = "".join(f"        y{i}[i] = {c}\n" for i, c in enumerate(calls))
    text = f"def kernel(args, lo, hi, chunk):\n{views}    for i in range(lo, hi):\n{body}"
    lanes = target.vector_bits() // int(width[1:])
    assert f"exp_{width}_v{lanes}" in mathcode.forms(text)
    assert re.search(rf"call contract <{lanes} x \w+> @autojit_exp_{width}_v{lanes}\(", code_of(text))
    x = np.random.default_rng(8).normal(size=67).astype(WIDTHS[width])
    x[::10] = [1e30, -1e30, inf, -inf, nan, 0.0, -0.0]
    out = [np.empty_like(x) for _ in names]
    run(text)(x, *out)
    for name, got in zip(names, out, strict=True):
        alone = call(name, *[x] * (2 if name[:-4] in ulps.BINARY else 1))
        np.testing.assert_array_equal(got, alone, err_msg=name)
