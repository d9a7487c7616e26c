"""The instructions of words, run on the processor: what is the device's own (libdevice, instructions of PTX) is played by LLVM.

Reductions, barriers and atomics need a device; mathematics has a file of its own.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import operator

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from autojit.backends.cpu import instructions, interpret, objects, target
from autojit.backends.cuda import groups, mathematics, words
from autojit.backends.cuda.words import F32, F64, I32, I64

LOADER = objects.Loader()
NAMESPACE = interpret.python_namespace()
MEMORY = {"f32": np.float32, "f64": np.float64, "i64": np.int64, "b1": np.bool_, "f16": np.uint16, "bf16": np.uint16,
          "i32": np.int32, "i16": np.int16, "i8": np.int8, "u8": np.uint8}
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 2.5, 3.0, -7.25, 1e-40, -1e-45, 127.5, 255.0, -129.0, 65504.0, 3e9, -3e9,
          2147483520.0, -2147483648.0, 2147483648.0, 9.2e18, -9.223372036854775808e18, 9.3e18, 1e38, -3e38, math.inf,
          -math.inf, math.nan]
VALUES = {"f32": np.array(FLOATS, np.float32),
          "f64": np.array([*FLOATS, -2147483648.5, -2147483649.0, 2147483647.5, 2147483648.5, 1e300, 1e-310, 0.1, 1 + 2**-24]),
          "i64": np.array([0, 1, -1, 2, -2, 3, -3, 7, 13, 31, 63, 64, 65, -64, 127, 128, 255, 256, -129, 40000, 2**31 - 1,
                           2**31, -2**31, 2**53 + 1, 2**63 - 1, -2**63, -2**63 + 1], np.int64),
          "b1": np.array([False, True])}
PLAYED = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "rint", "fabs": "fabs",
          "copysign": "copysign", "fmax": "maxnum", "fmin": "minnum", "fma": "fma"}


# ---------------------------------------------------------------------------- the device's own, played
def intrinsic(b, name, *args):
    ty = args[0].type
    return words.call(b, f"llvm.{name}.{'f32' if ty == F32 else 'f64'}", ty, *args)


def half_rounded(b, x):
    return b.bitcast(b.fptrunc(x, ir.HalfType()), ir.IntType(16))


def bfloat_rounded(b, x):
    """To nearest, ties to even; NaN is 0x7FFF."""
    bits = b.bitcast(x, I32)
    odd = b.and_(b.lshr(bits, I32(16)), I32(1))
    rounded = b.lshr(b.add(bits, b.add(odd, I32(0x7FFF))), I32(16))
    return b.trunc(b.select(b.fcmp_unordered("uno", x, x), I32(0x7FFF), rounded), ir.IntType(16))


def the_larger(b, x, y):
    return intrinsic(b, "maximum", x, y)


def the_smaller(b, x, y):
    return intrinsic(b, "minimum", x, y)


PTX = {"max.NaN.f32": the_larger, "min.NaN.f32": the_smaller, "max.f64": the_larger, "min.f64": the_smaller,
       "mul.wide.u32": lambda b, x, y: b.mul(b.zext(x, I64), b.zext(y, I64)),
       "cvt.f32.f16": lambda b, h: b.fpext(b.bitcast(h, ir.HalfType()), F32), "cvt.rn.f16.f32": half_rounded,
       "cvt.rn.bf16.f32": bfloat_rounded}


def played_body(function):
    """A function of libdevice, by LLVM's."""
    name, ty = function.name.removeprefix("__nv_"), function.args[0].type
    base = name.removesuffix("f") if ty == F32 and name.endswith("f") else name
    b = ir.IRBuilder(function.append_basic_block("entry"))
    if base in PLAYED:
        b.ret(intrinsic(b, PLAYED[base], *function.args))
    elif base == "fmod":
        b.ret(b.frem(*function.args))
    elif "_rz" in name and name.startswith(("float2", "double2")) and "2float" not in name:
        result = function.ftype.return_type
        suffix = f"{result}.{'f32' if ty == F32 else 'f64'}"
        b.ret(words.call(b, f"llvm.fptosi.sat.{suffix}", result, *function.args))
    elif name == "double2float_rz":
        x, = function.args
        near = b.fptrunc(x, F32)
        over = b.fcmp_ordered(">", intrinsic(b, "fabs", b.fpext(near, F64)), intrinsic(b, "fabs", x))
        bits = b.bitcast(near, I32)
        b.ret(b.bitcast(b.select(over, b.sub(bits, I32(1)), bits), F32))
    else:
        raise AssertionError(f"{function.name} is not played")
    function.linkage = "internal"


