"""The compile side as the user's process sees it: texts go out, addresses come back.

In: kernel texts.  Out: `Ticket`s (`Compiler`), and addresses of functions in memory (`KernelStore`), from memory,
from the disk cache, or from compile processes that start at the first miss.  Never imports Numba here, unless no
process can be started; never lets one bad kernel take others down.
"""

from __future__ import annotations

import atexit
import contextlib
import heapq
import itertools
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterable
from typing import Any, Protocol

from ...config import config
from ...errors import CompileError
from . import fingerprint, leftover, workers
from .objects import Compiled, Loader
from .workers import Died, NoProcess, Overdue, Worker

IDLE_SECONDS = 60.0  # after which a process without work is let go
PROGRESS_AFTER = 2.0
ATTEMPTS = 2  # a process can be killed for reasons that are not its kernel's
# A kernel at one of these limits takes 10 to 20 s and 0.3 GB; time and memory grow faster than the text
MOST_LINES = 6000
MOST_BYTES = 300_000
ADVICE = ('split the function into smaller ones that are traced by themselves, or set aj.config.tier = "auto" '
          "(AUTOJIT_TIER=auto), where NumPy runs what does not compile")


class Store(Protocol):
    """What keeps bytes between processes: `engine.cache.DiskCache`."""

    def get(self, kind: str, key: str) -> bytes | None: ...

    def put(self, kind: str, key: str, data: bytes) -> None: ...

    def forget(self, kind: str, key: str) -> None: ...

    def empty(self, kind: str) -> bool: ...

    def recipe(self) -> dict[str, Any] | None: ...


def refusal(text: str) -> CompileError | None:
    """The error of a kernel too long to compile in seconds and a few hundred megabytes; None for all others."""
    for size, most, what in ((text.count("\n"), MOST_LINES, "lines"), (len(text), MOST_BYTES, "bytes")):
        if size > most:
            return CompileError(f"a kernel of {size:,} {what} is too long to compile (at most {most:,}): {ADVICE}")
    return None


class Ticket:
    """One kernel on its way: `done`, then either `result` or `error`."""

    __slots__ = ("text", "done", "result", "error", "attempts", "taken", "asked")

    def __init__(self, text: str) -> None:
        self.text = text
        self.done = self.taken = False
        self.result: Compiled | None = None
        self.error: CompileError | None = None
        self.attempts = 0
        self.asked = time.monotonic()

    def get(self) -> Compiled:
        """The kernel, once `done`; raises CompileError when there is none."""
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


