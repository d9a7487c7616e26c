"""`python -m perf`: run the benchmarks, print the table, keep the record."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from perf.harness import Plan, run
from perf.peers import SYSTEMS
from perf.report import markdown
from perf.workloads import WORKLOADS

RESULTS = Path(__file__).resolve().parent / "results"


def names(known: dict[str, Any]) -> Any:
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        wrong = [name for name in chosen if name not in known]
        if wrong:
            raise argparse.ArgumentTypeError(f"no {', '.join(wrong)}; there are {', '.join(known)}")
        return chosen

    return parse


def plan_of(arguments: argparse.Namespace) -> Plan:
    quick = arguments.quick
    systems = arguments.systems
    if systems is None:
        systems = [n for n, s in SYSTEMS.items() if not (quick and s.slow_compile)]
    partial = arguments.only is not None or arguments.systems is not None
    return Plan(
        workloads=arguments.only or list(WORKLOADS),
        systems=systems,
        cell_seconds=arguments.seconds or (0.05 if quick else 0.8),
        rounds=3 if quick else 8,
        compile_limit=arguments.compile_limit,
        patience=arguments.patience if arguments.patience is not None else 10 if quick else 120,
        mode=("quick" if quick else "full") + (", partial" if partial else ""),
    )


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    parser.add_argument("--only", type=names(WORKLOADS), help="workloads, with commas between")
    parser.add_argument("--systems", type=names(SYSTEMS), help="systems, with commas between")
    parser.add_argument("--quick", action="store_true", help="0.05 s a cell, no torch.compile")
    parser.add_argument("--seconds", type=float, help="timing budget of a cell (0.8)")
    parser.add_argument("--compile-limit", type=float, default=120.0, help="seconds (120)")
    parser.add_argument(
        "--patience", type=float, help="seconds to wait, in all, for a quiet machine (120)"
    )
    parser.add_argument("--no-record", action="store_true", help="write no file")
    plan = plan_of(parser.parse_args(words))
    record = run(plan, say=lambda text: print(text, flush=True))
    text = markdown(record)
    print("\n" + text)
    if not parser.parse_args(words).no_record:
        RESULTS.mkdir(exist_ok=True)
        with open(RESULTS / "history.jsonl", "a") as history:
            history.write(json.dumps(record, separators=(",", ":")) + "\n")
        if plan.mode == "full":
            (RESULTS / "latest.md").write_text(text)
    return int(any_wrong(record))


def any_wrong(record: dict[str, Any]) -> bool:
    """Whether a system of ours gave a wrong value or failed."""
    ours = [name for name, system in SYSTEMS.items() if system.role == "ours"]
    return any("note" in row.get(name, {}) for row in record["cells"].values() for name in ours)


if __name__ == "__main__":
    sys.exit(main())
