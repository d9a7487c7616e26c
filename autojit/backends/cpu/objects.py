"""Object code: its record, its bytes on disk, and the way to an address, by llvmlite alone.

In: a kernel's object file.  Out: the function's address; the code stays loaded as long as the process
lives.  LLVM ends the process on a broken object or an unresolved symbol, so both are looked at first.
Never imports Numba.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from typing import Any

from autojit.backends.cpu import elf


class Compiled:
    """One kernel: `code` is an object file that defines `symbol` and needs the symbols `needs`."""

    __slots__ = ("symbol", "code", "needs", "seconds")

    def __init__(self, symbol: str, code: bytes, needs: tuple[str, ...], seconds: float) -> None:
        self.symbol, self.code, self.needs, self.seconds = symbol, code, needs, seconds

    def pack(self) -> bytes:
        """As one entry of the disk cache."""
        return f"{self.symbol} {','.join(self.needs)}\n".encode() + self.code

    @classmethod
    def unpack(cls, data: bytes) -> Compiled:
        """The inverse of `pack`; ValueError when the bytes are something else."""
        head, line, code = data.partition(b"\n")
        symbol, space, needs = head.decode("ascii").partition(" ")
        if not line or not space:
            raise ValueError("not a packed kernel")
        return cls(symbol, code, tuple(filter(None, needs.split(","))), 0.0)


def symbol_of(text: str) -> str:
    """The name that the object code of a kernel text defines."""
    return "autojit_" + hashlib.sha256(text.encode()).hexdigest()[:24]


class Loader:
    """Loads object files into this process; safe to call from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # its holder is never between processes: KernelStore has a lock of its own
        self._engine: Any = None
        self._addresses: dict[str, int] = {}

    def load(self, symbol: str, code: bytes, needs: Iterable[str] = ()) -> int:
        """The address of `symbol`, which the object file `code` defines.

        Loading a symbol a second time gives the first address.  Raises ValueError when the bytes are
        not a whole object file that defines it, or when it `needs` a symbol this process has not.
        """
        with self._lock:
            address = self._addresses.get(symbol)
            if address is None:
                _check(symbol, code, needs)
                address = self._addresses[symbol] = self._link(symbol, code)
            return address

    def _link(self, symbol: str, code: bytes) -> int:
        import llvmlite.binding as llvm

        if self._engine is None:
            from autojit.backends.cpu import target
            # not llvmlite's memory manager, the default on ARM: it aborts on objects that are added later
            self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target.fresh_machine(), use_lmm=False)
            self._engine._owned = True  # never freed: native threads may be in its code when Python ends
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        return int(self._engine.get_function_address(symbol))


def _check(symbol: str, code: bytes, needs: Iterable[str]) -> None:
    wanted = set(needs)
    if elf.NATIVE:
        defined, undefined = elf.symbols(code)
        if symbol not in defined:
            raise ValueError(f"the object file does not define {symbol}")
        wanted |= undefined
    missing = [name for name in sorted(wanted) if not _resolves(name)]
    if missing:
        raise ValueError(f"this process has no {', '.join(missing)}")


def _resolves(name: str) -> bool:
    import llvmlite.binding as llvm

    if not llvm.address_of_symbol(name):
        from ctypes import util
        library = util.find_library("m")
        if library:
            llvm.load_library_permanently(library)
    return bool(llvm.address_of_symbol(name))
