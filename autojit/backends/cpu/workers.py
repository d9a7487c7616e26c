"""The user's end of one compile process.

In: kernel texts.  Out: what the process made of them.  Never shares a Python object with the other side, and never
uses `multiprocessing`: spawn runs the user's main module again, fork copies threads and locks.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import sys
import time
from typing import Any

from ...errors import CompileError
from .objects import Compiled
from .worker import decode, encode

READY_WITHIN = 30.0  # seconds; a process that is not ours (an embedding program) never gets ready
COMPILE_WITHIN = 180.0  # for one kernel; the longest that `compiler.refusal` lets pass take a tenth of it


# `python -m <module>`, less the user's face of autojit: the package without its __init__
_BOOT = """
import sys, types
package = sys.modules["autojit"] = types.ModuleType("autojit")
package.__path__ = [sys.argv[1]]
from autojit.backends.MODULE import main
main(int(sys.argv[2]))
"""


class NoProcess(Exception):
    """No compile process can be started here."""


class Died(Exception):
    """The process ended in the middle of a request; the message says how."""


class Overdue(Exception):
    """The process did not answer in time, and still works on it."""


def interpreter() -> list[str]:
    """The Python interpreter, and the folder of this package."""
    name = os.path.basename(sys.executable or "").lower()
    if getattr(sys, "frozen", False) or not ("python" in name or "pypy" in name):
        raise NoProcess(f"{sys.executable!r} is not a Python interpreter")
    return [sys.executable, os.path.dirname(os.path.abspath(sys.modules["autojit"].__file__ or ""))]


def command_of(module: str) -> list[str]:
    """What starts a process that runs `main` of a module of this folder's neighbours: ``cpu.worker``."""
    python, package = interpreter()
    # -P: a file of the user's directory must not hide a module
    return [python, "-P", "-c", _BOOT.replace("MODULE", module), package, str(os.getpid())]


def _command() -> list[str]:
    return command_of("cpu.worker")


def environment() -> dict[str, str]:
    """The modules found here must be found there too, whatever was done to sys.path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def _readable(fd: int, seconds: float) -> bool:
    if not hasattr(select, "poll"):
        return True  # read, however long it takes
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


class Worker:
    """One process, spoken to by one thread, which must outlive it: on Linux the process dies with its thread."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._buffer = b""
        try:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment(),
                process_group=0 if os.name == "posix" else None)  # Ctrl-C is the user's, not the worker's
        except OSError as e:
            raise NoProcess(str(e)) from e

    def command(self) -> list[str]:
        """What starts it."""
        return _command()

    def wait_ready(self) -> None:
        """Wait for the first line; NoProcess when it does not come."""
        try:
            if "ready" in self._receive(READY_WITHIN):
                return
        except (Died, Overdue, ValueError):
            pass  # said below, for all reasons alike
        self.end()
        raise NoProcess(f"{sys.executable} did not become a compile process")

    def compile(self, text: str, math: dict[str, bytes]) -> tuple[Compiled, dict[str, bytes]]:
        """Compile a kernel, given code of mathematical words; the kernel, and code of the words made on the way.

        Raises CompileError for a text that does not compile, Died when the process ends instead of answering, Overdue when
        it does neither: then it must be ended.
        """
        new = {word: code for word, code in math.items() if word not in self._known}
        self._send({"text": text, "math": encode(new)})
        self._known |= new.keys()
        reply = self._receive(COMPILE_WITHIN)
        if "error" in reply:
            raise CompileError(reply["error"])
        made = decode(reply["math"])
        self._known |= made.keys()
        kernel = Compiled(reply["symbol"], base64.b64decode(reply["code"]), tuple(reply["needs"]), reply["seconds"])
        return kernel, made

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        assert self.process.stdin is not None
        try:
            while data:
                data = data[os.write(self.process.stdin.fileno(), data):]
        except OSError:
            raise Died(self._how()) from None

    def _receive(self, seconds: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        fd, deadline = self.process.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._buffer:
            if not _readable(fd, max(0.0, deadline - time.monotonic())):
                raise Overdue(f"no answer within {seconds:g} s")
            try:
                data = os.read(fd, 1 << 16)
            except OSError:
                data = b""
            if not data:
                raise Died(self._how())
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return dict(json.loads(line))

    def _how(self) -> str:
        try:
            status = self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        return f"signal {-status}" if status < 0 else f"exit status {status}"

    def end(self) -> None:
        """Let it go: end of its input, then a signal if it is busy; waits, so that no zombie stays."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        """From any thread: whoever waits for an answer gets Died."""
        if self.process.poll() is None:
            self.process.terminate()

    def abandon(self) -> None:
        """In a forked child: close our copies of the pipes, or the process would never see them close."""
        self.process.returncode = 0  # not our child: never waited for here
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
