"""Whole processes: from start to the first gradient printed, for each system and a bare NumPy.

`python -m perf.coldstart` starts every program several times, the programs in turn, and takes
medians. The clock runs from before the process exists until its first line arrives. Each program
prints the same gradient, which is checked. Never measures steady-state speed: that is `perf`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from perf import machine
from perf.measure import quartiles
from perf.systems import SYSTEMS

RESULTS = Path(__file__).resolve().parent / "results"
WARM_SECONDS = 0.25, 0.13  # whole process; above a bare NumPy in the same run
EMPTY_SECONDS = 0.30, 0.18
IMPORT_TARGET_SECONDS = 0.06  # above a bare NumPy
GRADIENT = "[1.0806, -2.6146, -5.4668]"
FACTS = """
import json, sys
print(json.dumps({"numba": "numba" in sys.modules}))
"""
SHOW = "print([round(float(v), 4) for v in %s], flush=True)"
NUMPY = f"""
import numpy
print({GRADIENT!r}, flush=True)
"""
IMPORT = f"""
import autojit
print({GRADIENT!r}, flush=True)
"""
EAGER = f"""
import {{module}} as aj
x = aj.tensor([1.0, 2.0, 3.0], requires_grad=True)
(x ** 2).sin().sum().backward()
{SHOW % "x.grad"}
"""
TRACED = f"""
import autojit as aj
@aj.trace
def f(x):
    return (x ** 2).sin().sum()
