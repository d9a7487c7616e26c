"""The disk cache: bytes under (kind, key), kept between processes.

In: bytes that can be made again.  Out: the same bytes, or None; what cannot be read, trusted or written costs
one CacheWarning per process and nothing else.  Never unpickles, never runs what it reads, never raises for the
state of the disk.

A file is MAGIC, a digest, a length, the payload; the digest covers kind and key too, so a renamed file is as
foreign as a changed one.  Files appear whole (written aside, then renamed), in directories only their owner can
enter.  Keys are salted with the versions of what makes the entries.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import stat
import struct
import sys
import time
import warnings
from typing import Any

from ..errors import CacheWarning

MAGIC = b"AUTOJIT\x01"  # the last byte is the format's version
_HEAD = struct.Struct("<8s32sQ")
LIMIT = 512 * 2 ** 20
_TOUCH_AFTER = 3600.0  # seconds: reading an entry marks it as used, at most once an hour
_ABANDONED = 3600.0  # seconds after which a temporary file's writer is taken for dead

_warned = False
_numbers = itertools.count()


def warn_once(what: str) -> None:
    """One CacheWarning per process, whatever the number of broken entries."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"{what}; programs run all the same", CacheWarning, stacklevel=3)


# ----------------------------------------------------------------------------------------- versions
def package_version(name: str) -> str:
    """The version of an installed package, without importing it (``importlib.metadata`` takes 10 ms)."""
    for folder in sys.path:
        try:
            with open(os.path.join(folder, name, "_version.py"), encoding="utf-8") as f:
                found = re.search(r"""["']?version["']?\s*[:=]\s*["']([^"']+)["']""", f.read())
        except (OSError, ValueError):
            continue
        if found:
            return found.group(1)
    from importlib import metadata
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def versions() -> str:
    """The salt of all keys: versions of autojit and of the packages that make its code."""
    own = getattr(sys.modules["autojit"], "__version__", "0")
    return f"autojit {own} numba {package_version('numba')} llvmlite {package_version('llvmlite')}"


