"""Exported modules: they run without autojit, give the same numbers, and can be called from `@njit` code."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import autojit as aj
from autojit import exporter, tree
from autojit.errors import TraceError

RNG = np.random.default_rng(0)


def normal(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


def elem(x, y):
    return ((x * y).sin() * aj.exp(-x * x)).sum()


def lnorm(x, gain, shift):
    mean = x.mean(-1, keepdim=True)
    var = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (((x - mean) / (var + 1e-5).sqrt() * gain + shift) ** 2).sum()


def ce(logits, labels):
    return -(logits.log_softmax(1)[aj.arange(logits.shape[0]), labels]).mean()


def mlp(p, x, y):
    hidden = (x @ p["w"][0] + p["b"]).tanh()
    return ((hidden @ p["w"][1] - y) ** 2).mean()


def rnn(w, u, xs, scale):
    h = aj.zeros(xs.shape[1], w.shape[0], dtype=xs.dtype)
    for t in range(xs.shape[0]):
        h = (h @ w + xs[t] @ u).tanh()
    return (h ** 2).mean() * scale


def looping(w, xs):
    """Loops in loops, forward and back: of a length that is known, of one that is counted, and a choice in each turn."""
    many = (w[0, 0] * 0).long() + 4

    def turn(c, x):
        c = (c @ w + x).tanh()
        c, n = aj.while_loop(lambda v: (v[0].sum() < 2) & (v[1] < many), lambda v: (v[0] * 1.1 + w[0], v[1] + 1), (c, 0))
        return aj.cond(n > 2, lambda c: c * w[1], lambda c: c.sin(), c), (c * c).sum()
    c, ys = aj.scan(turn, xs[0], xs, reverse=True)
    return aj.fori_loop(0, 3, lambda i, v: v * 0.5 + i * c.sum(), ys.sum())


PROGRAMS = {
    "elem": (elem, (0, 1), (normal(1001), normal(1001))),
    "lnorm": (lnorm, (0, 1, 2), (normal(33, 70), normal(70), normal(70))),
    "ce": (ce, 0, (normal(30, 50), np.arange(30) % 7)),
    "mlp": (mlp, 0, ({"w": (normal(20, 24), normal(24, 3)), "b": normal(24)}, normal(40, 20), normal(40, 3))),
    "looping": (looping, (0, 1), (normal(6, 6, dtype=float) * 0.5, normal(5, 6, dtype=float))),
    "rnn": (rnn, (0, 1), (normal(18, 18, dtype=float), normal(5, 18, dtype=float), normal(6, 4, 5, dtype=float), 0.1)),
}

CHILD = textwrap.dedent('''
    import sys, pickle
    class Block:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "autojit":
                raise ImportError("autojit is not here")
    sys.meta_path.insert(0, Block())
    sys.path.insert(0, sys.argv[1])
    import importlib
    import numba
    programs = pickle.load(open(sys.argv[2], "rb"))
    out = {}
    for name, args in programs.items():
        f = getattr(importlib.import_module(f"exported_{name}"), name)
        call = numba.njit(lambda *a: f(*a))
        out[name] = f(*args), call(*args)
    assert not any(m.split(".")[0] == "autojit" for m in sys.modules)
    pickle.dump(out, open(sys.argv[3], "wb"))
''')


def test_modules_run_where_there_is_no_autojit(tmp_path, compiled):
    import pickle
    wanted, given = {}, {}
    for name, (f, argnums, args) in PROGRAMS.items():
        vg = aj.value_and_grad(aj.trace(f), argnums)
        aj.export(vg, *args, path=tmp_path / f"exported_{name}.py")
        wanted[name] = tree.flatten(vg(*args))[0]
        given[name] = tree.flatten(args)[0]
    (tmp_path / "in.pickle").write_bytes(pickle.dumps(given))
    files = [str(tmp_path / name) for name in (".", "in.pickle", "out.pickle")]
    run = subprocess.run([sys.executable, "-c", CHILD, *files],
                         capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": ""}, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    found = pickle.loads((tmp_path / "out.pickle").read_bytes())
    for name, expected in wanted.items():
        for got in found[name]:
            flat = tree.flatten(got)[0]
            assert len(flat) == len(expected)
            for a, b in zip(flat, expected):
                b = np.asarray(b)
                assert np.shape(a) == b.shape and (type(a) is float or a.dtype == b.dtype)
                assert np.abs(a - b).max() <= 2e-6 * np.abs(b).max(), name


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_kernels_are_the_text_of_source(tmp_path):
    f = aj.trace(lnorm)
    path = tmp_path / "text.py"
    assert aj.export(aj.grad(f), *PROGRAMS["lnorm"][2], path=path) == str(path)
    text = path.read_text()
    kernels = re.findall(r"def kernel\d+\(.*?\n\n", f.source() + "\n", re.S)
    assert kernels and all(k.strip() in text for k in kernels)
    assert not re.search(r"(import|from) autojit", text)
    assert aj.__version__ in text.splitlines()[0] and "x: float32[33, 70]" in text


def test_values_alone_nests_captured_tensors_and_refusals_inside(tmp_path, compiled):
    w = aj.tensor([2.0, 3.0])

    def parts(x, s, i, mode):
        big = x * w if mode == "times" else x
        return {"sum": big.sum() * s, "at": big[i + 1], "n": 3, "none": None, "ok": big > 2}, [big.max()]
    x, i = np.array([1.0, 5.0], np.float32), np.array([0, -2])
    path = tmp_path / "parts.py"
    aj.export(parts, x, 0.5, i, "times", path=path)
    f = load(path).parts
    (at, n, none, ok, total), (top,) = f(x, 0.5, i, w.numpy())
    assert at.tolist() == [15, 15] or at.tolist() == [15, 2 * 1 + 13]
    assert (n, none, ok.tolist(), total, top) == (3, None, [False, True], 8.5, 15)
    with pytest.raises(IndexError, match="test_export.py:"):
        f(x, 0.5, np.array([0, 1]), w.numpy())
    with pytest.raises(ValueError, match="shape"):
        f(x[:1].copy(), 0.5, i, w.numpy())
    for bad in (x.astype(float), x.tolist(), np.zeros((2, 2), np.float32)[:, 0]):
        with pytest.raises(TypeError):
            f(bad, 0.5, i, w.numpy())


def test_parallel_chunks(tmp_path):
    x, gain, shift = normal(64, 100), normal(100), normal(100)
    vg = aj.value_and_grad(aj.trace(lnorm), (0, 1))
    a, b = tmp_path / "one.py", tmp_path / "two.py"
    aj.export(vg, x, gain, shift, path=a)
    aj.export(vg, x, gain, shift, path=b, parallel=True, cache=True)
    assert "prange(" in b.read_text() and "prange" not in a.read_text() and "cache=True" in b.read_text()


# ---------------------------------------------------------------- words
def test_every_word_means_what_it_means_in_kernels(tmp_path):
    """The table of exported words against the language's own reading."""
    from autojit.backends.cpu import interpret, vocabulary
    ns = interpret.python_namespace()
    samples = {"f32": [np.float32(v) for v in (-2.5, -0.0, 0.3, 1.0, 7.0, np.inf, np.nan)],
               "f64": [-2.5, -0.0, 0.3, 1.0, 7.0, np.inf, np.nan], "i64": [-3, -1, 0, 2, 7, 63, 70]}
    one = {n for n, text in vocabulary.table().items() if re.match(r'word\("\w+", "\w+"', text)}
    two = {n for n, text in vocabulary.table().items() if re.match(r'word\("\w+", "\w+ \w+"', text)}
    names = sorted(one | two | {"fma_f32", "fma_f64"})
    assert len(names) > 60
    imports, text = vocabulary.definitions([" ".join([*names, "select", "to_f32", "to_i32", "to_u8", "to_b1"])])
    path = tmp_path / "words.py"
    calls = "".join([f"@njit(error_model='numpy')\ndef call_{n}(*args):\n    return {n}(*args)\n" for n in names])
    path.write_text("\n".join(["from __future__ import annotations", *imports, "from numba import njit", text, calls]))
    module = load(path)
    kinds = {n: re.findall(r'"([\w ]+)"', vocabulary.table()[n])[1].split() for n in names}
    for n in names:
        call = getattr(module, f"call_{n}")
        for k, x in enumerate(samples[kinds[n][0]]):
            args = [x, *[samples[kind][(k + 3 * j) % 7] for j, kind in enumerate(kinds[n][1:], 1)]]
            if n.startswith("index_") and min(args) <= 0:
                continue
            with np.errstate(all="ignore"):
                wanted = ns[n](*args)
            got = call(*args)
            assert got == wanted or got != got and wanted != wanted, (n, args, got, wanted)
            assert np.signbit(got) == np.signbit(wanted) or got != got, (n, args, got, wanted)


