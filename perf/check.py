"""Did a run lose speed against an earlier one? Compares ratios, row by row, so machines' noise cancels.

`python -m perf.check` takes the last run written down and the newest earlier one on the same kind
of machine with the same mode; `python -m perf.check OLD NEW` takes two others, each a file of
records (its last line counts) or the beginning of a record's time or commit. Exit status 1 if a
row of ours lost more than its spread allows, 2 if there is nothing to compare. Measures nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from perf import history
from perf.measure import quartiles
from perf.ratios import rivals
from perf.systems import OURS
from perf.workloads import find

LEAST_LOSS = 0.05  # of the ratio: less is not told from noise even where the rounds agree
Record = dict[str, Any]


def compare(old: Record, new: Record) -> list[dict[str, Any]]:
    """One entry for each row and system of ours that both runs timed undisturbed.

    Both ratios are against the rival that was best in the old run, if the new one timed it: a
    peer's new release is not our loss.
    """
    found = []
    for row, before in old["ratios"].items():
        for mode in OURS:
            after = new["ratios"].get(row, {}).get(mode)
            if mode not in before or after is None:
                continue
            if before[mode]["disturbed"] or after["disturbed"]:
                continue
            a = against(old, row, mode, before[mode]["rival"])
            b = against(new, row, mode, before[mode]["rival"]) or after
            if a is not None:
                found.append({"row": row, "mode": mode, **judged(a, b)})
    return found


def against(record: Record, row: str, mode: str, rival: str) -> dict[str, float] | None:
    """The ratio of a row against this rival, with its rounds' quartiles."""
    ours, theirs = record["cells"][row][mode], record["cells"][row].get(rival, {})
    if "us" not in theirs or rival not in rivals(find(row), mode):
        return None
    pairs = zip(theirs["rounds"], ours["rounds"], strict=False)
    low, _, high = quartiles([their / our for their, our in pairs])
    return {"ratio": theirs["us"] / ours["us"], "low": low, "high": high}


def judged(old: dict[str, float], new: dict[str, float]) -> dict[str, Any]:
    """What was lost of the ratio, what its spread allows, and whether it is too much."""
    spread = sum((r["high"] - r["low"]) / r["ratio"] for r in (old, new)) / 2
    lost, allowed = 1 - new["ratio"] / old["ratio"], LEAST_LOSS + spread
    return {
        "old": old["ratio"],
        "new": new["ratio"],
        "lost": lost,
        "allowed": allowed,
        "worse": lost > allowed,
    }


def chosen(word: str, known: list[Record]) -> Record:
    """The record that a word on the command line means. Raises SystemExit if none does."""
    if Path(word).is_file():
        known = history.records(Path(word))
        word = ""
    for record in reversed(known):
        if record["time"].startswith(word) or str(record["machine"]["commit"]).startswith(word):
            return record
    raise SystemExit(f"no record begins with {word!r}")


def last_two(known: list[Record]) -> tuple[Record, Record] | None:
    for record in reversed(known[:-1]):
        same = history.place(record) == history.place(known[-1])
        if (
            same
            and record["mode"] == known[-1]["mode"]
            and record["ratios"].keys() & known[-1]["ratios"].keys()
        ):
            return record, known[-1]
    return None


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m perf.check", description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="OLD NEW")
    runs = parser.parse_args(words).runs
    known = history.records()
    if len(runs) == 2:
        two: tuple[Record, Record] | None = (chosen(runs[0], known), chosen(runs[1], known))
    elif runs:
        parser.error("two runs, or none")
    else:
        two = last_two(known)
    if two is None:
        print("no two runs of the same mode on the same machine are written down")
        return 2
    old, new = two
    if history.place(old) != history.place(new):
        print("note: not the same machine; ratios move with it")
    found = compare(old, new)
    print(
        f"{old['time']} ({old['machine']['commit']}) -> {new['time']} ({new['machine']['commit']})"
    )
    for e in sorted(found, key=lambda e: -e["lost"]):
        verdict = "WORSE" if e["worse"] else ""
        print(
            f"{e['row']:24s} {e['mode']:14s} {e['old']:8.2f} -> {e['new']:8.2f}  "
            f"{-100 * e['lost']:+6.1f} %, allowed -{100 * e['allowed']:.1f} %  {verdict}"
        )
    if not found:
        print("no row was timed undisturbed in both")
        return 2
    worse = [f"{e['row']} ({e['mode']})" for e in found if e["worse"]]
    print("lost: " + (", ".join(worse) or "nothing"))
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main())
