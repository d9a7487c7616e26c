"""What object code depends on besides its text and the versions of packages: the CPU, and the compile side itself.

In: this machine and the files of this folder.  Out: a short string that goes into every key of compiled code.
Never imports Numba or the files it digests.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import cache

# a change in one of these can change the code of a kernel whose text stays the same
SOURCES = ("codegen.py", "direct.py", "front.py", "instructions.py", "interpret.py", "library.py", "mathcode.py", "target.py",
           "words.py")


def source_digest(paths: Iterable[str]) -> str:
    """A digest of the contents of files."""
    total = hashlib.sha256()
    for path in sorted(paths):
        with open(path, "rb") as f:
            data = f.read()
        total.update(b"%d " % len(data) + data)
    return total.hexdigest()


_HERE = os.path.dirname(os.path.abspath(__file__))
_MATH = os.path.join(_HERE, "vecmath")


@cache
def math_fingerprint() -> str:
    """What the code of the mathematical words depends on: it outlives changes in the rest."""
    from . import target
    files = [os.path.join(_MATH, n) for n in os.listdir(_MATH) if n.endswith(".py")]
    return f"{target.cpu_name()} {target.features()} {source_digest([*files, os.path.join(_HERE, 'mathcode.py')])}"


@cache
def fingerprint() -> str:
    """What the code of a kernel depends on."""
    return f"{math_fingerprint()} {source_digest(os.path.join(_HERE, n) for n in SOURCES)}"
