"""What a new batch size costs: recording, scheduling and planning, and no compile.

`python -m perf.shapes` traces a network once, then calls it with batch sizes that it has not seen, each checked against the
NumPy tier. The cost is what the first call takes longer than the next ones. The first size of a class (serial, parallel)
may compile; later ones must not.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from perf import machine
from perf.measure import quartiles

RESULTS = Path(__file__).resolve().parent / "results"
TARGET_SECONDS = 0.005
WARM_UP = (40, 200, 300)  # both size classes, and one more of the larger


def network() -> tuple[Any, Any]:
    """(value and gradient of a two-layer network's loss, its arguments for a batch size)."""
    import autojit as aj

    def loss(w1: Any, b1: Any, w2: Any, b2: Any, x: Any, y: Any) -> Any:
        return aj.nn.functional.cross_entropy((x @ w1 + b1).tanh() @ w2 + b2, y)

    rng = np.random.default_rng(0)
    shapes = ((784, 256), (256,), (256, 10), (10,))
    params = [aj.from_numpy((rng.standard_normal(s) * 0.05).astype(np.float32)) for s in shapes]
    function = aj.trace(loss)

    def arguments(n: int) -> list[Any]:
        x = rng.standard_normal((n, 784)).astype(np.float32)
        return [*params, aj.from_numpy(x), aj.from_numpy(rng.integers(0, 10, n))]

    joint = aj.value_and_grad(function, argnums=(0, 1, 2, 3))
    joint.traced = function
    return joint, arguments


def measure(sizes: list[int]) -> dict[str, Any]:
    """Seconds that the first call with each size takes longer than later ones, and how many kernels were compiled for them."""
    import autojit as aj
    from autojit.engine import kernels

    aj.config.tier = "compile"
    joint, arguments = network()
    for n in WARM_UP:
        joint(*arguments(n))
    before = kernels.store().counters.as_dict()["compiled"]
    times = []
    for n in sizes:
        given = arguments(n)
        start = perf_counter()
        value, grads = joint(*given)
        first = perf_counter() - start
        later = []
        for _ in range(3):
            start = perf_counter()
            joint(*given)
            later.append(perf_counter() - start)
        times.append(first - sorted(later)[1])
        want = joint.traced.last.program.interpret([np.ascontiguousarray(t.numpy()) for t in given])
        for found, wanted in zip([value, *grads], want, strict=True):
            assert np.allclose(found.numpy(), wanted, 1e-3, 1e-5), f"wrong at batch {n}"
    compiled = kernels.store().counters.as_dict()["compiled"] - before
    return {"sizes": sizes, "seconds": times, "compiled": compiled}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40, help="how many new batch sizes")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    sizes = [int(n) for n in np.random.default_rng(1).permutation(np.arange(33, 300))[: options.count]]
    found = measure(sizes)
    low, middle, high = quartiles(found["seconds"])
    ok = middle < TARGET_SECONDS and found["compiled"] == 0
    print(f"a new batch size of a 784-256-10 network: {middle * 1e3:.2f} ms ({low * 1e3:.2f} to {high * 1e3:.2f}), "
          f"{found['compiled']} kernels compiled for {len(sizes)} sizes; target 5 ms and none: {'met' if ok else 'missed'}")
    if not options.no_record:
        row = {"what": "shapes", "when": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine.fingerprint(),
               **found}
        with (RESULTS / "history.jsonl").open("a") as out:
            out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
