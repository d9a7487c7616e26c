"""The symbols of an object file, read before LLVM does (which aborts on what it cannot read).

In: the bytes of an ELF64 object.  Out: the symbols it defines and those it needs from outside, or a
ValueError when the bytes are not a whole object of this machine's kind.  Never imports llvmlite.
"""

from __future__ import annotations

import struct
import sys

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATABLE, _SYMTAB, _NOBITS = 1, 2, 8

NATIVE = sys.platform.startswith("linux") and sys.byteorder == "little" and sys.maxsize > 2 ** 32
"""Does this platform's LLVM make ELF64 objects?"""


def _sections(code: bytes) -> list[tuple[int, ...]]:
    if len(code) < _HEADER.size:
        raise ValueError("too short for an object file")
    ident, kind, _, _, _, _, table, _, _, _, _, entry, count, _ = _HEADER.unpack_from(code)
    if ident[:6] != b"\x7fELF\x02\x01" or kind != _RELOCATABLE or entry != _SECTION.size:
        raise ValueError("not an ELF64 object file")
    if table + entry * count > len(code):
        raise ValueError("truncated: the section table is missing")
    found = [_SECTION.unpack_from(code, table + i * entry) for i in range(count)]
    for section in found:
        if section[1] != _NOBITS and section[4] + section[5] > len(code):
            raise ValueError("truncated: a section is missing")
    return found


def symbols(code: bytes) -> tuple[set[str], set[str]]:
    """(defined, undefined) names of global symbols."""
    sections = _sections(code)
    defined: set[str] = set()
    undefined: set[str] = set()
    for section in sections:
        if section[1] != _SYMTAB:
            continue
        offset, size, link = section[4], section[5], section[6]
        if link >= len(sections) or size % _SYMBOL.size:
            raise ValueError("a broken symbol table")
        names = code[sections[link][4]:sections[link][4] + sections[link][5]]
        for at in range(offset, offset + size, _SYMBOL.size):
            name, info, _, index, _, _ = _SYMBOL.unpack_from(code, at)
            text = names[name:names.find(b"\0", name)].decode("ascii", "replace")
            if text and info >> 4:  # bind 0 is local
                (defined if index else undefined).add(text)
    return defined, undefined
