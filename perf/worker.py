"""One process for one system: answers requests of the harness, one line of JSON each.

`python -m perf.worker SYSTEM` reads requests from stdin until it closes and answers on the stdout
it was born with; what libraries print goes to stderr. Between requests it sleeps in a read, so
that its threads leave the cores to whoever is measured. It never decides what to measure.
"""

from __future__ import annotations

import json
import os
import re
import sys
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np

from perf.measure import sample, worst_error
from perf.system import Prepared
from perf.systems import SYSTEMS
from perf.workloads import find


class Worker:
    def __init__(self, system: str) -> None:
        self.system = SYSTEMS[system]
        self.prepared: Prepared | None = None
        self.reference: list[np.ndarray] = []

    def do_reference(self, workload: str, path: str) -> dict[str, Any]:
        prepared = self.system.prepare(find(workload), "float64")
        prepared.call()
        np.savez(path, *prepared.read())
        return {}

    def do_prepare(self, workload: str, path: str) -> dict[str, Any]:
        """First call (compiles) and a second one, whose results are compared."""
        with np.load(path) as stored:
            self.reference = [stored[name] for name in stored.files]
        row, begun = find(workload), perf_counter()
        self.prepared = self.system.prepare(row, row.dtype)
        start = begun if self.system.early else perf_counter()
        self.prepared.call()
        first = perf_counter() - start
        self.prepared.call()
        return {"first_s": first, "error": worst_error(self.prepared.read(), self.reference)}

    def do_round(self, seconds: float) -> dict[str, Any]:
        assert self.prepared is not None
        before = process_time()
        times = sample(self.prepared.call, seconds)
        spent = process_time() - before
        us = float(f"{median(times) * 1e6:.5g}")
        return {"us": us, "samples": len(times), "cpu_s": spent}

    def do_finish(self) -> dict[str, Any]:
        """The results once more, now that the program has run many times."""
        assert self.prepared is not None
        error = worst_error(self.prepared.read(), self.reference)
        self.prepared, self.reference = None, []
        return {"error": error}


def serve(worker: Any) -> None:
    """Answer requests by the methods `do_*` of an object until stdin closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        action = getattr(worker, "do_" + request.pop("do"))
        try:
            answer = action(**request)
        except Exception as e:  # a peer may fail in any way; the report says how
            message = re.sub(r"(?<!\S)/\S*/", "", " ".join(str(e).split()))[:200]  # names of files, no paths
            answer = {"failed": f"{type(e).__name__}: {message}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(Worker(sys.argv[1]))
