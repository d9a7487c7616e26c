"""Kernel text, compiled: every word against its plain reading, and what the machine code looks like."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import autojit as aj
from autojit.backends.cpu import codegen, interpret, mathcode, target, vecmath, workers
from autojit.backends.cpu import compiler as compiler_module
from autojit.backends.cpu.compiler import Compiler
from autojit.backends.cpu.objects import Loader
from autojit.config import config
from autojit.engine import programs
from autojit.errors import CompileError

LOADER = Loader()
CALL = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3)
NAN = float("nan")


def compiled(text: str):
    made = codegen.compile_text(text)
    return CALL(LOADER.load(made.symbol, made.code, made.needs))


def table(*args) -> np.ndarray:
    """The argument table: addresses of arrays, then numbers (floats by their float64 bits)."""
    words = [a.ctypes.data if isinstance(a, np.ndarray)
             else np.float64(a).view(np.int64) if isinstance(a, float) else a for a in args]
    return np.array(words, np.int64)


def run(text: str, args: list, lo: int, hi: int, chunk: int = 0) -> np.ndarray:
    words = table(*args)
    assert compiled(text)(None, None, words.ctypes.data, lo, hi, chunk) == 0
    return words


def both(text: str, args: list, lo: int, hi: int, chunk: int = 0) -> tuple[list, list]:
    """Buffers after the compiled kernel, and after the interpreted one."""
    first, second = ([a.copy() if isinstance(a, np.ndarray) else a for a in args] for _ in range(2))
    run(text, first, lo, hi, chunk)
    interpret.load(text)(second, lo, hi, chunk)
    arrays = [i for i, a in enumerate(args) if isinstance(a, np.ndarray)]
    return [first[i] for i in arrays], [second[i] for i in arrays]


def same(got: np.ndarray, want: np.ndarray) -> None:
    """Equal bits, but for which NaN it is."""
    assert got.dtype == want.dtype
    if got.dtype.kind == "f":
        nan = np.isnan(want)
        np.testing.assert_array_equal(np.isnan(got), nan)
        bits = np.int32 if got.dtype == np.float32 else np.int64
        got, want = (np.where(nan, 0, a).astype(a.dtype).view(bits) for a in (got, want))
    np.testing.assert_array_equal(got, want)


def floats(dtype) -> np.ndarray:
    info = np.finfo(dtype)
    edge = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 3.0, 7.25, -7.25, 1e-3, np.inf, -np.inf, NAN,
            info.max, -info.max, info.tiny, info.smallest_subnormal, 2.0 ** 31, -2.0 ** 31, 2.0 ** 63,
            1e18, 255.5, -128.5]
    return np.concatenate([edge, np.random.default_rng(0).normal(size=39) * 10]).astype(dtype)


def ints() -> np.ndarray:
    edge = [0, 1, -1, 2, -2, 3, 7, -7, 63, 64, 65, -64, 127, 128, -129, 255, 256, 32768, 2 ** 31,
            -2 ** 31 - 1, 2 ** 62, 2 ** 63 - 1, -2 ** 63]
    return np.array(edge, np.int64)


def pairs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.meshgrid(values, values)
    return np.ascontiguousarray(a.ravel()), np.ascontiguousarray(b.ravel())


def each(suffix: str, view: str, words: list[str], call: str) -> str:
    """A kernel that writes the result of every word into a row of its own."""
    lines = [f"        y[{k} * n + i] = {w}({call})" for k, w in enumerate(words)]
    return "\n".join([
        "def kernel(args, lo, hi, chunk):",
        *(f"    {v} = {suffix}(args, {k}, 4)" for k, v in enumerate("abc")),
        f"    y = {view}(args, 3, 4)", "    n = size(args, 4)", "    for i in range(lo, hi):", *lines])


def check_words(suffix: str, view: str, words: list[str], call: str, a, b, c) -> None:
    n = a.size
    y = np.zeros(n * len(words), dict(interpret.VIEWS)[view])
    got, want = both(each(suffix, view, words, call), [a, b, c, y, n], 0, n)
    for k, word in enumerate(words):
        try:
            same(got[3][k * n:(k + 1) * n], want[3][k * n:(k + 1) * n])
        except AssertionError as e:
            raise AssertionError(f"{word}: {e}") from None


@pytest.mark.parametrize("s", ["f32", "f64"])
def test_float_words(s):
    dtype = interpret.FLOATS[s]
    one, (two, other) = floats(dtype), pairs(floats(dtype))
    check_words(s, s, [f"{w}_{s}" for w in ("sqrt", "floor", "ceil", "trunc", "rint", "abs")],
                "a[i]", one, one.copy(), one.copy())
    check_words(s, "b1", [f"{w}_{s}" for w in ("isnan", "isinf", "isfinite", "signbit")] + ["to_b1"],
                "a[i]", one, one.copy(), one.copy())
    check_words(s, "i64", ["to_i64", "to_i32", "to_i16", "to_i8", "to_u8", f"bits_{s}"],
                "a[i]", one, one.copy(), one.copy())
    check_words(s, s, [f"{w}_{s}" for w in ("maximum", "minimum", "copysign", "add", "mul",
                                            "fmod", "remainder", "floordiv")],
                "a[i], b[i]", two, other, two.copy())
    check_words(s, s, ["to_f32" if s == "f32" else "to_f64"], "a[i]", one, one.copy(), one.copy())
    other_float = "f64" if s == "f32" else "f32"
    check_words(s, other_float, [f"to_{other_float}"], "a[i]", one, one.copy(), one.copy())


@pytest.mark.parametrize("s", ["f32", "f64"])
def test_fmax_and_fma(s):
    dtype = interpret.FLOATS[s]
    a, b = pairs(floats(dtype))
    keep = ~((a == 0) & (b == 0))  # either zero may come out of fmax(0, -0)
    a, b = a[keep], b[keep]
    check_words(s, s, [f"fmax_{s}", f"fmin_{s}"], "a[i], b[i]", a, b, a.copy())
    x = np.random.default_rng(1).normal(size=200).astype(dtype)
    c = (-(x * x)).astype(dtype)  # the product's rounding error comes out
    check_words(s, s, [f"fma_{s}"], "a[i], b[i], c[i]", x, x.copy(), c)
    assert run_fma(x, c, s).any()


def run_fma(x, c, s):
    y = np.zeros_like(x)
    run(each(s, s, [f"fma_{s}"], "a[i], b[i], c[i]"), [x, x.copy(), c, y, x.size], 0, x.size)
    return y


def test_integer_words():
    a, b = pairs(ints())
    two = ["add_i64", "sub_i64", "mul_i64", "maximum_i64", "minimum_i64", "floordiv_i64", "remainder_i64",
           "fmod_i64", "pow_i64", "shl_i64", "shr_i64", "ushr_i64"]
    check_words("i64", "i64", two, "a[i], b[i]", a, b, a.copy())
    one = ints()
    check_words("i64", "i64", ["neg_i64", "abs_i64", "to_i32", "to_i16", "to_i8", "to_u8", "to_i64"],
                "a[i]", one, one.copy(), one.copy())
    for kind in ("f32", "f64"):
        check_words("i64", kind, [f"to_{kind}", f"from_bits_{kind}"], "a[i]", one, one.copy(), one.copy())
    i, n = pairs(np.array([1, 2, 3, 17, 1000, 2 ** 40], np.int64))
    check_words("i64", "i64", ["index_div", "index_mod"], "a[i], b[i]", i, n, i.copy())


@pytest.mark.parametrize("s", ["f32", "f64", "i64"])
def test_powi(s):
    x = ints() if s == "i64" else floats(interpret.FLOATS[s])
    powers = [0, 1, 2, 3, 7, 10] + ([] if s == "i64" else [-1, -2, -3])
    lines = [f"        y[{k} * n + i] = powi_{s}(a[i], {p})" for k, p in enumerate(powers)]
    text = "\n".join(["def kernel(args, lo, hi, chunk):", f"    a = {s}(args, 0, 2)", f"    y = {s}(args, 1, 2)",
                      "    n = size(args, 2)", "    for i in range(lo, hi):", *lines])
    got, want = both(text, [x, np.zeros(x.size * len(powers), x.dtype), x.size], 0, x.size)
    same(got[1], want[1])


def test_views_narrow_and_widen():
    text = "\n".join([
        "def kernel(args, lo, hi, chunk):",
        *(f"    {v} = {view}(args, {k}, 6)" for k, (v, view) in enumerate(zip(
            "abcdef", ("i64", "i32", "i16", "i8", "u8", "b1")))),
        "    for i in range(lo, hi):",
        "        v = a[i]",
        "        b[i] = v", "        c[i] = v", "        d[i] = v", "        e[i] = v", "        f[i] = v > 3",
        "        a[i] = add_i64(add_i64(b[i], c[i]), add_i64(d[i], e[i])) if f[i] else d[i] * 3"])
    n = ints().size
    args = [ints(), *(np.zeros(n, t) for t in ("int32", "int16", "int8", "uint8", "bool"))]
    for g, w in zip(*both(text, args, 0, n)):
        same(g, w)


def test_slots_and_errors():
    text = """
