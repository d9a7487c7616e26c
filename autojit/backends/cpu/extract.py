"""The definitions that a few names need, copied out of source files into one text.

In: names, and the files of this folder that define them.  Out: their text and that of everything they use, in an order that
runs, without imports of autojit.  Names that two files define are told apart by the file's name.  Never imports what it reads.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = "autojit.backends.cpu."
Key = tuple[str, str]                                     # (file, name)


class Source:
    """One file: its top-level definitions, and where its names come from."""

    def __init__(self, name: str) -> None:
        self.text = (HERE / (name.replace(".", "/") + ".py")).read_text()
        self.lines = self.text.splitlines()
        self.defined: dict[str, ast.stmt] = {}
        self.ours: dict[str, Key] = {}                    # name → where it is defined
        self.imported: dict[str, str] = {}                # name → import statement of other packages
        tree = ast.parse(self.text)
        for s in tree.body:
            if isinstance(s, ast.ImportFrom) and (s.module or "").startswith(PACKAGE):
                for a in s.names:
                    self.ours[a.asname or a.name] = ((s.module or "")[len(PACKAGE):], a.name)
            elif isinstance(s, ast.ImportFrom) and s.module != "__future__":
                for a in s.names:
                    self.imported[a.asname or a.name] = f"from {s.module} import {a.name}" + f" as {a.asname}" * bool(a.asname)
            elif isinstance(s, ast.Import):
                for a in s.names:
                    self.imported[a.asname or a.name] = f"import {a.name}" + f" as {a.asname}" * bool(a.asname)
            elif isinstance(s, (ast.FunctionDef, ast.ClassDef)):
                self.defined[s.name] = s
            elif isinstance(s, (ast.Assign, ast.AnnAssign)):
                for t in s.targets if isinstance(s, ast.Assign) else [s.target]:
                    for n in ast.walk(t):
                        if isinstance(n, ast.Name):
                            self.defined[n.id] = s

    def knows(self, name: str) -> bool:
        """Is it defined or imported here?"""
        return name in self.defined or name in self.ours or name in self.imported


@cache
def source(name: str) -> Source:
    return Source(name)


class Extract:
    """Collects definitions; `text()` gives them all.

    `instead`: (file, name) → text that stands in the place of a definition.  `attached`: (file, name) → further names of that
    file that belong to it (what registers it).
    """

    def __init__(self, instead: Mapping[Key, str] | None = None, attached: Mapping[Key, Iterable[str]] | None = None) -> None:
        self.instead, self.attached = instead or {}, attached or {}
        self.names: dict[Key, str] = {}                   # what is needed → its name in the text
        self.parts: list[str] = []
        self.imports: dict[str, None] = {}
        self._taken: set[str] = set()

    def reserve(self, names: Iterable[str]) -> None:
        """Names that the text's reader will use for other things."""
        self._taken.update(names)

    def need(self, file: str, name: str) -> str:
        """Have a definition and all that it uses in the text; its name there."""
        key = (file, name)
        found = self.names.get(key)
        if found is not None:
            return found
        src = source(file)
        if name in src.ours:
            return self.need(*src.ours[name])
        if name not in src.defined:
            self.imports[src.imported[name]] = None
            return name
        s = src.defined[name]
        given = [n for n, d in src.defined.items() if d is s]
        for n in given:
            self.names[(file, n)] = self._fresh(file, n)
        self._write(file, src, s, name)
        for other in self.attached.get(key, ()):
            self.need(file, other)
        return self.names[key]

    def _fresh(self, file: str, name: str) -> str:
        out = name
        while out in self._taken:
            out = f"{out}_{file.rsplit('.', 1)[-1]}"
        self._taken.add(out)
        return out

    def _write(self, file: str, src: Source, s: ast.stmt, name: str) -> None:
        """The text of one statement, with the names it needs written before it and renamed in it."""
        first = min([s.lineno, *[d.lineno for d in getattr(s, "decorator_list", [])]])
        last = s.end_lineno or first
        lines = src.lines[first - 1:last]
        tree = s
        if (file, name) in self.instead:
            text = self.instead[(file, name)]
            lines, first, tree = text.splitlines(), 1, ast.parse(text).body[0]
        self._rename(file, tree, lines, first)
        if isinstance(tree, (ast.FunctionDef, ast.ClassDef)) and self.names[(file, name)] != name:
            at = tree.lineno - first
            lines[at] = lines[at].replace(name, self.names[(file, name)], 1)
        gap = "\n\n" if isinstance(tree, (ast.FunctionDef, ast.ClassDef)) else ""
        self.parts.append(gap + "\n".join(lines) + "\n" + gap)

    def _rename(self, file: str, tree: ast.AST, lines: list[str], first: int) -> None:
        """Have what a piece of text uses, and put its names in the text into the lines."""
        src = source(file)
        own = {a.arg for a in ast.walk(tree) if isinstance(a, ast.arg)}
        change = []
        for n in ast.walk(tree):
            if isinstance(n, ast.Name) and n.id not in own and src.knows(n.id):
                new = self.need(file, n.id)
                if new != n.id:
                    change.append((n.lineno, n.col_offset, n.id, new))
        for line, column, old, new in sorted(change, reverse=True):
            row = lines[line - first]
            lines[line - first] = row[:column] + new + row[column + len(old):]

    def define(self, name: str, text: str, file: str) -> None:
        """Write `name = text`, an expression over what a file defines or imports."""
        lines = [text]
        self._rename(file, ast.parse(text), lines, 1)
        self.parts.append(f"{name} = {lines[0]}\n")

    def text(self) -> str:
        """The definitions."""
        out = "".join(self.parts)
        while "\n\n\n\n" in out:
            out = out.replace("\n\n\n\n", "\n\n\n")
        return out.strip("\n") + "\n"
