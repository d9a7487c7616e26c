"""A compiled kernel of the device: its record, its bytes on disk, and complaints about what it takes.

In: what `front` and `linking` made.  Out: `Compiled`, and `check`'s list of complaints.  On the import path of a warm start:
imports nothing but the standard library, and never unpickles.
"""

from __future__ import annotations

import json
import re
from typing import Any

REGISTERS_OF_A_BLOCK = 65536
MOST_REGISTERS = 255
_DOUBLE = re.compile(r"_f64\b|\bf8\(")
_VECTORS = re.compile(r"\bload(?:2|4|8|16)_\w+\(")


class Resources:
    """`registers` of a thread; bytes that it spills, or keeps in local memory; bytes that a block shares; is there float64?;
    loads of 8 bytes and more."""

    __slots__ = ("registers", "spill_bytes", "local_bytes", "shared_bytes", "f64", "vector_loads")

    def __init__(self, registers: int = 0, spill_bytes: int = 0, local_bytes: int = 0, shared_bytes: int = 0,
                 f64: bool = False, vector_loads: int = 0) -> None:
        self.registers, self.spill_bytes, self.local_bytes = registers, spill_bytes, local_bytes
        self.shared_bytes, self.f64, self.vector_loads = shared_bytes, f64, vector_loads

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __repr__(self) -> str:
        return f"Resources({', '.join(f'{k}={v}' for k, v in self.as_dict().items())})"


class Compiled:
    """One kernel.  `cubin` defines the function `entry`; None where nothing is compiled (the stand-in reads `text`)."""

    __slots__ = ("entry", "cubin", "text", "signature", "threads", "wide", "resources", "seconds")

    def __init__(self, entry: str, cubin: bytes | None, text: str, signature: tuple[str, ...], threads: int, wide: bool,
                 resources: Resources, seconds: float = 0.0) -> None:
        self.entry, self.cubin, self.text, self.signature = entry, cubin, text, signature
        self.threads, self.wide, self.resources, self.seconds = threads, wide, resources, seconds

    def pack(self) -> bytes:
        """As one entry of the disk cache; what the key says already is left out."""
        assert self.cubin is not None
        return json.dumps({"entry": self.entry, **self.resources.as_dict()}).encode() + b"\n" + self.cubin

    @classmethod
    def unpack(cls, data: bytes, text: str, signature: tuple[str, ...], threads: int, wide: bool) -> Compiled:
        """The inverse of `pack`; ValueError when the bytes are something else."""
        head, line, cubin = data.partition(b"\n")
        if not line or cubin[:4] != b"\x7fELF":
            raise ValueError("not a packed cubin")
        known = json.loads(head)
        try:
            entry = str(known.pop("entry"))
            return cls(entry, cubin, text, signature, threads, wide, Resources(**known))
        except (KeyError, TypeError, AttributeError) as e:
            raise ValueError(f"not a packed cubin: {e}") from None


def check(compiled: Compiled, budget: int = MOST_REGISTERS) -> list[str]:
    """Complaints about a kernel: float64 where nothing in signature and text asks for it, local memory, spills, more registers
    than `budget` or than a block has, 16-byte loads that the text has and the code has not.

    >>> check(Compiled("k", b"", "", ("*f32",), 1024, False, Resources(registers=80, f64=True)))
    ['float64 in a kernel of float32', '80 registers in each of 1024 threads: a block has 65536']
    """
    r, out = compiled.resources, []
    asked = any("f64" in code for code in compiled.signature) or _DOUBLE.search(compiled.text)
    if r.f64 and not asked:
        out.append("float64 in a kernel of float32")
    if r.local_bytes > r.spill_bytes:
        out.append(f"{r.local_bytes} bytes of local memory")
    if r.spill_bytes:
        out.append(f"{r.spill_bytes} bytes spilled")
    if r.registers > min(budget, MOST_REGISTERS):
        out.append(f"{r.registers} registers, at most {min(budget, MOST_REGISTERS)}")
    if r.registers * compiled.threads > REGISTERS_OF_A_BLOCK:
        out.append(f"{r.registers} registers in each of {compiled.threads} threads: a block has {REGISTERS_OF_A_BLOCK}")
    if _VECTORS.search(compiled.text) and not r.vector_loads:
        out.append("no 16-byte loads, which the text has")
    return out
