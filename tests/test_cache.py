"""The disk cache, and what becomes of compile processes, kernels and forks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import pytest

from autojit.backends.cpu import compiler as compiler_module
from autojit.backends.cpu import elf, workers
from autojit.backends.cpu.compiler import Compiler, KernelStore
from autojit.backends.cpu.objects import Compiled, Loader, symbol_of
from autojit.config import config
from autojit.engine import cache as cache_module
from autojit.engine.cache import DiskCache
from autojit.errors import CacheWarning, CompileError

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
not_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")


def kernel(k: int) -> str:
    return ("def kernel(args, lo, hi, chunk):\n    x = i64(args, 0, 1)\n"
            f"    for i in range(lo, hi):\n        x[i] = x[i] + {k}\n")


@pytest.fixture(autouse=True)
def fresh_warning(monkeypatch):
    monkeypatch.setattr(cache_module, "_warned", False)


@pytest.fixture
def silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)
        yield


def files(root) -> list:
    return sorted(p for p in root.rglob("*") if p.is_file())


# --------------------------------------------------------------------------------------- disk cache
def test_round_trip(tmp_path, silent):
    a = DiskCache(str(tmp_path / "deep" / "cache"))
    assert a.get("object", "k") is None
    a.put("object", "k", b"one")
    a.put("template", "k", b"two")
    a.put("object", "empty", b"")
    b = DiskCache(a.root)
    assert [b.get("object", "k"), b.get("template", "k"), b.get("object", "empty")] == [b"one", b"two", b""]
    b.forget("object", "k")
    assert b.get("object", "k") is None and DiskCache(a.root).get("object", "k") is None
    if os.name == "posix":
        assert os.stat(a.root).st_mode & 0o777 == 0o700


def test_memory_only(silent):
    cache = DiskCache(None)
    cache.put("object", "k", b"x")
    assert cache.get("object", "k") == b"x" and cache.get("object", "other") is None


def test_salt_separates_versions(tmp_path, silent):
    old, new = (DiskCache(str(tmp_path), salt=s) for s in ("numba 1", "numba 2"))
    old.put("object", "k", b"old")
    assert new.get("object", "k") is None
    new.put("object", "k", b"new")
    assert DiskCache(str(tmp_path), salt="numba 1").get("object", "k") == b"old"


def test_versions_are_read_without_importing():
    import llvmlite
    import numba
    assert f"numba {numba.__version__} " in cache_module.versions() + " "
    assert f"llvmlite {llvmlite.__version__} " in cache_module.versions() + " "
    assert cache_module.package_version("no_such_package_at_all") == "none"


DAMAGE = {
    "truncated": lambda raw: raw[:-1],
    "truncated in its head": lambda raw: raw[:20],
    "emptied": lambda raw: b"",
    "a flipped bit": lambda raw: raw[:-3] + bytes([raw[-3] ^ 4]) + raw[-2:],
    "longer": lambda raw: raw + b"!",
    "of another format": lambda raw: raw[:7] + b"\x02" + raw[8:],
    "a pickle": lambda raw: b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x94.",
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_entries_are_ignored_and_rebuilt(tmp_path, how):
    DiskCache(str(tmp_path)).put("object", "k", b"the payload")
    path, = files(tmp_path)
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    cache = DiskCache(str(tmp_path))
    with pytest.warns(CacheWarning, match="broken cache entry"):
        assert cache.get("object", "k") is None
    cache.put("object", "k", b"again")
    assert DiskCache(str(tmp_path)).get("object", "k") == b"again"


def test_a_renamed_entry_is_foreign(tmp_path):
    cache = DiskCache(str(tmp_path))
    cache.put("object", "a", b"payload of a")
    one, = files(tmp_path)
    cache.put("object", "b", b"payload of b")
    other, = set(files(tmp_path)) - {one}
    other.write_bytes(one.read_bytes())
    with pytest.warns(CacheWarning):
        assert DiskCache(str(tmp_path)).get("object", "b") is None


def test_one_warning_a_process(tmp_path):
    cache = DiskCache(str(tmp_path))
    for k in range(3):
        cache.put("object", str(k), b"x")
    for path in files(tmp_path):
        path.write_bytes(b"junk")
    with pytest.warns(CacheWarning) as seen:
        assert all(DiskCache(str(tmp_path)).get("object", str(k)) is None for k in range(3))
    assert len(seen) == 1


@posix
def test_a_directory_others_may_write_to_is_not_used(tmp_path):
    root = tmp_path / "open"
    root.mkdir()
    root.chmod(0o777)
    cache = DiskCache(str(root))
    with pytest.warns(CacheWarning, match="other users"):
        cache.put("object", "k", b"x")
    assert cache.get("object", "k") == b"x" and not files(root)


@posix
def test_somebody_elses_directory_is_not_used(tmp_path, monkeypatch):
    DiskCache(str(tmp_path)).put("object", "k", b"x")
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.warns(CacheWarning, match="another user"):
        assert DiskCache(str(tmp_path)).get("object", "k") is None


@posix
@not_root
def test_read_only_directory(tmp_path):
    DiskCache(str(tmp_path)).put("object", "k", b"x")
    for folder, _, _ in os.walk(tmp_path):
        os.chmod(folder, 0o500)
    try:
        cache = DiskCache(str(tmp_path))
        assert cache.get("object", "k") == b"x"
        with pytest.warns(CacheWarning, match="cannot write"):
            cache.put("object", "new", b"y")
        assert cache.get("object", "new") == b"y"
    finally:
        for folder, _, _ in os.walk(tmp_path):
            os.chmod(folder, 0o700)


def test_a_disk_that_refuses(tmp_path, monkeypatch):
    """Full, read-only, gone: the same for us."""
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.os, "replace", full)
    cache = DiskCache(str(tmp_path))
    with pytest.warns(CacheWarning, match="No space left"):
        cache.put("object", "k", b"x")
    cache.put("object", "l", b"y")
    assert (cache.get("object", "k"), cache.get("object", "l")) == (b"x", b"y")
    assert not files(tmp_path)


def test_a_file_where_the_directory_should_be(tmp_path):
    (tmp_path / "file").write_text("mine")
    cache = DiskCache(str(tmp_path / "file"))
    with pytest.warns(CacheWarning, match="cannot use"):
        cache.put("object", "k", b"x")
    assert cache.get("object", "k") == b"x" and (tmp_path / "file").read_text() == "mine"


def test_limit_drops_what_was_not_used_for_longest(tmp_path, silent):
    cache = DiskCache(str(tmp_path), limit=10_000)
    for k in range(8):
        cache.put("object", str(k), bytes(1000))
    day = 86400.0
    for age, path in enumerate(sorted(files(tmp_path), key=lambda p: cache_index(cache, p))):
        os.utime(path, (time.time() - (9 - age) * day,) * 2)
    assert DiskCache(str(tmp_path)).get("object", "0") is not None  # used just now
    for k in range(8, 11):
        cache.put("object", str(k), bytes(1000))
    left = [k for k in range(11) if DiskCache(str(tmp_path)).get("object", str(k)) is not None]
    assert 0 in left and 1 not in left and {8, 9, 10} <= set(left)
    assert sum(p.stat().st_size for p in files(tmp_path)) <= 10_000


def cache_index(cache: DiskCache, path) -> int:
    return next(k for k in range(20) if os.path.samefile(cache._path("object", str(k)), path))


def test_abandoned_files_are_swept(tmp_path, silent):
    old, young = tmp_path / ".aside-1-1", tmp_path / ".aside-1-2"
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    DiskCache(str(tmp_path)).put("object", "k", b"x")
    assert not old.exists() and young.exists()


def test_two_processes_race(tmp_path, silent):
    code = textwrap.dedent("""
        import sys
        from autojit.engine.cache import DiskCache
        for k in range(60):
            cache = DiskCache(sys.argv[1], limit=40_000)
            want = str(k % 7).encode() * 3000
            found = cache.get("object", str(k % 7))
            assert found in (None, want), found[:20]
            cache.put("object", str(k % 7), want)
    """)
    root = str(tmp_path / "cache")
    running = [subprocess.Popen([sys.executable, "-W", "error", "-c", code, root], env=environment()) for _ in range(3)]
    assert [p.wait(60) for p in running] == [0, 0, 0]
    assert DiskCache(root).get("object", "3") == b"3" * 3000


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


# ------------------------------------------------------------------------------------------- loading
def test_pack_and_loader_refuse_what_is_not_whole():
    from autojit.backends.cpu import codegen
    made = codegen.compile_text(kernel(1))
    again = Compiled.unpack(made.pack())
    assert (again.symbol, again.code, again.needs) == (made.symbol, made.code, made.needs)
    assert made.symbol == symbol_of(kernel(1))
    loader = Loader()
    if elf.NATIVE:
        for code in (made.code[:-1], made.code[:200], b"", b"\x7fELF junk", made.code.replace(b"autojit_", b"autojat_")):
            with pytest.raises(ValueError):
                loader.load(made.symbol, code)
    with pytest.raises(ValueError, match="no_such_symbol"):
        loader.load(made.symbol, made.code, ["no_such_symbol"])
    address = loader.load(made.symbol, made.code)
    assert address and loader.load(made.symbol, made.code) == address
    for junk in (b"", b"no newline", b"oneword\ncode"):
        with pytest.raises(ValueError):
            Compiled.unpack(junk)


# ---------------------------------------------------------------------------- processes (stand-ins)
FAKE = """
import base64, json, os, sys, time
print(json.dumps({"ready": 1}), flush=True)
for line in sys.stdin:
    text = json.loads(line)["text"]
    open(LOG, "a").write(text.splitlines()[0] + chr(10))
    if "die" in text: os.kill(os.getpid(), 9)
    if "once" in text and not os.path.exists(LOG + ".once"):
        open(LOG + ".once", "w"); os.kill(os.getpid(), 9)
    if "sleep" in text: time.sleep(30)
    if "bad" in text: reply = {"error": "refused: " + text}
    else: reply = {"symbol": "s", "code": base64.b64encode(text.encode()).decode(), "needs": [], "seconds": .5, "math": {}}
    print(json.dumps(reply), flush=True)
