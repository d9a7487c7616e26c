"""One process for one system on the GPU, as `worker.py` is on the CPU: a line of JSON in, one out.

`python -m perf.gpu_worker SYSTEM [standin]`. Requests: prepare (compile, run, compare), time, drop;
reference (results in float64, written for the others to compare with); copy (bandwidth).
"""

from __future__ import annotations

import gc
import os
import sys
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from perf.gpu_rows import BY_NAME, digest, least_bytes
from perf.gpu_systems import SYSTEMS, OnDevice
from perf.measure import worst_error
from perf.worker import serve

GROUP_SECONDS = 0.02
COPY_BYTES = 1 << 30


class Worker:
    def __init__(self, system: str, standin: bool) -> None:
        self.system, self.standin = SYSTEMS[system], standin
        if standin:
            os.environ["AUTOJIT_CUDA"] = "standin"  # read when autojit is imported
        self.made: OnDevice | None = None

    def do_missing(self) -> dict[str, Any]:
        return {"why": self.system.absent(self.standin)}

    def do_reference(self, row: str, path: str) -> dict[str, Any]:
        """The row in float64 by this system."""
        asked = BY_NAME[row]
        made = self.system.on_device(asked, asked.workload(self.standin).arrays(), self.standin, "float64")
        made.call()
        np.savez(path, *digest(made.read()))
        del made
        self._free()
        return {}

    def do_prepare(self, row: str, path: str) -> dict[str, Any]:
        """First call (compiles), some more, and the error of the last one's results."""
        self.do_drop()
        asked = BY_NAME[row]
        workload = asked.workload(self.standin)
        arrays = workload.arrays()
        itemsize = 2 if asked.dtype in ("bfloat16", "float16") else 4
        moved = least_bytes(arrays, workload.wrt, itemsize)
        self.made = made = self.system.on_device(asked, arrays, self.standin, asked.dtype)
        start = perf_counter()
        made.call()
        made.sync()
        first = perf_counter() - start
        for _ in range(3):  # graphs are captured at the second or third call
            made.call()
        made.sync()
        with np.load(path) as stored:
            reference = [stored[name] for name in stored.files]
        return {"first_s": first, "bytes": moved, "error": worst_error(digest(made.read()), reference)}

    def do_time(self, seconds: float) -> dict[str, Any]:
        """Microseconds a call, of calls one after the other without waiting in between."""
        assert self.made is not None
        call, sync = self.made.call, self.made.sync
        start = perf_counter()
        call()
        sync()
        group = max(1, int(GROUP_SECONDS / max(perf_counter() - start, 1e-6)))
        times, end = [], perf_counter() + seconds
        while len(times) < 3 or perf_counter() < end:
            start = perf_counter()
            for _ in range(group):
                call()
            sync()
            times.append((perf_counter() - start) / group * 1e6)
        return {"us": median(times), "low": min(times), "samples": len(times)}

    def do_drop(self) -> dict[str, Any]:
        self.made = None
        self._free()
        return {}

    def _free(self) -> None:
        gc.collect()
        if "torch" in sys.modules:
            import torch

            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def do_copy(self) -> dict[str, Any]:
        """GB/s of copying on the device, both ways counted, by our driver; and the device's name."""
        from autojit.backends.cuda.driver import open_driver

        nbytes = 1 << 16 if self.standin else COPY_BYTES
        driver = open_driver()
        a, b = driver.alloc(nbytes), driver.alloc(nbytes)
        best = float("inf")
        for _ in range(20):
            driver.synchronize()
            start = perf_counter()
            for _ in range(5):
                driver.copy(b, a, nbytes)
            driver.synchronize()
            best = min(best, (perf_counter() - start) / 5)
        driver.free(a)
        driver.free(b)
        return {"gb_s": 2 * nbytes / best / 1e9, "card": driver.name}


if __name__ == "__main__":
    serve(Worker(sys.argv[1], "standin" in sys.argv[2:]))
