"""Memory of training steps: value, gradient and SGD of attn and lnorm, beside torch eager.

`python -m perf.memory` runs each in a process of its own and reads the peak of its resident memory:
whole, and above what was resident once the library was imported and the data drawn. Then 10,000
steps must not grow it. Results go to `results/memory.md`. Measures no time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

from perf import machine
from perf.notes import note, verdict
from perf.system import cast
from perf.workloads import WORKLOADS

PROGRAMS = ("attn", "lnorm")
STEPS, MANY = 30, 10_000
SETTLED = 200  # steps until pools have their size
RATE = 1e-3
GROWTH_MIB = 2.0  # an allocator's arenas move by as much


def resident() -> float:
    """MiB that this process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak() -> float:
    """The most MiB that this process ever held."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))


def autojit_step(name: str, small: bool) -> Any:
    import autojit as aj
    from perf.ours import autojit_namespace

    workload, sizes = WORKLOADS[name], SMALL[name] if small else {}
    loss = aj.trace(workload.function(autojit_namespace(), **sizes))
    tensors = [aj.from_numpy(a) for a in cast(workload.arrays(**sizes), "float32")]
    leaves = [t.requires_grad_() for t in tensors[: workload.wrt]]
    optimiser = aj.optim.SGD(leaves, lr=RATE)
    return training(loss, tensors, optimiser)


def torch_step(name: str, small: bool) -> Any:
    import torch

    from perf.peers import torch_namespace

    workload, sizes = WORKLOADS[name], SMALL[name] if small else {}
    loss = workload.function(torch_namespace(), **sizes)
    tensors = [torch.from_numpy(a) for a in cast(workload.arrays(**sizes), "float32")]
    leaves = [t.requires_grad_() for t in tensors[: workload.wrt]]
    optimiser = torch.optim.SGD(leaves, lr=RATE)
    return training(loss, tensors, optimiser)


SMALL = {"attn": {"batch": 1, "length": 16}, "lnorm": {"rows": 64, "width": 64}}
STEPPERS = {"autojit": autojit_step, "torch": torch_step}


def training(loss: Any, tensors: list[Any], optimiser: Any) -> Any:
    def step() -> None:
        optimiser.zero_grad()
        loss(*tensors).backward()
        optimiser.step()

    return step


def child(system: str, name: str, many: int) -> dict[str, float]:
    """In a fresh process. many: steps of the small program, for growth; 0: peak of the full one.

    imported: MiB before any step; loaded: after one small step, which brings in what a library
    loads when it is first used.
    """
    small, imported = STEPPERS[system](name, True), resident()
    for _ in range(SETTLED if many else 1):
        small()
    loaded = resident()
    step = small if many else STEPPERS[system](name, False)
    for _ in range(many or STEPS):
        step()
    return {"imported": imported, "loaded": loaded, "after": resident(), "peak": peak()}


def measure(system: str, name: str, many: int = 0) -> dict[str, float]:
    words = [sys.executable, "-m", "perf.memory", "--child", system, name, str(many)]
    env = {**os.environ, "AUTOJIT_TIER": "compile"}
    done = subprocess.run(words, cwd=machine.ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{system} {name}: {done.stderr[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.memory", description=__doc__)
    parser.add_argument("--steps", type=int, default=MANY, help="steps that must not grow it")
    parser.add_argument("--no-record", action="store_true", help="write no file")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.child:
        system, name, many = options.child
        print(json.dumps(child(system, name, int(many))))
        return
    rows: list[list[str]] = []
    raw: dict[str, Any] = {}
    for name in PROGRAMS:
        found = {system: measure(system, name) for system in STEPPERS}
        raw[name] = found
        for label, floor in (
            ("whole process", None),
            ("above import", "imported"),
            ("above a small first step", "loaded"),
        ):
            ours, theirs = (
                f["peak"] - (f[floor] if floor else 0) for f in (found["autojit"], found["torch"])
            )
            rows.append(
                [
                    f"{name}, {label}",
                    f"{ours:.1f}",
                    f"{theirs:.1f}",
                    "≤ torch",
                    verdict(ours <= theirs),
                ]
            )
    for name in PROGRAMS:
        found = raw[f"{name} growth"] = measure("autojit", name, options.steps)
        grown = found["after"] - found["loaded"]
        words_of = [f"{grown:.2f}", "", f"≤ {GROWTH_MIB:g}", verdict(grown <= GROWTH_MIB)]
        rows.append([f"{name}, growth in {options.steps} steps", *words_of])
    head = ["peak of resident memory, MiB", "autojit", "torch eager", "target", ""]
    remarks = (
        f"peak over {STEPS} steps of the program's own size; growth over steps of a small one",
        "what is above import includes autojit's code generator, loaded at its first step; torch's import has loaded its own",
    )
    note(
        "memory",
        "Memory of training steps",
        head,
        rows,
        raw,
        write=not options.no_record,
        remarks=remarks,
    )


if __name__ == "__main__":
    main()
