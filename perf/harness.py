"""A run: every workload on every system, checked, then timed in interleaved rounds.

In: names of workloads and systems, budgets. Out: one record, a plain dictionary that goes into
`results/history.jsonl` and from which `report.py` makes its table. Systems live in processes of
their own that sleep while another is measured; only one request is under way at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from perf import machine
from perf.measure import quartiles
from perf.peers import REFERENCES, SYSTEMS, System
from perf.workloads import WORKLOADS, Workload

SETTLE_SECONDS = 0.01  # pools of the process that just answered stop spinning in this time
ROUND_LIMIT_SECONDS = 120.0
LEAST_JUDGED_SECONDS = 0.08
Say = Callable[[str], None]
Cell = dict[str, Any]


@dataclass
class Plan:
    """What to run. cell_seconds: timing budget of one workload on one system.

    compile_limit: seconds until a first call is given up. patience: seconds of the whole run that
    may go into waiting for a quiet machine.
    """

    workloads: list[str]
    systems: list[str]
    cell_seconds: float = 0.8
    rounds: int = 8
    compile_limit: float = 120.0
    patience: float = 120.0
    mode: str = "full"

    @property
    def quick(self) -> bool:
        return self.mode.startswith("quick")


class Gone(Exception):
    """A worker ran past its limit or died; its text says which."""


class WorkerProcess:
    """The harness's end of a worker: started at the first request, killed when it is too slow."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.process: subprocess.Popen[str] | None = None

    def ask(self, limit: float, **request: Any) -> dict[str, Any]:
        """The answer to one request. Raises Gone after `limit` seconds or if the process dies."""
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], limit)
            if not ready:
                self.close()
                raise Gone(f"not done after {limit:.0f} s")
            line = process.stdout.readline()
        if not line:
            self.close()
            raise Gone(f"process died (status {process.returncode})")
        sleep(SETTLE_SECONDS)
        return json.loads(line)

    def _running(self) -> subprocess.Popen[str]:
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "perf.worker", self.system.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=machine.ROOT,
                env={**os.environ, **self.system.env},
                # compilers start helpers; a group of its own ends them too
                start_new_session=True,
            )
        return self.process

    def close(self) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.process = None


def run(plan: Plan, say: Say = print) -> dict[str, Any]:
    """Measure all of the plan. Raises RuntimeError where no library can give the reference."""
    absent = {name: why for name in plan.systems if (why := SYSTEMS[name].missing())}
    for name, why in absent.items():
        say(f"{name}: skipped, {why}")
    systems = [name for name in plan.systems if name not in absent]
    record: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "mode": plan.mode,
        "cell_seconds": plan.cell_seconds,
        "rounds": plan.rounds,
        "machine": machine.fingerprint(),
        "load_before": machine.load(),
        "absent": absent,
        "cells": {},
        "ratios": {},
    }
    began, patience = monotonic(), machine.Patience(plan.patience)
    with _workers(systems) as (workers, reference), tempfile.TemporaryDirectory() as folder:
        for name in plan.workloads:
            path = Path(folder) / f"{name}.npz"
            cells = run_workload(WORKLOADS[name], workers, reference, plan, path, patience)
            record["cells"][name] = cells
            record["ratios"][name] = ratios(WORKLOADS[name], cells)
            say(_line(name, cells, record["ratios"][name]))
    record["load_after"] = machine.load()
    record["wall_s"] = round(monotonic() - began, 1)
    return record


@contextlib.contextmanager
def _workers(systems: Iterable[str]) -> Any:
    sources = [name for name in REFERENCES if SYSTEMS[name].missing() is None]
    if not sources:
        raise SystemExit(
            f"results are checked against float64 of {' or '.join(REFERENCES)}: install one, "
            "for instance by pip install -e '.[perf,peers]'"
        )
    workers = {name: WorkerProcess(SYSTEMS[name]) for name in systems}
    reference = WorkerProcess(SYSTEMS[sources[0]])
    try:
        yield workers, reference
    finally:
        for worker in [*workers.values(), reference]:
            worker.close()


def run_workload(
    workload: Workload,
    workers: dict[str, WorkerProcess],
    reference: WorkerProcess,
    plan: Plan,
    path: Path,
    patience: machine.Patience,
) -> dict[str, Cell]:
    """One row: a cell for each system that has the workload, timed or with a note why not."""
    where = {"workload": workload.name, "path": str(path)}
    answer = reference.ask(plan.compile_limit, do="reference", **where)
    if "failed" in answer:
        raise RuntimeError(f"no reference for {workload.name}: {answer['failed']}")
    cells: dict[str, Cell] = {}
    for name, worker in workers.items():
        if plan.quick and name in workload.slow:
            cells[name] = {"note": "left out by --quick: compiling takes minutes"}
        elif worker.system.handles(workload):
            request = {"do": "prepare", **where}
            cells[name] = _checked(worker, workload, plan.compile_limit, request)
    patience.wait()
    _timed(cells, workers, plan, patience)
    for name, cell in cells.items():
        if "rounds" in cell:
            last = _checked(workers[name], workload, ROUND_LIMIT_SECONDS, {"do": "finish"})
            if "note" in last:
                cells[name] = last
            else:
                low, middle, high = quartiles(cell["rounds"])
                cell.update(us=middle, low=low, high=high)
    path.unlink()
    return cells


