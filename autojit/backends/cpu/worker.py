"""A compile process: ``python -m autojit.backends.cpu.worker [pid of the process it serves]``.

In: requests on standard input, one JSON line each: ``{"text": ..., "math": {word: bitcode}}``.  Out: on what was
standard output, one JSON line each: first ``{"ready": pid}``, then ``{"symbol", "code", "needs", "seconds",
"math"}`` or ``{"error": message}``; bytes travel in base64.  Ends at the end of its input, and at once when the process
it serves is gone, whatever it is compiling.  Never touches the disk cache, never runs a kernel; what anything prints
goes to standard error.
"""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

MOST_MEMORY = 4 << 30  # bytes of private data; kernels take 0.1 to 0.5 GB
_PR_SET_PDEATHSIG = 1


def encode(codes: dict[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(code).decode("ascii") for name, code in codes.items()}


def decode(codes: dict[str, str]) -> dict[str, bytes]:
    return {name: base64.b64decode(code) for name, code in codes.items()}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Compile one request."""
    from . import codegen, mathcode

    mathcode.learn(decode(request["math"]))
    before = mathcode.known()
    try:
        made = codegen.compile_text(request["text"])
    except Exception as e:  # whatever the compiler raises belongs to this kernel, and goes to whoever wants it
        return {"error": f"{e}" if type(e).__name__ == "CompileError" else f"{type(e).__name__}: {e}\n{request['text']}"}
    new = {name: code for name, code in mathcode.known().items() if name not in before}
    return {"symbol": made.symbol, "code": base64.b64encode(made.code).decode("ascii"), "needs": made.needs,
            "seconds": made.seconds, "math": encode(new)}


def _send(fd: int, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(fd, data):]


def _die_with_parent() -> bool:
    """Have Linux kill this process when the thread that started it is gone.

    That thread lives as long as it wants this process: `compiler._Driver` ends its process before it returns.
    """
    if sys.platform != "linux":
        return False
    import ctypes

    try:
        return ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) == 0  # type: ignore[no-any-return]
    except (OSError, AttributeError):  # no such C library
        return False


def _gone(served: int) -> bool:
    """Is the process we serve gone already?  Both signs: a launcher may stand between us, and input may just end."""
    if os.getppid() == served or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(0, select.POLLHUP)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def _watch() -> None:
    """End this process once its parent is another (POSIX: orphans are adopted).

    A thread is enough: the long parts are LLVM's, which ctypes runs without the GIL, and Python's, which share it.
    """
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _serve_only(served: int) -> None:
    """Never outlive the process `served`."""
    if not _die_with_parent():
        threading.Thread(target=_watch, name="autojit-watch", daemon=True).start()
    if _gone(served):  # before we asked
        os._exit(1)


def limit_memory() -> None:
    """A kernel that needs too much fails here, and not the machine."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft == resource.RLIM_INFINITY or soft > MOST_MEMORY:
        try:
            resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, hard))
        except (OSError, ValueError) as e:
            print(f"autojit: no bound on the memory of a compile process: {e}", file=sys.stderr)


def serve(served: int | None, answer: Callable[[dict[str, Any]], dict[str, Any]], warm_up: Callable[[], None]) -> None:
    """Get ready, then answer requests until there are no more."""
    replies = os.dup(1)
    os.dup2(2, 1)  # prints must not mix with the protocol
    if served is not None:
        _serve_only(served)
    limit_memory()
    if hasattr(os, "nice"):
        os.nice(10)  # the user's own work goes first
    sys.modules["scipy"] = None  # type: ignore[assignment]  # where Numba is needed, it would look for SciPy's BLAS (0.2 s)
    warm_up()
    try:
        _send(replies, {"ready": os.getpid()})
        for line in sys.stdin.buffer:
            _send(replies, answer(json.loads(line)))
    except BrokenPipeError:  # the other side went away: so do we
        return


def _warm_up() -> None:
    from . import codegen

    codegen.warm_up()


def main(served: int | None = None) -> None:
    serve(served, answer, _warm_up)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