@pytest.fixture(autouse=True)
def played(monkeypatch):
    monkeypatch.setattr(words, "assembly", lambda b, text, result, constraint, *args: PTX[text.split(" $")[0]](b, *args))


def run(emit, kinds, result, *arrays):
    """`emit` over whole arrays; kinds are views' names."""
    run.count += 1
    name, module = f"cuda_word{run.count}", ir.Module()
    module.triple, module.data_layout = llvm.get_process_triple(), str(target.machine().target_data)
    views = [*kinds, result]
    pointers = [words.MEMORY[v].as_pointer() for v in views]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [*pointers, I64]), name)
    b = ir.IRBuilder(function.append_basic_block("entry"))
    *places, n = function.args
    loop, done, start = function.append_basic_block("loop"), function.append_basic_block("done"), b.block
    b.branch(loop)
    b.position_at_end(loop)
    i = b.phi(I64)
    i.add_incoming(I64(0), start)
    values = [words.loaded(b, b.load(b.gep(p, [i])), v) for p, v in zip(places[:-1], kinds)]
    b.store(words.stored(b, emit(b, *values), words.MEMORY[result]), b.gep(places[-1], [i]))
    more = b.add(i, I64(1))
    i.add_incoming(more, b.block)
    b.cbranch(b.icmp_signed("<", more, n), loop, done)
    b.position_at_end(done)
    b.ret_void()
    for f in list(module.functions):
        if f.is_declaration and f.name.startswith("__nv_"):
            played_body(f)
    made = llvm.parse_assembly(str(module))
    target.optimise(made, vectorise=False)
    address = LOADER.load(name, target.machine().emit_object(made))
    arrays = [np.ascontiguousarray(a, MEMORY[v]) for a, v in zip(arrays, kinds)]
    out = np.zeros(arrays[0].size, MEMORY[result])
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(views), ctypes.c_int64)(address)
    call(*[a.ctypes.data for a in (*arrays, out)], out.size)
    return out


run.count = 0


def combinations(kinds):
    """All values of these types with all others."""
    return [np.array(column, MEMORY[kind]) for kind, column in zip(kinds, zip(*itertools.product(*[VALUES[k] for k in kinds])))]


def same(got, want):
    want = np.array(want, got.dtype)
    if got.dtype.kind == "f":
        ok = (got.view(f"u{got.itemsize}") == want.view(f"u{got.itemsize}")) | (np.isnan(got) & np.isnan(want))
    else:
        ok = got == want
    return ok


def agree(what, got, want, *args):
    ok = same(got, want)
    assert ok.all(), [(what, *[a[i] for a in args], got[i], want[i]) for i in np.flatnonzero(~ok)[:4]]


# ------------------------------------------------------------------------------------------ words
PLAIN = sorted(n for n, w in words.WORDS.items() if n not in mathematics.ARITY and "ix" not in (*w.kinds, w.result)
               and w.result and n in NAMESPACE)


def test_what_is_left_out():
    """Words that only a device has, or that other tests look at."""
    left = set(words.WORDS) - set(PLAIN) - set(mathematics.ARITY)
    assert left <= {"thread", "block", "blocks", "sync", "index_div", "index_mod", "index_clamp", "part_lo", "part_hi",
                    "int_pow_i64", "mul_wide_u32"}
    assert len(PLAIN) > 50


