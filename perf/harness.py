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
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from perf import machine
from perf.measure import quartiles
from perf.ratios import contenders, ratios, stand_in
from perf.system import System
from perf.systems import OURS, REFERENCES, SYSTEMS
from perf.workloads import Workload

SETTLE_SECONDS = 0.01  # pools of the process that just answered stop spinning in this time
ROUND_LIMIT_SECONDS = 120.0
LEAST_JUDGED_SECONDS = 0.08
Say = Callable[[str], None]
Cell = dict[str, Any]


@dataclass
class Plan:
    """What to run. cell_seconds: timing budget of one row on one system.

    compile_limit: seconds until a first call is given up. patience: seconds of the whole run that
    may go into waiting for a quiet machine. known: rows measured before, by name; at another size
    only those peers run that were near the best at the program's own.
    """

    rows: list[Workload]
    systems: list[str]
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    cell_seconds: float = 0.8
    rounds: int = 8
    compile_limit: float = 120.0
    patience: float = 120.0
    mode: str = "full"

    @property
    def quick(self) -> bool:
        return self.mode.startswith("quick")


class Gone(Exception):
    """A worker ran past its limit, so many seconds, or died (0); its text says which."""

    def __init__(self, text: str, limit: float = 0.0) -> None:
        super().__init__(text)
        self.limit = limit


class WorkerProcess:
    """The harness's end of a worker: started at the first request, killed when it is too slow."""

    def __init__(self, system: System, module: str = "perf.worker", *words: str) -> None:
        self.system, self.words = system, ["-m", module, system.name, *words]
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
                raise Gone(f"not done after {limit:.0f} s", limit)
            line = process.stdout.readline()
        if not line:
            self.close()
            raise Gone(f"process died (status {process.returncode})")
        sleep(SETTLE_SECONDS)
        return json.loads(line)

    def _running(self) -> subprocess.Popen[str]:
        if self.process is None:
            self.process = subprocess.Popen(
                [self.system.python(), *self.words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=machine.ROOT,
                env={**os.environ, **self.system.environment()},
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
        "seconds": {},
    }
    began, patience = monotonic(), machine.Patience(plan.patience)
    with _workers(systems) as (workers, reference), tempfile.TemporaryDirectory() as folder:
        for number, row in enumerate(plan.rows):
            start = monotonic()
            chosen = _chosen(row, workers, record["cells"].get(row.base) or _known(plan, row.base))
            path = Path(folder) / f"{number}.npz"
            hopeless = _hopeless(plan, row, record["machine"]["versions"])
            chosen = {n: w for n, w in chosen.items() if n not in hopeless}
            try:
                cells = run_workload(row, chosen, reference, plan, path, patience) | hopeless
            except KeyboardInterrupt:
                say(f"stopped before {row.name}; the rows before it are kept")
                break
            stand_in(row, cells, [n for n in plan.systems if n not in OURS])
            record["cells"][row.name] = cells
            record["ratios"][row.name] = ratios(row, cells)
            record["seconds"][row.name] = round(monotonic() - start, 1)
            say(
                f"[{number + 1}/{len(plan.rows)}, {_left(plan, record, number)} left] "
                + _line(row.name, cells, record["ratios"][row.name])
            )
    record["load_after"] = machine.load()
    record["wall_s"] = round(monotonic() - began, 1)
    return record


def _chosen(
    row: Workload, workers: dict[str, WorkerProcess], cells: dict[str, Cell]
) -> dict[str, WorkerProcess]:
    """Who runs this row: at another size, and in another dtype, the peers that have a chance."""
    if row.part == "base" or not cells:
        return workers
    near = contenders(row, cells)
    return {n: w for n, w in workers.items() if n in OURS or n in near}


def _hopeless(plan: Plan, row: Workload, versions: dict[str, str]) -> dict[str, Cell]:
    """Peers that ran past this limit before, in the same versions: they need not prove it again."""
    before = plan.known.get(row.name, {})
    if before.get("versions") != versions:
        return {}
    return {
        name: {"note": cell["note"], "limit": cell["limit"]}
        for name, cell in before["cells"].items()
        if name in plan.systems and name not in OURS and cell.get("limit", 0) >= plan.compile_limit
    }


def _known(plan: Plan, row: str) -> dict[str, Cell]:
    return plan.known.get(row, {}).get("cells", {})


def _left(plan: Plan, record: dict[str, Any], done: int) -> str:
    """Minutes that the rest will take, by what these rows took before or, else, rows of now."""
    spent = record["seconds"]
    mean = sum(spent.values()) / len(spent)
    rest = sum(plan.known.get(r.name, {}).get("seconds", mean) for r in plan.rows[done + 1 :])
    return f"{rest / 60:.1f} min"


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
        return {"note": str(e)} | ({"limit": e.limit} if e.limit else {})
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


def _line(name: str, cells: dict[str, Cell], found: dict[str, dict[str, Any]]) -> str:
    """One row in one line, as it is measured."""
    times = ", ".join(
        f"{system} {cell['us']:.4g}" + "~" * ("published" in cell)
        if "us" in cell
        else f"{system} ({cell['note']})"
        for system, cell in cells.items()
    )
    verdicts = ", ".join(f"{n} {e['ratio']:.2f} × {e['rival']}" for n, e in found.items())
    disturbed = sum(c.get("disturbed", 0) for c in cells.values() if "published" not in c)
    mark = f" [{disturbed} rounds disturbed]" if disturbed else ""
    return f"{name}: {verdicts or 'none of ours'}; us: {times}{mark}"
