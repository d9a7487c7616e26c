"""Cubins by what they are compiled from: memory, then disk, then compile processes, then this process.

In: `Emitted`s or `Source`s.  Out: `Compiled`s.  On the import path of a warm start, which imports neither Numba nor Numba-CUDA.
The queue before the processes is the CPU's (`backends.cpu.compiler`), with other processes behind it.  The disk cache is the
CPU's too (`devices.disk`); its entries carry length, digest and key.
"""

from __future__ import annotations

import base64
import os
import sys
import threading
from collections.abc import Iterable
from functools import cache
from typing import Any

from ...errors import CacheWarning, CompileError
from ..cpu.compiler import Compiler, Store, Ticket
from ..cpu.fingerprint import source_digest
from ..cpu.workers import COMPILE_WITHIN, Worker, command_of
from ..devices import disk
from .compiled import Compiled, Resources, check
from .making import CAPABILITY, Source, compile_source, ptx

__all__ = ["Compiled", "CubinStore", "Resources", "Source", "check", "store", "versions"]

KIND = "cubin"
# a change in one of these can change the code of a kernel whose text stays the same
_SOURCES = ("angles.py", "branches.py", "contexts.py", "front.py", "gammas.py", "groups.py", "inverses.py", "library.py",
            "linking.py", "making.py", "mathematics.py", "polygamma.py", "types.py", "words.py")
_PACKAGES = ("numba_cuda", "llvmlite", "nvidia_nvvm", "nvidia_cuda_nvcc", "nvidia_nvjitlink", "cuda_bindings")


# -------------------------------------------------------------------------------------------- keys
@cache
def versions() -> str:
    """Versions of what makes the code, by the folders of `sys.path`: nothing is imported.  "" without Numba-CUDA."""
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.endswith(".dist-info"):
                package, _, version = name[: -len(".dist-info")].partition("-")
                package = package.replace("-", "_").lower()
                if package in _PACKAGES:
                    found.setdefault(package, version)
    toolkit = "" if "nvidia_nvvm" in found else _toolkit()
    return " ".join([f"{name} {found.get(name, '-')}" for name in _PACKAGES] + [toolkit]) if "numba_cuda" in found else ""


def _toolkit() -> str:
    """The toolkit whose NVVM and ptxas are used where no package brings them."""
    root = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    try:
        with open(os.path.join(root, "version.json"), encoding="utf-8") as f:
            return f"toolkit {source_digest([f.name])}"
    except OSError:
        return f"toolkit {os.path.realpath(root)}"


@cache
def fingerprint() -> str:
    """What the code of a kernel depends on besides its source."""
    here = os.path.dirname(os.path.abspath(__file__))
    cpu = os.path.join(os.path.dirname(here), "cpu")
    math = os.path.join(cpu, "vecmath")
    files = [*[os.path.join(here, n) for n in _SOURCES], os.path.join(cpu, "instructions.py")]
    files += [os.path.join(math, n) for n in sorted(os.listdir(math)) if n.endswith(".py")]
    return f"{versions()} {source_digest(files)}"


# ------------------------------------------------------------------------------------- processes
class _Job(Ticket):
    __slots__ = ("source",)

    def __init__(self, source: Source) -> None:
        super().__init__(source.text)
        self.source = source


class _Process(Worker):
    def command(self) -> list[str]:
        return command_of("cuda.worker")

    def make(self, source: Source) -> Compiled:
        """Compile a kernel.  Raises CompileError, Died, Overdue."""
        self._send(source.request())
        reply = self._receive(COMPILE_WITHIN)
        if "error" in reply:
            raise CompileError(reply["error"])
        return Compiled(reply["entry"], base64.b64decode(reply["cubin"]), source.text, source.signature, source.threads,
                        source.wide, Resources(**reply["resources"]), reply["seconds"])


class CudaCompiler(Compiler):
    """The CPU's queue, with processes that compile for the device."""

    def leave(self) -> None:
        """Nothing is compiled after the program."""

    def _ticket(self, text: Any) -> Ticket:
        return _Job(text)

    def _process(self) -> Any:
        return _Process()

    def _by(self, worker: Any, ticket: Any) -> Compiled:
        return worker.make(ticket.source)  # type: ignore[no-any-return]

    def _compile_here(self, ticket: Any) -> None:
        try:
            self._finish(ticket, compile_source(ticket.source))
        except CompileError as e:
            self._finish(ticket, error=e)