@pytest.mark.parametrize("name", PLAIN)
def test_words(name):
    known = words.WORDS[name]
    args = combinations(known.kinds)
    if len(known.kinds) == 3:                             # exact fma by the interpreter: slow, and for what is finite
        args = [a[np.isfinite(args).all(0)][::7] for a in args]
    with np.errstate(all="ignore"):
        pythonic = [[bool(v) if k == "b1" else v for v in a] for k, a in zip(known.kinds, args)]
        want = [NAMESPACE[name](*row) for row in zip(*pythonic)]
    got = run(known.emit, known.kinds, known.result, *args)
    if name.startswith(("fmax", "fmin")):                 # which zero is open
        got, want = got + 0.0, [w + type(w)(0) for w in want]
    if name.startswith("fma_f32"):                        # twice rounded by the interpreter
        want = np.array(want)
        near = np.isfinite(got) & (np.abs(np.where(np.isfinite(got), got - want, 0)) <= np.spacing(np.abs(got)))
        assert (near | same(got, want)).all()
        return
    agree(name, got, want, *args)


@pytest.mark.parametrize("name", [n for n in words.CASTS if n in NAMESPACE and n not in ("f4", "f8", "to_f16", "to_bf16")])
def test_casts(name):
    result, table = words.CASTS[name]
    for kind, emit in table.items():
        if kind in ("ix", "f16", "bf16"):
            continue
        x = VALUES[kind]
        with np.errstate(all="ignore"):
            want = [NAMESPACE[name](bool(v) if kind == "b1" else v) for v in x]
        agree(f"{name} of {kind}", run(emit, (kind,), result, x), want, x)


def test_halves():
    every = np.arange(2**16, dtype=np.uint16)
    agree("f16", run(words.CASTS["to_f32"][1]["f16"], ("f16",), "f32", every), every.view(np.float16).astype(np.float32), every)
    agree("bf16", run(words.CASTS["to_f32"][1]["bf16"], ("bf16",), "f32", every),
          (every.astype(np.uint32) << 16).view(np.float32), every)
    rng = np.random.default_rng(0)
    x = np.concatenate([VALUES["f32"], rng.integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32)])
    with np.errstate(all="ignore"):
        want = x.astype(np.float16)
    got = run(words.CASTS["to_f16"][1]["f32"], ("f32",), "f16", x).view(np.float16)
    agree("to_f16", got, want, x)
    # float64 to bfloat16 is rounded once: values beside the middle of two neighbours, by less than a float32 shows
    middle = (1 + (2 * np.arange(128) + 1) / 256) * 2.0 ** rng.integers(-120, 120, 128)
    near = np.concatenate([middle, middle * (1 + 2**-40), middle * (1 - 2**-40), -middle * (1 + 2**-40), VALUES["f64"]])
    got = run(words.CASTS["to_bf16"][1]["f64"], ("f64",), "bf16", near)
    for value, pattern in zip(near, got):
        low, high = (float((np.uint32((int(pattern) + k) & 0xFFFF) << 16).astype(np.uint32).view(np.float32)) for k in (-1, 1))
        here = float(np.uint32(int(pattern) << 16).view(np.float32))
        if np.isfinite(value) and abs(value) < 3e38 and np.isfinite(here):
            others = [o for o in (low, high) if np.isfinite(o)]
            assert all(abs(here - value) <= abs(o - value) for o in others), (value, here)
            if any(abs(here - value) == abs(o - value) and o != here for o in others):
                assert pattern % 2 == 0


def test_memory_of_narrow_integers():
    for view in ("i32", "i16", "i8", "u8"):
        x = np.array([0, 1, 127, 128, 255, 200, 40000, -1, -128, -40000], np.int64).astype(MEMORY[view])
        agree(view, run(lambda b, v: v, (view,), "i64", x), x.astype(np.int64), x)
        wide = VALUES["i64"]
        agree(view, run(lambda b, v: v, ("i64",), view, wide), wide.astype(MEMORY[view]), wide)


# -------------------------------------------------------------------------------------- operators
PYTHON = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv, "and_": operator.and_,
          "or_": operator.or_, "xor": operator.xor, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
          "eq": operator.eq, "ne": operator.ne, "neg": operator.neg, "invert": operator.invert,
          "not_": lambda x: not x}
