"""From the times of a row to its ratios. In: a row's cells. Out: plain dictionaries. No clock here.

A cell of a rival that did not run gets its published share of torch eager's time; a ratio is the
fastest other's time by ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, log
from typing import Any

from perf.measure import quartiles
from perf.published import share_of_torch
from perf.systems import OURS, SYSTEMS
from perf.workloads import Workload

CONTENDER = 3.0  # a peer slower than the best by more than this is not run again at other sizes
Cell = dict[str, Any]


def stand_in(workload: Workload, cells: dict[str, Cell], systems: Iterable[str]) -> None:
    """Enter the published figures of those systems that have no time of their own in this row."""
    torch = cells.get("torch", {})
    if workload.part != "base" or "us" not in torch:
        return
    for name in systems:
        share = share_of_torch(workload.base, name)
        if share is None or "us" in cells.get(name, {}):
            continue
        rounds = [us * share for us in torch["rounds"]]
        low, middle, high = quartiles(rounds)
        cells[name] = {
            **cells.get(name, {}),
            "published": True,
            "rounds": rounds,
            "disturbed": torch.get("disturbed", 0),
            **{"us": middle, "low": low, "high": high},
        }


def rivals(workload: Workload, ours: str) -> list[str]:
    """Whom a system of ours is compared with.

    Eager with eager. Where a program has a target for each way of calling, an ordinary call is
    not measured against bound ones.
    """
    if ours == "autojit-eager":
        return ["torch"]
    ordinary = ours == "autojit" and "autojit-bound" in workload.targets
    others = (s for s in SYSTEMS.values() if s.role != "ours")
    return [s.name for s in others if not (ordinary and s.bound)]


def ratios(workload: Workload, cells: dict[str, Cell]) -> dict[str, dict[str, Any]]:
    """For each system of ours that was timed: the best rival's time by ours.

    The quartiles are those of the rounds' own ratios, in which both were measured close in time.
    Disturbed times neither pass nor miss.
    """
    result: dict[str, dict[str, Any]] = {}
    for name in OURS:
        ours = cells.get(name, {})
        rival = fastest(cells, rivals(workload, name))
        if "us" not in ours or rival is None:
            continue
        theirs = cells[rival]
        pairs = zip(theirs["rounds"], ours["rounds"], strict=False)
        low, _, high = quartiles([their / our for their, our in pairs])
        entry = {
            "ratio": theirs["us"] / ours["us"],
            "low": low,
            "high": high,
            "rival": rival,
            "published": bool(theirs.get("published")),
            "target": required(workload, name),
            "disturbed": bool(ours.get("disturbed") or theirs.get("disturbed")),
        }
        if entry["target"] is not None and not entry["disturbed"]:
            entry["pass"] = entry["ratio"] >= entry["target"]
        result[name] = entry
    return result


def required(workload: Workload, ours: str) -> float | None:
    """The least ratio: at other sizes 0.8 of what the program's own size requires."""
    target = workload.targets.get(ours)
    if target is None or workload.part != "sizes":
        return target
    return 0.8 * target


def contenders(workload: Workload, cells: dict[str, Cell]) -> set[str]:
    """Peers worth running at another size: near the best of those that one of our ways is compared with, and torch."""
    near = {"torch"}
    for ours in ("autojit", "autojit-bound"):
        times = {n: cells[n]["us"] for n in rivals(workload, ours) if "us" in cells.get(n, {})}
        best = min(times.values(), default=0.0)
        near |= {n for n, us in times.items() if us <= CONTENDER * best}
    # who had no time here, because compiling took too long, takes no less at another size
    return near


def fastest(cells: dict[str, Cell], names: Iterable[str]) -> str | None:
    timed = [name for name in names if "us" in cells.get(name, {})]
    return min(timed, key=lambda name: cells[name]["us"], default=None)


def geometric(values: list[float]) -> float:
    return exp(sum(map(log, values)) / len(values))