class Compiler:
    """Compiles texts in processes of its own; safe to call from several threads and after a fork.

    At most `config.workers` processes run; with 0, or where none can be started, this process compiles itself.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._store = store
        self._math: dict[str, bytes] = {}
        self._number = itertools.count()
        self._failures = 0
        self._inline = False
        self._reset()
        _live.add(self)

    def _reset(self) -> None:
        self._cond = threading.Condition()
        self._queue: list[tuple[bool, int, int, Ticket]] = []
        self._pending: set[Ticket] = set()
        self._drivers: list[_Driver] = []
        self._early = 0
        self._closed = False

    # --------------------------------------------------------------------------------------- asking
    def submit(self, texts: Iterable[Any], urgent: bool = False) -> list[Ticket]:
        """Start compiling; what is urgent goes first, then what is largest."""
        tickets = [self._ticket(text) for text in texts]
        with self._cond:
            for ticket in tickets:
                ticket.error = refusal(ticket.text)
                if ticket.error is not None:
                    ticket.done = True
                    continue
                self._pending.add(ticket)
                self._push(ticket, urgent)
            if self._closed:
                self._fail_all()
            self._start_drivers()
            self._cond.notify_all()
        return tickets

    def early(self) -> None:
        """Start two processes before there is work: whoever calls knows that there will be."""
        with self._cond:
            self._early = 2
            self._start_drivers()

    def wait(self, tickets: Iterable[Ticket]) -> None:
        """Return when all are done (their errors stay on them)."""
        left = [t for t in tickets if not t.done]
        if not left:
            return
        with self._cond, _Progress(len(left)) as progress:
            for ticket in left:
                if not ticket.taken:
                    self._push(ticket, urgent=True)  # the entry it had is skipped when its turn comes
            while left:
                self._start_drivers()
                self._cond.wait(0.5)
                left = [t for t in left if not t.done]
                progress.show(len(left))

    def poll(self, tickets: Iterable[Ticket]) -> bool:
        """Are all done?"""
        return all(t.done for t in tickets)

    def leave(self) -> None:
        """The program ends: what is still pending is compiled after it, for the next one."""
        recipe = self._store.recipe() if self._store is not None else None
        with self._cond:                                  # drivers are still at work
            texts = [t.text for t in self._pending if not t.attempts]
        if recipe is not None and texts and not self._closed:
            with contextlib.suppress(NoProcess):
                leftover.leave(texts, recipe, workers.interpreter(), workers.environment())

    def close(self) -> None:
        """End the processes; what is still pending fails."""
        with self._cond:
            self._early = 0
            self._closed = True
            drivers = list(self._drivers)
            self._fail_all()
            self._cond.notify_all()
        for driver in drivers:
            driver.interrupt()
        for driver in drivers:
            driver.join(2)

    # ------------------------------------------------------- what compilers of other devices do otherwise
    def _ticket(self, text: Any) -> Ticket:
        return Ticket(text)

    def _process(self) -> Any:
        """A new compile process.  Raises NoProcess."""
        return Worker()

    def _by(self, worker: Any, ticket: Ticket) -> Any:
        """A kernel, compiled by a process."""
        result, math = worker.compile(ticket.text, self._math_for(ticket.text))
        self._learn(math)
        return result

    # --------------------------------------------------------------------------------------- inside
    def _fail_all(self) -> None:
        self._queue = []
        for ticket in list(self._pending):
            self._finish(ticket, error=CompileError("the compiler was closed"))

    def _push(self, ticket: Ticket, urgent: bool) -> None:
        heapq.heappush(self._queue, (not urgent, -len(ticket.text), next(self._number), ticket))

    def _start_drivers(self) -> None:
        """As many as there is work for: two at once for two kernels, then one more for every four."""
        if self._closed:
            return
        self._drivers = [d for d in self._drivers if d.is_alive()]
        jobs = len(self._pending)
        most = 1 if self._inline or config.workers < 1 else config.workers
        for _ in range(max(min(most, jobs, 2 + jobs // 4), min(most, self._early)) - len(self._drivers)):
            driver = _Driver(self)
            self._drivers.append(driver)
            driver.start()

    def _next(self) -> Ticket | None:
        """The next ticket for a driver; None when it should go home."""
        deadline = time.monotonic() + IDLE_SECONDS
        with self._cond:
            while not self._closed:
                while self._queue:
                    ticket = heapq.heappop(self._queue)[3]
                    if not (ticket.taken or ticket.done):
                        ticket.taken = True
                        return ticket
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._cond.wait(left)
            self._drivers = [d for d in self._drivers if d is not threading.current_thread()]
            return None

    def _finish(self, ticket: Ticket, result: Any = None, error: CompileError | None = None) -> None:
        with self._cond:
            if not ticket.done:
                ticket.result, ticket.error, ticket.done = result, error, True
                self._pending.discard(ticket)
                self._cond.notify_all()

    def _again(self, ticket: Ticket, why: Died) -> None:
        """The process died under this ticket: once may be an accident, twice is the kernel."""
        ticket.attempts += 1
        if ticket.attempts >= ATTEMPTS:
            self._finish(ticket, error=CompileError(
                f"the compile process died ({why}) on a kernel; {ADVICE}:\n{ticket.text}"))
            return
        with self._cond:
            ticket.taken = False
            if not ticket.done:
                self._push(ticket, urgent=True)

    def _compile_here(self, ticket: Ticket) -> None:
        from . import codegen, mathcode

        with _here:
            mathcode.learn(self._math_for(ticket.text))
            try:
                result = codegen.compile_text(ticket.text)
            except CompileError as e:
                self._finish(ticket, error=e)
                return
            self._learn({w: c for w, c in mathcode.known().items() if w not in self._math})
        self._finish(ticket, result)

    # -------------------------------------------------------------------------- mathematical words
    def _math_for(self, text: str) -> dict[str, bytes]:
        """Code of the words of a text, as far as it was ever made on this machine."""
        from . import mathcode

        words = mathcode.needed(text)
        for word in words:
            if word not in self._math and self._store is not None:
                code = self._store.get("math", self._math_key(word))
                if code is not None:
                    self._math[word] = code
        return {w: self._math[w] for w in words if w in self._math}

    def _learn(self, codes: dict[str, bytes]) -> None:
        for word, code in codes.items():
            self._math[word] = code
            if self._store is not None:
                self._store.put("math", self._math_key(word), code)

    def _math_key(self, word: str) -> str:
        return f"{word} {fingerprint.math_fingerprint()}"


class _Driver(threading.Thread):
    """A thread that holds one process and feeds it; without a process, it compiles here."""

    def __init__(self, compiler: Compiler) -> None:
        super().__init__(name="autojit-compile", daemon=True)
        self.compiler = compiler
        self.worker: Any = None

    def run(self) -> None:
        try:
            self._start_process()  # before there is a ticket in hand: it takes longest
            while (ticket := self.compiler._next()) is not None:
                self._serve(ticket)
        finally:
            if self.worker is not None:
                self.worker.end()

    def _start_process(self) -> None:
        compiler = self.compiler
        while self.worker is None and not (compiler._inline or compiler._closed or config.workers < 1):
            try:
                self.worker = compiler._process()
                self.worker.wait_ready()
            except NoProcess:
                self.worker = None
                compiler._failures += 1
                compiler._inline = compiler._failures >= ATTEMPTS

    def _serve(self, ticket: Ticket) -> None:
        compiler = self.compiler
        try:
            self._start_process()
            if self.worker is None:
                compiler._compile_here(ticket)
                return
            result = compiler._by(self.worker, ticket)
            if config.debug >= 1:
                print(f"autojit kernel: {ticket.text.count(chr(10))} lines in {result.seconds * 1e3:.0f} ms, after "
                      f"{(time.monotonic() - ticket.asked) * 1e3:.0f} ms", file=sys.stderr)
            compiler._finish(ticket, result)
        except Died as e:
            if self.worker is not None:
                self.worker.end()
            self.worker = None
            compiler._again(ticket, e)
        except Overdue as e:  # trying again would take as long
            if self.worker is not None:
                self.worker.end()
            self.worker = None
            compiler._finish(ticket, error=CompileError(
                f"a kernel took too long to compile ({e}); {ADVICE}:\n{ticket.text}"))
        except CompileError as e:
            compiler._finish(ticket, error=e)
        except Exception as e:  # the thread must live on, and whoever waits must hear of it
            compiler._finish(ticket, error=CompileError(f"{type(e).__name__}: {e}"))

    def interrupt(self) -> None:
        if self.worker is not None:
            self.worker.kill()


class _Progress:
    """A line on the terminal while somebody waits long."""

    def __init__(self, total: int) -> None:
        self.total, self.start, self.shown = total, time.monotonic(), False

    def __enter__(self) -> _Progress:
        return self

    def show(self, left: int) -> None:
        seconds = time.monotonic() - self.start
        if left and seconds > PROGRESS_AFTER and sys.stderr is not None and sys.stderr.isatty():
            self.shown = True
            sys.stderr.write(f"\rautojit: compiling, {self.total - left} of {self.total} kernels, {seconds:.0f} s ")
            sys.stderr.flush()

    def __exit__(self, *_: Any) -> None:
        if self.shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


# ------------------------------------------------------------------------------- process-wide events
_live: weakref.WeakSet[Compiler] = weakref.WeakSet()
_stores: weakref.WeakSet[KernelStore] = weakref.WeakSet()
_here = threading.Lock()  # LLVM in this process: one compile at a time


@atexit.register
def _close_all() -> None:
    for compiler in list(_live):
        compiler.leave()
        compiler.close()


def _before_fork() -> None:
    for compiler in list(_live):
        compiler._cond.acquire()


def _after_fork_in_parent() -> None:
    for compiler in list(_live):
        with contextlib.suppress(RuntimeError):  # made between the two calls
            compiler._cond.release()


def _after_fork_in_child() -> None:
    """The threads are gone and the processes are the parent's: begin anew, with the same work to do."""
    global _here
    _here = threading.Lock()
    for compiler in list(_live):
        pending = list(compiler._pending)
        for driver in compiler._drivers:
            if driver.worker is not None:
                driver.worker.abandon()
        compiler._reset()
        for ticket in pending:
            ticket.taken = False
            compiler._pending.add(ticket)
            compiler._push(ticket, urgent=False)
    for store in list(_stores):
        store._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent,
                        after_in_child=_after_fork_in_child)


