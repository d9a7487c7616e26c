"""The committed stub is what the declarations say, and the examples in docstrings run."""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
import importlib.util
import pkgutil
from pathlib import Path

import pytest

import autojit as aj
from autojit import stubs

HERE = Path(aj.__file__).parent


def test_the_stub_is_up_to_date():
    committed = (HERE / "__init__.pyi").read_text()
    assert committed == stubs.render(), "run: python -m autojit.stubs > autojit/__init__.pyi"
    tree = ast.parse(committed)
    names = {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    assert {"Tensor", "tensor", "exp", "value_and_grad", "softmax", "no_grad"} <= names


EXTRA = all([importlib.util.find_spec(name) for name in ("cuda", "numba_cuda")])      # the packages of the extra `cuda`
MODULES = [m.name for m in pkgutil.walk_packages([str(HERE)], "autojit.")
           if ".worker" not in m.name and not m.name.endswith("stubs")]


def imported(name):
    """A module; None if it is one of a GPU's on a machine without the packages for it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if not EXTRA and name.startswith("autojit.backends.cuda."):
            return None
        raise


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    module = imported(name)
    if module is None:
        pytest.skip("needs autojit[cuda]")
    names = {n: getattr(aj, n) for n in dir(aj) if not n.startswith("_") and not hasattr(builtins, n)}
    finder = doctest.DocTestFinder()
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for test in finder.find(module, name, globs={**names, **vars(module)}):
        runner.run(test)
    assert runner.failures == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    modules = [m for name in MODULES if (m := imported(name)) is not None]
    assert sum(len(t.examples) for m in modules for t in finder.find(m)) > 50
