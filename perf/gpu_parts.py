"""What `perf.gpu` checks and measures beside its table of programs; each part runs in a process of its own.

A part is a generator of rows (what, found, target, good), told as they are made, so that a part that
is ended late has told what it knew. good: True, False, or None where nothing is asked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import repeat
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from perf import machine

PACKAGES = (
    "autojit", "numpy", "numba", "llvmlite", "numba-cuda", "cuda-core", "cuda-bindings", "cuda-pathfinder", "nvidia-nvvm",
    "nvidia-nvjitlink", "nvidia-cuda-nvrtc", "nvidia-cublas", "torch", "triton", "jax", "jaxlib", "cupy-cuda13x", "scipy",
)
TOOLS = {
    "nvidia-smi": ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
    "nvcc": ["--version"],
    "compute-sanitizer": ["--version"],
}
CALL_TARGET_US, START_TARGET_S = 5.0, 1.0
SHARDS = 6
START = """
import autojit as aj
x = aj.tensor([1.0, 2.0, 3.0], device="cuda", requires_grad=True)
(x ** 2).sin().sum().backward()
print([round(float(v), 4) for v in x.grad.cpu().numpy()], flush=True)
"""
GRADIENT = "[1.0806, -2.6146, -5.4668]"
Row = tuple[str, str, str, bool | None]


@dataclass(frozen=True)
class Asked:
    """How the script was called. shard: "3/6" for one of several processes that share a part."""

    standin: bool = False
    quick: bool = False
    shard: str = "0/1"


# ------------------------------------------------------------------------------------ what is here
def versions(asked: Asked) -> Iterator[Row]:
    for package in PACKAGES:
        try:
            yield package, version(package), "", None
        except PackageNotFoundError:
            yield package, "not installed", "", None
    for tool, words in TOOLS.items():
        yield tool, first_line(tool, words), "", None
    yield "python", sys.version.split()[0], "", None
    yield "commit", str(machine.fingerprint()["commit"]), "", None


def first_line(tool: str, words: list[str]) -> str:
    """What a program says of itself, in a line."""
    where = shutil.which(tool) or shutil.which(tool, path="/usr/local/cuda/bin")
    if where is None:
        return "not there"
    done = subprocess.run([where, *words], capture_output=True, text=True, timeout=20)
    lines = [line.strip() for line in (done.stdout or done.stderr).splitlines() if line.strip()]
    numbered = [line for line in lines if any(c.isdigit() for c in line)]
    return (numbered or lines or ["says nothing"])[-1 if tool == "nvcc" else 0][:100]


def device(asked: Asked) -> Iterator[Row]:
    import autojit as aj
    from autojit.backends.cuda.driver import open_driver

    driver = open_driver()
    yield "is_available()", str(aj.cuda.is_available()), "True", aj.cuda.is_available() is True
    yield "name", driver.name, "", None
    yield "compute capability", ".".join(map(str, driver.capability)), "", None
    yield "multiprocessors", str(driver.multiprocessors), "", None
    yield "memory, GiB", f"{driver.total_memory / 2**30:.1f}", "", None


# ------------------------------------------------------------------------------------ right or wrong
def listed(asked: Asked) -> Iterator[Row]:
    """The generated list (tests/cuda/programs.py), graph by graph, beside the NumPy oracle."""
    from tests.cuda import harness, programs

    sections: dict[str, Callable[[], Any]] = {
        "primitives": programs.primitives,
        "public ops": programs.public_ops,
        "benchmark programs": programs.benchmarks,
        "random graphs": programs.random_graphs,
    }
    for name, section in sections.items():
        chosen = list(section())
        if asked.quick or asked.standin:
            chosen = chosen[:: max(1, len(chosen) // 12)]
        start = perf_counter()
        made = harness.prepare_all(chosen)
        compiled = perf_counter() - start
        wrong = [text for p in made if (text := harness.difference_on_device(p)) is not None]
        spent = f"compiled in {compiled:.1f} s, all {perf_counter() - start:.1f} s"
        yield name, f"{len(made) - len(wrong)} of {len(made)} equal; {spent}", "all", not wrong
        for text in wrong[:10]:
            yield f"{name}, wrong", text[:200], "", False


def public(asked: Asked) -> Iterator[Row]:
    """Public ops and their gradients on tensors, `device="cuda"` beside the CPU; in several processes."""
    if asked.shard != "0/1":
        yield from _public_shard(asked)
        return
    shards = 1 if asked.standin else SHARDS

    def one(k: int) -> list[Row]:
        words = [f"--shard={k}/{SHARDS * 20 if asked.standin else shards}", *_words(asked)]
        done = subprocess.run(
            [sys.executable, "-m", "perf.gpu", "--part", "public", *words],
            capture_output=True, text=True, cwd=machine.ROOT, env=environment(asked),
        )
        rows = [told for line in done.stdout.splitlines() if (told := read_row(line)) is not None]
        return rows or [(f"shard {k}", f"process died ({done.returncode}): {done.stderr[-200:]}", "", False)]

    with ThreadPoolExecutor(shards) as pool:
        rows = [row for part in pool.map(one, range(shards)) for row in part]
    good = sum(int(row[1]) for row in rows if row[0] == "equal")
    yield "public ops and gradients", f"{good} samples equal", "all", all(row[3] is not False for row in rows)
    yield from [row for row in rows if row[3] is False][:15]


def _public_shard(asked: Asked) -> Iterator[Row]:
    from tests.cuda.programs import WITHOUT_KERNEL
    from tests.oplist import SAMPLES

    k, n = map(int, asked.shard.split("/"))
    samples = [(f"{name}-{j}", s) for name, found in SAMPLES.items() for j, s in enumerate(found[:2])]
    good = 0
    for name, s in samples[k::n]:
        try:
            why = _sample_differs(s)
        except Exception as e:  # told, and the next one is tried
            why = f"{type(e).__name__}: {str(e)[:150]}"
        if why is None:
            good += 1
        elif (lacks := re.search(r"needs (\w+), which has no kernel", why)) and lacks[1] in WITHOUT_KERNEL:
            yield name, f"refused: {why}", "", None
        else:
            yield name, why, "", False
    yield "equal", str(good), "", None


def _sample_differs(s: Any) -> str | None:
    """Results and gradients of a public function on both devices; None if they agree or there is no such function."""
    import autojit as aj
    from tests.checking import Number
    from tests.graphs import agree

    target = getattr(aj, s.op.name, None) if s.op.function else getattr(aj.nn.functional, s.op.name, None)
    if target is None:
        return None
    found = []
    for where in ("cpu", "cuda"):
        tensors = []
        for a in s.arrays("float32"):
            if isinstance(a, np.ndarray):
                t = aj.from_numpy(a.copy()).to(where)
                a = t.requires_grad_() if t.is_floating_point() else t
            tensors.append(a.value if isinstance(a, Number) else a)
        out = target(*s.op.arrange(tensors, s.static))
        outs = list(out) if isinstance(out, (tuple, list)) else [out]
        live = [o for o in outs if o.requires_grad]
        if live:
            sum([(o * o).sum() for o in live]).backward()
        leaves = [t for t in tensors if isinstance(t, aj.Tensor) and t.requires_grad and t.grad is not None]
        found.append([t.detach().cpu().numpy() for t in (*outs, *[t.grad for t in leaves])])
    return agree(found[1], found[0], rtol=1e-3, atol=1e-4)


def random(asked: Asked) -> Iterator[Row]:
    """The same bits from one seed on both devices; normals within 4 ulp."""
    import autojit as aj

    count = 1003 if asked.standin else 1_000_003
    draws: dict[str, Callable[[str], Any]] = {
        "rand": lambda d: aj.rand(count, device=d),
        "rand float64": lambda d: aj.rand(count, device=d, dtype=aj.float64),
        "randint": lambda d: aj.randint(-5, 1000, (count,), device=d),
        "randn": lambda d: aj.randn(count, device=d),
        "randn float64": lambda d: aj.randn(count, device=d, dtype=aj.float64),
        "randn, odd shape": lambda d: aj.randn(7, 13, device=d),
    }
    for name, draw in draws.items():
        found = []
        for where in ("cpu", "cuda"):
            aj.manual_seed(12345)
            found.append([draw(where).cpu().numpy() for _ in range(2)])
        a, b = (np.concatenate([x.reshape(-1) for x in part]) for part in found)
        same = np.array_equal(a, b)
        ulps = 0.0 if same or a.dtype.kind != "f" else float(np.max(np.abs(a.astype("f8") - b) / np.spacing(np.abs(a))))
        target = "4 ulp" if "randn" in name else "equal bits"
        yield name, "equal bits" if same else f"{ulps:.1f} ulp apart", target, same or ("randn" in name and ulps <= 4)


def interop(asked: Asked) -> Iterator[Row]:
    """Zero copies: other libraries' arrays of our memory, and ours of theirs, have its address and its values."""
    import autojit as aj

    def torch_of(x: Any) -> tuple[int, Any]:
        import torch

        t = torch.from_dlpack(x)
        return t.data_ptr(), t.cpu().numpy()

    def back(x: Any) -> tuple[int, Any]:
        import torch

        y = aj.from_dlpack(torch.from_dlpack(x))
        return y.data_ptr(), y.cpu().numpy()

    def cupy_of(x: Any) -> tuple[int, Any]:
        import cupy

        a = cupy.asarray(x)
        return a.data.ptr, cupy.asnumpy(a)

    def numba_of(x: Any) -> tuple[int, Any]:
        from numba import cuda

        a = cuda.as_cuda_array(x)
        return a.__cuda_array_interface__["data"][0], a.copy_to_host()

    ways = {"torch.from_dlpack(ours)": torch_of, "aj.from_dlpack(torch's)": back}
    if not asked.standin:
        ways |= {"cupy.asarray(ours)": cupy_of, "numba.cuda.as_cuda_array(ours)": numba_of}
    for name, give in ways.items():
        x = aj.arange(12, dtype=aj.float32, device="cuda") * 2
        try:
            address, values = give(x)
        except ImportError as e:
            yield name, f"skipped: {e}", "", None
            continue
        except Exception as e:  # told, and the next one is tried
            yield name, f"{type(e).__name__}: {str(e)[:150]}", "same address", False
            continue
        good = address == x.data_ptr() and np.array_equal(values, np.arange(12) * 2)
        yield name, f"{'same' if address == x.data_ptr() else 'another'} address", "same address and values", good