x = aj.tensor([1.0, 2.0, 3.0], requires_grad=True)
f(x).backward()
{SHOW % "x.grad"}
"""
WAIT = """
import os
os.environ["AUTOJIT_TIER"] = "compile"
"""
JAX = f"""
import jax, jax.numpy as jnp
x = jnp.asarray([1.0, 2.0, 3.0])
{SHOW % "jax.jit(jax.grad(lambda x: jnp.sin(x ** 2).sum()))(x)"}
"""


@dataclass
class Case:
    """A program and the state of its kernel cache: "" (has none), "warm" or "empty".

    target: seconds at most, for the whole process. above: at most so many more than a bare NumPy;
    where both are set, either will do: a busy or slow machine is so told from our own doing.
    """

    name: str
    source: str
    system: str | None = None
    cache: str = ""
    target: float | None = None
    above: float | None = None

    @property
    def available(self) -> bool:
        return self.system is None or SYSTEMS[self.system].missing() is None


CASES = [
    Case("import numpy", NUMPY),
    Case("import autojit", IMPORT, "autojit", above=IMPORT_TARGET_SECONDS),
    Case("autojit eager, warm", EAGER.format(module="autojit"), "autojit", "warm", *WARM_SECONDS),
    Case("autojit traced, warm", TRACED, "autojit", "warm", *WARM_SECONDS),
    Case("autojit traced, warm, compiled code", WAIT + TRACED, "autojit", "warm", *WARM_SECONDS),
    Case(
        "autojit eager, cache empty",
        EAGER.format(module="autojit"),
        "autojit",
        "empty",
        *EMPTY_SECONDS,
    ),
    Case("autojit traced, cache empty", TRACED, "autojit", "empty", *EMPTY_SECONDS),
    Case("autojit traced, cache empty, compiled code", WAIT + TRACED, "autojit", "empty"),
    Case("torch", EAGER.format(module="torch"), "torch"),
    Case("jax", JAX, "jax"),
]


def start(case: Case, cache: str, **env: str) -> dict[str, Any]:
    """Run the program once: seconds to its first line, and whether it imported Numba.

    Raises RuntimeError if it fails or prints another gradient.
    """
    with tempfile.TemporaryFile("w+") as errors:
        began = perf_counter()
        with subprocess.Popen(
            [sys.executable, "-c", case.source + FACTS],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=machine.ROOT,
            # as on a user's machine: byte code is kept
            env={
                **os.environ,
                "PYTHONDONTWRITEBYTECODE": "",
                "JAX_PLATFORMS": "cpu",
                "AUTOJIT_CACHE_DIR": cache,
                **env,
            },
        ) as process:
            assert process.stdout is not None
            first = process.stdout.readline().strip()
            seconds = perf_counter() - began
            rest = process.stdout.read()
        if process.returncode or first != GRADIENT:
            errors.seek(0)
            raise RuntimeError(f"{case.name} printed {first!r}: {errors.read()[-500:]}")
    return {"seconds": seconds, **json.loads(rest)}


def measure(cases: list[Case], runs: int) -> dict[str, dict[str, Any]]:
    """Medians and quartiles of `runs` starts of each case, the cases in turn, or why it failed."""
    seen: dict[str, list[dict[str, Any]]] = {case.name: [] for case in cases}
    notes: dict[str, str] = {}

    def attempt(case: Case, cache: str, **env: str) -> None:
        if case.name not in notes:
            try:
                seen[case.name].append(start(case, cache, **env))
            except RuntimeError as e:
                notes[case.name] = str(e)

    with tempfile.TemporaryDirectory() as folder:
        caches = {case.name: f"{folder}/{number}" for number, case in enumerate(cases)}
        for case in cases:  # byte code and, where wanted, kernels come into their caches
            fill = {"AUTOJIT_TIER": "compile"} if case.cache == "warm" else {}
            attempt(case, caches[case.name], **fill)
            seen[case.name].clear()
        for turn in range(runs):
            for case in cases:
                fresh = f"{folder}/{turn}-{case.name}"
                attempt(case, fresh if case.cache == "empty" else caches[case.name])
    results = {name: {"note": why} for name, why in notes.items()}
    results |= {name: _summary(starts) for name, starts in seen.items() if name not in notes}
    return results


def _summary(starts: list[dict[str, Any]]) -> dict[str, Any]:
    low, middle, high = quartiles([s["seconds"] for s in starts])
    return {"s": middle, "low": low, "high": high, "numba": any(s["numba"] for s in starts)}


def judge(cases: list[Case], results: dict[str, dict[str, Any]]) -> None:
    """Enter target and verdict in the results; importing Numba is a miss whatever the time."""
    bare = results["import numpy"]["s"]
    for case in cases:
        row = results[case.name]
        if (case.target is None and case.above is None) or "note" in row:
            continue
        words = [] if case.target is None else [f"{case.target:.2f}"]
        words += [] if case.above is None else [f"{case.above:.2f} above numpy"]
        whole = case.target is not None and row["s"] <= case.target
        more = case.above is not None and row["s"] - bare <= case.above
        row["target"], row["pass"] = " or ".join(words), (whole or more) and not row["numba"]


def markdown(record: dict[str, Any]) -> str:
    m, rows = record["machine"], record["starts"]
    bare = rows["import numpy"]["s"]
    lines = [
        "# From process start to the first gradient",
        "",
        f"- {record['time']}, commit {m['commit']}, median of {record['runs']} starts",
        f"- {m['cpu']}, {m['cores']} cores, {record['load']['busy']} of them used by others "
        f"(above {machine.QUIET_CORES} nothing is judged)",
        "",
        "| program | seconds (quartiles) | above numpy | target | | imports numba |",
        "|---|---|---|---|---|---|",
    ]
    for name in (case.name for case in CASES if case.name in rows):
        row = rows[name]
        if "note" in row:
            lines.append(f"| {name} | failed: {row['note'].splitlines()[-1]} | | | | |")
            continue
        verdict = {True: "pass", False: "**miss**", None: ""}[row.get("pass")]
        lines.append(
            f"| {name} | {row['s']:.3f} ({row['low']:.3f}-{row['high']:.3f}) "
            f"| {row['s'] - bare:.3f} | {row.get('target', '')} | {verdict} "
            f"| {'yes' if row['numba'] else 'no'} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.coldstart", description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--no-record", action="store_true", help="write no file")
    arguments = parser.parse_args()
    busy = machine.Patience(60).wait()
    cases = [case for case in CASES if case.available]
    starts = measure(cases, arguments.runs)
    busy = max(busy, machine.busy_cores())
    if busy <= machine.QUIET_CORES:  # else the times prove nothing
        judge(cases, starts)
    record = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "mode": "coldstart",
        "runs": arguments.runs,
        "machine": machine.fingerprint(),
        "load": {"busy": round(busy, 2)},
        "starts": starts,
    }
    text = markdown(record)
    print(text)
    if not arguments.no_record:
        with open(RESULTS / "history.jsonl", "a") as history:
            history.write(json.dumps(record, separators=(",", ":")) + "\n")
        (RESULTS / "coldstart.md").write_text(text)


if __name__ == "__main__":
    main()
