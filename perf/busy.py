"""How much a busy machine slows each program: two other processes spin on the cores meanwhile.

`python -m perf.busy` times every program alone, then beside the spinning processes, ours and torch
eager, and prints by what factor each slows. With two cores and three that want them, 2 is fair
sharing; a pool whose threads wait at a spinning barrier loses ten times as much. Times are the
median of calls. Results go to `results/busy.md`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from typing import Any

from perf import machine
from perf.harness import Gone, WorkerProcess
from perf.notes import note, verdict
from perf.systems import REFERENCES, SYSTEMS
from perf.workloads import WORKLOADS

TARGET = 4.0
SPINNERS = 2
SPIN = "while True: pass"
SYSTEM_NAMES = ("autojit", "torch")


class Spinning:
    """Keeps the cores busy inside a `with`."""

    def __enter__(self) -> Spinning:
        self.processes = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(SPINNERS)]
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def measure(names: list[str], seconds: float) -> dict[str, dict[str, Any]]:
    """Row → system → microseconds alone and beside the spinning processes."""
    found: dict[str, dict[str, Any]] = {}
    workers = {
        name: WorkerProcess(SYSTEMS[name]) for name in SYSTEM_NAMES if not SYSTEMS[name].missing()
    }
    reference = WorkerProcess(SYSTEMS[next(n for n in REFERENCES if not SYSTEMS[n].missing())])
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                where = {"workload": name, "path": f"{folder}/{name}.npz"}
                reference.ask(120, do="reference", **where)
                for system, worker in workers.items():
                    found.setdefault(name, {})[system] = _slowed(worker, where, seconds)
                print(name, found[name], flush=True)
    finally:
        for worker in [*workers.values(), reference]:
            worker.close()
    return found


def _slowed(worker: WorkerProcess, where: dict[str, str], seconds: float) -> dict[str, Any]:
    try:
        prepared = worker.ask(120, do="prepare", **where)
        alone = worker.ask(60, do="round", seconds=seconds)
        with Spinning():
            beside = worker.ask(60, do="round", seconds=2 * seconds)
    except Gone as e:
        return {"note": str(e)}
    for answer in (prepared, alone, beside):
        if "failed" in answer:
            return {"note": answer["failed"]}
    return {
        "alone": alone["us"],
        "beside": beside["us"],
        "factor": round(beside["us"] / alone["us"], 2),
    }


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.busy", description=__doc__)
    parser.add_argument("--only", help="workloads, with commas between")
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="of calls, alone; twice as many beside"
    )
    parser.add_argument("--no-record", action="store_true", help="write no file")
    options = parser.parse_args(words)
    before = machine.Patience(30).wait()
    found = measure(options.only.split(",") if options.only else list(WORKLOADS), options.seconds)
    rows = []
    for name, systems in found.items():
        ours = systems["autojit"]
        words_of = [_words(systems.get(system, {})) for system in SYSTEM_NAMES]
        good = ours["factor"] <= TARGET if "factor" in ours else None
        rows.append(
            [
                name,
                *words_of,
                f"≤ {TARGET:g}",
                verdict(good if before <= machine.QUIET_CORES else None),
            ]
        )
    head = ["program", *(f"{s}: alone → beside, us (factor)" for s in SYSTEM_NAMES), "target", ""]
    remarks = (
        f"{SPINNERS} processes spinning; {before:.2f} cores used by others before "
        f"(above {machine.QUIET_CORES} nothing is judged)",
    )
    note(
        "busy",
        "Beside a busy neighbour",
        head,
        rows,
        found,
        write=not options.no_record,
        remarks=remarks,
    )


def _words(cell: dict[str, Any]) -> str:
    if "factor" not in cell:
        return cell.get("note", "")
    return f"{cell['alone']:.4g} → {cell['beside']:.4g} ({cell['factor']:.1f})"


if __name__ == "__main__":
    main()