def suite(asked: Asked) -> Iterator[Row]:
    """A few programs of every kind, small: what compute-sanitizer looks at."""
    from tests.cuda import harness, programs

    chosen = [p for section in (programs.primitives, programs.benchmarks, programs.random_graphs)
              for p in list(section())[:: 25]]
    made = harness.prepare_all(chosen[:8] if asked.standin else chosen)
    wrong = [text for p in made if (text := harness.difference_on_device(p)) is not None]
    yield "small suite", f"{len(made) - len(wrong)} of {len(made)} equal", "all", not wrong


def sanitizer(asked: Asked) -> Iterator[Row]:
    """The small suite under compute-sanitizer, if it is at hand."""
    yield from suite(asked)  # fills the cache: compiling under the sanitizer would take minutes
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if tool is None or asked.standin:
        yield "compute-sanitizer", "not at hand" if tool is None else "nothing to look at on the stand-in", "", None
        return
    for kind in ("memcheck", "racecheck"):
        command = [tool, "--tool", kind, "--error-exitcode", "9", "--target-processes", "application-only"]
        start = perf_counter()
        done = subprocess.run(
            [*command, sys.executable, "-m", "perf.gpu", "--part", "suite"],
            capture_output=True, text=True, cwd=machine.ROOT, env=environment(asked),
        )
        said = [line.strip("= ") for line in (done.stdout + done.stderr).splitlines() if "=====" in line]
        last = said[-1] if said else f"exit {done.returncode}"
        yield kind, f"{last[:120]} ({perf_counter() - start:.0f} s)", "0 errors", done.returncode == 0


