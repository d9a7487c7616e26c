"""Kernel text read directly, beside Numba's reading of it; kernels that outlive their program."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import autojit as aj
from autojit.backends.cpu import codegen, direct, emit, front, interpret, words
from autojit.backends.cpu.objects import Loader
from autojit.rewrite.simplify import simplify
from autojit.schedule.loops import KernelStep
from autojit.schedule.plan import schedule

from .graphs import random_graph

LOADER = Loader()
CALL = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3)
DTYPES = {"f32": np.float32, "f64": np.float64, "i64": np.int64, "b1": np.bool_, "f16": np.float16, "bf16": np.uint16}


def machine_code(text: str, reader, monkeypatch) -> object:
    """The kernel compiled by one of the two readers."""
    text += f"    # {reader.__name__}\n"  # loaded beside each other
    with monkeypatch.context() as patch:
        patch.setattr(codegen, "_front", reader.translate)
        made = codegen.compile_text(text)
    return CALL(LOADER.load(made.symbol, made.code, made.needs))


def outputs(text: str, buffers: list[np.ndarray], slots: list, n: int, monkeypatch) -> list[list[np.ndarray]]:
    """The buffers after the kernel, as either reader compiles it."""
    results = []
    for reader in (direct, front):
        mine = [b.copy() for b in buffers]
        table = np.array([b.ctypes.data for b in mine] + [np.float64(s).view(np.int64) if isinstance(s, float) else s
                                                          for s in slots], np.int64)
        assert machine_code(text, reader, monkeypatch)(None, None, table.ctypes.data, 0, n, 0) == 0
        results.append(mine)
    return results


def alike(results: list[list[np.ndarray]]) -> None:
    """The same bits, signs of zeros too; NaNs may have others."""
    for a, b in zip(*results, strict=True):
        a, b = [np.where(np.isnan(x), np.nan, x) if x.dtype.kind == "f" else x for x in (a, b)]
        assert a.tobytes() == b.tobytes()


def column(kind: str, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "b1":
        return rng.integers(0, 2, n).astype(bool)
    if kind == "i64":
        return rng.integers(-50, 50, n)
    values = (rng.standard_normal(n) * 3).astype(DTYPES[kind])
    values[:6] = 0.0, -0.0, np.inf, -np.inf, np.nan, 1e-310 if kind == "f64" else 1e-40
    return values


EXACT = sorted(name for name in words.WORDS if name.rsplit("_", 1)[0] not in interpret.MATH)


@pytest.mark.parametrize("group", range(4))
def test_every_word_means_the_same_to_both_readers(group, monkeypatch):
    """All words of one argument list in one kernel."""
    lists = sorted({words.WORDS[name].kinds for name in EXACT})
    for kinds in lists[group::4]:
        names = [name for name in EXACT if words.WORDS[name].kinds == kinds]
        total = len(kinds) + len(names)
        lines = ["def kernel(args, lo, hi, chunk):"]
        lines += [f"    x{k} = {kind}(args, {k}, {total})" for k, kind in enumerate(kinds)]
        lines += [f"    y{k} = {words.WORDS[name].result}(args, {len(kinds) + k}, {total})" for k, name in enumerate(names)]
        lines.append("    for i in range(lo, hi):")
        for k, name in enumerate(names):
            lines.append(f"        y{k}[i] = {name}({', '.join(f'x{a}[i]' for a in range(len(kinds)))})")
        given = [column(kind, 37, k) for k, kind in enumerate(kinds)]
        if names[0].startswith("index_"):
            given = [abs(g) + 1 for g in given]
        empty = [np.zeros(37, DTYPES[words.WORDS[name].result]) for name in names]
        alike(outputs("\n".join(lines) + "\n", [*given, *empty], [], 37, monkeypatch))


SIGNS = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "and_": "&", "or_": "|", "xor": "^",
         "neg": "-", "invert": "~", "not_": "not ", **words.COMPARISONS}


@pytest.mark.parametrize("kind", ["f32", "f64", "i64", "b1"])
def test_every_operator_and_cast_means_the_same_to_both_readers(kind, monkeypatch):
    assert set(SIGNS) == set(words.OPERATORS)
    made = [("b1" if name in words.COMPARISONS else kind, f"({sign}x)" if name in ("neg", "invert", "not_") else f"x {sign} y")
            for name, sign in SIGNS.items() if kind in words.OPERATORS[name]]
    made += [(result, f"{name}(x)") for name, (result, _) in words.CASTS.items()]
    total = 2 + len(made)
    lines = ["def kernel(args, lo, hi, chunk):"]
    lines += [f"    {v}s = {kind}(args, {i}, {total})" for i, v in enumerate("xy")]
    lines += [f"    o{i} = {result}(args, {2 + i}, {total})" for i, (result, _) in enumerate(made)]
    lines += ["    for i in range(lo, hi):", "        x = xs[i]", "        y = ys[i]"]
    lines += [f"        o{i}[i] = {text}" for i, (_, text) in enumerate(made)]
    given = [column(kind, 37, 1), column(kind, 37, 2)[::-1].copy()]
    empty = [np.zeros(37, DTYPES[result]) for result, _ in made]
    alike(outputs("\n".join(lines) + "\n", [*given, *empty], [], 37, monkeypatch))


def test_no_kernel_of_ours_needs_numba():
    """What the emitter writes for graphs of all kinds the direct reader reads: Numba's way would take a second and more."""
    read = set()
    for seed in range(60):
        for step in schedule(simplify(random_graph(seed)[0])).steps:
            if isinstance(step, KernelStep):
                text = emit.emit_kernel(step.kernel).text
                if text not in read:
                    direct.translate(text, "k")
                    read.add(text)
    assert len(read) > 50


