"""A program written out as one Python module that needs only NumPy and Numba.

In: a function (traced, or `grad` or `value_and_grad` of one), arguments, a path.  Out: a file: the words that its kernels use,
the kernels, text as `f.source()` shows them, and one `@njit` function that calls them.  Never runs or imports what it writes,
and never writes over a file that it has not written itself.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import math
import os
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import autojit

from . import tree
from .backends.cpu import libraries
from .backends.cpu.byhand.fortran import narrow
from .backends.cpu.direct import compares
from .backends.cpu.vocabulary import definitions
from .bound import checked, refuse, refuse_host, writes
from .dtypes import COMPLEX
from .eager.state import state
from .engine import compile as pipeline
from .errors import TraceError, explain
from .exportsteps import Steps, Text, dtype, every
from .functional import Gradient, ValueAndGrad, numbers
from .schedule.loops import GemmStep, Schedule
from .tracing import Traced
from .tracing.plan import Fixed, Plan, run_time

MARK = "# Written by autojit.export"
LITERAL, EMBEDDED = 256, 1 << 16                          # elements of an array that stand in the text; bytes, encoded
NUMBA = {"bool": "boolean"}                               # names of dtypes that are others there


def export(f: Any, *args: Any, path: Any, parallel: bool = False, cache: bool = False, overwrite: bool = False) -> str:
    """Write `f`, for arguments like these, as one Python module that needs only NumPy and Numba; returns the path.

    `f`: a function of tensors, traced or not, `value_and_grad(...)` or `grad(...)` of one.  The module has the kernels, as
    `f.source()` shows them, and one `@njit` function named like `f` (and an underscore, where the module needs that name
    itself), callable from Python and from `@njit` code.  It takes the leaves of the arguments in order, then captured
    tensors: C-contiguous arrays of the same shapes and dtypes, numbers for 0-d tensors and floats; anything else is a
    TypeError or ValueError there.  It returns what `f` returns, with arrays for tensors, numbers for 0-d ones, and tuples
    for nests.

    Loops and branches (`scan`, `while_loop`, `cond`) are loops and branches of the text.
    Functions of LAPACK, and special ones, are SciPy's there, which `cache` rules out; a matrix that has no answer is
    np.linalg.LinAlgError.

    `parallel`: kernels that are cut into chunks run in a `prange`; else all is serial (call it from threads of your own).
    `cache`: Numba keeps the machine code beside the module.  `overwrite`: also write over a file that is not an export.

    For each draw of random numbers it takes a key after the captured tensors, an int64 array of a seed and the number of the
    draw: `manual_seed(seed)` starts with the number 0.  Other keys, other numbers.

    RuntimeError for a function that writes to tensors or uses an op without a kernel; FileExistsError for a file that is
    not an export; ValueError for a path that is no module's name.

    >>> import autojit as aj, numpy as np, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "loss.py")
    >>> _ = aj.export(aj.value_and_grad(lambda x: (x ** 2).sum()), np.ones(3), path=path)
    >>> open(path).readline()[:27]
    '# Written by autojit.export'
    """
    path = _checked_path(path, overwrite)
    grads = f.both if isinstance(f, Gradient) else f if isinstance(f, ValueAndGrad) else None
    traced: Any = f if grads is None else grads.fn
    if not callable(traced):
        raise explain(TypeError(f"export() takes a function, not {type(f).__name__}"))
    traced = traced if isinstance(traced, Traced) else Traced(traced)
    if state.trace is not None:
        raise explain(TraceError("export() inside a traced function"))
    leaves, structure, tensors = traced.leaves(args, {})
    plan = traced.plan(leaves, structure, None if grads is None else grads.wrt(args, tensors))
    traced.last = plan
    text = _Module(traced, plan, args, grads, isinstance(f, Gradient), parallel, cache).text()
    _write(path, text)
    return path


# ---------------------------------------------------------------- files
def _checked_path(path: Any, overwrite: bool) -> str:
    path = os.fspath(path)
    stem, end = os.path.splitext(os.path.basename(path))
    if end != ".py" or not stem.isidentifier() or keyword.iskeyword(stem):
        raise explain(ValueError(f"{path!r} is not the path of a module"), hint="end it in an identifier and .py")
    if os.path.lexists(path) and not overwrite:
        found = ""
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                found = file.readline()
        if not found.startswith(MARK):
            raise explain(FileExistsError(f"{path!r} exists, and autojit.export has not written it"),
                          hint="choose another path, or pass overwrite=True")
    return path  # type: ignore[no-any-return]


def _write(path: str, text: str) -> None:
    """All of it or nothing."""
    handle, made = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=".export-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(made, 0o666 & ~mask)
        os.replace(made, path)
    except BaseException:
        os.unlink(made)
        raise


# ---------------------------------------------------------------- the text
class _Module:
    """The text of one module."""

    def __init__(self, traced: Any, plan: Plan, args: tuple[Any, ...], grads: ValueAndGrad | None, only: bool, parallel: bool,
                 cache: bool) -> None:
        self.traced, self.plan, self.args, self.grads, self.only = traced, plan, args, grads, only
        self.parallel, self.cache = parallel, cache
        name = getattr(traced.fn, "__name__", "f")
        refuse(plan, name, "an exported program")
        if writes(plan):
            raise explain(RuntimeError(f"{name} writes to tensors (in place, or .grad), which an exported program cannot"),
                          hint="return the new values, and write them after the call")
        self.graph, self.checks = checked(plan)
        with narrow():                                    # functions of LAPACK are SciPy's there
            self.prepared = pipeline.prepare(self.graph)
        refuse_host(self.prepared, name, "exported")
        self.schedule: Schedule = self.prepared.schedule
        if any([n.dtype.half for n in self.graph.order]):
            raise explain(NotImplementedError(f"{name} uses float16 or bfloat16: exported modules have no such arrays"),
                          hint="convert inside the caller: x.float()")
        if any([n.dtype.category == COMPLEX for n in (*self.graph.inputs, *self.graph.outputs)]):
            raise explain(NotImplementedError(f"{name} takes or gives complex numbers: exported modules have no such arrays"),
                          hint="take and return real arrays: aj.view_as_complex(x), aj.view_as_real(z)")
        self.kernels = {text: f"kernel{k}" for k, text in enumerate(self.prepared.texts)}
        self.products = any(isinstance(s, GemmStep) for s in every(self.schedule))
        imports, self.words = definitions(self.prepared.texts, ["gemm"] if self.products else [])
        self.imports = sorted({*imports, "from numba import njit", "import numpy as np",
                               *["from numba import prange"] * self.parallel})
        self.constants: list[str] = []
        self.fixed = sum([isinstance(c, Fixed) for c in plan.captured])   # the last of the captured ones
        self.place: dict[str, str] = {}                   # inputs → their names in the text
        self.taken = {*_bound("\n".join([*self.imports, self.words])), *dir(builtins), "chunk", "p", "q",
                      *self.kernels.values(), *self.schedule.inputs, *self.schedule.outputs}
        self.name = self._free(name if name.isidentifier() else "f")

    def text(self) -> str:
        names = self._names()
        body = [*self._inputs(names), *self._steps(), *self._checked(), f"return {self._results()}"]
        options = 'error_model="numpy", nogil=True' + ", parallel=True" * self.parallel + ", cache=True" * self.cache
        taken = [self._type(n) for n, _ in zip(self._given(self.plan.inputs), names)]
        signature = f"({', '.join(taken)}{',' * (len(taken) == 1)})"
        parts = [self._head(names), "from __future__ import annotations", "\n".join(self.imports),
                 "# " + "-" * 60 + " words", self.words, "# " + "-" * 60 + " kernels"]
        for text, kernel in self.kernels.items():
            fused = "" if compares(ast.parse(text)) else 'fastmath={"contract"}, '
            parts.append(f'@njit({fused}error_model="numpy")\n'
                         + text.replace("def kernel(", f"def {kernel}(", 1))
        parts.append("# " + "-" * 60 + " the program")
        parts += self.constants
        parts.append("\n".join([f'@njit("{signature}", {options})', f"def {self.name}({', '.join(names)}):",
                                f'    """{self._says()}: see the head of the file."""', *[f"    {line}" for line in body]]))
        return "\n\n".join([p.strip("\n") for p in parts]) + "\n"

    def _says(self) -> str:
        what = "Value" if self.grads is None else "Gradient" if self.only else "Value and gradient"
        by = "" if self.grads is None else f" by {self.grads.argnums}"
        return f"{what} of {self.name}{by}"

    def _head(self, names: Sequence[str]) -> str:
        takes = [f"    {x}: {n.aval.dtype.name}{list(n.aval.shape) if n.aval.shape else ', a number'}"
                 for x, n in zip(names, self._given(self.plan.inputs))]
        scipy = self.products or any(["get_cython" in line for line in self.imports])
        needs = "NumPy, Numba" + (" and SciPy (whose BLAS and LAPACK it calls)" if scipy else "")
        how = "Chunks run in parallel." if self.parallel else "Runs serially."
        return "\n".join([f"{MARK} {autojit.__version__}: export again instead of editing.",
                          f'"""{self._says()}, for', "", *takes, "",
                          f"{self._returned()}  Needs {needs}.  {how}", '"""'])

    def _returned(self) -> str:
        if self.grads is None:
            return "Returns its value; nests as tuples."
        return "Returns the gradient." if self.only else "Returns (value, gradient); nests as tuples."

    # ------------------------------------------------------------ arguments
    def _names(self) -> list[str]:
        """Names of the program's inputs: those of the function's parameters, with the way into a nest."""
        code = getattr(self.traced.fn, "__code__", None)
        known = code.co_varnames[:code.co_argcount] if code is not None else ()
        out: list[str] = []
        for k, a in enumerate(self.args):
            name = known[k] if k < len(known) else f"x{k}"
            if k not in self.traced.static_argnums:
                out += [self._free(way) for way in _ways(name, a)]
        out += [self._free(f"captured{k}") for k, c in enumerate(self.plan.captured) if not isinstance(c, Fixed)]
        return out + [self._free(f"key{k}") for k in range(len(self.plan.draws))]

    def _given(self, inputs: Sequence[Any]) -> list[Any]:
        """Those of the program's inputs that are the function's arguments."""
        end = len(inputs) - len(self.plan.draws)
        return [*inputs[:end - self.fixed], *inputs[end:]]

    def _free(self, name: str) -> str:
        name = unicodedata.normalize("NFKC", name)        # as Python reads names
        name = "".join([c if f"_{c}".isidentifier() else "_" for c in name])
        while name in self.taken or keyword.iskeyword(name):
            name += "_"
        self.taken.add(name)
        return name

    def _type(self, n: Any) -> str:
        name = NUMBA.get(n.aval.dtype.name, n.aval.dtype.name)
        return name + (f"[{':,' * (len(n.aval.shape) - 1)}::1]" if n.aval.shape else "")

    def _inputs(self, names: Sequence[str]) -> Iterator[str]:
        """Checks of the arguments, and the other inputs."""
        for x, n, buffer in zip(names, self._given(self.plan.inputs), self._given(self.schedule.inputs)):
            shape = n.aval.shape
            if not shape:
                self.place[buffer] = self._free(f"{x}_")
                yield f"{self.place[buffer]} = np.full(1, {x}, {dtype(n.aval.dtype)})"
                continue
            self.place[buffer] = x
            yield f"if {x}.shape != {shape}:"
            yield f'    raise ValueError("{x} must have the shape {shape}")'
        made = self.plan.captured[len(self.plan.captured) - self.fixed:]
        for buffer, c in zip(self.schedule.inputs[len(names) - len(self.plan.draws):], made):
            self.constants.append(f"{buffer} = {_literal(c.array)}  # made while the function was recorded")

    def _steps(self) -> Iterator[str]:
        """Arrays for everything that the steps write, and the steps."""
        ends = self.schedule.outputs
        place = {name: name for name in (*self.schedule.inputs, *ends)} | self.place
        text = Text(self.kernels, self._free, self.parallel)
        lines = list(Steps(text, self.schedule, self.prepared.emitted, place).lines())
        self._functions(text.functions)
        for name, o in zip(ends, self.graph.outputs):
            yield f"{name} = np.empty({o.aval.shape or 1}, {dtype(o.aval.dtype)})"
        yield from text.memory
        yield from lines

    def _functions(self, names: dict[str, str]) -> None:
        """Addresses of functions of other libraries, looked up when the module is imported."""
        if names and self.cache:
            raise explain(RuntimeError(f"{self.name} calls {', '.join(names)} of SciPy, whose addresses no file may keep"),
                          hint="export it without cache=True")
        for name, here in names.items():
            found = libraries.cython(name)
            if found is None:
                raise explain(RuntimeError(f"{self.name} calls {name}, which SciPy shows to nobody: it cannot be exported"))
            self.imports = sorted({*self.imports, "from numba.extending import get_cython_function_address"})
            self.constants.append(f"{here} = get_cython_function_address({found[0]!r}, {found[1]!r})")

    # ------------------------------------------------------------ results
    def _checked(self) -> Iterator[str]:
        ends = self.schedule.outputs[len(self.plan.needs) + self.plan.gradients:]
        for least, greatest, c in zip(ends[::2], ends[1::2], self.checks):
            folder, _, at = c.place.rpartition(os.sep)
            words = c.words.replace("{value}", "a place") + f" ({at})"
            yield f"if {least}[0] < {c.lowest} or {greatest}[0] >= {c.end}:"
            yield f"    raise {c.error.__name__}({words!r})"

    def _results(self) -> str:
        outs = [name if o.aval.shape else f"{name}[0]" for name, o in zip(self.schedule.outputs, self.graph.outputs)]
        n = len(self.plan.needs)
        given = iter(outs[:n])
        value = _nest(self.plan.structure, iter([next(given) if s is None else _static(s) for s in self.plan.static]))
        if self.grads is None:
            return value
        found = iter(outs[n:n + self.plan.gradients])
        per = [_nest(tree.flatten(self.args[k])[1], found) for k in numbers(self.grads.argnums, len(self.args))]
        gradient = per[0] if isinstance(self.grads.argnums, int) else f"({', '.join(per)},)"
        return gradient if self.only and not self.grads.has_aux else f"{value}, {gradient}"