# ------------------------------------------------------------------------------------ how long
def start(asked: Asked) -> Iterator[Row]:
    """From process start to the first gradient on the device, the cache warm."""
    env = {**environment(asked), "AUTOJIT_TIER": "compile"}
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        env["AUTOJIT_CACHE_DIR"] = folder
        for _ in range(3 if asked.quick or asked.standin else 6):
            began = perf_counter()
            done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, env=env, cwd=machine.ROOT)
            seconds.append(perf_counter() - began)
            if done.stdout.strip() != GRADIENT:
                yield "process to first gradient", f"printed {done.stdout!r}: {done.stderr[-300:]}", GRADIENT, False
                return
    yield "process to first gradient, cold cache", f"{seconds[0]:.2f} s", "", None
    warm = median(seconds[1:])
    good = _when(not asked.standin, warm <= START_TARGET_S)
    yield "process to first gradient, warm cache", f"{warm:.2f} s", f"{START_TARGET_S} s", good


def calls(asked: Asked) -> Iterator[Row]:
    """What a traced call costs the host: calls one after the other, waited for at the end."""
    import autojit as aj

    aj.config.tier = "compile"

    @aj.trace
    def square(x: Any) -> Any:
        return (x * x).sum()

    joint = aj.value_and_grad(square)
    x = aj.arange(8, dtype=aj.float32, device="cuda")
    for _ in range(50):
        joint(x)
    aj.cuda.synchronize()
    best, group = float("inf"), 10 if asked.standin else 500
    for _ in range(5 if asked.standin else 40):
        begun = perf_counter()
        for _ in repeat(None, group):
            joint(x)
        best = min(best, (perf_counter() - begun) / group * 1e6)
        aj.cuda.synchronize()
    found = f"{best:.2f} us"
    yield "traced call, host side", found, f"{CALL_TARGET_US} us", _when(not asked.standin, best <= CALL_TARGET_US)
    begun = perf_counter()
    for _ in range(group):
        joint(x)[0].item()
    yield "traced call, value read back", f"{(perf_counter() - begun) / group * 1e6:.1f} us", "", None


