"""The processor that kernels are compiled for.

In: what LLVM says of this machine.  Out: its name, the features kernels may use, a target machine
and LLVM's pass pipeline.  Imports llvmlite only, never Numba; both the process that compiles and
the one that loads use it, so that they agree.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import llvmlite.binding as llvm

# The JIT's own model: sections may land anywhere. Short addresses (small) measured no faster.
CODE_MODEL = "jitdefault"


@cache
def features() -> str:
    """This CPU's features; AVX-512 machines use the whole register (LLVM's tuning often does not)."""
    flags = llvm.get_host_cpu_features()
    wide = ",-prefer-256-bit" if flags.get("avx512f") else ""
    if flags.get("avx2"):                                  # a gather of ten columns took ten times as long as single loads
        wide += ",+prefer-no-gather,+prefer-no-scatter"
    return flags.flatten() + wide


@cache
def has_half() -> bool:
    """Does this CPU convert float16 itself?  LLVM calls a function that we lack where an x86 does not."""
    return not llvm.get_process_triple().startswith(("x86", "i686")) or bool(re.search(r"\+f16c\b", features()))


@cache
def cpu_name() -> str:
    return llvm.get_host_cpu_name()


@cache
def machine() -> Any:
    """LLVM's target machine for this CPU."""
    return fresh_machine()


def fresh_machine() -> Any:
    """A target machine to give away: an engine owns the one it gets (1-2 ms)."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    relocation = "static" if target.name.startswith("x86") else "default"
    return target.create_target_machine(cpu=cpu_name(), features=features(), opt=3, reloc=relocation,
                                        codemodel=CODE_MODEL, jit=True)


def optimise(module: Any, vectorise: bool = True) -> None:
    """LLVM's O3 pipeline, in place.  No SLP: it makes gathers of unrolled code."""
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = vectorise
    options.loop_interleaving = vectorise
    options.loop_unrolling = vectorise
    options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine(), options)
    builder.getModulePassManager().run(module, builder)


def inlines_late() -> bool:
    """Can functions be inlined once loops are vectors?  Older llvmlite offers no such pass."""
    return hasattr(llvm.create_new_module_pass_manager(), "add_always_inliner_pass")


def drop_unused(module: Any) -> None:
    """Inline what waited for vectors, and remove what only ``llvm.compiler.used`` kept: forms that no loop came to call."""
    kept = [v for v in module.global_variables if v.name == "llvm.compiler.used"]
    if kept:
        kept[0].linkage = "internal"
        builder = llvm.create_pass_builder(machine(), llvm.create_pipeline_tuning_options())
        passes = llvm.create_new_module_pass_manager()
        if inlines_late():                                 # vector tests of huge angles: LLVM does not inline them itself
            passes.add_always_inliner_pass()
        passes.add_global_dead_code_eliminate_pass()
        passes.run(module, builder)


def assembly(module: Any) -> str:
    return str(machine().emit_assembly(module))


def vector_bits() -> int:
    """Width of the registers kernels use: 512, 256 or 128."""
    found = features()
    if re.search(r"\+avx512f\b", found):
        return 512
    return 256 if re.search(r"\+avx2\b", found) else 128
