"""The table of a run, as markdown. In: a record of `harness.run`. Out: text. Measures nothing."""

from __future__ import annotations

from math import exp, log
from typing import Any

from perf.peers import SYSTEMS
from perf.workloads import WORKLOADS

OURS = [name for name, system in SYSTEMS.items() if system.role == "ours"]


def markdown(record: dict[str, Any]) -> str:
    """Machine, ratios of each system of ours, then the times themselves."""
    parts = ["# Benchmarks", "", *_machine(record)]
    for name in OURS:
        rows = {w: r[name] for w, r in record["ratios"].items() if name in r}
        if rows:
            parts += ["", f"## {name}: the other's time by ours", "", *_ratio_table(rows)]
    parts += ["", "## Microseconds a call, median of rounds (quartiles)", "", *_time_table(record)]
    parts += ["", "## First call in seconds, compiling included", "", *_first_table(record)]
    notes = _notes(record)
    if notes:
        parts += ["", "## Not run", "", *notes]
    return "\n".join(parts) + "\n"


def _machine(record: dict[str, Any]) -> list[str]:
    m = record["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    before, after = record["load_before"], record["load_after"]
    lines = [
        f"- {record['time']}, commit {m['commit']}, {record['wall_s']:.0f} s, mode "
        f"{record['mode']}: {record['cell_seconds']} s a cell in {record['rounds']} rounds",
        f"- {m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, {m['system']}",
        f"- Python {m['python']}, {versions}",
        f"- load average {before['average']} before, {after['average']} after; cores that others "
        f"used: {before['busy']} before, {after['busy']} after; † marks what others disturbed: it "
        "proves nothing, and neither passes nor misses",
    ]
    if m["environment"]:
        lines.append(f"- environment: {m['environment']}")
    return lines + [f"- {name} skipped: {why}" for name, why in record["absent"].items()]


def _ratio_table(rows: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        "| workload | ratio | rounds' quartiles | best peer | target | | of all | best of all |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        if "ratio" not in row:
            continue
        target = "" if row["target"] is None else f"{row['target']:g}"
        verdict = {True: "pass", False: "**miss**", None: ""}[row.get("pass")]
        mark = "†" if row["disturbed"] else ""
        lines.append(
            f"| {name} | {row['ratio']:.2f}{mark} | {row['low']:.2f}-{row['high']:.2f} "
            f"| {row['rival']} | {target} | {verdict} "
            f"| {row['ratio_of_all']:.2f} | {row['best_of_all']} |"
        )
    compared = [row for row in rows.values() if "ratio" in row]
    if compared:
        mean = _geometric([row["ratio"] for row in compared])
        of_all = _geometric([row["ratio_of_all"] for row in compared])
        lines.append(f"| geometric mean | {mean:.2f} | | | | | {of_all:.2f} | |")
    return lines


def _geometric(values: list[float]) -> float:
    return exp(sum(map(log, values)) / len(values))


def _columns(record: dict[str, Any]) -> list[str]:
    used = {name for row in record["cells"].values() for name in row}
    return [name for name in SYSTEMS if name in used]


def _time_table(record: dict[str, Any]) -> list[str]:
    columns = _columns(record)
    lines = ["| workload | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in record["cells"].items():
        texts = [_time(row.get(column)) for column in columns]
        lines.append(f"| {name}: {WORKLOADS[name].title} | " + " | ".join(texts) + " |")
    return lines


def _time(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return ""
    if "us" not in cell:
        return "**wrong**" if cell.get("wrong") else "not run"
    mark = "†" if cell.get("disturbed") else ""
    return f"{_short(cell['us'])}{mark} ({_short(cell['low'])}-{_short(cell['high'])})"


def _short(us: float) -> str:
    return f"{us:.0f}" if us >= 100 else f"{us:.3g}"


def _first_table(record: dict[str, Any]) -> list[str]:
    columns = _columns(record)
    lines = ["| workload | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in record["cells"].items():
        seconds = [row.get(column, {}).get("first_s") for column in columns]
        texts = ["" if s is None else f"{s:.3f}" if s < 1 else f"{s:.1f}" for s in seconds]
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return lines


def _notes(record: dict[str, Any]) -> list[str]:
    return [
        f"- {workload}, {name}: {cell['note']}"
        for workload, row in record["cells"].items()
        for name, cell in row.items()
        if "note" in cell
    ]