def _checked(
    worker: WorkerProcess, workload: Workload, limit: float, request: dict[str, Any]
) -> Cell:
    """The answer if its error is within tolerance, else a cell that says what went wrong."""
    try:
        answer = worker.ask(limit, **request)
    except Gone as e:
        return {"note": str(e)}
    if "failed" in answer:
        return {"note": answer["failed"]}
    if not answer["error"] <= workload.tolerance:
        note = f"wrong by {answer['error']:.1e}, allowed {workload.tolerance:.0e}"
        return {"note": note, "wrong": True}
    return answer


def _timed(
    cells: dict[str, Cell],
    workers: dict[str, WorkerProcess],
    plan: Plan,
    patience: machine.Patience,
) -> None:
    """Rounds over all systems, each round beginning with another one.

    Rounds too short to be judged one by one are judged together.
    """
    seconds = plan.cell_seconds / plan.rounds
    watch, own_cpu = machine.Watch(), 0.0
    for turn in range(plan.rounds):
        names = [name for name, cell in cells.items() if "note" not in cell]
        for name in names[turn % len(names) :] + names[: turn % len(names)] if names else []:
            try:
                answer = _quiet_round(workers[name], seconds, patience)
            except Gone as e:
                answer = {"failed": str(e)}
            if "failed" in answer:
                cells[name] = {"note": answer["failed"]}
                continue
            own_cpu += answer["cpu_s"]
            cells[name].setdefault("rounds", []).append(answer["us"])
            cells[name]["disturbed"] = cells[name].get("disturbed", 0) + answer["disturbed"]
    if seconds < LEAST_JUDGED_SECONDS and watch.others(own_cpu) > machine.QUIET_CORES:
        for cell in cells.values():
            if "rounds" in cell:
                cell["disturbed"] = len(cell["rounds"])


def _quiet_round(
    worker: WorkerProcess, seconds: float, patience: machine.Patience
) -> dict[str, Any]:
    """One round; done again, while patience lasts, if others used the cores meanwhile.

    Thread pools that spin at a barrier are slower by a hundred times beside a busy neighbour, so
    such a round says nothing about the system.
    """
    while True:
        watch, start = machine.Watch(), monotonic()
        answer = worker.ask(ROUND_LIMIT_SECONDS, do="round", seconds=seconds)
        if "failed" in answer:
            return answer
        others = watch.others(answer["cpu_s"])
        # the system counts in ticks of 10 ms, so a short round cannot be judged
        disturbed = seconds >= LEAST_JUDGED_SECONDS and others > machine.QUIET_CORES
        if not disturbed or patience.left <= 0:
            return {**answer, "disturbed": int(disturbed)}
        patience.spend(monotonic() - start)
        patience.wait()


def ratios(workload: Workload, cells: dict[str, Cell]) -> dict[str, dict[str, Any]]:
    """For each system of ours: the best rival's time by ours, and the best of all others' by ours.

    The quartiles are those of the rounds' own ratios, in which both were measured close in time.
    Disturbed times neither pass nor miss.
    """
    result: dict[str, dict[str, Any]] = {}
    for name, system in SYSTEMS.items():
        ours = cells.get(name, {})
        if system.role != "ours" or "us" not in ours:
            continue
        entry: dict[str, Any] = {"target": workload.targets.get(name)}
        rival = _fastest(cells, system.rivals)
        if rival is not None:
            pairs = zip(cells[rival]["rounds"], ours["rounds"], strict=False)
            low, _, high = quartiles([theirs / mine for theirs, mine in pairs])
            ratio = cells[rival]["us"] / ours["us"]
            entry.update(ratio=ratio, low=low, high=high, rival=rival)
            entry["disturbed"] = bool(ours.get("disturbed") or cells[rival].get("disturbed"))
            if entry["target"] is not None and not entry["disturbed"]:
                entry["pass"] = ratio >= entry["target"]
        others = [other for other in SYSTEMS if SYSTEMS[other].role != "ours"]
        best = _fastest(cells, others)
        if best is not None:
            entry.update(ratio_of_all=cells[best]["us"] / ours["us"], best_of_all=best)
        result[name] = entry
    return result


def _fastest(cells: dict[str, Cell], names: Iterable[str]) -> str | None:
    timed = [name for name in names if "us" in cells.get(name, {})]
    return min(timed, key=lambda name: cells[name]["us"], default=None)


def _line(workload: str, cells: dict[str, Cell], row: dict[str, dict[str, Any]]) -> str:
    parts = []
    for name, cell in cells.items():
        parts.append(f"{name} {cell['us']:.4g}" if "us" in cell else f"{name} ({cell['note']})")
    for name, entry in row.items():
        if "ratio" in entry:
            parts.append(f"{name}: {entry['ratio']:.2f} × {entry['rival']}")
    disturbed = sum(cell.get("disturbed", 0) for cell in cells.values())
    note = f"   [{disturbed} rounds disturbed]" if disturbed else ""
    return f"{workload:11s} us: " + ", ".join(parts) + note
