"""A compile process: ``python -m autojit.backends.cpu.worker``.

In: requests on standard input, one JSON line each: ``{"text": ..., "math": {word: bitcode}}``.  Out: on what was
standard output, one JSON line each: first ``{"ready": pid}``, then ``{"symbol", "code", "needs", "seconds",
"math"}`` or ``{"error": message}``; bytes travel in base64.  Ends at the end of its input.  Never touches the disk
cache, never runs a kernel; what anything prints goes to standard error.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from typing import Any


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


def main() -> None:
    replies = os.dup(1)
    os.dup2(2, 1)  # prints must not mix with the protocol
    if hasattr(os, "nice"):
        os.nice(10)  # the user's own work goes first
    # Numba looks for SciPy's BLAS when it fills its full contexts (0.2 s); kernels never call it
    sys.modules["scipy"] = None  # type: ignore[assignment]
    from . import codegen

    codegen.warm_up()
    try:
        _send(replies, {"ready": os.getpid()})
        for line in sys.stdin.buffer:
            _send(replies, answer(json.loads(line)))
    except BrokenPipeError:  # the other side went away: so do we
        return


if __name__ == "__main__":
    main()