# ---------------------------------------------------------------- refused
def test_what_cannot_be_exported_is_refused(tmp_path):
    path, x, state = tmp_path / "m.py", np.ones(3), aj.zeros(1)

    def writes(x):
        state.add_(1)
        return x.sum()
    for f, word in ((writes, "writes"), (lambda x: aj.polygamma(101, x), "polygamma")):
        with pytest.raises(RuntimeError, match=word):
            aj.export(f, x, path=path)
    with pytest.raises(TypeError, match="export"):
        aj.export(3, x, path=path)
    with pytest.raises(TypeError, match="returns"):
        aj.export(lambda x: (x, object), x, path=path)
    with pytest.raises(RuntimeError, match="one floating number"):
        aj.export(aj.grad(lambda x: x * 2), x, path=path)
    with pytest.raises(TraceError):
        aj.trace(lambda x: aj.export(lambda y: y * 2, x, path=path))(aj.ones(2))
    assert not path.exists() and list(tmp_path.iterdir()) == []


def test_paths(tmp_path):
    f, x = aj.trace(lambda x: x * 2), np.ones(3)
    for bad in ("my-module.py", "module.txt", "class.py", "module", "", "."):
        with pytest.raises(ValueError, match="module"):
            aj.export(f, x, path=os.path.join(tmp_path, bad))
    with pytest.raises(TypeError):
        aj.export(f, x, path=3)
    with pytest.raises(FileNotFoundError):
        aj.export(f, x, path=tmp_path / "nowhere" / "m.py")
    path = tmp_path / "m.py"
    path.write_text("precious = 1\n")
    with pytest.raises(FileExistsError):
        aj.export(f, x, path=path)
    assert path.read_text() == "precious = 1\n"
    aj.export(f, x, path=path, overwrite=True)
    first = path.read_text()
    aj.export(f, x, path=path)                            # an export may be written again
    assert path.read_text() == first and first.startswith(exporter.MARK)
    (tmp_path / "dir.py").mkdir()
    with pytest.raises(OSError):
        aj.export(f, x, path=tmp_path / "dir.py")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dir.py", "m.py"]