# ------------------------------------------------------------------------------------------ kernels
class Counters:
    """What a `KernelStore` did; `seconds` were spent compiling (by whatever process), `load_seconds` loading."""

    __slots__ = ("compiled", "disk_hits", "memory_hits", "failed", "seconds", "load_seconds")

    def __init__(self) -> None:
        self.compiled = self.disk_hits = self.memory_hits = self.failed = 0
        self.seconds = self.load_seconds = 0.0

    def as_dict(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in self.__slots__}


class KernelStore:
    """Addresses of kernels by their text: memory, then disk, then the compiler.

    >>> store = KernelStore()
    >>> store.address("def kernel(args, lo, hi, chunk):\\n    pass\\n") is None
    True
    """

    def __init__(self, disk: Store | None = None, compiler: Compiler | None = None) -> None:
        self._disk = disk
        self._compiler = compiler
        self._loader = Loader()
        self._addresses: dict[str, int] = {}
        self._tickets: dict[str, Ticket] = {}
        self._lock = threading.RLock()
        self.counters = Counters()
        _stores.add(self)

    def address(self, text: str) -> int | None:
        """The address of a kernel, if it need not be compiled (or just was): memory, else disk.

        Raises CompileError, here as below, for a text that was tried and does not compile.
        """
        found = self._addresses.get(text)
        if found is not None:
            self.counters.memory_hits += 1
            return found
        with self._lock:
            return self._collect(text) if text in self._tickets else self._from_disk(text)

    def request(self, texts: Iterable[str]) -> None:
        """Start compiling in the background what is neither in memory nor on disk."""
        self._submit(texts, urgent=False)

    def ready(self, texts: Iterable[str]) -> bool:
        """Can `require` answer at once?"""
        with self._lock:
            return all([t in self._addresses or self._collect(t) is not None for t in texts])

    def require(self, texts: Iterable[str]) -> list[int]:
        """The addresses of all kernels, compiled if need be."""
        texts = list(texts)
        self.counters.memory_hits += sum(t in self._addresses for t in texts)
        self._submit(texts, urgent=True)
        waiting = [self._tickets[t] for t in texts if t in self._tickets]
        if waiting:
            self.compiler.wait(waiting)
        with self._lock:
            for text in texts:
                self._collect(text)
            return [self._addresses[t] for t in texts]

    @property
    def compiler(self) -> Compiler:
        with self._lock:
            if self._compiler is None:
                self._compiler = Compiler(self._disk)
            return self._compiler

    # --------------------------------------------------------------------------------------- inside
    def _submit(self, texts: Iterable[str], urgent: bool) -> None:
        with self._lock:
            missing = [t for t in dict.fromkeys(texts) if t not in self._addresses and t not in self._tickets
                       and self._from_disk(t) is None]
            if missing:
                self._tickets.update(zip(missing, self.compiler.submit(missing, urgent)))

    def _key(self, text: str) -> str:
        return f"{fingerprint.fingerprint()}\n{text}"

    def _from_disk(self, text: str) -> int | None:
        if self._disk is None:
            return None
        data = self._disk.get("object", self._key(text))
        if data is None:
            return None
        try:
            address = self._load(text, Compiled.unpack(data))
        except ValueError:  # whole, but not for this process: made anew
            self._disk.forget("object", self._key(text))
            return None
        self.counters.disk_hits += 1
        return address

    def _collect(self, text: str) -> int | None:
        """Take a finished kernel from its ticket."""
        ticket = self._tickets.get(text)
        if ticket is None or not ticket.done:
            return self._addresses.get(text)
        if ticket.error is not None:  # and stays: trying again would fail again
            self.counters.failed = sum(t.error is not None for t in self._tickets.values())
            raise CompileError(*ticket.error.args)
        made = ticket.get()
        del self._tickets[text]
        self.counters.compiled += 1
        self.counters.seconds += made.seconds
        address = self._load(text, made)
        if self._disk is not None:
            self._disk.put("object", self._key(text), made.pack())
        return address

    def _load(self, text: str, made: Compiled) -> int:
        start = time.perf_counter()
        address = self._addresses[text] = self._loader.load(made.symbol, made.code, made.needs)
        self.counters.load_seconds += time.perf_counter() - start
        return address
