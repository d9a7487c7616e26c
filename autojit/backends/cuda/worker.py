"""A compile process for the device: ``python -m autojit.backends.cuda.worker [pid of the process it serves]``.

In: requests on standard input, one JSON line each: ``{"text", "signature", "threads", "wide", "capability"}``.  Out: one JSON
line each: first ``{"ready": pid}``, then ``{"entry", "cubin", "resources", "seconds"}`` or ``{"error": message}``; bytes travel
in base64.  It sees no GPU, so that no context of the driver is made here.  Otherwise as the CPU's.
"""

from __future__ import annotations

import base64
import os
import sys
from typing import Any

from autojit.backends.cpu.worker import serve


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Compile one request."""
    from . import making

    os.environ["NUMBA_FORCE_CUDA_CC"] = making.forced(request["capability"])
    try:
        made = making.compile_source(making.Source.of(request))
    except Exception as e:  # whatever the compiler raises belongs to this kernel, and goes to whoever wants it
        return {"error": f"{e}" if type(e).__name__ == "CompileError" else f"{type(e).__name__}: {e}\n{request['text']}"}
    assert made.cubin is not None
    return {"entry": made.entry, "cubin": base64.b64encode(made.cubin).decode("ascii"),
            "resources": made.resources.as_dict(), "seconds": made.seconds}


def _warm_up() -> None:
    """Import what every kernel needs, if it is here: what is missing is told with the first kernel."""
    from . import making

    making.warm_up()


def main(served: int | None = None) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.setdefault("NUMBA_FORCE_CUDA_CC", "9.0a")   # with one named, nobody asks NVRTC which there are
    serve(served, answer, _warm_up)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
