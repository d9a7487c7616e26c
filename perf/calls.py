"""What a call costs beside its kernel: traced, bound, one eager operation, and the import.

`python -m perf.calls` measures a tiny function (Σ x² of eight numbers, value and gradient) three
ways: its native code in a native loop, bound, and traced; then what recording one eager operation
takes, and what `import autojit` takes above `import numpy`, whole processes in turn. Times are the
least of many repetitions. Results go to `results/calls.md`.
"""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Callable
from itertools import repeat
from time import perf_counter
from typing import Any

from perf import coldstart
from perf.notes import note, verdict

TRACED_MORE_US, BOUND_MORE_US, RECORDED_US = 2.5, 0.1, 2.0
REPETITIONS, GROUP = 200, 2000
OPERATIONS = 40  # recorded in a row, half products and half sines


def least(call: Callable[[], object], group: int = GROUP) -> float:
    """Microseconds a call: the least mean of a group, the empty loop taken off."""
    return max(0.0, _least(call, group) - _least(_nothing, group))


def _nothing() -> None:
    return None


def _least(call: Callable[[], object], group: int) -> float:
    best = float("inf")
    for _ in range(REPETITIONS):
        start = perf_counter()
        for _ in repeat(None, group):
            call()
        best = min(best, perf_counter() - start)
    return best / group * 1e6


def native(address: int) -> float:
    """Microseconds of one run of the C function at `address`, called in a native loop."""
    import numba

    function = ctypes.CFUNCTYPE(ctypes.c_int64)(address)

    @numba.njit
    def loop(n: int) -> int:
        status = 0
        for _ in range(n):
            status |= function()
        return status

    assert loop(10) == 0
    best = float("inf")
    for _ in range(REPETITIONS):
        start = perf_counter()
        loop(GROUP)
        best = min(best, perf_counter() - start)
    return best / GROUP * 1e6


def measure() -> dict[str, float]:
    """Microseconds of each way of calling, by name."""
    import numpy as np

    import autojit as aj

    aj.config.tier = "compile"

    @aj.trace
    def square(x: Any) -> Any:
        return (x * x).sum()

    joint = aj.value_and_grad(square)
    x = aj.from_numpy(np.arange(8, dtype=np.float32))
    for _ in range(100):
        joint(x)
    found = {"traced": least(lambda: joint(x))}
    bound = joint.bind(x)
    bound.run()
    assert float(bound.value.numpy()) == 140.0
    found |= {
        "kernel": native(bound.address),
        "bound.run()": least(bound.run),
        "bound()": least(bound),
    }
    found["recorded operation"] = recorded(
        aj.from_numpy(np.arange(8, dtype=np.float32)).requires_grad_()
    )
    return found


def recorded(leaf: Any) -> float:
    """Microseconds of recording one operation, in a program that runs again and again."""
    best = float("inf")
    for _ in range(REPETITIONS):
        start = perf_counter()
        y = leaf
        for _ in range(OPERATIONS // 2):
            y = (y * leaf).sin()
        best = min(best, perf_counter() - start)
        y.sum().backward()
        leaf.grad = None
    return best / OPERATIONS * 1e6


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.calls", description=__doc__)
    parser.add_argument("--runs", type=int, default=9, help="starts of each process")
    parser.add_argument("--no-record", action="store_true", help="write no file")
    options = parser.parse_args(words)
    found = measure()
    starts = coldstart.measure(coldstart.CASES[:2], options.runs)
    bare, ours = (starts[case.name] for case in coldstart.CASES[:2])
    kernel = found["kernel"]
    more = {name: us - kernel for name, us in found.items()}
    limit = f"kernel + {BOUND_MORE_US:g}"
    rows = [["the kernel itself", f"{kernel:.3f} us", "", "", ""]]
    for name in ("bound.run()", "bound()"):
        rows.append(
            [
                name,
                f"{found[name]:.3f} us",
                f"{more[name]:.3f} us",
                limit,
                verdict(more[name] <= BOUND_MORE_US),
            ]
        )
    rows.append(
        [
            "traced call, value and gradient",
            f"{found['traced']:.3f} us",
            f"{more['traced']:.3f} us",
            f"kernel + {TRACED_MORE_US:g}",
            verdict(more["traced"] <= TRACED_MORE_US),
        ]
    )
    one = found["recorded operation"]
    rows.append(
        [
            "eager operation, recorded",
            f"{one:.3f} us",
            "",
            f"{RECORDED_US:g} us",
            verdict(one <= RECORDED_US),
        ]
    )
    above = ours["s"] - bare["s"]
    rows.append(
        [
            "import autojit",
            f"{ours['s'] * 1e3:.0f} ms",
            f"{above * 1e3:.0f} ms above numpy",
            f"{coldstart.IMPORT_TARGET_SECONDS * 1e3:.0f} ms above numpy",
            verdict(above <= coldstart.IMPORT_TARGET_SECONDS),
        ]
    )
    raw = {"us": found, "import_s": {"numpy": bare["s"], "autojit": ours["s"]}}
    note(
        "calls",
        "What a call costs",
        ["what", "time", "above", "target", ""],
        rows,
        raw,
        write=not options.no_record,
    )


if __name__ == "__main__":
    main()
