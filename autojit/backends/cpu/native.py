"""LLVM text in, machine code and Python builtins out, by llvmlite alone.

In: textual LLVM IR (opaque pointers) and, if there is one, a store of bytes that keeps the object code for the
next process.  Out: addresses of functions, and builtins made from such addresses.  Never imports Numba, never
links a symbol that the text does not define, and never frees code: threads may be parked in it at exit.
"""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from . import elf

_DIGEST = 32
_METH_FASTCALL, _METH_NOARGS = 0x0080, 0x0004
_KIND = "runtime"
_lock = threading.Lock()
_binding: Any = None


class Store(Protocol):
    """What keeps object code between processes; both methods may be no-ops."""

    def get(self, kind: str, key: str) -> bytes | None: ...

    def put(self, kind: str, key: str, data: bytes) -> None: ...


def llvm() -> Any:
    """``llvmlite.binding`` with the host's code generator initialised (40 ms the first time)."""
    global _binding
    with _lock:
        if _binding is None:
            import llvmlite.binding as binding

            binding.initialize_native_target()
            binding.initialize_native_asmprinter()
            binding.initialize_native_asmparser()
            _binding = binding
    return _binding


class Library:
    """Functions in executable memory, which stays mapped until the process ends.

    >>> add = load("define i64 @add(i64 %a, i64 %b) { %c = add i64 %a, %b  ret i64 %c }", ["add"])
    >>> ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(add.address("add"))(2, 3)
    5
    """

    __slots__ = ("_addresses",)

    def __init__(self, object_code: bytes, names: Iterable[str]) -> None:
        binding = llvm()
        engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _machine(False))
        engine.add_object_file(binding.ObjectFileRef.from_data(object_code))
        engine.finalize_object()
        _immortal(engine)
        self._addresses = {name: engine.get_function_address(name) for name in names}

    def address(self, name: str) -> int:
        """The address of one of the functions that were asked for; KeyError for any other."""
        return self._addresses[name]


def load(text: str, names: Iterable[str], *, store: Store | None = None, level: int = 2,
         host_cpu: bool = False) -> Library:
    """Compile LLVM text, or find its object code in ``store``, and load it.

    ``level`` is that of LLVM's passes, 0 to 3.  ``host_cpu`` lets the code use every instruction of this machine;
    without it the code runs on any of the architecture.  RuntimeError if the text does not parse or needs a symbol
    from outside: LLVM would end the process where it cannot resolve one.
    """
    key = _key(text, level, host_cpu)
    code = _unsealed(store.get(_KIND, key)) if store is not None else None
    if code is None:
        code = compile_text(text, level=level, host_cpu=host_cpu)
        if store is not None:
            store.put(_KIND, key, hashlib.sha256(code).digest() + code)
    return Library(code, names)


def passing(text: str, name: str) -> tuple[object, int]:
    """A function of LLVM text that goes when its engine does: (engine, address)."""
    binding = llvm()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(text), _machine(False))
    engine.finalize_object()
    return engine, engine.get_function_address(name)


def compile_text(text: str, *, level: int = 2, host_cpu: bool = False) -> bytes:
    """Object code of LLVM text; arguments and errors are those of ``load``."""
    binding = llvm()
    machine = _machine(host_cpu)
    module = binding.parse_assembly(text)
    module.verify()
    tuning = binding.create_pipeline_tuning_options(speed_level=level)
    tuning.loop_vectorization = tuning.loop_unrolling = level >= 2
    builder = binding.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    code = bytes(machine.emit_object(module))
    missing = elf.symbols(code)[1] if elf.NATIVE else set()
    if missing:
        raise RuntimeError(f"LLVM text needs symbols from outside: {', '.join(sorted(missing))}")
    return code


class _MethodDef(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("meth", ctypes.c_void_p),
                ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]


def builtin(address: int, name: str, doc: str, self: object = None, kept: object = None) -> Callable[..., Any]:
    """A Python builtin from the address of a native ``PyObject *f(PyObject *, PyObject *const *, Py_ssize_t)``.

    A call costs 20 ns, a tenth of ctypes.  The function takes positional arguments and holds the GIL.  `self` is its first
    argument; `kept` lives for good.
    """
    _immortal(kept)
    return _function(_definition(name, address, _METH_FASTCALL, doc), self)


def method(address: int, name: str, doc: str) -> Callable[[object], Callable[[], Any]]:
    """A maker of builtins without arguments from a native ``PyObject *f(PyObject *self, PyObject *)``: ``make(self)``.

    The builtin keeps `self` alive.
    """
    record = _definition(name, address, _METH_NOARGS, doc)
    return lambda self: _function(record, self)


def _definition(name: str, address: int, flags: int, doc: str) -> _MethodDef:
    record = _MethodDef(name.encode(), address, flags, doc.encode())
    _immortal(record)                               # builtins read it even while they are deallocated
    return record


def _function(record: _MethodDef, self: object) -> Callable[..., Any]:
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    return make(("PyCFunction_NewEx", ctypes.pythonapi))(ctypes.addressof(record), self, None)


def substitute(text: str, values: dict[str, Any]) -> str:
    """LLVM text with each ``$name`` replaced; KeyError for a name without a value."""
    first, *rest = text.split("$")
    parts = [first]
    for piece in rest:
        end = next((i for i, c in enumerate(piece) if not (c.isalnum() or c == "_")), len(piece))
        parts.append(str(values[piece[:end]]))
        parts.append(piece[end:])
    return "".join(parts)


def _machine(host_cpu: bool) -> Any:
    binding = llvm()
    cpu = features = ""
    if host_cpu:
        cpu = binding.get_host_cpu_name()
        features = binding.get_host_cpu_features().flatten()
    return binding.Target.from_default_triple().create_target_machine(
        cpu=cpu, features=features, opt=2, jit=True)


def _key(text: str, level: int, host_cpu: bool) -> str:
    import llvmlite

    binding = llvm()
    parts = [text, str(level), llvmlite.__version__, repr(binding.llvm_version_info), binding.get_process_triple()]
    if host_cpu:
        parts += [binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _unsealed(data: bytes | None) -> bytes | None:
    """Object code whose digest is right: LLVM ends the process on a damaged object, so it never sees one."""
    if data is None or len(data) <= _DIGEST:
        return None
    code = data[_DIGEST:]
    return code if hashlib.sha256(code).digest() == data[:_DIGEST] else None


def _immortal(thing: object) -> None:
    """Keep an object past the end of the interpreter, whose teardown would free what native code still uses."""
    increment = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))
    increment(thing)
