"""Kernel text to cubin: every word compiles, the PTX is what was meant, the cache holds."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest

from autojit.backends.cuda import compiler, making
from autojit.backends.cuda.compiled import Compiled, Resources
from autojit.backends.cuda.compiler import CubinStore, Source, check
from autojit.config import config
from autojit.engine.cache import DiskCache
from autojit.errors import CompileError

from ..test_floors import imports, modules, resolve

HAVE = importlib.util.find_spec("numba_cuda") is not None
needs_compiler = [pytest.mark.proof, pytest.mark.skipif(not HAVE, reason="needs numba-cuda")]

STRIDE = "    for i in range(block() * 256 + thread(), n, blocks() * 256):\n"
ROWS = """def kernel(x0, x1, n0, c0, rows):
    s0 = shared_f32(32)
    for i in range(block(), rows, blocks()):
        acc1 = f4(0.0)
        for j in range(thread(), n0, 256):
            acc1 = add_f32(acc1, exp_f32(x0[i * n0 + j]) * c0)
        acc1 = block_sum_f32(acc1, s0)
        if thread() == 0:
            x1[i] = acc1
"""
ROWS_SIGNATURE = ("*f32", "*f32", "ix", "f32", "ix")


def marked(test):
    for mark in needs_compiler:
        test = mark(test)
    return test


def each(body, parameters, signature, **kw):
    """A kernel whose threads go over n elements."""
    return Source(f"def kernel({parameters}, n):\n{STRIDE}        {body}\n", (*signature, "ix"), 256, **kw)


def ptx(source):
    return making.ptx(source)


# -------------------------------------------------------------------------------------------- words
def word_kernels():
    """Name of a word → a kernel that uses it."""
    from autojit.backends.cuda import groups, words

    for name, word in words.WORDS.items():
        if not word.result:
            continue
        buffers = [k for k, kind in enumerate(word.kinds) if kind != "ix"]
        args = ["i" if kind == "ix" else f"x{k}[i]" for k, kind in enumerate(word.kinds)]
        value, kind = f"{name}({', '.join(args)})", word.result
        if kind == "ix":
            value, kind = f"to_i64({value})", "i64"
        yield name, each(f"y[i] = {value}", ", ".join([*[f"x{k}" for k in buffers], "y"]),
                         (*[f"*{word.kinds[k]}" for k in buffers], f"*{kind}"))
    for name, (result, table) in words.CASTS.items():
        for kind in table:
            value = "i" if kind == "ix" else "x[i]"
            value, out = (f"to_i64({name}({value}))", "i64") if result == "ix" else (f"{name}({value})", result)
            yield f"{name} of {kind}", each(f"y[i] = {value}", "x, y", (f"*{'i64' if kind == 'ix' else kind}", f"*{out}"))
    for name, (_, view) in groups.ATOMICS.items():
        kind = words.value_kind(view)
        yield name, each(f"y[i] = {name}(x, i, x[i])", "x, y", (f"*{view}", f"*{kind}"))
    for name, (scope, _, suffix) in groups.REDUCTIONS.items():
        pad, by = (f"    s = shared_{suffix}(32)\n", "s") if scope == "block" else ("", "8")
        yield name, Source(f"def kernel(x, y, n):\n{pad}    y[block()] = {name}(x[thread()], {by})\n",
                           (f"*{suffix}", f"*{suffix}", "ix"), 256)
    for view, lanes in words.LANES.items():
        names = ", ".join(f"a{k}" for k in range(lanes))
        yield f"load{lanes}_{view}", each(
            f"{names} = load{lanes}_{view}(x, i * {lanes})\n        store{lanes}_{view}(y, i * {lanes}, {names})", "x, y",
            (f"*{view}", f"*{view}"))
        yield f"shared_{view}", Source(
            f"def kernel(x, y):\n    s = shared_{view}(64)\n    t = local_{view}(2)\n    s[thread()] = x[thread()]\n"
            "    sync()\n"
            "    t[0] = s[63 - thread()]\n    t[1] = t[0]\n    y[thread()] = t[1]\n", (f"*{view}", f"*{view}"), 64)


OTHERS = {
    "powi": each("y[i] = powi_f32(x[i], 7) + powi_f32(x[i], -2)", "x, y", ("*f32", "*f32")),
    "powi_i64": each("y[i] = powi_i64(x[i], 5)", "x, y", ("*i64", "*i64")),
    "shift": each("y[i] = shift_i16(x[i], x[i + 1], True) ^ shift_u8(x[i], x[i + 1], False)", "x, y", ("*i64", "*i64")),
    "polygamma": each("y[i] = polygamma_f32(x[i], 2) + polygamma_f32(x[i], 0)", "x, y", ("*f32", "*f32")),
    "polygamma_f64": each("y[i] = polygamma_f64(x[i], 1)", "x, y", ("*f64", "*f64")),
    "half of two": each("y[i] = x[i] if i < 3 else to_f16(f4(0.0))", "x, y", ("*f16", "*f16")),
    "select": each("y[i] = select(x[i] > f4(0.0), x[i], f4(-inf))", "x, y", ("*f32", "*f32")),
    "select of indices": each("y[i] = x[select(i > 4, i, 0)]", "x, y", ("*f32", "*f32")),
    "choice of indices": each("y[i] = x[(i if i > 4 else 0)]", "x, y", ("*f32", "*f32")),
    "booleans": each("y[i] = not (x[i] ^ (x[i + 1] & x[i + 2]))", "x, y", ("*b1", "*b1")),
    "while": Source("def kernel(x, y, n):\n    k = thread()\n    while k < n:\n        if x[k] == to_i64(7):\n"
                    "            break\n"
                    "        k = k + 32\n    y[thread()] = to_i64(k)\n", ("*i32", "*i32", "ix"), 32),
    "floor of indices": each("y[i] = to_i64((i - 5) // 3 + (i - 5) % 3)", "y", ("*i64",)),
    "warp_sync": Source("def kernel(x):\n    s = shared_f32(32)\n    s[thread()] = x[thread()]\n    warp_sync(8)\n"
                        "    x[thread()] = s[thread() ^ 1]\n", ("*f32",), 32),
    "nc": each("a, b, c, d = load4_f32_nc(x, i * 4)\n        y[i] = a + b + c + d", "x, y", ("*f32", "*f32")),
}


@marked
@pytest.mark.parametrize("wide", [False, True])
def test_every_word_compiles(wide):
    """To PTX, and a part of them to machine code, with nothing to complain of."""
    kernels = [*word_kernels(), *OTHERS.items()]
    assert len(kernels) > 250
    for k, (name, source) in enumerate(kernels):
        if wide and k % 4:
            continue
        source.wide = wide
        text = ptx(source)
        assert f".visible .entry {source.entry}(" in text, name
        assert ".f64" not in text or "f64" in f"{source.signature} {source.text}", name
        assert ".local" not in text and ".extern" not in text, name


@marked
def test_instructions():
    """Facts of PTX that kernels are written for."""
    text = ptx(Source(ROWS, ROWS_SIGNATURE, 256))
    for wanted in ("ld.global.nc.f32", "shfl.sync.bfly.b32", "bar.sync", "mul.wide.s32", "mad.lo.s32", "st.shared.f32",
                   ".maxntid", "fma.rn.f32"):
        assert wanted in text, wanted
    for unwanted in (".f64", ".local", "div.s64", "rem.s64", "cvta.to.global"):
        assert unwanted not in text, unwanted
    kernels = dict(word_kernels())
    vector = ptx(kernels["load4_f32"])
    assert "ld.global.nc.v4.f32" in vector and "st.global.v4.f32" in vector
    assert "ld.global.nc.v2.f64" in ptx(kernels["load2_f64"])
    assert "ld.global.nc.v4" in ptx(kernels["load8_f16"])
    assert "sqrt.rn.f32" in ptx(kernels["sqrt_f32"]) and "div.rn.f32" in ptx(each("y[i] = x[i] / y[i]", "x, y", ("*f32",) * 2))
    assert "max.NaN.f32" in ptx(kernels["maximum_f32"])
    assert "cvt.rn.bf16.f32" in ptx(kernels["to_bf16 of f32"])
    assert "cvt.rn.f16.f32" in ptx(kernels["to_f16 of f32"])
    assert re.search(r"atom\.\S*global\.\S*add\.\S*32", ptx(kernels["atomic_add_i32"]))


@marked
def test_what_is_written_is_not_read_by_the_constant_cache():
    text = ptx(each("x[i] = x[i] + y[i]", "x, y", ("*f32", "*f32")))
    assert re.search(r"ld\.global\.f32", text) and "ld.global.nc.f32" in text


@marked
def test_indices_have_32_bits_unless_asked():
    body, parameters, signature = "y[i] = x[index_div(i, 7) * 3 + index_mod(i, 5)]", "x, y", ("*f32", "*f32")
    narrow, wide = ptx(each(body, parameters, signature)), ptx(each(body, parameters, signature, wide=True))
    assert "mul.wide.s32" in narrow and not re.search(r"(mul\.hi|div|rem)\.[us]64", narrow)
    assert re.search(r"(mul\.hi|div|rem)\.[us]64", wide)


@marked
def test_products_are_fused_unless_values_are_looked_for():
    fused = ptx(each("y[i] = x[i] * x[i] + f4(0.1)", "x, y", ("*f32", "*f32")))
    exact = ptx(each("y[i] = to_f32(x[i] * x[i] + f4(0.1) == x[i + 1])", "x, y", ("*f32", "*f32")))
    assert "fma.rn.f32" in fused
    assert "fma.rn.f32" not in exact and "add.rn.f32" in exact


@marked
def test_local_arrays_become_registers():
    source = Source("def kernel(x, y, n):\n    t = local_f32(4)\n    for k in range(4):\n        t[k] = f4(0.0)\n"
                    "    for i in range(thread(), n, 256):\n        for k in range(4):\n"
                    "            t[k] = t[k] + x[i * 4 + k]\n"
                    "    for k in range(4):\n        y[thread() * 4 + k] = t[k]\n", ("*f32", "*f32", "ix"), 256)
    made = making.compile_source(source)
    assert check(made) == [] and made.resources.local_bytes == 0


# ------------------------------------------------------------------------------------------ refusals
REFUSED = {
    "an unknown word": ("y[i] = exp2000(x[i])", "unknown words: exp2000"),
    "float64 from nowhere": ("y[i] = x[i] * 0.5", "mul"),
    "two types": ("y[i] = x[i] + f8(0.5)", "add"),
    "data as index": ("y[i] = x[to_i64(3)]", "index"),
    "an integer stored as float": ("y[i] = to_i64(i)", "store"),
    "index and data": ("y[i] = to_f32(i + to_i64(3))", "add"),
    "arithmetic of halves": ("y[i] = to_f32(to_f16(x[i]) + to_f16(x[i]))", "add"),
    "a width": ("y[i] = warp_sum_f32(x[i], 5)", "5 lanes"),
}


@marked
@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    body, words = REFUSED[what]
    with pytest.raises(CompileError, match=f"(?s){words}.*def kernel"):
        ptx(each(body, "x, y", ("*f32", "*f32")))


@marked
def test_a_wrong_signature_is_refused():
    with pytest.raises(CompileError, match="3 parameters"):
        ptx(Source(each("y[i] = x[i]", "x, y", ()).text, ("*f32", "*f32"), 256))


# -------------------------------------------------------------------------------------- determinism
@marked
def test_ptx_is_the_same_in_every_process_and_by_the_public_way():
    from autojit.backends.cuda import front

    source = Source(ROWS, ROWS_SIGNATURE, 256)
    here = ptx(source)
    code = ("import sys, json\nfrom autojit.backends.cuda import making\n"
            "making.ptx(making.Source('def kernel(x0):\\n    x0[0] = f4(1.0)\\n', ('*f32',), 64))\n"
            "sys.stdout.write(making.ptx(making.Source.of(json.load(sys.stdin))))")
    import json
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(source.request()), capture_output=True, text=True,
                          timeout=300)
    assert done.stdout == here, done.stderr
    public = front.ptx(source.text, source.entry, source.signature, 256, False, source.capability, public=True)
    def opcodes(text):
        return sorted(re.findall(r"^\s+([a-z]+\.[a-z0-9_.]+)", text, re.M))
    assert set(opcodes(public)) == set(opcodes(here))


# -------------------------------------------------------------------------------------------- cache
@pytest.fixture
def here():
    """Compile in this process."""
    config.workers = 0
    yield
    config.reset()


def small(k=0):
    return each(f"y[i] = x[i] * f4({k}.5)", "x, y", ("*f32", "*f32"))


@marked
def test_memory_then_disk_then_compiler(tmp_path, here):
    first = CubinStore(DiskCache(str(tmp_path)))
    a, b = first.require([small(), small(1)])
    assert a.cubin[:4] == b"\x7fELF" and a.entry.encode() in a.cubin and a.resources.registers > 0
    assert first.require([small()])[0] is a
    assert first.counters["compiled"] == 2 and first.counters["memory_hits"] == 1
    second = CubinStore(DiskCache(str(tmp_path)))
    again, = second.require([small()])
    assert again.cubin == a.cubin and again.resources.as_dict() == a.resources.as_dict() and again.entry == a.entry
    assert second.counters == {"compiled": 0, "disk_hits": 1, "memory_hits": 0, "seconds": 0.0}


@marked
def test_a_warm_start_imports_no_compiler(tmp_path, here):
    CubinStore(DiskCache(str(tmp_path))).require([small()])
    code = ("import sys\nfrom autojit.backends.cuda.compiler import CubinStore, Source\n"
            "from autojit.engine.cache import DiskCache\n"
            f"s = CubinStore(DiskCache({str(tmp_path)!r}))\n"
            f"k, = s.require([Source({small().text!r}, {small().signature!r}, 256)])\n"
            "assert s.counters['disk_hits'] == 1, s.counters\n"
            "print(sorted({'numba', 'numba_cuda', 'llvmlite', 'cuda'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@marked
def test_a_compile_process_makes_the_same(here):
    plain, = CubinStore().require([small()])
    config.workers = 1
    store = CubinStore()
    try:
        other, = store.require([small()])
        assert other.cubin == plain.cubin and other.resources.as_dict() == plain.resources.as_dict()
        with pytest.raises(CompileError, match="unknown words: foo"):
            store.require([each("y[i] = foo(x[i])", "x, y", ("*f32", "*f32"))])
    finally:
        store.compiler.close()


@marked
def test_processes_start_early_where_nothing_was_compiled(tmp_path, here):
    first = CubinStore(DiskCache(str(tmp_path)), Starts())
    first.early()
    assert first.compiler.started == 1
    CubinStore(DiskCache(str(tmp_path))).require([small()])
    second = CubinStore(DiskCache(str(tmp_path)), Starts())
    second.early()
    assert second.compiler.started == 0


class Starts:
    """Counts how often it is told to start early."""

    started = 0

    def early(self):
        self.started += 1


@marked
@pytest.mark.parametrize("damage", ["whole", "cut", "flipped"])
def test_a_broken_entry_is_made_anew_with_one_warning(tmp_path, here, monkeypatch, damage):
    from autojit.engine import cache

    monkeypatch.setattr(cache, "_warned", False)
    disk = DiskCache(str(tmp_path))
    whole, = CubinStore(disk).require([small()])
    if damage == "whole":
        disk.put("cubin", compiler._disk_key(small()), b"{}\nsomething else")
        disk = DiskCache(str(tmp_path))
    else:
        path, = [os.path.join(d, f) for d, _, files in os.walk(tmp_path / "cubin") for f in files]
        data = open(path, "rb").read()
        open(path, "wb").write(data[:100] if damage == "cut" else data[:200] + bytes([data[200] ^ 1]) + data[201:])
        disk = DiskCache(str(tmp_path))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        again, = CubinStore(disk).require([small()])
    assert again.cubin == whole.cubin and len(seen) == 1
    assert CubinStore(DiskCache(str(tmp_path))).require([small()])[0].cubin == whole.cubin


@marked
def test_a_directory_that_cannot_be_written(tmp_path, here, monkeypatch):
    from autojit.engine import cache

    monkeypatch.setattr(cache, "_warned", False)
    place = tmp_path / "file"
    place.write_text("no folder")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        made, = CubinStore(DiskCache(str(place / "below"))).require([small()])
    assert made.cubin and len(seen) <= 1


def test_what_goes_into_a_key():
    base = small()
    others = [Source(base.text + "\n", base.signature, 256), Source(base.text, ("*f32", "*f64", "ix"), 256),
              Source(base.text, base.signature, 128), Source(base.text, base.signature, 256, wide=True),
              Source(base.text, base.signature, 256, capability=(10, 0))]
    assert len({compiler._disk_key(s) for s in (base, *others)}) == 6
    assert len({s.entry for s in (base, *others)}) == 6
    assert Source(base.text, base.signature, 256, capability=(9, 0)).key == base.key
    assert compiler.versions() in compiler._disk_key(base)


def test_every_file_that_makes_code_goes_into_the_key():
    files, seen, todo = modules(), set(), ["backends.cuda.making"]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [found for target in imports(name, files[name]) if (found := resolve(target, files))]
    makes_none = {"compiled", "driver"}                    # records, and what to install
    assert {n.split(".")[2] for n in seen if n.startswith("backends.cuda.")} - makes_none == {n[:-3] for n in compiler._SOURCES}
    elsewhere = {n for n in seen if n.startswith("backends.cpu.") and ".vecmath." not in n}
    assert elsewhere == {"backends.cpu.instructions", "backends.cpu.interpret", "backends.cpu.target"}   # two of names


# ---------------------------------------------------------------------------------- what is missing
def test_missing_numba_cuda_is_said(monkeypatch):
    monkeypatch.setattr(compiler, "versions", lambda: "")
    monkeypatch.setitem(sys.modules, "autojit.backends.cuda.front", None)
    monkeypatch.delattr("autojit.backends.cuda.front", raising=False)
    with pytest.raises(CompileError, match=r"Numba-CUDA.*missing.*pip install 'autojit\[cuda\]'"):
        CubinStore().require([small()])


def test_missing_linkers_are_said(monkeypatch):
    from autojit.backends.cuda import linking

    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    monkeypatch.setattr(linking, "ptxas", lambda: None)
    with pytest.raises(CompileError, match=r"neither nvJitLink nor ptxas.*autojit\[cuda\]"):
        linking.cubin("", (9, 0, "a"))


def test_a_linker_older_than_the_compiler_is_said():
    from autojit.backends.cuda import linking

    error = linking._refused("ptxas fatal: Unsupported .version 9.5; current version is '9.0'", ".version 9.5\n")
    assert "older than NVVM, which writes PTX 9.5" in str(error)


@marked
def test_ptxas_makes_the_same_kernel():
    from autojit.backends.cuda import linking

    if linking.ptxas() is None:
        pytest.skip("no ptxas here")
    source = small()
    data, log = linking._by_ptxas(ptx(source), source.capability)
    found = linking.resources(ptx(source), log)
    assert data[:4] == b"\x7fELF" and found.registers > 0 and not found.f64


# ------------------------------------------------------------------------------------- complaints
def test_complaints():
    def kernel(text="", signature=("*f32",), threads=256, **kw):
        return check(Compiled("k", b"", text, signature, threads, False, Resources(**kw)))

    assert kernel(registers=40) == []
    assert kernel(registers=40, f64=True) == ["float64 in a kernel of float32"]
    assert kernel("x0[i] = to_f64(x)", f64=True) == [] == kernel(signature=("*f64",), f64=True)
    assert kernel(registers=100, threads=1024) == ["100 registers in each of 1024 threads: a block has 65536"]
    assert kernel(registers=256, threads=32) == ["256 registers, at most 255"]
    assert kernel(local_bytes=40) == ["40 bytes of local memory"]
    assert kernel(local_bytes=8, spill_bytes=16) == ["16 bytes spilled"]
    assert kernel("a, b, c, d = load4_f32(x0, i)") == ["no 16-byte loads, which the text has"]
    assert kernel("a, b, c, d = load4_f32(x0, i)", vector_loads=1) == []


def test_packed_kernels_are_looked_at():
    made = Compiled("aj_x", b"\x7fELF123\n456", "t", ("*f32",), 32, False, Resources(registers=7, f64=True))
    back = Compiled.unpack(made.pack(), "t", ("*f32",), 32, False)
    assert back.cubin == made.cubin and back.entry == "aj_x" and back.resources.as_dict() == made.resources.as_dict()
    for broken in (b"", b"{}", b"{}\n\x7fELF", b"[]\n\x7fELF", b'{"entry": "k", "other": 1}\n\x7fELF', made.pack()[:40]):
        with pytest.raises(ValueError, match=r".*"):
            Compiled.unpack(broken, "t", ("*f32",), 32, False)


@marked
def test_a_spill_is_seen():
    """Registers that a block of 1024 threads has not."""
    lines = "".join(f"        a{k} = x[i + {k}] * f4(1.5)\n" for k in range(120))
    total = " + ".join(f"exp_f32(a{k} * a{119 - k})" for k in range(120))
    source = Source(f"def kernel(x, y, n):\n    for i in range(block() * 1024 + thread(), n, blocks() * 1024):\n{lines}"
                    f"        sync()\n        y[i] = {total}\n", ("*f32", "*f32", "ix"), 1024)
    made = making.compile_source(source)
    assert made.resources.registers <= 64
    assert made.resources.spill_bytes == 0 or any("spilled" in c for c in check(made))
    assert np.isfinite(made.seconds)