# ----------------------------------------------------------------------------------------- kernels
class CubinStore:
    """Compiled kernels by their sources; safe to call from several threads.

    `disk` keeps bytes between processes (`engine.cache.DiskCache`); without one, kernels live as long as the process.
    """

    def __init__(self, disk: Store | None = None, compiler: Compiler | None = None) -> None:
        self._disk, self._compiler = disk, compiler
        self._kernels: dict[str, Compiled] = {}
        self._tickets: dict[str, Ticket] = {}
        self._lock = threading.RLock()
        self.counters = {"compiled": 0, "disk_hits": 0, "memory_hits": 0, "seconds": 0.0}

    def request(self, items: Iterable[Any], capability: tuple[Any, ...] = CAPABILITY) -> None:
        """Start compiling in the background what is neither in memory nor on disk."""
        self._submit([_source(item, capability) for item in items], urgent=False)

    def early(self) -> None:
        """A kernel will be wanted soon: where none was ever compiled, two processes get ready."""
        if (self._disk is None or self._disk.empty(KIND)) and not self._kernels and versions():
            self.compiler.early()

    def require(self, items: Iterable[Any], capability: tuple[Any, ...] = CAPABILITY) -> list[Compiled]:
        """All kernels, compiled if need be; items are `Source`s or have text, signature, threads and wide.

        Raises CompileError for a text that does not compile, or saying what must be installed.
        """
        sources = [_source(item, capability) for item in items]
        keys = [s.key for s in sources]
        self.counters["memory_hits"] += sum(k in self._kernels for k in keys)
        self._submit(sources, urgent=True)
        waiting = [self._tickets[k] for k in keys if k in self._tickets]
        if waiting:
            self.compiler.wait(waiting)
        with self._lock:
            for source in sources:
                self._collect(source)
            return [self._kernels[k] for k in keys]

    @property
    def compiler(self) -> Compiler:
        with self._lock:
            if self._compiler is None:
                self._compiler = CudaCompiler()
            return self._compiler

    # --------------------------------------------------------------------------------------- inside
    def _submit(self, sources: list[Source], urgent: bool) -> None:
        with self._lock:
            missing = {s.key: s for s in sources if s.key not in self._kernels and s.key not in self._tickets
                       and not self._from_disk(s)}
            if missing:
                if not versions():
                    ptx(next(iter(missing.values())))      # says what is missing
                self._tickets.update(zip(missing, self.compiler.submit(missing.values(), urgent)))

    def _from_disk(self, source: Source) -> bool:
        if self._disk is None:
            return False
        key = _disk_key(source)
        data = self._disk.get(KIND, key)
        if data is None:
            return False
        try:
            made = Compiled.unpack(data, source.text, source.signature, source.threads, source.wide)
        except ValueError as e:                            # whole, but not ours: made anew
            import warnings

            warnings.warn(f"a kernel in the cache is of no use ({e}) and is made anew", CacheWarning, stacklevel=2)
            self._disk.forget(KIND, key)
            return False
        self._kernels[source.key] = made
        self.counters["disk_hits"] += 1
        return True

    def _collect(self, source: Source) -> None:
        """Take a finished kernel from its ticket."""
        ticket = self._tickets.get(source.key)
        if ticket is None or not ticket.done:
            return
        if ticket.error is not None:                       # and stays: trying again would fail again
            raise CompileError(*ticket.error.args)
        made: Any = ticket.get()
        del self._tickets[source.key]
        self._kernels[source.key] = made
        self.counters["compiled"] += 1
        self.counters["seconds"] += made.seconds
        if self._disk is not None:
            self._disk.put(KIND, _disk_key(source), made.pack())


def _source(item: Any, capability: tuple[Any, ...]) -> Source:
    return item if isinstance(item, Source) else Source(item.text, item.signature, item.threads, item.wide, capability)


def _disk_key(source: Source) -> str:
    return f"{fingerprint()}\n{source.key}"


# ------------------------------------------------------------------------------------ the process's
_stores: dict[int, CubinStore] = {}
_lock = threading.Lock()


def store() -> CubinStore:
    """The kernels of this process, over the disk cache of now."""
    kept = disk()
    found = _stores.get(id(kept))
    if found is None:
        with _lock:
            found = _stores.setdefault(id(kept), CubinStore(kept))
    return found
