"""The proof without a GPU: every kernel of the generated list is interpreted and equals the oracle, is compiled, and is clean.

`pytest tests/cuda -m proof` runs it whole (it needs numba-cuda and NVVM for the compiled part); a sample of the list is
interpreted in every run of the suite.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from autojit.backends.cuda.emitted import Emitted
from autojit.engine import compile as pipeline
from autojit.errors import CompileError
from autojit.ir.graph import forget
from autojit.ir.primitive import LEAF, REGISTRY
from autojit.schedule.device import without_step
from perf.gpu_rows import ROWS

from . import programs
from .harness import Made, Rate, Refused, difference_on_device, differences, prepare
from .programs import WITHOUT_KERNEL

SECTIONS = {"primitives": programs.primitives, "public ops": programs.public_ops, "benchmarks": programs.benchmarks,
            "random graphs": programs.random_graphs, "half precision": programs.halves}
PIECES = 8
REGISTERS = 128                                           # of kernels at full size; what fits one warp may take more
WIDE = ("elem", "lnorm", "softmax CE", "Black-Scholes")   # rows that memory rules: loads of 16 bytes


# ---------------------------------------------------------------- the list
def test_every_primitive_is_on_the_list():
    kinds = {n for n, p in REGISTRY.items() if p.kind != LEAF} - {"call", "transfer"}     # calls are inlined, transfers cut
    assert kinds - programs.covered() == WITHOUT_KERNEL


def test_the_backend_knows_what_it_lacks():
    assert without_step() == WITHOUT_KERNEL


def test_the_list_is_long_and_its_names_are_its_own():
    for section in SECTIONS.values():
        names = [p.name for p in section()]
        assert len(set(names)) == len(names) >= 20
    assert len(list(programs.random_graphs())) == 100


@pytest.mark.parametrize("section", SECTIONS)
def test_a_sample_is_interpreted_and_equals_the_oracle(standin, section):
    assert differences(list(SECTIONS[section]())[::25]) == []


# ---------------------------------------------------------------- the whole list
class Proof:
    """The list made for the device.  Kernels are compiled in other processes, from the beginning, while this one interprets."""

    def __init__(self) -> None:
        self.made: dict[str, list[Made]] = {}
        self.refused: list[str] = []
        for name, section in SECTIONS.items():
            self.made[name] = [m for p in section() if (m := self._prepared(p)) is not None]
        self.kernels: dict[tuple, Emitted] = {}
        self.single: dict[tuple, list[str]] = {}           # those of programs in single precision → names of these
        for m in [m for part in self.made.values() for m in part]:
            for e in m.kernels:
                self.kernels.setdefault(kernel_of(e), e)
                if m.single:
                    self.single.setdefault(kernel_of(e), []).append(m.program.name)
        self.compiled: list = []
        self.problems: list[str] = []
        self.rate = ""
        self.thread = threading.Thread(target=self._compile, daemon=True)

    def _prepared(self, program: programs.Program) -> Made | None:
        try:
            return prepare(program)
        except Refused as e:
            self.refused.append(str(e))
            return None

    def _compile(self) -> None:
        from autojit.backends.cuda import compiler
        rate, store = Rate(), compiler.store()
        store.request(self.kernels.values())
        for e in self.kernels.values():
            try:
                self.compiled += store.require([e])
            except CompileError as error:
                self.problems.append(f"{error}\n{e.text}")
        self.rate = rate.say(len(self.kernels), "distinct kernels") + f", {store.counters['compiled']} of them compiled"


@pytest.fixture(scope="module")
def proof(standin) -> Iterator[Proof]:
    made = Proof()
    if missing() is None:
        made.thread.start()
    yield made
    if made.thread.ident is not None:
        made.thread.join()


def kernel_of(e: Any) -> tuple:
    """What is compiled, apart from the card."""
    return e.text, e.signature, e.threads, e.wide


def missing() -> str | None:
    """Why nothing can be compiled here."""
    from autojit.backends.cuda import compiler
    if not compiler.versions():
        return "numba-cuda is not installed: pip install 'autojit[cuda-check]'"
    from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib
    try:
        load_nvidia_dynamic_lib("nvvm")
    except DynamicLibNotFoundError:
        return "NVVM is not installed: pip install 'autojit[cuda-check]'"
    return None


@pytest.mark.proof
def test_everything_has_kernels(proof):
    assert proof.refused == []


@pytest.mark.proof
@pytest.mark.parametrize("piece", range(PIECES))
@pytest.mark.parametrize("section", SECTIONS)
def test_interpreted_equals_the_oracle(proof, section, piece):
    wrong = [why for m in proof.made[section][piece::PIECES] if (why := difference_on_device(m)) is not None]
    assert wrong == [], "\n".join(wrong)


@pytest.mark.proof
def test_compiled_kernels_are_clean(proof, capsys):
    """No double precision where all is single, no local memory, no spills, few registers, wide loads where they are meant."""
    why = missing()
    if why is not None:
        pytest.skip(f"nothing can be compiled: {why}")
    from autojit.backends.cuda import compiler
    proof.thread.join()
    with capsys.disabled():
        print(f"\n{proof.rate}")
    assert proof.problems == [], f"{len(proof.problems)} do not compile; the first: {proof.problems[0]}"
    assert len(proof.compiled) == len(proof.kernels) > 500
    complaints = []
    for c in proof.compiled:
        complaints += [f"{w}\n{c.text}" for w in compiler.check(c)]
        if c.resources.f64 and kernel_of(c) in proof.single:
            complaints.append(f"double precision in {proof.single[kernel_of(c)][:3]}\n{c.text}")
    assert complaints == [], f"{len(complaints)} complaints; the first: {complaints[0]}"


@pytest.mark.proof
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_kernels_at_the_sizes_of_a_gpu_run(standin, row):
    """What perf.gpu will measure: compiled only, since the interpreter would take hours."""
    why = missing()
    if why is not None:
        pytest.skip(f"nothing can be compiled: {why}")
    from autojit.backends.cuda import compiler
    prepared = pipeline.prepare_for(programs.at_full_size(row), "cuda")
    forget()
    kernels = [e for made in prepared.emitted.values() for e in made.launches]
    compiled = compiler.store().require(kernels)
    assert [w for c in compiled for w in compiler.check(c, REGISTERS)] == []
    assert not any([c.resources.f64 for c in compiled])
    assert max([e.blocks * e.threads for e in kernels]) >= 8192, "the device is not filled"
    if row.name in WIDE:
        assert any([c.resources.vector_loads for c in compiled])


# ---------------------------------------------------------------- what is planted is found
F32 = np.float32


def interpreted(body: str, arrays: list[np.ndarray], threads: int = 64) -> None:
    """A kernel of one block on arrays x0, x1, ..."""
    from autojit.backends.cuda import interpret
    names = ", ".join(f"x{k}" for k in range(len(arrays)))
    text = f"def kernel({names}):\n" + "\n".join("    " + line for line in body.strip("\n").splitlines()) + "\n"
    interpret.run(text, tuple(["*f32"] * len(arrays)), arrays, 1, threads)


GOOD = """
s0 = shared_f32(64)
s0[thread()] = x0[thread()]
sync()
x1[thread()] = s0[63 - thread()]
"""
FAULTS = {
    "an access past the end": (GOOD.replace("x0[thread()]", "x0[thread() + 1]"), "bounds"),
    "an access before the start": (GOOD.replace("x0[thread()]", "x0[thread() - 1]"), "bounds"),
    "a store past the end": (GOOD.replace("x1[thread()]", "x1[thread() + 1]"), "bounds"),
    "a barrier that some threads do not reach": (GOOD.replace("sync()", "if thread() < 32:\n    sync()"), "barrier|sync|reach"),
    "shared memory that nobody has written": (GOOD.replace("s0[thread()] = x0[thread()]", "if thread() < 63:\n"
                                                           "    s0[thread()] = x0[thread()]"), "written|uninitialised"),
    "a barrier that is missing": (GOOD.replace("sync()\n", ""), "race|barrier|another thread|order"),
}


def test_without_a_fault_nothing_is_found():
    x, y = np.arange(64, dtype=F32), np.zeros(64, F32)
    interpreted(GOOD, [x, y])
    np.testing.assert_array_equal(y, x[::-1])


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(name):
    from autojit.backends.cuda.interpret import KernelFault
    body, words = FAULTS[name]
    with pytest.raises(KernelFault, match=f"(?i){words}"):
        interpreted(body, [np.arange(64, dtype=F32), np.zeros(64, F32)])


@pytest.mark.proof
def test_planted_double_precision_is_caught():
    why = missing()
    if why is not None:
        pytest.skip(f"nothing can be compiled: {why}")
    from autojit.backends.cuda import compiler
    found = []
    for term in ("f4(0.1)", "to_f32(to_f64(x0[thread()]) * f8(0.1))"):
        text = f"def kernel(x0, x1):\n    x1[thread()] = add_f32(x0[thread()], {term})\n"
        made = Emitted(text, ("*f32", "*f32"), (("buffer", "a"), ("buffer", "b")), 64, 1)
        (compiled,) = compiler.store().require([made])
        found.append(compiled.resources.f64)
    assert found == [False, True]
