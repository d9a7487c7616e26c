"""Programs from graph to machine code: tiers, caches, threads, new shapes, warm starts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

import autojit as aj
from autojit.backends.cpu import fingerprint, leftover, native, runtime, workers
from autojit.backends.numpy.run import NumpyProgram
from autojit.config import config
from autojit.engine import compile as pipeline
from autojit.engine import kernels, programs
from autojit.engine.cache import DiskCache
from autojit.errors import CompileError
from autojit.ir.graph import forget

from .graphs import agree, random_graph


@pytest.mark.parametrize("block", range(10))
def test_random_graphs_compiled_equal_the_oracle(block):
    """Fifty at a time: all texts are asked for first, so that the compile processes stay busy."""
    made = []
    for seed in range(1000 + block * 50, 1050 + block * 50):
        graph, arrays = random_graph(seed, size=8)
        made.append((seed, graph, arrays, pipeline.prepare(graph)))
        forget()
    kernels.store().request(list(dict.fromkeys(t for *_, p in made for t in p.texts)))
    for seed, graph, arrays, prepared in made:
        difference = agree(prepared.link()(arrays), NumpyProgram(graph)(arrays))
        assert difference is None, f"seed {seed}: {difference}"


def test_auto_answers_at_once_and_changes_over(tmp_path):
    f = aj.trace(lambda x: ((x.sin() * 3.25).cosh() + x.atan()).sum())
    x = aj.tensor(np.linspace(0, 1, 50))
    old, config.cache_dir, config.tier = config.cache_dir, str(tmp_path), "auto"
    try:
        first = f(x)
        assert f.last.program.tier == "numpy"             # the compiler cannot have been ready: its cache is empty
        aj.wait_compiled()
        second = f(x)
        assert f.last.program.native is not None
        assert abs(first.item() - second.item()) < 1e-9
    finally:
        config.tier, config.cache_dir = "numpy", old


def test_eager_programs_compile_at_the_second_sighting(compiled):
    config.tier = "auto"
    x = aj.tensor(np.linspace(0, 1, 40), requires_grad=True)
    seen = []
    for _ in range(3):
        x.grad = None
        ((x * 1.75).tanh() * x).sum().backward()
        seen.append(x.grad.tolist())
        aj.wait_compiled()
    assert np.allclose(seen[0], seen[2], 1e-9)
    assert any(p.native is not None and p.eager for p in programs._PROGRAMS.values())


def test_a_new_batch_size_compiles_nothing(compiled):
    @aj.trace
    def f(w, b, x):
        return ((x @ w + b).tanh() ** 2).mean()
    g = aj.value_and_grad(f, argnums=(0, 1))
    rng = np.random.default_rng(0)
    w, b = aj.tensor(rng.standard_normal((40, 30))), aj.tensor(rng.standard_normal(30))

    def run(n):
        x = aj.tensor(rng.standard_normal((n, 40)))
        (value, grads), want = g(w, b, x), f.last.program.interpret([w.numpy(), b.numpy(), x.numpy()])
        assert agree([value.numpy(), *[k.numpy() for k in grads]], want) is None
    run(100), run(64)
    before = kernels.store().counters.as_dict()["compiled"]
    for n in (65, 30, 40, 50, 33):                        # 30 and 40 are also the widths of the layer
        run(n)
    assert kernels.store().counters.as_dict()["compiled"] == before


def test_threads_share_a_program(compiled):
    f = aj.trace(lambda x: (x * x).sum(1).exp().sum())
    g = aj.value_and_grad(f)
    xs = [aj.tensor(np.random.default_rng(k).standard_normal((300, 200)) * 0.05) for k in range(4)]
    want = [g(x)[0].item() for x in xs]
    wrong = []

    def work(k):
        for _ in range(60):
            if abs(g(xs[k])[0].item() - want[k]) > 1e-9 * abs(want[k]):
                wrong.append(k)
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert wrong == []


def test_results_do_not_alias_each_other_or_inputs(compiled):
    g = aj.value_and_grad(aj.trace(lambda x: (x * 2).sum()))
    x = aj.tensor(np.ones(5000, np.float32))
    first = g(x)[1]
    kept = first.numpy()
    kept[:] = 7
    second = g(x)[1]
    assert kept.tolist() == [7.0] * 5000 and second.tolist() == [2.0] * 5000
    identity = aj.trace(lambda x: (x, x))
    a, b = identity(x)
    assert a.data_ptr() != b.data_ptr() != x.data_ptr()


def test_a_kernel_that_does_not_compile_leaves_the_numpy_tier(monkeypatch):
    f = aj.trace(lambda x: (x * 5.125).cos())
    x = aj.tensor([0.0, 0.0, 0.0])

    def broken(self, texts):
        raise CompileError("no compiler today")
    monkeypatch.setattr(type(kernels.store()), "request", broken)
    config.tier = "auto"
    try:
        with pytest.warns(RuntimeWarning, match="runs this program on NumPy"):
            y = f(x)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            f(x)
    finally:
        config.tier = "numpy"
    assert y.tolist() == [1, 1, 1]


PROGRAM = """
import sys
import autojit as aj
aj.config.tier = "compile"
x = aj.tensor([1.0, 2.0, 3.0])
value, grad = aj.value_and_grad(aj.trace(lambda x: (x ** 2).sin().sum()))(x)
print(value, grad, "numba" in sys.modules, "scipy" in sys.modules)
"""


def run_process(cache, **env):
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "AUTOJIT_CACHE_DIR": str(cache), **env})
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_warm_process_imports_no_compiler(tmp_path):
    cold, warm = run_process(tmp_path)[0], run_process(tmp_path, AUTOJIT_WORKERS="0")[0]
    assert cold == warm == "tensor(0.4968) tensor([ 1.0806, -2.6146, -5.4668]) False False\n"


def test_what_is_left_at_the_end_is_all_that_the_next_process_needs(tmp_path):
    store = DiskCache(str(tmp_path))
    text = ("def kernel(args, lo, hi, chunk):\n    x = f32(args, 0, 2)\n    y = f32(args, 1, 2)\n"
            "    for i in range(lo, hi):\n        y[i] = x[i] * x[i]\n")
    native_key = native._key(runtime.text(), runtime.LEVEL, False)
    key = f"{fingerprint.fingerprint()}\n{text}"
    assert store.get("object", key) is None and store.get("runtime", native_key) is None
    leftover.leave([text], store.recipe(), workers.interpreter(), workers.environment())
    until = time.monotonic() + leftover.WITHIN + 5
    while time.monotonic() < until and not (store.get("object", key) and store.get("runtime", native_key)):
        time.sleep(0.05)
    assert store.get("object", key) is not None           # the kernel
    assert store.get("runtime", native_key) is not None   # and what runs it


def test_the_debug_ladder_prints(tmp_path):
    text = run_process(tmp_path, AUTOJIT_DEBUG="5")[1]
    for word in ("new program", "graph", "kernel", "simplified", "compiled", "def kernel(args, lo, hi, chunk):", " us"):
        assert word in text
    assert run_process(tmp_path)[1] == ""


def test_kernels_by_hand_and_host_steps_stand_between_others(compiled):
    f = aj.trace(lambda x: ((x.exp().cumsum(0) * 2).sort(0).values + aj.polygamma(101, x * x + 1) * 1e-160).sum())
    g = aj.value_and_grad(f)
    x = aj.tensor(np.random.default_rng(1).standard_normal(20))
    value, grad = g(x)
    want = f.last.program.interpret([x.numpy()])
    assert agree([value.numpy(), grad.numpy()], want) is None
    assert "kernels by hand" in f.last.program.prepared.summary and "2 host steps" in f.last.program.prepared.summary


def test_the_number_of_threads_is_followed(compiled):
    from autojit.backends.cpu.runtime import runtime
    old = config.num_threads
    try:
        for n in (1, 2):
            config.num_threads = n
            f = aj.trace(lambda x: x * (n + 0.375))
            assert f(aj.ones(3)).tolist() == [n + 0.375] * 3
            assert runtime().pool.num_threads == n
    finally:
        config.num_threads = old