DEFINED = {"floordiv": interpret.floordiv_int, "mod": interpret.remainder_int}


@pytest.mark.parametrize("name", words.OPERATORS)
def test_operators(name):
    for kind, emit in words.OPERATORS[name].items():
        if kind == "ix":
            continue
        arity = 1 if name in ("neg", "invert", "not_") else 2
        args = combinations([kind] * arity)
        with np.errstate(all="ignore"):
            values = [[bool(v) for v in a] if kind == "b1" else a for a in args]
            want = [(DEFINED.get(name) or PYTHON[name])(*row) for row in zip(*values)]
        agree(f"{name} of {kind}", run(emit, [kind] * arity, "b1" if name in words.COMPARISONS else kind, *args), want, *args)


def test_indices():
    """32 bits, signed, with Python's division."""
    a, n = (np.array(c, np.int64) for c in zip(*itertools.product([-2**30, -7, -1, 0, 1, 6, 7, 2**30 - 1], [1, 3, 7, 1024])))

    def narrow(emit):
        return lambda b, *args: b.sext(emit(b, *[b.trunc(x, I32) for x in args]), I64)

    table = {"floordiv": a // n, "mod": a % n, "add": a + n, "sub": a - n}
    for name, want in table.items():
        agree(name, run(narrow(words.OPERATORS[name]["ix"]), ("i64",) * 2, "i64", a, n), want, a, n)
    at = a >= 0
    for name, want in {"index_div": a // n, "index_mod": a % n}.items():
        agree(name, run(narrow(words.WORDS[name].emit), ("i64",) * 2, "i64", a[at], n[at]), want[at], a, n)
    agree("clamp", run(narrow(words.WORDS["index_clamp"].emit), ("i64",), "i64", a), np.maximum(a, 0), a)
    rows, chunk, chunks = (np.array(c, np.int64)
                           for c in zip(*itertools.product([1, 5, 1000, 2**30 - 1], [0, 1, 131], [132, 264])))
    for name, k in (("part_lo", 0), ("part_hi", 1)):
        agree(name, run(narrow(words.WORDS[name].emit), ("i64",) * 3, "i64", rows, chunk, chunks),
              rows * (chunk + k) // chunks, rows, chunk, chunks)


@pytest.mark.parametrize("view", ["u8", "i8", "i16", "i32", "i64"])
@pytest.mark.parametrize("left", [True, False])
def test_shifts(view, left):
    bits, signed = 8 * words.BYTES[view], view != "u8"
    x, n = combinations(("i64", "i64"))
    x = x.astype(MEMORY[view]).astype(np.int64)
    want = []
    for a, by in zip(x.tolist(), n.tolist()):
        if left:
            value = a << by if 0 <= by < bits else 0
        else:
            value = a >> (by if 0 <= by < bits else bits - 1) if signed else a >> by if 0 <= by < bits else 0
        want.append(interpret.wrap(value, bits, signed))
    got = run(lambda b, a, by: groups.shifted(b, view, a, by, left), ("i64", "i64"), "i64", x, n)
    agree(view, got, want, x, n)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 10, -1, -3])
def test_powers(n):
    for kind in ("f32", "f64") if n < 0 else ("f32", "f64", "i64"):
        x = VALUES[kind]
        with np.errstate(all="ignore"):
            want = [interpret.powi(v, n) for v in x]
        agree(f"{kind} ** {n}", run(lambda b, v: instructions.power(b, v, n), (kind,), kind, x), want, x)


def test_int_pow_is_pow():
    assert words.WORDS["int_pow_i64"].emit is words.WORDS["pow_i64"].emit


def test_mul_wide_u32():
    x, y = combinations(("i64", "i64"))
    low = [(int(a) & 0xFFFFFFFF) * (int(c) & 0xFFFFFFFF) for a, c in zip(x, y)]
    got = run(words.WORDS["mul_wide_u32"].emit, ("i64",) * 2, "i64", x, y)
    agree("mul_wide_u32", got, [interpret.wrap(v, 64) for v in low], x, y)
