"""The committed stub is what the declarations say, and the examples in docstrings run."""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
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


MODULES = [m.name for m in pkgutil.walk_packages([str(HERE)], "autojit.")
           if ".worker" not in m.name and not m.name.endswith("stubs")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    module = importlib.import_module(name)
    names = {n: getattr(aj, n) for n in dir(aj) if not n.startswith("_") and not hasattr(builtins, n)}
    finder = doctest.DocTestFinder()
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for test in finder.find(module, name, globs={**names, **vars(module)}):
        runner.run(test)
    assert runner.failures == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    assert sum(len(t.examples) for name in MODULES for t in finder.find(importlib.import_module(name))) > 50
