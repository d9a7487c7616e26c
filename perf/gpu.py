"""`python -m perf.gpu`: the first run on a GPU, under ten minutes; the whole table is printed last.

Versions, device, the operations and gradients on the device beside the CPU, random bits, zero copies
with other libraries, compute-sanitizer, start and call times, then programs beside torch eager,
torch.compile in four ways and jax.jit. Parts run in processes of their own within budgets of time:
what fails is a row of the table, and the next part goes on. Results go to `results/gpu-<card>.md`.

    python -m perf.gpu --quick              # a third of the rows, samples of the checks
    python -m perf.gpu --only versions,list # parts, or names of rows
    python -m perf.gpu --standin            # tiny sizes, stand-in driver, peers on the CPU: tries the script
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from perf import history, machine
from perf.gpu_parts import HIDDEN, PARTS, Asked, Row, environment, read_row, tell
from perf.gpu_rows import QUICK, ROWS, judged
from perf.gpu_rows import Row as Program
from perf.gpu_systems import SYSTEMS
from perf.harness import Gone, WorkerProcess
from perf.notes import verdict

TOTAL_SECONDS = 570.0
PREPARE_SECONDS = 100.0
NOT_JUDGED: dict[str, Any] = {"ratios": {}, "pass": None}
REFERENCES = ("torch", "autojit")  # who gives the float64 results: the first that is here


class Clock:
    """Seconds since the start, and what is left of the budget."""

    def __init__(self, total: float) -> None:
        self.began, self.total = monotonic(), total

    @property
    def spent(self) -> float:
        return monotonic() - self.began

    @property
    def left(self) -> float:
        return self.total - self.spent

    def say(self, text: str) -> None:
        print(f"[{self.spent:5.0f} s] {text}", flush=True)


# ------------------------------------------------------------------------------------ parts
def run_part(name: str, asked: Asked, clock: Clock) -> list[Row]:
    """A part in a process of its own: its rows, and one more if it did not end well."""
    limit = min(PARTS[name][1], max(clock.left - 5, 1))
    words = ["--standin"] * asked.standin + ["--quick"] * asked.quick
    rows: list[Row] = []
    begun = monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "perf.gpu", "--part", name, *words],
            stdout=subprocess.PIPE, stderr=errors, cwd=machine.ROOT, env=environment(asked), start_new_session=True,
        )
        ended = _read(process, rows, begun + limit)
        if not ended:
            os.killpg(process.pid, 9)
            rows.append((name, f"ended after {limit:.0f} s", "", False))
        process.wait()
        if ended and process.returncode:
            errors.seek(0)
            last = errors.read().strip().splitlines()[-1:] or [""]
            rows.append((name, f"process ended with {process.returncode}: {_plain(last[0])}", "", False))
    for what, found, _, good in rows:
        clock.say(f"{name}: {what}: {found} {verdict(good)}")
    return rows


def _read(process: Any, rows: list[Row], until: float) -> bool:
    """Collect rows until the process closes its output (True) or time is up (False)."""
    pending = b""
    while True:
        ready, _, _ = select.select([process.stdout], [], [], max(until - monotonic(), 0))
        if not ready:
            return False
        chunk = os.read(process.stdout.fileno(), 1 << 16)
        if not chunk:
            return True
        *lines, pending = (pending + chunk).split(b"\n")
        rows += [row for line in lines if (row := read_row(line.decode())) is not None]


def _plain(text: str) -> str:
    """Names of files, no paths of the machine."""
    return re.sub(r"(?<!\S)/\S*/", "", text)[:300]


# ------------------------------------------------------------------------------------ programs
Workers = dict[str, WorkerProcess]
Cells = dict[str, dict[str, Any]]


def workers_for(asked: Asked, clock: Clock) -> Workers:
    """A process for every system that can run here."""
    words = ("standin",) * asked.standin
    names = [n for n, s in SYSTEMS.items() if not (asked.standin and s.slow_compile)]
    made = {n: WorkerProcess(SYSTEMS[n], "perf.gpu_worker", *words) for n in names}

    def why(name: str) -> str | None:
        try:
            answer = made[name].ask(90.0, do="missing")
        except Gone as e:
            return str(e)
        return answer.get("why") or answer.get("failed")

    with ThreadPoolExecutor(len(made)) as pool:
        reasons = dict(zip(made, pool.map(why, made), strict=True))
    for name, reason in reasons.items():
        if reason is not None:
            clock.say(f"{name}: left out, {reason}")
            made.pop(name).close()
    return made


def ask(worker: WorkerProcess, limit: float, **request: Any) -> dict[str, Any]:
    """An answer; what went wrong stands in it as "note"."""
    try:
        answer = worker.ask(max(limit, 1.0), **request)
    except Gone as e:
        return {"note": str(e)}
    return {"note": _plain(answer["failed"])} if "failed" in answer else answer


def run_program(row: Program, workers: Workers, asked: Asked, clock: Clock, folder: str) -> Cells:
    """Prepared side by side, since compiling is most of it; timed one after the other."""
    path = str(Path(folder) / "reference.npz")
    source = next((n for n in REFERENCES if n in workers), None)
    if source is None:
        return {"all": {"note": "nobody can give float64 results"}}
    answer = ask(workers[source], min(60, clock.left), do="reference", row=row.name, path=path)
    if "note" in answer:
        return {source: {"note": f"reference: {answer['note']}"}}

    def prepare(name: str) -> dict[str, Any]:
        limit = min(PREPARE_SECONDS, clock.left - 10)
        return ask(workers[name], limit, do="prepare", row=row.name, path=path)

    with ThreadPoolExecutor(len(workers)) as pool:
        cells = dict(zip(workers, pool.map(prepare, workers), strict=True))
    crowded = [n for n, c in cells.items() if "emory" in c.get("note", "")]
    for name, cell in cells.items():
        cells[name] = _timed(workers[name], cell, row, asked, clock)
    for name in crowded:  # once more, alone on the device
        cells[name] = _timed(workers[name], prepare(name), row, asked, clock)
    return cells


def _timed(worker: WorkerProcess, cell: dict[str, Any], row: Program, asked: Asked, clock: Clock) -> dict[str, Any]:
    if "note" not in cell and not cell["error"] <= row.tolerance:
        cell = {"note": f"wrong by {cell['error']:.1e}, allowed {row.tolerance:.0e}"}
    if "note" not in cell:
        seconds = 0.05 if asked.standin else 0.2 if asked.quick else 0.6
        answer = ask(worker, min(30, clock.left), do="time", seconds=seconds)
        cell = answer if "note" in answer else {**cell, **answer}
    ask(worker, 20, do="drop")
    return cell


def run_programs(rows: list[Program], asked: Asked, clock: Clock) -> dict[str, Any]:
    """Cells and verdicts by row, and the copy bandwidth in GB/s."""
    found: dict[str, Any] = {"copy": None, "card": None, "cells": {}, "judged": {}}
    workers = workers_for(asked, clock)
    try:
        if "autojit" in workers:
            answer = ask(workers["autojit"], 30, do="copy")
            found["copy"], found["card"] = answer.get("gb_s"), answer.get("card")
            clock.say(f"copy on the device: {answer}")
        with tempfile.TemporaryDirectory() as folder:
            for row in rows:
                if clock.left < 25:
                    found["cells"][row.name] = {"all": {"note": "no time left"}}
                    continue
                cells = run_program(row, workers, asked, clock, folder)
                found["cells"][row.name] = cells
                found["judged"][row.name] = judged(row, cells, found["copy"]) if not asked.standin else NOT_JUDGED
                clock.say(f"{row.name}: " + ", ".join(f"{n} {_cell(c)}" for n, c in cells.items()))
    finally:
        for worker in workers.values():
            worker.close()
    return found


def _cell(cell: dict[str, Any]) -> str:
    return f"{cell['us']:.4g}" if "us" in cell else f"({cell['note'][:80]})"


# ------------------------------------------------------------------------------------ the table
def markdown(record: dict[str, Any]) -> str:
    lines = [f"# On a GPU: {record['card']}", "", f"- `python -m perf.gpu`, {record['time']}, {record['wall_s']:.0f} s in all"]
    lines += [f"- {note}" for note in record["notes"]]
    for name, rows in record["parts"].items():
        lines += ["", f"## {name}", "", "| what | found | target | |", "|---|---|---|---|"]
        lines += [f"| {what} | {_bare(found)} | {target} | {verdict(good)} |" for what, found, target, good in rows]
    programs = record.get("programs")
    if programs:
        lines += ["", "## programs, value and gradients", ""] + _programs(programs)
    return "\n".join(lines) + "\n"


def _bare(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _programs(found: dict[str, Any]) -> list[str]:
    copy = found["copy"]
    head = [f"copy on the device: {copy:.0f} GB/s, both ways counted" if copy else "copy on the device: not measured", ""]
    systems = list(dict.fromkeys(n for cells in found["cells"].values() for n in cells))
    head += ["| program | " + " | ".join(f"{n}, us" for n in systems) + " | of copy | best other by ours | |"]
    head += ["|---" * (len(systems) + 4) + "|"]
    for name, cells in found["cells"].items():
        verdicts = found["judged"].get(name, NOT_JUDGED)
        share = f"{verdicts['share']:.0%}" if "share" in verdicts else ""
        ratios = "; ".join(_ratio(peer, r) for peer, r in verdicts["ratios"].items())
        times = " | ".join(_bare(_cell(cells[n])) if n in cells else "" for n in systems)
        head.append(f"| {name} | {times} | {share} | {ratios} | {verdict(verdicts['pass'])} |")
    return head


def _ratio(peer: str, r: dict[str, Any]) -> str:
    asked = f" (target {r['target']:g})" if r["target"] is not None else ""
    return f"{peer} {r['ratio']:.2f}{asked}"


def card_of(parts: dict[str, list[Row]], programs: dict[str, Any] | None) -> str:
    names = [found for what, found, *_ in parts.get("device", []) if what == "name"]
    names += [programs["card"]] if programs and programs["card"] else []
    return names[0] if names else "unknown"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m perf.gpu", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="parts or rows, with commas between")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--standin", action="store_true", help="tiny sizes on the stand-in driver")
    parser.add_argument("--seconds", type=float, default=TOTAL_SECONDS, help=f"budget in all ({TOTAL_SECONDS:.0f})")
    parser.add_argument("--no-record", action="store_true", help="write no file")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--shard", default="0/1", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    asked = Asked(arguments.standin, arguments.quick, arguments.shard)
    if arguments.part:
        tell(arguments.part, asked)
        return 0
    known = [*PARTS, *[row.name for row in ROWS]]
    only = [name.strip() for name in arguments.only.split(";" if ";" in arguments.only else ",")] if arguments.only else known
    wrong = [name for name in only if name not in known]
    if wrong:
        parser.error(f"no {', '.join(wrong)}; there are {'; '.join(known)} (separate by ';' where a name has a comma)")
    record = measure(only, asked, Clock(arguments.seconds))
    text = markdown(record)
    if not (arguments.no_record or asked.standin):
        name = "gpu-" + re.sub(r"[^a-z0-9]+", "-", record["card"].lower()).strip("-")
        (history.RESULTS / f"{name}.md").write_text(text)
        (history.RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print("\n" + text, flush=True)
    return int(any(good is False for rows in record["parts"].values() for *_, good in rows))


def measure(only: list[str], asked: Asked, clock: Clock) -> dict[str, Any]:
    """All parts and rows that are asked for, as one record."""
    parts = {name: run_part(name, asked, clock) for name in PARTS if name in only}
    chosen = [row for row in ROWS if row.name in only and (not asked.quick or row.name in QUICK)]
    programs = run_programs(chosen, asked, clock) if chosen else None
    notes = ["tiny sizes on the stand-in driver: no time here means anything"] if asked.standin else []
    return {
        "card": card_of(parts, programs),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_s": round(clock.spent, 1),
        "quick": asked.quick,
        "standin": asked.standin,
        "notes": notes,
        "parts": parts,
        "programs": programs,
    }


assert not set(HIDDEN) & set(PARTS)

if __name__ == "__main__":
    sys.exit(main())
