"""Time until compiled code answers, nothing cached: the whole process, for every program.

`python -m perf.compile` starts a process with an empty cache for each program, and for the long
loops (500 steps of the recurrent net, 2000 of the equation), and stops its clock when value and
gradient have come from compiled code. Beside it stand the first call alone, from recording to
result, and the stages it went through. Results go to `results/compile.md`. Peers are not measured
here: the table of `python -m perf` has their first calls.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from statistics import median
from threading import Timer
from time import perf_counter
from typing import Any

from perf import machine
from perf.notes import note, verdict
from perf.workloads import WORKLOADS

QUICK = ("elem", "bs", "pair", "lnorm", "softmax_ce", "rosen")
QUICK_SECONDS, OTHER_SECONDS, LONG_SECONDS = 1.5, 3.0, 5.0
LONG = {"rnn": {"steps": 500}, "ode": {"steps": 2000}}  # judged by recording and compiling alone
LIMIT_SECONDS = 120

CHILD = """
import json, sys, time
import autojit as aj
from perf.ours import autojit_namespace
from perf.workloads import WORKLOADS
name, sizes = sys.argv[1], json.loads(sys.argv[2])
aj.config.tier = "compile"
w = WORKLOADS[name]
f = aj.trace(w.function(autojit_namespace(), **sizes))
g = aj.value_and_grad(f, argnums=tuple(range(w.wrt)))
given = [aj.from_numpy(a) for a in w.arrays(**sizes)]
start = time.perf_counter()
g(*given)[0].item()
print(json.dumps({"first": time.perf_counter() - start}), flush=True)
p = f.last.program.prepared
print(json.dumps({"kernels": len(p.emitted), "distinct": len(p.texts), "stages": p.seconds, "nodes": len(p.graph.order)}))
"""


def once(name: str, sizes: dict[str, int]) -> dict[str, Any]:
    """One fresh process. Raises RuntimeError if it fails or takes longer than the limit."""
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryFile("w+") as errors:
        start = perf_counter()
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, name, json.dumps(sizes)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=machine.ROOT,
            env={**os.environ, "AUTOJIT_CACHE_DIR": cache},
        ) as process:
            clock = Timer(LIMIT_SECONDS, process.kill)
            clock.start()
            assert process.stdout is not None
            first = process.stdout.readline()
            whole = perf_counter() - start
            rest = process.stdout.read()
        clock.cancel()
        if process.returncode:
            errors.seek(0)
            said = errors.read().strip().splitlines()
            late = whole > LIMIT_SECONDS
            raise RuntimeError(f"not done after {LIMIT_SECONDS} s" if late else said[-1][:200])
    return {"whole": whole, **json.loads(first), **json.loads(rest)}


def measure(name: str, sizes: dict[str, int], runs: int) -> dict[str, Any]:
    """Medians of the seconds over the runs, the rest from the last."""
    seen = [once(name, sizes) for _ in range(runs)]
    return {
        **seen[-1],
        "name": name,
        "sizes": sizes,
        **{k: median(s[k] for s in seen) for k in ("whole", "first")},
    }


def limit(name: str, sizes: dict[str, int]) -> tuple[str, float]:
    """Which of the seconds is judged, and at most how many."""
    if sizes:
        return "first", LONG_SECONDS
    return "whole", QUICK_SECONDS if name in QUICK else OTHER_SECONDS


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.compile", description=__doc__)
    parser.add_argument("--only", help="workloads, by name, separated by commas")
    parser.add_argument("--runs", type=int, default=3, help="processes of each")
    parser.add_argument("--no-record", action="store_true", help="write no file")
    options = parser.parse_args(words)
    names = options.only.split(",") if options.only else list(WORKLOADS)
    rows, raw = [], []
    for name in names:
        for sizes in [{}, LONG[name]] if name in LONG else [{}]:
            label = " ".join([name, *(f"{k}={v}" for k, v in sizes.items())])
            key, most = limit(name, sizes)
            target = f"{key} ≤ {most:g}"
            try:
                found = measure(name, sizes, options.runs)
            except RuntimeError as e:
                rows.append([label, "", "", "", f"failed: {e}", target, verdict(False)])
                continue
            raw.append(found)
            stages = ", ".join(f"{k} {v * 1e3:.0f}" for k, v in found["stages"].items())
            counts = (
                f"{found['nodes']} nodes, {found['kernels']} kernels, {found['distinct']} distinct"
            )
            rows.append(
                [
                    label,
                    f"{found['whole']:.2f}",
                    f"{found['first']:.2f}",
                    counts,
                    stages,
                    target,
                    verdict(found[key] <= most),
                ]
            )
            print(" | ".join(rows[-1]), flush=True)
    head = ["program", "whole process, s", "first call, s", "of", "stages, ms", "target, s", ""]
    note(
        "compile",
        "Time until compiled code answers, empty cache",
        head,
        rows,
        raw,
        write=not options.no_record,
    )


if __name__ == "__main__":
    main()