"""


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Compile processes that answer at once, and die or refuse as the text says; gives the log's path."""
    log = tmp_path / "log"
    log.touch()
    monkeypatch.setattr(workers, "_command", lambda: [sys.executable, "-c", f"LOG = {str(log)!r}\n{FAKE}"])
    config.workers = 2
    yield log
    config.reset()


@pytest.fixture
def compiler(fake):
    made = Compiler()
    yield made
    made.close()


@posix
def test_answers_errors_and_deaths(compiler):
    good, bad, die, once = compiler.submit(["good", "bad", "die", "once"])
    compiler.wait([good, bad, die, once])
    assert compiler.poll([good, bad, die, once])
    assert good.get().code == b"good"
    assert once.get().code == b"once"  # its first process was killed, which may be an accident
    with pytest.raises(CompileError, match="refused: bad"):
        bad.get()
    with pytest.raises(CompileError, match=r"died \(signal 9\).*\ndie"):
        die.get()
    later, = compiler.submit(["later"])
    compiler.wait([later])
    assert later.get().code == b"later"


@posix
def test_largest_first_and_at_most_as_many_as_allowed(compiler, fake):
    config.workers = 1
    tickets = compiler.submit(["a", "a" * 30, "a" * 10])
    compiler.wait(tickets)
    assert fake.read_text().split() == ["a" * 30, "a" * 10, "a"]
    assert len(compiler._drivers) == 1