TEXT = textwrap.dedent("""\
    def kernel(args, lo, hi, chunk):
        x = f32(args, 0, 6)
        y = f64(args, 1, 6)
        k = i32(args, 2, 6)
        b = b1(args, 3, 6)
        out = f32(args, 4, 6)
        w = f64(args, 5, 6)
        n = size(args, 6)
        c = c_f32(args, 7)
        m = c_i64(args, 8)
        acc1 = f4(-inf)
        acc2 = f8(0.0)
        for i in range(lo, hi):
            t1 = x[i] * c + f4(0.5)
            t2 = (x[i - 1] if i - 1 >= 0 else f4(-1.0))
            acc1 = maximum_f32(acc1, t1)
            t3 = (not b[i]) & (t1 > t2) | (k[i] % 3 == 1) ^ (t2 != t2)
            out[i] = select(t3, -t1, powi_f32(t2, 3)) / (abs_f32(t1) + f4(1.0))
            for j in range(2, n, 3):
                if j > m and x[j] > c:
                    acc2 = add_f64(acc2, to_f64(x[j]) - y[i])
                else:
                    acc2 = acc2 + f8(0.25)
            k[i] = k[i] * 2 - (i // 4) + (~i & 7)
            w[i] = acc2 * exp_f64(-y[i] * y[i])
        out[0] = acc1
        set_error(args, 9, 5 if acc1 > f4(1e30) else 3)
""")


def test_statements_loops_and_choices_mean_the_same_to_both_readers(monkeypatch):
    buffers = [column("f32", 23, 1), column("f64", 23, 2), column("i64", 23, 3).astype(np.int32), column("b1", 23, 4),
               np.zeros(23, np.float32), np.zeros(23)]
    alike(outputs(TEXT, buffers, [20, 1.25, 4, 0], 23, monkeypatch))


@pytest.mark.parametrize("line", ["x[0] = 1", "x[0] = f8(1.0)", "y = x[f4(0.0)]", "x[0] = f4(1.0) + 1", "while 1: pass",
                                  "y, z = 1, 2", "x[0] = sin(x[0])", "return 3", "x[0] = q", "x[0] = f4(1.0) if 1 else f4(2.0)",
                                  "x[0] = select(x[0], x[0], x[0])", "for i in range(0, 4, lo): pass"])
def test_what_is_not_plainly_a_kernel_is_left_to_numba(line):
    with pytest.raises(direct.Foreign):
        direct.translate(f"def kernel(args, lo, hi, chunk):\n    x = f32(args, 0, 1)\n    {line}\n", "k")


def test_a_name_of_a_loop_ends_with_it():
    text = ("def kernel(args, lo, hi, chunk):\n    x = f32(args, 0, 1)\n    for i in range(lo, hi):\n        t = x[i]\n"
            "    x[0] = t\n")
    with pytest.raises(direct.Foreign):
        direct.translate(text, "k")


SHORT = """
import sys
import autojit as aj
assert aj.config.tier == "auto"
g = aj.value_and_grad(aj.trace(lambda x: (x * x).sin().sum()))
print(float(g(aj.tensor([1.0, 2.0]))[0]))
sys.stdout.flush()
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a process that is left alone")
def test_a_program_that_ends_before_its_kernels_finds_them_the_next_time(tmp_path):
    cache = tmp_path / "cache"
    env = {**os.environ, "AUTOJIT_CACHE_DIR": str(cache), "AUTOJIT_TIER": "auto", "AUTOJIT_WORKERS": "1"}
    done = subprocess.run([sys.executable, "-c", SHORT], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    objects = cache / "object"
    until = time.monotonic() + 30
    while time.monotonic() < until and not any(p.is_file() for p in objects.rglob("*")):
        time.sleep(0.05)
    assert any(p.is_file() for p in objects.rglob("*"))


def test_the_greatest_value_is_found_among_values_that_are_computed_again(monkeypatch):
    """x * k - y * k with and without a fused product is not the same number: no maximum would be found, and no gradient."""
    monkeypatch.setattr(aj.config, "tier", "compile")
    k = -0.23617123089664693
    f = aj.value_and_grad(aj.trace(lambda x: (x[1:] * k - x[:-1] * k).amax(0).sum()))
    for seed in range(6):
        x = np.random.default_rng(seed).standard_normal((16, 16))
        at, column = np.diff(x * k, axis=0).argmax(0), np.arange(16)
        want = np.zeros_like(x)
        want[at + 1, column] += k
        want[at, column] -= k
        assert np.allclose(f(x)[1], want)
