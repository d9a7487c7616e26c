"""One kernel from text to cubin, in this process.

In: `Source`s.  Out: `Compiled`.  Imports Numba-CUDA when it compiles; where that or a part of it is missing, the error says
what to install.  Used by compile processes, and by this process where none can be started.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

from autojit.errors import CompileError

from .compiled import Compiled
from .driver import INSTALL

CAPABILITY: tuple[Any, ...] = (9, 0, "a")
"""What is compiled for where no device is at hand: an H100 or H200."""


class Source:
    """What a kernel is compiled from: text, signature, block size, width of indices, compute capability."""

    __slots__ = ("text", "signature", "threads", "wide", "capability")

    def __init__(self, text: str, signature: tuple[str, ...], threads: int, wide: bool = False,
                 capability: tuple[Any, ...] = CAPABILITY) -> None:
        self.text, self.signature, self.threads, self.wide = text, tuple(signature), threads, wide
        self.capability = architecture(capability)

    @classmethod
    def of(cls, request: dict[str, Any]) -> Source:
        return cls(request["text"], tuple(request["signature"]), request["threads"], request["wide"],
                   tuple(request["capability"]))

    def request(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def key(self) -> str:
        """All of it, as text."""
        return f"{' '.join(self.signature)} {self.threads} {'wide' if self.wide else 'narrow'} {self.capability}\n{self.text}"

    @property
    def entry(self) -> str:
        """The name of the kernel's function."""
        return "aj_" + hashlib.sha256(self.key.encode()).hexdigest()[:24]


def architecture(capability: tuple[Any, ...]) -> tuple[Any, ...]:
    """With what only this very processor has: (9, 0) → (9, 0, "a"), as Numba-CUDA has it."""
    capability = tuple(capability)
    return (*capability, "a") if len(capability) == 2 and capability >= (9, 0) else capability


def forced(capability: tuple[Any, ...]) -> str:
    """As the environment of Numba-CUDA wants it."""
    major, minor, *rest = capability
    return f"{major}.{minor}{''.join(rest)}"


def warm_up() -> None:
    """Load compiler and linker, as far as they are here."""
    try:
        ptx(Source("def kernel(x0):\n    x0[0] = f4(0.0)\n", ("*f32",), 32))
    except CompileError:
        return  # said again, to whoever asks for a kernel


def ptx(source: Source) -> str:
    """The kernel's PTX, the same bytes in every process.  Raises CompileError."""
    try:
        from . import front
    except ImportError as e:
        raise CompileError(f"kernels for CUDA are compiled by Numba-CUDA, which is missing ({e}): {INSTALL}") from e
    try:
        return front.ptx(source.text, source.entry, source.signature, source.threads, source.wide, source.capability)
    except CompileError:
        raise
    except Exception as e:
        if type(e).__name__ in ("NvvmSupportError", "DynamicLibNotFoundError", "FileNotFoundError", "OSError"):
            raise CompileError(f"NVVM or libdevice, which Numba-CUDA compiles by, is missing ({e}): {INSTALL}") from e
        raise


def compile_source(source: Source) -> Compiled:
    """Text to machine code.  Raises CompileError."""
    from . import linking

    start = time.perf_counter()
    data, taken = linking.cubin(ptx(source), source.capability)
    return Compiled(source.entry, data, source.text, source.signature, source.threads, source.wide, taken,
                    time.perf_counter() - start)
