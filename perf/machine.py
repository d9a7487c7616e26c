"""The machine and the software of a run, and how busy others kept it.

Out: plain dictionaries for the record. Never names the host, its user or a path.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "torch", "jax", "jaxlib")
FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_tile")
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "AUTOJIT_NUM_THREADS",
    "XLA_FLAGS",
)
QUIET_CORES = 0.3  # what others may use beside a measurement that counts
ROOT = Path(__file__).resolve().parent.parent


def cores() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def fingerprint() -> dict[str, Any]:
    """What the figures of a run depend on."""
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "memory_gib": _memory_gib(),
        "python": platform.python_version(),
        "versions": _versions(),
        "environment": {v: os.environ[v] for v in THREAD_VARIABLES if v in os.environ},
        "commit": _commit(),
    }


def load() -> dict[str, float]:
    """Load average and the share of this machine that others use right now."""
    average = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {"average": round(average, 2), "busy": round(busy_cores(), 2)}


class Watch:
    """Tells how many cores others used since it was made; NaN where the system does not say."""

    def __init__(self) -> None:
        self.start = perf_counter()
        self.before = _busy_seconds()

    def others(self, own_seconds: float = 0.0) -> float:
        """own_seconds: CPU time that is ours to spend and does not count as others'."""
        wall = perf_counter() - self.start
        return max(0.0, (_busy_seconds() - self.before - own_seconds) / wall)


def busy_cores(seconds: float = 0.2) -> float:
    """Cores in use by anyone while this process sleeps for `seconds`."""
    watch = Watch()
    sleep(seconds)
    return watch.others()


class Patience:
    """A stock of seconds to spend on waiting until the machine is quiet."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def spend(self, seconds: float) -> None:
        self.left -= seconds

    def wait(self) -> float:
        """Return once the machine is quiet or the stock is used up; the cores in use at the end."""
        busy = busy_cores()
        while busy > QUIET_CORES and self.left > 0:
            sleep(0.3)
            busy = busy_cores()
            self.spend(0.5)
        return busy


def _busy_seconds() -> float:
    """CPU seconds that this machine has spent on anything since it started."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0]
    except OSError:
        return float("nan")
    # user nice system idle iowait irq softirq steal
    ticks = [int(word) for word in first.split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown"
    fields = dict(re.findall(r"^([^\n:]+?)\s*: (.*)$", text, re.MULTILINE))
    model = fields.get("model name", "unknown")
    numbers = f"family {fields.get('cpu family', '?')} model {fields.get('model', '?')}"
    has = [name for name in FEATURES if name in fields.get("flags", "").split()]
    return f"{model} ({', '.join([numbers, *has])})"


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None
