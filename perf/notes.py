"""The small measurements' results: printed, kept as `results/NAME.md` and as a line of the history."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from perf import history, machine

TABLE = "table: written by python -m perf --merge"        # places in perf/README.md
MATHEMATICS = "mathematics: written by python -m perf.vecmath"


def marks(what: str) -> tuple[str, str]:
    """The comments between which a page holds lines that a command writes; `what`: "name: how it is made"."""
    return f"<!-- {what} -->", f"<!-- end of {what.split(':')[0]} -->"


def with_lines(page: str, what: str, lines: list[str]) -> str:
    """The page with these lines between its marks.  Raises ValueError where a mark is missing."""
    first, last = marks(what)
    before, rest = page.split(first)
    _, after = rest.split(last)
    return "\n".join([before + first, "", *lines, "", last + after])


def verdict(good: bool | None) -> str:
    return {True: "pass", False: "**miss**", None: ""}[good]


def note(
    name: str,
    title: str,
    head: list[str],
    rows: list[list[str]],
    raw: Any,
    *,
    write: bool = True,
    remarks: tuple[str, ...] = (),
) -> str:
    """Print a table with where and when it was made; if `write`, keep it and the raw figures."""
    m, load = machine.fingerprint(), machine.load()
    when = datetime.now(UTC).isoformat(timespec="seconds")
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    lines = [f"# {title}", "", f"- `python -m perf.{name}`, {when}, commit {m['commit']}"]
    lines += [
        f"- {m['cpu']}, {m['cores']} cores, {load['busy']} of them used by others afterwards",
        f"- {versions}",
    ]
    lines += [f"- {remark}" for remark in remarks]
    lines += ["", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    text = "\n".join(lines) + "\n"
    print(text)
    if write:
        (history.RESULTS / f"{name}.md").write_text(text)
        history.append({"what": name, "time": when, "machine": m, "load": load, "rows": raw})
    return text