# -------------------------------------------------------------------------------------------- cache
class DiskCache:
    """Bytes on disk, with a dictionary in front; safe for any number of threads and processes.

    `root` is made if it is not there; ``None`` keeps everything in memory.  A root that belongs to somebody else
    or that others may write to is not used.

    >>> import tempfile
    >>> cache = DiskCache(tempfile.mkdtemp())
    >>> cache.put("object", "k", b"code")
    >>> DiskCache(cache.root).get("object", "k")
    b'code'
    """

    def __init__(self, root: str | None, *, salt: str | None = None, limit: int = LIMIT) -> None:
        self.root = root
        self.limit = limit
        self._salt = salt
        self._memory: dict[tuple[str, str], bytes] = {}
        self._usable: bool | None = None if root else False  # None: not looked at yet
        self._writable = True
        self._size: int | None = None  # bytes on disk, as far as this process knows

    # ------------------------------------------------------------------------------------- reading
    def get(self, kind: str, key: str) -> bytes | None:
        """The payload, or None when there is none or it is not what was written."""
        data = self._memory.get((kind, key))
        if data is None and self._ready():
            path = self._path(kind, key)
            try:
                with open(path, "rb") as f:
                    raw = f.read()
                    modified = os.fstat(f.fileno()).st_mtime
            except FileNotFoundError:
                return None
            except OSError as e:
                warn_once(f"cannot read the cache entry {path}: {e.strerror}")
                return None
            data = _payload(raw, self._seal(kind, key))
            if data is None:
                warn_once(f"ignoring the broken cache entry {path}")
                self._remove(path)
                return None
            self._memory[kind, key] = data
            if time.time() - modified > _TOUCH_AFTER:
                self._touch(path)
        return data

    # ------------------------------------------------------------------------------------- writing
    def put(self, kind: str, key: str, data: bytes) -> None:
        """Keep `data`, at least as long as this process lives."""
        data = bytes(data)
        self._memory[kind, key] = data
        if not (self._ready() and self._writable):
            return
        path = self._path(kind, key)
        aside = os.path.join(str(self.root), f".aside-{os.getpid()}-{next(_numbers)}")
        seal = self._seal(kind, key)
        raw = _HEAD.pack(MAGIC, _digest(seal, data), len(data)) + data
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with open(aside, "xb") as f:
                f.write(raw)
            os.replace(aside, path)
        except OSError as e:
            self._writable = False
            self._remove(aside)
            warn_once(f"cannot write to the cache {self.root}: {e.strerror}")
            return
        self._account(len(raw))

    def forget(self, kind: str, key: str) -> None:
        """Drop an entry that turned out to be of no use."""
        self._memory.pop((kind, key), None)
        if self._ready():
            self._remove(self._path(kind, key))

    def empty(self, kind: str) -> bool:
        """Is there no entry of this kind on disk?"""
        return not (self._ready() and os.path.isdir(os.path.join(str(self.root), kind)))

    def recipe(self) -> dict[str, Any] | None:
        """How another process opens the same cache; None where it cannot or may not."""
        if not (self._ready() and self._writable):
            return None
        if self._salt is None:
            self._salt = versions()
        arguments = {"root": os.path.abspath(str(self.root)), "salt": self._salt, "limit": self.limit}
        return {"module": __name__, "name": type(self).__name__, "arguments": arguments}

    # --------------------------------------------------------------------------------------- inside
    def _ready(self) -> bool:
        if self._usable is None:
            self._usable = self._look(str(self.root))
        return self._usable

    def _look(self, root: str) -> bool:
        try:
            os.makedirs(root, mode=0o700, exist_ok=True)
            found = os.stat(root)
        except OSError as e:
            warn_once(f"cannot use the cache directory {root}: {e.strerror}")
            return False
        if hasattr(os, "geteuid"):
            if found.st_uid != os.geteuid():
                warn_once(f"not using the cache directory {root}: it belongs to another user")
                return False
            if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                warn_once(f"not using the cache directory {root}: other users may write to it (chmod 700 helps)")
                return False
        return True

    def _seal(self, kind: str, key: str) -> bytes:
        """What the entry is: no two (salt, kind, key) have the same."""
        if self._salt is None:
            self._salt = versions()
        return "\0".join((self._salt, kind, key)).encode()

    def _path(self, kind: str, key: str) -> str:
        name = hashlib.sha256(self._seal(kind, key)).hexdigest()
        return os.path.join(str(self.root), kind, name[:2], name[2:34])

    def _touch(self, path: str) -> None:
        try:
            os.utime(path)
        except OSError:
            self._writable = False  # a read-only cache serves as it is

    def _remove(self, path: str) -> None:
        try:
            os.unlink(path)
        except OSError as e:
            if not isinstance(e, FileNotFoundError):
                self._writable = False

    def _account(self, added: int) -> None:
        """Keep the whole under its limit: at the first write the files are counted, later this process's own."""
        self._size = self._trim() if self._size is None else self._size + added
        if self._size > self.limit:
            self._size = self._trim()

    def _trim(self) -> int:
        """Remove the entries not used for longest until a fifth of the limit is free; give the bytes left."""
        entries: list[tuple[float, int, str]] = []
        now = time.time()
        for folder, _, names in os.walk(str(self.root)):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    found = os.stat(path)
                except OSError:
                    continue  # another process removed it
                if name.startswith(".aside-"):
                    if now - found.st_mtime > _ABANDONED:
                        self._remove(path)
                    continue
                entries.append((found.st_mtime, found.st_size, path))
        total = sum(size for _, size, _ in entries)
        if total > self.limit:
            for _, size, path in sorted(entries):
                if total <= self.limit * 4 // 5:
                    break
                self._remove(path)
                total -= size
        return total


def _digest(seal: bytes, data: bytes) -> bytes:
    return hashlib.sha256(seal + b"\0\0" + data).digest()


def _payload(raw: bytes, seal: bytes) -> bytes | None:
    """The payload of a whole entry that was written under this seal."""
    if len(raw) < _HEAD.size:
        return None
    magic, digest, length = _HEAD.unpack_from(raw)
    data = raw[_HEAD.size:]
    if magic != MAGIC or length != len(data) or digest != _digest(seal, data):
        return None
    return data
