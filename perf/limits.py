"""What memory and arithmetic allow: the least bytes and operations of each program, against ours.

`python -m perf.limits` measures this machine (bandwidth of reading and of writing arrays that no
cache holds, a float32 matrix product, with as many threads as autojit uses) and lays the floor that
follows beside the newest time in the history. Bytes: every argument read once, every gradient
written once, and what a program must read again. Where that fits into the last cache the floor is
too high, and says so. Operations: matrix products only. Results go to `results/limits.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from perf import history, machine
from perf.measure import sample
from perf.notes import note
from perf.workloads import WORKLOADS, Workload

LARGE = 1 << 26  # floats: 256 MB
SQUARE = 1024

Sizes = dict[str, int]
# passes over the arguments beyond the first, and matrix products' multiplications and additions
PASSES: dict[str, Callable[[Sizes], float]] = {"power": lambda s: 2 * s["steps"] + 1}
OPERATIONS: dict[str, Callable[[Sizes], float]] = {
    "mlp": lambda s: 2 * s["batch"] * s["hidden"] * (2 * s["inputs"] + 3 * s["classes"]),
    "attn": lambda s: (
        2
        * s["batch"]
        * s["length"]
        * (
            3 * (4 * s["width"] ** 2 + 2 * s["width"] * s["inner"])
            + 6 * s["length"] * s["width"]
            - 3 * s["width"] ** 2
        )
    ),
    "rnn": lambda s: (
        2 * s["steps"] * s["batch"] * s["hidden"] * (3 * s["hidden"] + 2 * s["inputs"])
    ),
    "lstm": lambda s: (
        8 * s["steps"] * s["batch"] * s["hidden"] * (3 * s["hidden"] + 2 * s["inputs"])
    ),
    "cnn": lambda s: (
        18
        * s["batch"]
        * s["first"]
        * (2 * (s["side"] - 2) ** 2 + 3 * s["second"] * (s["side"] // 2 - 3) ** 2)
    ),
    "power": lambda s: 2 * (s["steps"] + 1) * s["n"] ** 2 * 3,
}


def rates() -> dict[str, float]:
    """GB/s of reading and of reading and writing, GFLOP/s of a float32 matrix product.

    By NumPy, in one thread a core: nobody's scheduler is asked.
    """
    x, y = np.ones(LARGE, np.float32), np.ones(LARGE, np.float32)
    a = np.ones((SQUARE, SQUARE), np.float32)
    product = np.empty_like(a)
    cores = machine.cores()
    parts = list(zip(np.split(x, cores), np.split(y, cores), strict=True))
    with ThreadPoolExecutor(cores) as pool:

        def seconds(call: Callable[[Any], Any]) -> float:
            return min(sample(lambda: list(pool.map(call, parts)), 1.0))

        read = 4 * LARGE / seconds(lambda part: part[0].max())
        both = 8 * LARGE / seconds(lambda part: np.add(part[0], 1, out=part[1]))
    square = 2 * SQUARE**3 / min(sample(lambda: np.matmul(a, a, out=product), 1.0))
    return {"read": read / 1e9, "read and write": both / 1e9, "product": square / 1e9}


def least_bytes(workload: Workload) -> float:
    """Arguments once (or as often as the program must), gradients once."""
    arrays = workload.arrays()
    read = sum(a.nbytes for a in arrays) * PASSES.get(workload.base, lambda s: 1.0)(workload.sizes)
    return read + sum(a.nbytes for a in arrays[: workload.wrt])


def footprint(workload: Workload) -> int:
    arrays = workload.arrays()
    return sum(a.nbytes for a in arrays) + sum(a.nbytes for a in arrays[: workload.wrt])


def last_cache() -> int:
    """Bytes of the last cache, 0 where the system does not say."""
    sizes = [
        p.read_text().strip()
        for p in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    ]
    units = {"K": 2**10, "M": 2**20}
    return max((int(s[:-1]) * units[s[-1]] for s in sizes), default=0)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.limits", description=__doc__)
    parser.add_argument("--no-record", action="store_true", help="write no file")
    options = parser.parse_args(words)
    known = history.known(history.records(), {"machine": machine.fingerprint()})
    start = perf_counter()
    able, cache = rates(), last_cache()
    rows = []
    for name, workload in WORKLOADS.items():
        size = least_bytes(workload)
        operations = OPERATIONS.get(name, lambda s: 0.0)(workload.sizes)
        memory, arithmetic = (
            size / max(able["read"], able["read and write"]) / 1e3,
            operations / able["product"] / 1e3,
        )
        cell = known.get(name, {}).get("cells", {}).get(workload.mode, {})
        floor = max(memory, arithmetic)
        ours = f"{cell['us']:.4g}" if "us" in cell else ""
        share = f"{floor / cell['us']:.2f}" if "us" in cell else ""
        inside = "fits the cache" if size < cache else ""
        rows.append(
            [
                name,
                f"{size / 1e6:.2f}",
                f"{operations / 1e6:.1f}",
                f"{memory:.1f}",
                f"{arithmetic:.1f}",
                ours,
                share,
                inside,
            ]
        )
    head = [
        "program",
        "least MB",
        "MFLOP of products",
        "memory, us",
        "products, us",
        "ours, us",
        "floor by ours",
        "",
    ]
    remarks = (
        "measured here: "
        + ", ".join(
            f"{k} {v:.1f} {'GFLOP/s' if k == 'product' else 'GB/s'}" for k, v in able.items()
        ),
        f"last cache {cache / 2**20:.0f} MiB, shared with whoever else is on the chip; {perf_counter() - start:.0f} s",
    )
    note(
        "limits",
        "The machine's limits",
        head,
        rows,
        {"rates": able, "rows": rows},
        write=not options.no_record,
        remarks=remarks,
    )


if __name__ == "__main__":
    main()
