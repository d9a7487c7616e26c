"""Loops of many turns beside `jax.jit` of `lax.scan` and `lax.while_loop`.

`python -m perf.loops` runs a recurrent net of 1000 turns (32 units, batch of 8), Runge and Kutta's
fourth-order method on four states (1000 turns; as four numbers, and as a vector with a product), and
a loop that ends when a number says so.  Each program is timed alone, and with all its gradients; a
`while_loop` of jax's has none.  Two processes, one for each library, answer in turn, so that both see
the same machine.  Results go to `results/loops.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np

from perf import machine
from perf.measure import sample, worst_error
from perf.notes import note, verdict
from perf.workloads import Arrays
from perf.workloads.registry import normal

TURNS, DT = 1000, 0.01
ROUNDS, SECONDS, CLOSE = 7, 0.4, 1e-4
TARGET = 3.0  # value and gradients; nothing is asked of the others


# ---------------------------------------------------------------- programs
def rnn(m: Any, W: Any, U: Any, b: Any, X: Any) -> Any:
    """recurrent net"""
    h = m.scan(lambda h, x: m.tanh(h @ W + x @ U + b), X[0] @ U * 0, X, TURNS)
    return (h * h).sum()


def kutta(flow: Any, state: Any) -> Any:
    """One step; a state is a tuple."""
    def ahead(by: float, k: Any) -> Any:
        return tuple(s + by * d for s, d in zip(state, k, strict=True))

    k1 = flow(*state)
    k2 = flow(*ahead(DT / 2, k1))
    k3 = flow(*ahead(DT / 2, k2))
    k4 = flow(*ahead(DT, k3))
    return tuple(s + DT / 6 * (a + 2 * b + 2 * c + d) for s, a, b, c, d in zip(state, k1, k2, k3, k4, strict=True))


def springs(m: Any, p: Any) -> Any:
    """RK4, four numbers"""
    a, b, c, d = p[0], p[1], p[2], p[3]

    def flow(x: Any, y: Any, u: Any, v: Any) -> Any:
        return u, v, -a * x - b * (x - y) - d * u, -c * y - b * (y - x) - d * v

    x, y, _, _ = m.scan(lambda s, _: kutta(flow, s), (1.0 + 0 * a, 0.5 + 0 * a, 0 * a, 0 * a), None, TURNS)
    return x * x + y * y


def field(m: Any, M: Any, x: Any) -> Any:
    """RK4, a vector of four"""
    (x,) = m.scan(lambda s, _: kutta(lambda x: (m.sin(M @ x),), s), (x,), None, TURNS)
    return (x * x).sum()


def until(m: Any, x: Any) -> Any:
    """until a number says so"""
    return m.loop(lambda v: v[1] < TURNS, lambda v: (v[0] * 0.999 + m.sin(v[0]) * 0.01, v[1] + 1.0), (x, x * 0))[0]


def drawn(name: str) -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "rnn": lambda: [normal(rng, 32, 32, scale=0.1), normal(rng, 16, 32, scale=0.1), normal(rng, 32, scale=0.1),
                        normal(rng, TURNS, 8, 16)],
        "springs": lambda: [np.array([0.9, 0.4, 0.3, 0.2], np.float32)],
        "field": lambda: [normal(rng, 4, 4, scale=0.5), normal(rng, 4)],
        "until": lambda: [np.array(0.3, np.float32)],
    }[name]()


PROGRAMS = {"rnn": (rnn, 3), "springs": (springs, 1), "field": (field, 2), "until": (until, 1)}
KINDS = ("value", "value and gradients")


# ---------------------------------------------------------------- libraries
def ours(name: str, kind: str) -> tuple[Any, Any]:
    """A call, and what reads the results of the last one."""
    import autojit as aj

    def scan(step: Any, carry: Any, xs: Any, length: int) -> Any:
        return aj.scan(lambda c, x: (step(c, x), None), carry, xs, length)[0]

    m = SimpleNamespace(tanh=aj.tanh, sin=aj.sin, scan=scan, loop=aj.while_loop)
    program, wrt = PROGRAMS[name]
    f = aj.trace(lambda *a: program(m, *a))
    f = f if kind == "value" else aj.value_and_grad(f, argnums=tuple(range(wrt)))
    tensors, last = [aj.from_numpy(a) for a in drawn(name)], [None]

    def call() -> None:
        last[0] = f(*tensors)

    return call, lambda: [t.numpy() for t in _flat(last[0])]


def theirs(name: str, kind: str) -> tuple[Any, Any]:
    import jax
    import jax.numpy as jnp

    def scan(step: Any, carry: Any, xs: Any, length: int) -> Any:
        return jax.lax.scan(lambda c, x: (step(c, x), None), carry, xs, length)[0]

    m = SimpleNamespace(tanh=jnp.tanh, sin=jnp.sin, scan=scan, loop=jax.lax.while_loop)
    program, wrt = PROGRAMS[name]
    g: Any = lambda *a: program(m, *a)  # noqa: E731
    f = jax.jit(g if kind == "value" else jax.value_and_grad(g, argnums=tuple(range(wrt))))
    arrays, last = [jnp.asarray(a) for a in drawn(name)], [None]

    def call() -> None:
        last[0] = jax.block_until_ready(f(*arrays))

    return call, lambda: [np.asarray(a) for a in _flat(last[0])]


def _flat(found: Any) -> list[Any]:
    return [found[0], *found[1]] if isinstance(found, tuple) else [found]


LIBRARIES = {"autojit": ours, "jax": theirs}


def serve(library: str) -> None:
    """Answers on stdout: (program, kind) → results of two calls; seconds → the median of a call."""
    call: Any = None
    for line in sys.stdin:
        asked = json.loads(line)
        if isinstance(asked, list):
            call, read = LIBRARIES[library](*asked)
            call()
            call()
            print(json.dumps([np.asarray(a).tolist() for a in read()]), flush=True)
        else:
            print(json.dumps(median(sample(call, asked))), flush=True)


class _Library:
    def __init__(self, name: str) -> None:
        env = {**os.environ, "AUTOJIT_TIER": "compile", "JAX_PLATFORMS": "cpu"}
        self.process = subprocess.Popen([sys.executable, "-m", "perf.loops", "--serve", name], cwd=machine.ROOT, env=env,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, what: Any) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def compared(both: dict[str, _Library], name: str, kind: str, rounds: int, seconds: float) -> dict[str, float]:
    """Seconds a call in each library, and their ratio: medians of the rounds."""
    has = list(both) if (name, kind) != ("until", KINDS[1]) else ["autojit"]
    found = {k: [np.asarray(a) for a in both[k].ask([name, kind])] for k in has}
    if len(has) == 2 and worst_error(found["autojit"], found["jax"]) > CLOSE:
        raise AssertionError(f"{name}, {kind}: {found}")
    times = [{k: both[k].ask(seconds) for k in has} for _ in range(rounds)]
    out = {k: median(t[k] for t in times) for k in has}
    return out | ({"ratio": median(t["jax"] / t["autojit"] for t in times)} if len(has) == 2 else {})


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.loops", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a library in each round")
    parser.add_argument("--no-record", action="store_true", help="write no file")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.serve:
        serve(options.serve)
        return
    both, raw, rows = {k: _Library(k) for k in LIBRARIES}, {}, []
    try:
        for name, (program, _) in PROGRAMS.items():
            for kind in KINDS:
                t = raw[f"{name}, {kind}"] = compared(both, name, kind, options.rounds, options.seconds)
                asked = TARGET if kind == KINDS[1] and "ratio" in t else None
                rows.append([f"{program.__doc__}, {kind}", f"{t['autojit'] * 1e6:.1f}",
                             f"{t['jax'] * 1e6:.1f}" if "jax" in t else "has none", f"{t['ratio']:.2f}" if "ratio" in t else "",
                             f"≥ {asked:g}" if asked else "", verdict(t["ratio"] >= asked) if asked else ""])
    finally:
        for library in both.values():
            library.close()
    remarks = ("float32; ordinary calls, results waited for; autojit: `aj.trace` of `aj.scan` and `aj.while_loop`",)
    note("loops", f"Loops of {TURNS} turns", ["µs a call", "autojit", "jax.jit", "ratio", "target", ""], rows, raw,
         write=not options.no_record, remarks=remarks)


if __name__ == "__main__":
    main()