def kernel(args, lo, hi, chunk):
    y = f64(args, 0, 1)
    bad = False
    for i in range(lo, hi):
        bad = bad | (i == 3)
        y[i] = to_f64(c_f32(args, 1)) + c_f64(args, 2) + to_f64(c_i64(args, 3)) + to_f64(chunk)
    if bad:
        set_error(args, 4, 7)
"""
    y = np.zeros(5)
    words = run(text, [y, 0.1, 0.25, -3, 0], 0, 3, chunk=2)
    np.testing.assert_array_equal(y, [float(np.float32(0.1)) + 0.25 - 3 + 2] * 3 + [0, 0])
    assert words[4] == 0
    assert run(text, [y, 0.1, 0.25, -3, 0], 2, 5)[4] == 7
    table_of = [y, 0.1, 0.25, -3, 0]
    interpret.load(text)(table_of, 0, 4)
    assert table_of[4] == 7


def test_control_flow_and_choice():
    text = """
def kernel(args, lo, hi, chunk):
    x = f32(args, 0, 2)
    y = f32(args, 1, 2)
    n = size(args, 2)
    for i in range(lo, hi):
        best = f4(-inf)
        at = 0
        for j in range(0, n):
            t = x[i * n + j]
            if t > best or (isnan_f32(t) and not isnan_f32(best)):
                best = t
                at = j
        for j in range(n - 1, -1, -2):
            y[i * n + j] = select(j == at, best, f4(nan) if j > at else -best)
