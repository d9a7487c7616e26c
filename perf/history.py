"""The record of runs: `results/history.jsonl`, one run a line, and what is newest for each row.

In: records of `harness.run`. Out: the same, merged. Never measures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
HISTORY = RESULTS / "history.jsonl"
Record = dict[str, Any]


def append(record: Record, path: Path = HISTORY) -> None:
    path.parent.mkdir(exist_ok=True)
    with open(path, "a") as history:
        history.write(json.dumps(record, separators=(",", ":")) + "\n")


def records(path: Path = HISTORY) -> list[Record]:
    """All runs of the table that were written down, oldest first."""
    if not path.exists():
        return []
    found = [json.loads(line) for line in path.read_text().splitlines() if line]
    return [r for r in found if "cells" in r and "seconds" in r]


def place(record: Record) -> tuple[Any, ...]:
    """What must be equal for two runs to be laid side by side: the machine."""
    m = record["machine"]
    return m["cpu"], m["cores"]


def merged(history: Iterable[Record]) -> Record:
    """One record of all rows, each from the newest complete run on the newest run's machine.

    A complete run had all systems and their full time; which rows it had does not matter, so a
    long table can be made in parts. Raises ValueError where there is no such run.
    """
    complete = [r for r in history if r.get("complete")]
    if not complete:
        raise ValueError("no complete run is written down yet")
    here = [r for r in complete if place(r) == place(complete[-1])]
    table: Record = {**here[-1], "cells": {}, "ratios": {}, "seconds": {}, "runs": [], "absent": {}}
    for record in here:
        for part in ("cells", "ratios", "seconds"):
            table[part].update(record[part])
    newest = {row: record for record in here for row in record["cells"]}
    for record in here:
        rows = [row for row, owner in newest.items() if owner is record]
        if rows:
            table["runs"].append({**_summary(record), "rows": len(rows)})
            table["absent"].update(record["absent"])
    return table


def known(history: Iterable[Record], like: Record) -> dict[str, dict[str, Any]]:
    """Row → its newest cells, seconds and versions, of complete runs on this machine."""
    found: dict[str, dict[str, Any]] = {}
    for record in history:
        if record.get("complete") and place(record) == place(like):
            for row, cells in record["cells"].items():
                found[row] = {
                    "cells": cells,
                    "seconds": record["seconds"][row],
                    "versions": record["machine"]["versions"],
                }
    return found


def _summary(record: Record) -> Record:
    keys = ("time", "mode", "wall_s", "cell_seconds", "rounds", "load_before", "load_after")
    return {**{k: record[k] for k in keys}, "commit": record["machine"]["commit"]}