def test_arrays_made_while_recording_stand_in_the_text():
    for a in (np.arange(3, 1000, 2), np.array([1.5, -0.0]), np.array([np.nan, np.inf]), np.array(7), np.zeros(0, np.int64),
              RNG.standard_normal(300), np.array([True, False]), np.arange(5, 0, -1)):
        made = eval(exporter._literal(a), {"np": np})
        assert made.dtype == a.dtype and made.tobytes() == a.tobytes()
    with pytest.raises(RuntimeError, match="argument"):
        exporter._literal(RNG.standard_normal(10_000))


def test_names_do_not_collide(tmp_path, compiled):
    def kernel0(np, chunk, temp11, range):
        return (np * chunk + temp11.exp()).sum() * range

    def f32(select, x0, size, i):
        return kernel0(select, x0, size, i)
    args = [normal(3) for _ in range(3)]
    wanted = kernel0(*map(aj.tensor, args), 2.0).item()
    for f in (kernel0, f32, lambda a, b, c, d: kernel0(a, b, c, d)):
        path = tmp_path / f"names_{len(list(tmp_path.iterdir()))}.py"
        aj.export(f, *args, 2.0, path=path)
        name = re.findall(r"^def (\w+)\(", path.read_text(), re.M)[-1]
        assert name.rstrip("_") == ("f" if "lambda" in f.__name__ else f.__name__)
        assert abs(getattr(load(path), name)(*args, 2.0) - wanted) < 1e-5


def test_keys_of_dictionaries_become_names(tmp_path):
    """Whatever stands in a key: the text stays a module, and its arguments have names of their own."""
    keys = ["a²", "a2", "\ufb01", "fi", 'x"]; raise #', "x_____raise__"]
    path = tmp_path / "keyed.py"
    aj.export(lambda d: sum([d[k].sum() for k in keys]), {k: np.ones(2) for k in keys}, path=path)
    (f,) = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef) and n.name == "f"]
    names = [a.arg for a in f.args.args]
    assert len(set(names)) == len(keys) and all(map(str.isidentifier, names))
