"""Kernels that a program asked for and did not live to see: compiled after it has ended, into the disk cache.

In: texts, and how another process opens the disk cache.  Out: one process that compiles them, stores them and ends, after
`WITHIN` seconds at the latest.  So the second run of a short script finds its kernels.  Never keeps the program that
ends waiting, never makes a cache directory that has gone, never prints.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from . import fingerprint

WITHIN = 20  # seconds
MOST = 64  # kernels
_BOOT = """
import sys, types
package = sys.modules["autojit"] = types.ModuleType("autojit")
package.__path__ = [sys.argv[1]]
from autojit.backends.cpu.leftover import main
main()
"""


def leave(texts: Iterable[str], recipe: dict[str, Any], command: list[str], environment: dict[str, str]) -> None:
    """Start the process and go.  `command`: a Python interpreter and the folder of the package, as `workers` has them."""
    request = json.dumps({"texts": sorted(texts, key=len, reverse=True)[:MOST], "store": recipe}).encode()
    interpreter, package = command
    with contextlib.suppress(OSError):  # no process, no kernels: the next run asks again
        process = subprocess.Popen([interpreter, "-P", "-c", _BOOT, package], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, env=environment, start_new_session=True, close_fds=True)
        assert process.stdin is not None
        process.stdin.write(request)  # all of it: what does not fit into the pipe waits for the process to read
        process.stdin.close()
        process.returncode = 0  # it outlives us: nobody waits for it


def main() -> None:
    """The process: requests on standard input, kernels to the cache."""
    if hasattr(signal, "alarm"):
        signal.alarm(WITHIN)  # its default ends the process, whatever LLVM is doing
    if hasattr(os, "nice"):
        os.nice(15)
    request = json.loads(sys.stdin.buffer.read())
    store = _opened(request["store"])
    root = request["store"]["arguments"].get("root")
    from . import codegen, mathcode
    from .worker import limit_memory

    limit_memory()
    math_key = fingerprint.math_fingerprint()
    for text in request["texts"]:
        key = f"{fingerprint.fingerprint()}\n{text}"
        if not os.path.isdir(root):
            return
        if store.get("object", key) is not None:
            continue
        for word in mathcode.words_in(text):
            code = store.get("math", f"{word} {math_key}")
            if code is not None:
                mathcode.learn({word: code})
        with contextlib.suppress(Exception):  # a kernel that does not compile is the next program's to report
            made = codegen.compile_text(text)
            if os.path.isdir(root):
                store.put("object", key, made.pack())
    if request["texts"] and os.path.isdir(root):
        from . import native, runtime

        native.load(runtime.text(), (), store=store, level=runtime.LEVEL)  # what the next program needs to run them


def _opened(recipe: dict[str, Any]) -> Any:
    """The store that another process described: a class by its module and name, and its arguments."""
    return getattr(importlib.import_module(recipe["module"]), recipe["name"])(**recipe["arguments"])