def _when(judged: bool, good: bool) -> bool | None:
    return good if judged else None


PARTS: dict[str, tuple[Callable[[Asked], Iterator[Row]], float]] = {  # and seconds until a part is ended
    "versions": (versions, 30),
    "device": (device, 30),
    "random": (random, 40),
    "interop": (interop, 40),
    "start": (start, 40),
    "calls": (calls, 30),
    "list": (listed, 150),
    "public": (public, 100),
    "sanitizer": (sanitizer, 90),
}
HIDDEN: dict[str, Callable[[Asked], Iterator[Row]]] = {"suite": suite}


# ------------------------------------------------------------------------------------ processes
def _words(asked: Asked) -> list[str]:
    return ["--standin"] * asked.standin + ["--quick"] * asked.quick


def environment(asked: Asked) -> dict[str, str]:
    env = {**os.environ, "AUTOJIT_TIER": "compile"}
    if asked.standin:
        env["AUTOJIT_CUDA"] = "standin"
    return env


def tell(name: str, asked: Asked) -> None:
    """Run a part in this process and print its rows, one line of JSON each."""
    part = HIDDEN[name] if name in HIDDEN else PARTS[name][0]
    for row in part(asked):
        print("ROW " + json.dumps(row), flush=True)


def read_row(line: str) -> Row | None:
    if not line.startswith("ROW "):
        return None
    what, found, target, good = json.loads(line[4:])
    return what, found, target, good
