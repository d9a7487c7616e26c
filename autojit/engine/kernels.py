"""The one store of kernels of this process, over the disk cache that `config.cache_dir` names.

In: nothing.  Out: `store()`.  Never opens the cache before a program needs it.
"""

from __future__ import annotations

import threading

from ..backends.cpu.compiler import KernelStore
from ..config import config
from .cache import DiskCache

_stores: dict[str, KernelStore] = {}
_lock = threading.Lock()


def store() -> KernelStore:
    """Kernels by their text: memory, then disk, then the compiler."""
    found = _stores.get(config.cache_dir)
    if found is None:
        with _lock:
            found = _stores.setdefault(config.cache_dir, KernelStore(DiskCache(config.cache_dir)))
    return found
