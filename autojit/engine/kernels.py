"""The one store of kernels of this process, over the disk cache that `config.cache_dir` names.

In: nothing.  Out: `store()`.  Never opens the cache before a program needs it.
"""

from __future__ import annotations

import threading

from ..backends.cpu.compiler import KernelStore
from ..config import config
from .cache import DiskCache

_stores: dict[str, KernelStore] = {}
_disks: dict[str, DiskCache] = {}
_lock = threading.Lock()


def disk() -> DiskCache:
    """The disk cache that `config.cache_dir` names."""
    found = _disks.get(config.cache_dir)
    return found if found is not None else _disks.setdefault(config.cache_dir, DiskCache(config.cache_dir))


def store() -> KernelStore:
    """Kernels by their text: memory, then disk, then the compiler."""
    found = _stores.get(config.cache_dir)
    if found is None:
        with _lock:
            found = _stores.setdefault(config.cache_dir, KernelStore(disk()))
    return found


_looked: set[str] = set()


def early() -> None:
    """A program is about to be made: where no kernel was ever compiled, the compile processes start now."""
    if config.tier != "numpy" and config.cache_dir not in _looked:
        _looked.add(config.cache_dir)
        if disk().empty("object"):
            store().compiler.early()
