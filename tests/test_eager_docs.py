"""Examples in the docstrings of the eager face run and print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import autojit
import autojit.eager
import autojit.optim

MODULES = [f"autojit.eager.{m.name}" for m in pkgutil.iter_modules(autojit.eager.__path__)] + ["autojit.optim.sgd"]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    names = {**vars(autojit), **vars(module), "grad": autojit.autograd.grad}
    del names["float"], names["int"], names["bool"]       # dtypes there, types here
    failed, _ = doctest.testmod(module, extraglobs=names, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def test_there_are_examples():
    counts = [len(t.examples) for name in MODULES for t in doctest.DocTestFinder().find(importlib.import_module(name))]
    assert sum(counts) > 25