@posix
def test_waiting_moves_a_kernel_ahead(compiler, fake):
    config.workers = 1
    background = compiler.submit(["x" * n for n in (50, 40, 30)])
    wanted, = compiler.submit(["y"])
    compiler.wait([wanted])
    compiler.wait(background)
    assert fake.read_text().split().index("y") <= 1  # behind the one that was already begun, at most


@posix
def test_close_ends_processes_and_fails_what_is_pending(compiler):
    ticket, = compiler.submit(["sleep"])
    while not (compiler._drivers[0].worker and ticket.taken):
        time.sleep(0.01)
    process = compiler._drivers[0].worker.process
    start = time.monotonic()
    compiler.close()
    assert time.monotonic() - start < 5 and process.poll() is not None
    with pytest.raises(CompileError, match="closed"):
        ticket.get()
    late, = compiler.submit(["late"])
    assert late.done and late.error is not None


@posix
def test_idle_processes_go(compiler, monkeypatch):
    monkeypatch.setattr(compiler_module, "IDLE_SECONDS", 0.05)
    compiler.wait(compiler.submit(["a"]))
    driver = compiler._drivers[0] if compiler._drivers else None
    if driver:
        driver.join(5)
    assert not compiler._drivers
    again = compiler.submit(["b"])
    compiler.wait(again)
    assert again[0].get().code == b"b"


@posix
def test_many_threads(compiler):
    got: dict[int, bytes] = {}

    def ask(k: int) -> None:
        tickets = compiler.submit([f"text {k} {j}" for j in range(5)])
        compiler.wait(tickets)
        got[k] = b"|".join(t.get().code for t in tickets)

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert got == {k: b"|".join(b"text %d %d" % (k, j) for j in range(5)) for k in range(6)}


@posix
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_compiles_with_processes_of_its_own(compiler, fake):
    compiler.wait(compiler.submit(["before"]))
    parents = {d.worker.process.pid for d in compiler._drivers if d.worker}
    slow, = compiler.submit(["slow"])
    child = os.fork()
    if child == 0:
        status = 1
        try:
            mine = compiler.submit(["mine"])
            compiler.wait([slow, *mine])
            own = {d.worker.process.pid for d in compiler._drivers if d.worker}
            status = 0 if mine[0].get().code == b"mine" and slow.get() and own and not own & parents else 2
            compiler.close()
        finally:
            os._exit(status)
    deadline = time.monotonic() + 30
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(done[1]) == 0
    after = compiler.submit(["after"])
    compiler.wait([slow, *after])
    assert after[0].get().code == b"after"


@posix
def test_a_process_that_never_gets_ready_means_compiling_here(monkeypatch, fake):
    monkeypatch.setattr(workers, "_command", lambda: [sys.executable, "-c", "pass"])
    store = KernelStore(DiskCache(None), Compiler())
    assert store.require([kernel(5)])[0]
    assert store.compiler._inline
    store.compiler.close()


