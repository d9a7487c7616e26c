"""The real driver's code against a libcuda written in C: `on_fakecuda.py`, in a process that finds it as the library.

Without gcc, or without cuda-bindings, there is nothing to test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
needed = [what for what, there in (("gcc", shutil.which("gcc")), ("cuda-bindings", find_spec("cuda"))) if not there]
pytestmark = pytest.mark.skipif(bool(needed) or sys.platform != "linux", reason=f"needs {' and '.join(needed)}, on Linux")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with libcuda.so.1 and cuBLAS, which are one file."""
    folder = tmp_path_factory.mktemp("fakecuda")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-fvisibility=hidden", "-Wall", "-Werror", "-o", folder / "libcuda.so.1",
                    HERE / "fakecuda.c", "-ldl"], check=True)
    for name in ("cublas", "cublasLt"):
        (folder / f"lib{name}.so.13").symlink_to("libcuda.so.1")
    return folder


def inside(libraries: Path, *options: str) -> None:
    """The tests of `on_fakecuda.py`, where libcuda is ours."""
    path = os.pathsep.join([str(libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])
    env = {**os.environ, "LD_LIBRARY_PATH": path, "AUTOJIT_CUDA": "auto", "CUDA_HOME": ""}
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *options, str(HERE / "on_fakecuda.py")]
    done = subprocess.run(command, env=env, cwd=HERE.parent.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_the_real_driver(libraries: Path) -> None:
    inside(libraries)


@pytest.mark.proof
@pytest.mark.skipif(not find_spec("numba_cuda"), reason="needs numba-cuda")
def test_the_real_driver_with_the_real_compiler(libraries: Path) -> None:
    inside(libraries, "-m", "proof")
