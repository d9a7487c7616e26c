"""The table of one run or of merged ones, as markdown. In: a record. Out: text. Measures nothing."""

from __future__ import annotations

from typing import Any

from perf.ratios import geometric
from perf.systems import OURS, SYSTEMS
from perf.workloads import PARTS, WORKLOADS, Workload, find

MEAN_TARGETS = {"autojit": 2.0, "autojit-eager": 4.0}
TITLES = {
    "base": "the programs at their own sizes, float32",
    "float64": "float64",
    "sizes": "a third and three times the size",
}
Record = dict[str, Any]
VERDICTS = {True: "pass", False: "**miss**", None: ""}


def summary(record: Record) -> list[str]:
    """Machine, ratios by part, then eager."""
    parts = [*_machine(record)]
    for part in PARTS:
        lines = _ratio_table(record, part)
        if lines:
            parts += ["", f"## Best other by ours: {TITLES[part]}", "", *lines]
    eager = _eager_table(record)
    if eager:
        parts += ["", "## Eager, no decorator: torch eager by ours", "", *eager]
    return parts


def markdown(record: Record) -> str:
    """The summary, then the times themselves, and what did not run."""
    parts = ["# Benchmarks", "", *summary(record)]
    parts += ["", "## Microseconds a call, median of rounds (quartiles)", "", *_time_table(record)]
    parts += ["", "## First call in seconds, compiling included", "", *_first_table(record)]
    notes = _notes(record)
    if notes:
        parts += ["", "## Not run", "", *notes]
    return "\n".join(parts) + "\n"


def _machine(record: Record) -> list[str]:
    m = record["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    lines = [
        f"- {m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, {m['system']}",
        f"- Python {m['python']}, {versions}",
    ]
    for run in record.get("runs", [{**record, "commit": m["commit"], "rows": len(record["cells"])}]):
        before, after = run["load_before"], run["load_after"]
        lines.append(
            f"- {run['time']}, commit {run['commit']}: {run['rows']} rows in "
            f"{run['wall_s'] / 60:.1f} min, mode {run['mode']}, {run['cell_seconds']} s a cell in "
            f"{run['rounds']} rounds; cores that others used: {before['busy']} before, "
            f"{after['busy']} after"
        )
    lines.append(
        "- † was disturbed by others: it proves nothing, and neither passes nor misses. "
        "~ did not run here: its published share of torch eager's time"
    )
    if m["environment"]:
        lines.append(f"- environment: {m['environment']}")
    return lines + [f"- {name} skipped: {why}" for name, why in record["absent"].items()]


def _ratio_table(record: Record, part: str) -> list[str]:
    kept = part == "sizes"
    head = ["row", "our mode", "ratio", "rounds' quartiles", "best other", "target", ""]
    head += ["kept of its own size's"] if kept else []
    lines, modes = [], []
    for row, entries in record["ratios"].items():
        workload = find(row)
        for mode in ("autojit", "autojit-bound"):
            if workload.part != part or mode not in workload.targets or mode not in entries:
                continue
            entry = entries[mode]
            words = [row, mode.partition("-")[2] or "traced", *_ratio_words(entry)]
            own = record["ratios"].get(workload.base, {}).get(mode)
            if kept:
                words.append(f"{entry['ratio'] / own['ratio']:.2f}" if own else "")
            lines.append(words)
            if mode == workload.mode:
                modes.append(entry["ratio"])
    if not lines:
        return []
    mean = geometric(modes)
    whole = part == "base" and len(modes) == len(WORKLOADS)
    target = MEAN_TARGETS["autojit"] if whole else None
    verdict = VERDICTS[None if target is None else mean >= target]
    tail = ["" if target is None else f"{target:g}", verdict] + [""] * kept
    return _grid([head, *lines, ["geometric mean", "", f"{mean:.2f}", "", "", *tail]])


def _eager_table(record: Record) -> list[str]:
    lines, values = [], []
    for row, entries in record["ratios"].items():
        if "autojit-eager" in entries:
            lines.append([row, *_ratio_words(entries["autojit-eager"])])
            if find(row).part == "base":
                values.append(entries["autojit-eager"]["ratio"])
    if not values:
        return []
    mean, target = geometric(values), MEAN_TARGETS["autojit-eager"]
    verdict = VERDICTS[mean >= target if len(values) == len(WORKLOADS) else None]
    head = ["row", "ratio", "rounds' quartiles", "other", "target", ""]
    label = "geometric mean of the programs' own sizes"
    return _grid([head, *lines, [label, f"{mean:.2f}", "", "", f"{target:g}", verdict]])


def _ratio_words(entry: dict[str, Any]) -> list[str]:
    return [
        f"{entry['ratio']:.2f}" + "†" * entry["disturbed"],
        f"{entry['low']:.2f}-{entry['high']:.2f}",
        entry["rival"] + "~" * entry["published"],
        "" if entry["target"] is None else f"{entry['target']:g}",
        VERDICTS[entry.get("pass")],
    ]


def _grid(rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]


def _columns(record: Record) -> list[str]:
    used = {name for row in record["cells"].values() for name in row}
    return [name for name in SYSTEMS if name in used]


def _time_table(record: Record) -> list[str]:
    columns = _columns(record)
    rows = [["row", *columns]]
    for name, cells in record["cells"].items():
        workload: Workload = find(name)
        label = f"{name}: {workload.title}" if workload.part == "base" else name
        rows.append([label, *(_time(cells.get(column)) for column in columns)])
    return _grid(rows)


def _time(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return ""
    if "us" not in cell:
        return "**wrong**" if cell.get("wrong") else "not run"
    mark = "†" * bool(cell.get("disturbed")) + "~" * bool(cell.get("published"))
    return f"{_short(cell['us'])}{mark} ({_short(cell['low'])}-{_short(cell['high'])})"


def _short(us: float) -> str:
    return f"{us:.0f}" if us >= 100 else f"{us:.3g}"


def _first_table(record: Record) -> list[str]:
    columns = [c for c in _columns(record) if any("first_s" in r.get(c, {}) for r in record["cells"].values())]
    rows = [["row", *columns]]
    for name, cells in record["cells"].items():
        seconds = [cells.get(column, {}).get("first_s") for column in columns]
        rows.append([name, *("" if s is None else f"{s:.3f}" if s < 1 else f"{s:.1f}" for s in seconds)])
    return _grid(rows)


def _notes(record: Record) -> list[str]:
    return [
        f"- {row}, {name}: {cell['note']}"
        for row, cells in record["cells"].items()
        for name, cell in cells.items()
        if "note" in cell
    ]


def missed(record: Record) -> list[str]:
    """The rows that have a verdict and did not reach their target, as `row (system)`."""
    return [
        f"{row} ({mode})"
        for row, entries in record["ratios"].items()
        for mode, entry in entries.items()
        if mode in OURS and entry.get("pass") is False
    ]