def test_no_interpreter_to_start(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/usr/sbin/some-server")
    with pytest.raises(workers.NoProcess, match="some-server"):
        workers.Worker()


@posix
def test_the_terminal_is_told_when_it_takes_long(compiler, monkeypatch):
    import io

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(compiler_module, "PROGRESS_AFTER", 0.0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with compiler_module._Progress(3) as progress:
        progress.show(2)
    assert "1 of 3 kernels" in sys.stderr.getvalue() and sys.stderr.getvalue().endswith("\033[K")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with compiler_module._Progress(3) as progress:
        progress.show(2)
    assert sys.stderr.getvalue() == ""


# -------------------------------------------------------------------------- the whole way, for real
SCRIPT = """
import ctypes, sys, time
import numpy as np
from autojit.backends.cpu.compiler import KernelStore
from autojit.engine.cache import DiskCache
store = KernelStore(DiskCache(sys.argv[1]))
texts = sys.stdin.read().split("=====")
background = "background" in sys.argv
if background and store.address(texts[0]) is None:
    assert not store.ready(texts)
    store.request(texts)
    until = time.monotonic() + 60
    while not store.ready(texts):
        assert time.monotonic() < until
        time.sleep(0.01)
addresses = store.require(texts)
assert addresses == [store.address(t) for t in texts]
call = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3)
x = np.zeros(4, np.int64)
table = np.array([x.ctypes.data], np.int64)
for a in addresses: assert call(a)(None, None, table.ctypes.data, 1, 4, 0) == 0
loaded = [m for m in ("numba", "scipy") if m in sys.modules]
c = store.counters
print(x.tolist(), c.compiled, c.disk_hits, loaded)
"""


def process(root, *flags: str) -> str:
    texts = "=====".join(kernel(k) for k in (1, 10))
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(root), *flags], input=texts, text=True, timeout=120,
                          capture_output=True, env={**environment(), "AUTOJIT_WORKERS": "2"})
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


@posix
def test_cold_then_warm_process(tmp_path):
    """The first process compiles outside itself, the second loads; neither imports Numba."""
    assert process(tmp_path, "background") == "[0, 11, 11, 11] 2 0 []"
    assert process(tmp_path) == "[0, 11, 11, 11] 0 2 []"


@posix
def test_a_process_ends_at_once_while_its_kernels_are_compiled(tmp_path):
    code = textwrap.dedent("""
        import sys
        from autojit.backends.cpu.compiler import KernelStore
        store = KernelStore()
        store.request([f"def kernel(args, lo, hi, chunk):\\n    set_error(args, 0, {k})\\n" for k in range(200)])
        if "started" in sys.argv:
            store.compiler._drivers[0].join(0.2)
    """)
    for flags in ((), ("started",)):
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, timeout=60,
                              env={**environment(), "AUTOJIT_WORKERS": "2"})
        assert (done.returncode, done.stderr) == (0, "")
        assert time.monotonic() - start < 10


@posix
def test_a_compile_process_imports_neither_the_users_face_nor_scipy():
    command = workers._command()
    done = subprocess.run([*command[:2], "-X", "importtime", *command[2:]], input=b"", capture_output=True, timeout=60,
                          env=environment())
    assert done.returncode == 0 and b"ready" in done.stdout
    imported = {line.rsplit(b"|", 1)[-1].strip().decode() for line in done.stderr.splitlines() if b"|" in line}
    assert "autojit.backends.cpu.codegen" in imported
    assert not [m for m in imported if m.startswith(("scipy.", "autojit.eager", "autojit.ops"))]


def test_a_kernel_that_does_not_compile_fails_each_time_it_is_asked_for(fake):
    store = KernelStore(DiskCache(None), Compiler())
    for _ in range(2):
        with pytest.raises(CompileError, match="refused: bad"):
            store.require(["bad"])
    with pytest.raises(CompileError):
        store.ready(["bad"])
    assert store.counters.failed == 1 and store.counters.compiled == 0
    store.compiler.close()


def test_a_useless_object_on_disk_is_made_anew(tmp_path, silent):
    config.workers = 0  # compile here
    try:
        disk = DiskCache(str(tmp_path))
        store = KernelStore(disk)
        disk.put("object", store._key(kernel(7)), b"autojit_whatever \nnot an object")
        assert store.address(kernel(7)) is None
        assert store.require([kernel(7)])[0] and store.counters.compiled == 1
        other = KernelStore(DiskCache(str(tmp_path)))
        assert other.address(kernel(7)) and other.counters.disk_hits == 1 and other.counters.compiled == 0
        assert other.address(kernel(7)) and other.counters.memory_hits == 1
    finally:
        config.reset()