"""
    x = np.random.default_rng(0).normal(size=60).astype("f4")
    x[7] = NAN
    got, want = both(text, [x, np.zeros(60, "f4"), 6], 0, 10)
    same(got[1], want[1])


def test_mathematics():
    """Accuracy is vecmath's own test; here: each word calls its own function, at both widths."""
    for s, rtol in (("f32", 2e-6), ("f64", 1e-14)):
        x = np.linspace(0.05, 0.95, 37).astype(interpret.FLOATS[s])
        for words, call in ((interpret.UNARY, "a[i]"), (interpret.BINARY, "a[i], b[i]")):
            names = [f"{w}_{s}" for w in words if supported(f"{w}_{s}")]
            assert len(names) >= 3
            y = np.zeros(x.size * len(names), x.dtype)
            got, want = both(each(s, s, names, call), [x, x[::-1].copy(), x.copy(), y, x.size], 0, x.size)
            for k, name in enumerate(names):
                row = slice(k * x.size, (k + 1) * x.size)
                np.testing.assert_allclose(got[3][row], want[3][row], rtol=rtol, atol=rtol / 10, err_msg=name)


def supported(word: str) -> bool:
    return word in vecmath.FUNCTIONS or word.rsplit("_", 1)[0] in mathcode.LIBM


def test_every_function_of_vecmath_is_a_word():
    words = {f"{name}_{s}" for name in interpret.MATH for s in interpret.FLOATS}
    assert set(vecmath.FUNCTIONS) <= words


@pytest.mark.skipif(target.vector_bits() == 128, reason="needs AVX2")
def test_mathematics_vectorises():
    """Angles too: their rescues for huge arguments work on whole vectors, and unused ones are dropped."""
    text = """
def kernel(args, lo, hi, chunk):
    x = f32(args, 0, 2)
    y = f32(args, 1, 2)
    total = f4(0.0)
    for i in range(lo, hi):
        t = exp_f32(-x[i] * x[i]) * sin_f32(x[i])
        total = add_f32(total, t)
    y[chunk] = total
"""
    asm, reg = vector_code(text)
    assert len(re.findall(rf"vfmadd\w+ps\s.*{reg}", asm)) >= 10
    assert not re.search(r"call.*\b(sinf?|expf?)\b", asm)
    variants = set(re.findall(r"^(autojit_sin_f32_huge_v\d+):", asm, re.M))
    assert len(variants) <= 2
    x = np.array([0.5, -1.5, 3e8, 1e-30] * 50, "f4")
    y = np.zeros(1, "f4")
    run(text, [x, y], 0, x.size)
    np.testing.assert_allclose(y[0], np.sum(np.exp(-x.astype("f8") ** 2) * np.sin(x.astype("f8"))), rtol=1e-5)


