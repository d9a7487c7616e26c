"""What a new batch size costs: no compile, and less than a millisecond.

`python -m perf.shapes` traces mlp, attn, softmax_ce and rnn, each in a process with an empty cache,
calls it once with a batch of two, then with batches that it has not seen, up to a thousand. The
cost of a size is what its first call takes longer than its next ones, the least of several
processes, since a first call happens only once in each.  Takes about two minutes. Some results are compared with the NumPy
tier's. Results go to `results/shapes.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from perf import machine
from perf.notes import note, verdict
from perf.workloads import WORKLOADS

AXES = {"mlp": "batch", "attn": "batch", "softmax_ce": "rows", "rnn": "batch"}
MOST_SECONDS = {"mlp": 1e-3, "attn": 1e-3, "softmax_ce": 1e-3, "rnn": 2e-3}
FIRST, LAST, CHECKED = 2, 1000, 3


def chosen(count: int) -> list[int]:
    """Batch sizes from 3 to 1000, odd and even, more small ones than large, in no order."""
    spread = np.unique(np.geomspace(FIRST + 1, LAST, count).round().astype(int))
    return [int(n) for n in np.random.default_rng(1).permutation(spread)]


def child(name: str, sizes: list[int]) -> dict[str, Any]:
    """In a fresh process: seconds that each size's first call takes longer, and what was compiled."""
    import autojit as aj
    from autojit.engine import kernels

    aj.config.tier = "compile"
    joint, wrt = function(name)
    joint(*arguments(name, FIRST))
    before = kernels.store().counters.as_dict()["compiled"]
    seconds = []
    for n in sizes:
        given = arguments(name, n)
        start = perf_counter()
        value, grads = joint(*given)
        value.item()
        first = perf_counter() - start
        seconds.append(first - median(again(joint, given) for _ in range(3)))
    compiled = kernels.store().counters.as_dict()["compiled"] - before
    aj.config.tier = "numpy"
    plain, _ = function(name)
    for n in sizes[:CHECKED]:
        given = arguments(name, n)
        for (v, g), (w, h) in [(joint(*given), plain(*given))]:
            for found, wanted in zip([v, *g], [w, *h], strict=True):
                assert np.allclose(found.numpy(), wanted.numpy(), 1e-3, 1e-5), f"wrong at batch {n}"
    return {"seconds": seconds, "compiled": compiled}


def function(name: str) -> tuple[Any, int]:
    import autojit as aj
    from perf.ours import autojit_namespace

    workload = WORKLOADS[name]
    traced = aj.trace(workload.function(autojit_namespace()))
    return aj.value_and_grad(traced, argnums=tuple(range(workload.wrt))), workload.wrt


def arguments(name: str, size: int) -> list[Any]:
    import autojit as aj

    return [aj.from_numpy(a) for a in WORKLOADS[name].arrays(**{AXES[name]: size})]


def again(joint: Any, given: list[Any]) -> float:
    start = perf_counter()
    value, _ = joint(*given)
    value.item()
    return perf_counter() - start


def measure(name: str, sizes: list[int], runs: int) -> dict[str, Any]:
    """The least over `runs` fresh processes for each size; the most kernels compiled in any."""
    seen = []
    for k in range(runs):
        print(f"{name}: process {k + 1} of {runs}, {len(sizes)} sizes", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as cache:
            words = [sys.executable, "-m", "perf.shapes", "--child", name, json.dumps(sizes)]
            env = {**os.environ, "AUTOJIT_CACHE_DIR": cache}
            done = subprocess.run(words, cwd=machine.ROOT, env=env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-800:]}")
        seen.append(json.loads(done.stdout.splitlines()[-1]))
    seconds = np.min([s["seconds"] for s in seen], axis=0).tolist()
    return {"sizes": sizes, "seconds": seconds, "compiled": max(s["compiled"] for s in seen)}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.shapes", description=__doc__)
    parser.add_argument("--count", type=int, default=40, help="how many new batch sizes")
    parser.add_argument("--runs", type=int, default=3, help="processes of each")
    parser.add_argument("--only", help="of mlp, attn, softmax_ce, rnn")
    parser.add_argument("--no-record", action="store_true", help="write no file")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.child:
        print(json.dumps(child(options.child[0], json.loads(options.child[1]))))
        return
    sizes, rows, raw = chosen(options.count), [], {}
    for name in options.only.split(",") if options.only else AXES:
        found = raw[name] = measure(name, sizes, options.runs)
        times, most = found["seconds"], MOST_SECONDS[name]
        worst = max(zip(times, sizes, strict=True))
        good = median(times) <= most and found["compiled"] == 0
        rows.append(
            [
                name,
                f"{median(times) * 1e3:.2f}",
                f"{worst[0] * 1e3:.2f} (at {worst[1]})",
                str(found["compiled"]),
                f"≤ {most * 1e3:g} ms, none compiled",
                verdict(good),
            ]
        )
    head = ["program", "median, ms", "worst, ms", "kernels compiled", "target", ""]
    remarks = (
        f"{len(sizes)} sizes from {min(sizes)} to {max(sizes)}, after a first call with {FIRST}",
    )
    note(
        "shapes", "A new batch size", head, rows, raw, write=not options.no_record, remarks=remarks
    )


if __name__ == "__main__":
    main()
