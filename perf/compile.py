"""What compiling costs with nothing cached: the unrolled recurrent network at 50 and at 500 steps, and every workload.

`python -m perf.compile` starts a fresh process with an empty cache for each. Seconds are those of the first call of value
and gradient, from recording to result; kernels are counted by their text.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perf import machine

RESULTS = Path(__file__).resolve().parent / "results"
TARGET_SECONDS = 3.0

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
g(*given)
p = f.last.program.prepared
print(json.dumps({"seconds": time.perf_counter() - start, "kernels": len(p.emitted), "distinct": len(p.texts),
                  "stages": p.seconds, "nodes": len(p.graph.order)}))
"""


def measure(name: str, **sizes: int) -> dict[str, Any]:
    """One workload in a fresh process with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run([sys.executable, "-c", CHILD, name, json.dumps(sizes)], capture_output=True, text=True,
                              env={**os.environ, "AUTOJIT_CACHE_DIR": cache}, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {"name": name, "sizes": sizes, **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    from perf.workloads import WORKLOADS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="workloads, by name, separated by commas")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(WORKLOADS)
    rows = [measure(n, **s) for n in names for s in ([{}, {"steps": 500}] if n == "rnn" else [{}])]
    for r in rows:
        stages = ", ".join(f"{k} {v * 1e3:.0f}" for k, v in r["stages"].items())
        label = r["name"] + "".join(f" {k}={v}" for k, v in r["sizes"].items())
        print(f"{label:16s} {r['seconds']:6.2f} s  {r['nodes']:6d} nodes  {r['kernels']:4d} kernels, "
              f"{r['distinct']:3d} distinct  ({stages} ms)")
    rnn = [r for r in rows if r["name"] == "rnn"]
    if rnn:
        same = rnn[0]["distinct"] == rnn[1]["distinct"]
        quick = rnn[0]["seconds"] < TARGET_SECONDS
        print(f"rnn: {rnn[0]['seconds']:.2f} s, target {TARGET_SECONDS} s: {'met' if quick else 'missed'}; "
              f"{rnn[0]['distinct']} distinct kernels at 50 steps, {rnn[1]['distinct']} at 500: {'met' if same else 'missed'}")
    if not options.no_record:
        row = {"what": "compile", "when": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine.fingerprint(),
               "rows": rows}
        with (RESULTS / "history.jsonl").open("a") as out:
            out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