def test_accumulate_keeps_values_elsewhere():
    """inf + 1 - inf is NaN and a compensated sum keeps its error term: only `add` is free."""
    text = """
def kernel(args, lo, hi, chunk):
    a = f32(args, 0, 2)
    y = f32(args, 1, 2)
    s = a[0] + a[1]
    y[0] = s - a[0]
    b = s - a[0]
    y[1] = (a[0] - (s - b)) + (a[1] - b)
    y[2] = a[2] / a[2]
    y[3] = a[3] * f4(0.0)
"""
    a = np.array([1e8, 1, 1e-39, np.inf], "f4")
    got, want = both(text, [a, np.zeros(4, "f4")], 0, 1)
    same(got[1], want[1])
    assert want[1].tolist()[:3] == [0.0, 1.0, 1.0]


REFUSED = {
    "a float64 stored as float32": "y[0] = x[0] * f8(2.0)",
    "a bare literal": "y[0] = x[0] * 2.0",
    "an integer stored as float": "y[0] = 1",
    "a float index": "y[x[0]] = x[0]",
    "the other width": "y[0] = exp_f64(x[0])",
    "an unknown word": "y[0] = frobnicate(x[0])",
    "sides of select": "y[0] = select(x[0] > f4(0.0), x[0], f8(1.0))",
    "a run-time power": "y[0] = powi_f32(x[0], size(args, 2))",
    "a syntax error": "y[0] = = 1",
    "a Python container": "y[0] = [x[0]][0]",
    "raising": "raise ValueError(lo)",
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    text = f"def kernel(args, lo, hi, chunk):\n    x = f32(args, 0, 2)\n    y = f32(args, 1, 2)\n    {REFUSED[what]}\n"
    with pytest.raises(CompileError, match="(?s).*def kernel"):
        codegen.compile_text(text)
    if what in ("a float64 stored as float32", "a float index", "the other width", "sides of select",
                "an unknown word", "an integer stored as float"):
        with pytest.raises((TypeError, NameError)):
            interpret.load(text)([np.ones(3, "f4"), np.ones(3, "f4"), 2], 0, 1)


def test_interpreter_checks_bounds():
    text = "def kernel(args, lo, hi, chunk):\n    x = f32(args, 0, 1)\n    x[hi] = x[lo]\n"
    for lo, hi in ((0, 3), (-1, 0)):
        with pytest.raises(IndexError, match="buffer 0"):
            interpret.load(text)([np.ones(3, "f4")], lo, hi)


# ------------------------------------------------------------------------------------- machine code
def vector_code(text: str) -> tuple[str, str]:
    """The assembly, and the register it should use."""
    return codegen.assembly(text), {512: "zmm", 256: "ymm", 128: "xmm"}[target.vector_bits()]


ROWS = """
def kernel(args, lo, hi, chunk):
    x = f32(args, 0, 2)
    y = f32(args, 1, 2)
    n = size(args, 2)
    for i in range(lo, hi):
        m = f4(-inf)
        for j in range(0, n):
            m = maximum_f32(m, x[i * n + j])
        total = f4(0.0)
        for j in range(0, n):
            t = x[i * n + j] - m
            total = add_f32(total, t * t)
        for j in range(0, n):
            y[i * n + j] = (x[i * n + j] - m) / total
"""


@pytest.mark.skipif(target.vector_bits() == 128, reason="needs AVX2")
def test_rows_vectorise_with_run_time_bounds():
    asm, reg = vector_code(ROWS)
    for pattern in (rf"v(max|range)ps\s.*{reg}", rf"v(fmadd\w+|mul)ps\s.*{reg}", rf"vdivps\s.*{reg}"):
        assert re.search(pattern, asm), f"no {pattern}"
    assert "gather" not in asm


@pytest.mark.skipif(target.vector_bits() == 128, reason="needs AVX2")
def test_elementwise_vectorises_without_overlap_checks():
    views = "\n".join(f"    x{k} = f32(args, {k}, 5)" for k in range(5))
    asm, reg = vector_code(f"""
def kernel(args, lo, hi, chunk):
{views}
    n = size(args, 5)
    for i in range(lo, hi):
        for j in range(0, n):
            t = x0[i * n + j] * x1[j] + x2[i]
            x3[i * n + j] = t if t > f4(0.0) else f4(0.0)
            x4[i * n + j] = to_f32(to_i32(t)) * from_bits_f32(bits_f32(t) & 2147483647)
""")
    assert len(re.findall(rf"vmovups\s.*{reg}.*\(", asm)) >= 2
    assert "gather" not in asm and "scatter" not in asm
    plain = [line for line in asm.splitlines() if re.search(r"\bv(mul|fmadd\w+)ss\b", line)]
    assert len(plain) <= 8, "a scalar loop besides the remainder: overlap is checked at run time"


def test_code_needs_only_the_c_library():
    text = """
def kernel(args, lo, hi, chunk):
    x = f32(args, 0, 2)
    y = f32(args, 1, 2)
    for i in range(lo, hi):
        y[i] = fmod_f32(x[i], f4(3.0))
"""
    made = codegen.compile_text(text)
    assert set(made.needs) <= {"fmodf"}
    assert made.symbol.startswith("autojit_") and made.seconds > 0
    assert codegen.compile_text(text).code == made.code


# ----------------------------------------------------------------------------------------- too long
def straight(lines: int, line: str = "sqrt_f32(t{0}) * t0 + t{0}") -> str:
    """A kernel of numbers; every line reads the one before."""
    return "\n".join(["def kernel(args, lo, hi, chunk):", "    x = f32(args, 0, 2)", "    y = f32(args, 1, 2)",
                      "    t0 = x[0]", *(f"    t{k + 1} = {line.format(k)}" for k in range(lines)),
                      f"    y[0] = t{lines}", ""])


def test_words_of_long_straight_kernels_are_called():
    """Many inlined functions take LLVM minutes; what comes out is the same."""
    lines = mathcode.MOST_INLINED // 2 + 1
    text = straight(lines, "sin_f32(t{0}) + cos_f32(t{0} * t0)")
    assert mathcode.called_apart(text)
    assert not mathcode.forms(text)
    asm = codegen.assembly(text)
    assert len(re.findall(r"^\s+call", asm, re.M)) >= 2 * lines
    made = codegen.compile_text(text)
    assert set(made.needs) <= mathcode.OUTSIDE
    x = np.float32([1.25])
    (_, got), (_, want) = both(text, [x, np.zeros(1, "f4")], 0, 1)
    np.testing.assert_allclose(got, want, rtol=1e-4)
    once = straight(1, "sin_f32(t{0}) + cos_f32(t{0} * x[1])")
    assert not mathcode.called_apart(once)
    inlined, value, y = compiled(once), np.float32([x[0], x[0]]), np.zeros(1, "f4")
    for _ in range(lines):
        assert inlined(None, None, table(value, y).ctypes.data, 0, 1, 0) == 0
        value[0] = y[0]
    np.testing.assert_allclose(got, y, rtol=1e-5)


TOO_LONG = {
    "lines": (straight(compiler_module.MOST_LINES), r"6,0\d\d lines .*at most 6,000"),
    "bytes": (straight(3000, "t{0}" + " + t0 * t{0}" * 12), r"bytes .*at most 300,000"),
}


@pytest.mark.parametrize("what", TOO_LONG)
def test_too_long_is_refused_at_once_with_a_way_out(what):
    text, words = TOO_LONG[what]
    compiler = Compiler()
    ticket, = compiler.submit([text])
    assert ticket.done and not compiler._drivers, "no process starts for it"
    compiler.wait([ticket])
    with pytest.raises(CompileError, match=words) as caught:
        ticket.get()
    assert 'config.tier = "auto"' in str(caught.value) and "split the function" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_what_is_just_short_enough_is_not_refused():
    assert compiler_module.refusal(straight(compiler_module.MOST_LINES - 5)) is None
    assert compiler_module.refusal(straight(3000, "sin_f32(sin_f32(t{0}))")) is None


def test_numpy_answers_for_a_graph_that_is_too_long(monkeypatch, tmp_path):
    """Tier auto warns once and goes on; tier compile says what to do."""
    monkeypatch.setattr(compiler_module, "refusal", lambda text: CompileError(f"too long: {compiler_module.ADVICE}"))
    x = aj.tensor([0.5, 1.5])

    def make():
        return aj.trace(lambda v: (v * 1.2345).sin() - v.cos() * 0.777)

    want = np.sin(np.float32([0.5, 1.5]) * np.float32(1.2345)) - np.cos(np.float32([0.5, 1.5])) * np.float32(0.777)
    programs.clear()
    monkeypatch.setattr(config, "cache_dir", str(tmp_path))  # failed kernels stay failed in their store
    try:
        config.tier = "auto"
        traced = make()
        with pytest.warns(RuntimeWarning, match="runs this program on NumPy.*too long") as seen:
            for _ in range(4):
                np.testing.assert_allclose(traced(x).numpy(), want, rtol=1e-6)
        assert len([w for w in seen if "too long" in str(w.message)]) == 1
        programs.clear()
        config.tier = "compile"
        with pytest.raises(CompileError, match="split the function"):
            make()(x).numpy()
    finally:
        config.reset()
        programs.clear()


# --------------------------------------------------------------------------- compile processes' limits
posix = pytest.mark.skipif(os.name != "posix", reason="needs poll")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@posix
def test_a_compile_that_takes_too_long_is_ended(monkeypatch):
    fake = textwrap.dedent("""
        import base64, json, os, sys, time
        print(json.dumps({"ready": os.getpid()}), flush=True)
        for line in sys.stdin:
            if "slow" in line: time.sleep(60)
            print(json.dumps({"symbol": "s", "code": "", "needs": [], "seconds": 0, "math": {}}), flush=True)
    """)
    monkeypatch.setattr(workers, "_command", lambda: [sys.executable, "-c", fake])
    monkeypatch.setattr(workers, "COMPILE_WITHIN", 0.5)
    config.workers = 1
    compiler = Compiler()
    try:
        start = time.monotonic()
        slow, = compiler.submit(["slow"])
        compiler.wait([slow])
        assert time.monotonic() - start < 15
        with pytest.raises(CompileError, match=r"(?s)too long to compile \(no answer within 0.5 s\).*tier = \"auto\".*slow"):
            slow.get()
        monkeypatch.setattr(workers, "COMPILE_WITHIN", 30.0)
        quick, = compiler.submit(["quick"])
        compiler.wait([quick])
        assert quick.get().symbol == "s", "the next kernel gets a new process"
    finally:
        compiler.close()
        config.reset()


PARENT = r"""
import sys, time
from autojit.backends.cpu import workers
from autojit.backends.cpu.compiler import Compiler
if "watch" in sys.argv:
    workers._BOOT = workers._BOOT.replace("import main\n",
        "import main\nimport autojit.backends.cpu.worker as w\nw._die_with_parent = lambda: False\n")
compiler = Compiler()
ticket, = compiler.submit([sys.stdin.read()])
while not ticket.taken:
    time.sleep(0.01)
time.sleep(0.5)
print(compiler._drivers[0].worker.process.pid, flush=True)
compiler.wait([ticket])
"""


def running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


@linux
@pytest.mark.parametrize("how, number", [("", signal.SIGKILL), ("", signal.SIGTERM), ("watch", signal.SIGKILL)])
def test_a_compile_process_does_not_outlive_its_parent(how, number):
    """Killed in the middle of a compile that would go on for ten seconds."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True, env={**os.environ, "AUTOJIT_WORKERS": "1"})
    parent.stdin.write(straight(5900))
    parent.stdin.close()
    worker = int(parent.stdout.readline())
    assert running(worker)
    start = time.monotonic()
    parent.send_signal(number)
    parent.wait(10)
    while running(worker) and time.monotonic() - start < 5:
        time.sleep(0.02)
    alive = running(worker)
    parent.stdout.close()
    if alive:
        os.kill(worker, signal.SIGKILL)
    assert not alive


@linux
def test_a_compile_process_whose_parent_is_gone_before_it_asks_ends():
    command = [*workers._command()[:-1], str(os.getpid() + 1)]  # another parent, and no input
    done = subprocess.run(command, input=b"", capture_output=True, timeout=60)
    assert done.returncode == 1 and done.stdout == b""


@linux
def test_memory_of_compile_processes_is_bounded():
    code = ("from autojit.backends.cpu import worker\nworker.limit_memory()\n"
            "try: bytearray(worker.MOST_MEMORY + (64 << 20))\nexcept MemoryError: print('refused')\n"
            "print(len(bytearray(1 << 20)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["refused", "1048576"], done.stderr