def _bound(text: str) -> set[str]:
    """The names that a module binds."""
    out: set[str] = set()
    for s in ast.parse(text).body:
        if isinstance(s, (ast.Import, ast.ImportFrom)):
            out |= {a.asname or a.name for a in s.names}
        elif isinstance(s, (ast.FunctionDef, ast.ClassDef)):
            out.add(s.name)
        else:
            out |= {n.id for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return out


def _ways(name: str, a: Any) -> Iterator[str]:
    """Names of the run-time leaves of an argument: the way into it."""
    if isinstance(a, dict):
        inner: Any = [(k, a[k]) for k in tree.flatten(a)[1][1]]
    elif isinstance(a, (tuple, list)):
        inner = zip(getattr(a, "_fields", None) or range(len(a)), a)
    else:
        if run_time(a):
            yield name
        return
    for key, v in inner:
        yield from _ways(f"{name}_{key}", v)


def _nest(structure: Any, parts: Iterator[str]) -> str:
    """A nest as nested tuples."""
    if structure == tree.LEAF:
        return next(parts)
    if structure[0] is None:
        return "None"
    inner = [_nest(s, parts) for s in structure[-1]]
    return f"({', '.join(inner)}{',' * bool(inner)})"


def _static(v: Any) -> str:
    if type(v) in (int, bool, str) or type(v) is float and math.isfinite(v):
        return repr(v)
    raise explain(TypeError(f"the function returns {type(v).__name__}, which cannot be exported"),
                  hint="return tensors, numbers, strings, and nests of them")


def _literal(a: np.ndarray) -> str:
    """An expression that makes an array."""
    dtype = f"np.{a.dtype.name}" if a.dtype.name != "bool" else "np.bool_"
    flat = a.reshape(-1)
    if flat.size > 2 and a.dtype.kind == "i" and (np.diff(flat) == flat[1] - flat[0]).all() and flat[1] != flat[0]:
        step = int(flat[1]) - int(flat[0])
        return f"np.arange({int(flat[0])}, {int(flat[-1]) + step}, {step}, dtype={dtype})"
    if flat.size <= LITERAL and (a.dtype.kind != "f" or np.isfinite(flat).all()):
        return f"np.array({[v.item() for v in flat]}, dtype={dtype})"
    if a.nbytes > EMBEDDED:
        raise explain(RuntimeError(f"the function makes an array of {a.nbytes} bytes when recorded: too much for a text"),
                      hint="pass it as an argument")
    return f"np.frombuffer(bytes.fromhex({a.tobytes().hex()!r}), dtype={dtype})"
