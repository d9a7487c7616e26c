"""`python -m perf`: run the benchmarks, print the table, keep the record."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from typing import Any

from perf import history, machine, plot
from perf.harness import Plan, run
from perf.notes import TABLE, with_lines
from perf.report import markdown, missed, summary
from perf.systems import OURS, SYSTEMS
from perf.workloads import PARTS, WORKLOADS, rows


def names(known: dict[str, Any]) -> Any:
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        wrong = [name for name in chosen if name not in known]
        if wrong:
            raise argparse.ArgumentTypeError(f"no {', '.join(wrong)}; there are {', '.join(known)}")
        return chosen

    return parse


def parts_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Which rows: the programs themselves unless the words ask for others."""
    if arguments.all:
        return PARTS
    asked = ["sizes"] * arguments.sizes + ["float64"] * (arguments.dtype == "float64")
    return tuple(asked) or ("base",)


def plan_of(arguments: argparse.Namespace) -> Plan:
    quick = arguments.quick
    systems = arguments.systems
    if systems is None:
        systems = [n for n, s in SYSTEMS.items() if not (quick and s.slow_compile)]
    parts = parts_of(arguments)
    seconds, rounds = (0.05, 3) if quick else (0.4, 5) if parts == ("sizes",) else (0.8, 8)
    words = ["quick" if quick else "full", *([] if arguments.systems is None else ["some systems"])]
    return Plan(
        rows=rows(arguments.only or list(WORKLOADS), parts),
        systems=systems,
        known=history.known(history.records(), {"machine": machine.fingerprint()}),
        cell_seconds=arguments.seconds or seconds,
        rounds=rounds,
        compile_limit=arguments.compile_limit,
        patience=arguments.patience if arguments.patience is not None else 10 if quick else 120,
        mode=", ".join([*words, "+".join(parts)]),
    )


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    parser.add_argument("--only", type=names(WORKLOADS), help="workloads, with commas between")
    parser.add_argument("--systems", type=names(SYSTEMS), help="systems, with commas between")
    parser.add_argument("--sizes", action="store_true", help="rows at other sizes")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--all", action="store_true", help="all rows: own sizes, float64, others")
    parser.add_argument("--quick", action="store_true", help="0.05 s a cell, no torch.compile")
    parser.add_argument("--seconds", type=float, help="timing budget of a cell (0.8; sizes 0.4)")
    parser.add_argument("--compile-limit", type=float, default=120.0, help="seconds (120)")
    parser.add_argument("--patience", type=float, help="seconds to wait, in all, for a quiet machine (120)")
    parser.add_argument("--no-record", action="store_true", help="write no file")
    parser.add_argument("--merge", action="store_true", help="measure nothing, write latest.md")
    arguments = parser.parse_args(words)
    if arguments.merge:
        return write_latest()
    plan = plan_of(arguments)
    record = run(plan, say=lambda text: print(text, flush=True))
    record["complete"] = arguments.systems is None and arguments.seconds is None and not arguments.quick
    print("\n" + markdown(record))
    print("missed: " + (", ".join(missed(record)) or "none"))
    if not arguments.no_record:
        history.append(record)
        if record["complete"]:
            write_latest()
    return int(any_wrong(record))


def write_latest() -> int:
    """Tables and picture of the newest rows: `results/latest.md`, `results/ratios.png`, README.md."""
    record = history.merged(history.records())
    (history.RESULTS / "latest.md").write_text(markdown(record))
    readme = history.RESULTS.parent / "README.md"
    readme.write_text(with_lines(readme.read_text(), TABLE, summary(record)))
    if find_spec("matplotlib") is not None:
        plot.draw(record, str(history.RESULTS / "ratios.png"))
    return 0


def any_wrong(record: dict[str, Any]) -> bool:
    """Whether a system of ours gave a wrong value or failed."""
    return any("note" in row.get(name, {}) for row in record["cells"].values() for name in OURS)


if __name__ == "__main__":
    sys.exit(main())
