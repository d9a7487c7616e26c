"""PTX to a cubin, by nvJitLink or else ptxas; what the linker says of it; complaints.

In: PTX, a compute capability.  Out: the bytes of a cubin and its `Resources`.  Imports cuda.bindings when it links.  Never
gives PTX to a driver: one that is older than NVVM could not read it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from typing import Any

from autojit.errors import CompileError

from .compiled import Resources
from .driver import INSTALL

_USED = re.compile(r"Used (\d+) registers")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_SHARED = re.compile(r"\.shared\b[^;]*?\.b8 \S+?\[(\d+)\];")
_VECTOR = re.compile(r"\bld\.\w+(?:\.\w+)*\.v[24]\.")
_VERSION = re.compile(r"^\.version (\d+)\.(\d+)", re.M)


def arch(cc: tuple[Any, ...]) -> str:
    """The processor's name: sm_90a of (9, 0, "a")."""
    return "sm_" + "".join(map(str, cc))


def cubin(ptx: str, cc: tuple[Any, ...]) -> tuple[bytes, Resources]:
    """Machine code for one compute capability.  CompileError with the linker's words, or saying what is missing."""
    data, log = _by_nvjitlink(ptx, cc) or _by_ptxas(ptx, cc)
    return data, resources(ptx, log)


def resources(ptx: str, log: str) -> Resources:
    """What a kernel takes, read from its PTX and from the linker's report."""
    used, spills = _USED.search(log), _SPILLS.search(log)
    frame, stores, loads = map(int, spills.groups()) if spills else (0, 0, 0)
    shared = sum(int(size) for size in _SHARED.findall(ptx))
    return Resources(int(used[1]) if used else 0, stores + loads, frame, shared, ".f64" in ptx, len(_VECTOR.findall(ptx)))


# ---------------------------------------------------------------------------------------- linkers
def _by_nvjitlink(ptx: str, cc: tuple[Any, ...]) -> tuple[bytes, str] | None:
    """None where there is no nvJitLink."""
    try:
        from cuda.bindings import nvjitlink
    except ImportError:
        return None
    options = [f"-arch={arch(cc)}", "-verbose", "-Xptxas=-v"]
    try:
        handle = nvjitlink.create(len(options), options)
    except (RuntimeError, OSError):                       # the package is there, its library is not
        return None
    text = ptx.encode()
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, text, len(text), "kernel")
        nvjitlink.complete(handle)
        data = bytearray(nvjitlink.get_linked_cubin_size(handle))
        nvjitlink.get_linked_cubin(handle, data)
        return bytes(data), _text(nvjitlink.get_info_log_size, nvjitlink.get_info_log, handle)
    except nvjitlink.nvJitLinkError as e:
        said = _text(nvjitlink.get_error_log_size, nvjitlink.get_error_log, handle)
        name = "nvJitLink {}.{}".format(*nvjitlink.version())
        raise _refused(f"{name}: {e}\n{said}", ptx) from e
    finally:
        nvjitlink.destroy(handle)


def _text(size: Any, read: Any, handle: Any) -> str:
    log = bytearray(size(handle))
    if log:
        read(handle, log)
    return log.decode(errors="replace").strip("\x00")


def ptxas() -> str | None:
    """The path of NVIDIA's assembler, where there is one."""
    for root in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"):
        if root and os.access(os.path.join(root, "bin", "ptxas"), os.X_OK):
            return os.path.join(root, "bin", "ptxas")
    return shutil.which("ptxas")


def _by_ptxas(ptx: str, cc: tuple[Any, ...]) -> tuple[bytes, str]:
    program = ptxas()
    if program is None:
        raise CompileError(f"nothing here makes machine code of PTX: neither nvJitLink nor ptxas is found; {INSTALL}")
    with tempfile.TemporaryDirectory(prefix="autojit-") as folder:
        source, target = os.path.join(folder, "kernel.ptx"), os.path.join(folder, "kernel.cubin")
        with open(source, "w", encoding="utf-8") as f:
            f.write(ptx)
        done = subprocess.run([program, f"-arch={arch(cc)}", "-v", source, "-o", target], capture_output=True, text=True,
                              check=False)
        if done.returncode:
            raise _refused(f"ptxas: {done.stderr}", ptx)
        with open(target, "rb") as f:
            return f.read(), done.stderr


def _refused(said: str, ptx: str) -> CompileError:
    """What to tell when a linker refuses PTX; the versions, where it is too old for NVVM."""
    found = _VERSION.search(ptx)
    if found and "Unsupported .version" in said:
        return CompileError(f"the linker is older than NVVM, which writes PTX {found[1]}.{found[2]}; install both from one "
                            f"release: {INSTALL}\n{said}")
    return CompileError(f"the linker refuses a kernel's PTX: {said}\n{ptx}")
