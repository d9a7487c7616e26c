"""Kernel text as Python that runs all lanes at once.

In: a kernel's text.  Out: a code object that defines `kernel`, whose operators, words and accesses are calls that take the
mask of the lanes they run in; branches and loops narrow the mask.  Masks have names of their own in the new text, so the
mask of a statement is known where it stands.  Lines stay those of the text.  Never runs anything.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import lru_cache
from types import CodeType

from .cells import KernelFault

FILE = "<kernel>"
_LITERALS = ("f4", "f8")


class Accesses:
    """What a text uses: the words that it calls, with their lines, and the names that it reads and writes memory through."""

    def __init__(self) -> None:
        self.words: list[tuple[str, int]] = []
        self.reads: set[str] = set()
        self.writes: set[str] = set()

    def word(self, e: ast.Call, word: str) -> None:
        self.words.append((word, e.lineno))
        if e.args and isinstance(e.args[0], ast.Name):
            if word.startswith(("load", "atomic")):
                self.reads.add(e.args[0].id)
            if word.startswith(("store", "atomic")):
                self.writes.add(e.args[0].id)


@lru_cache(4096)
def rewritten(text: str) -> tuple[CodeType, Accesses]:
    """The code of a text and what it uses; KernelFault("language") with the line for what kernels have no words for."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise KernelFault("language", str(error), error.lineno or 0) from error
    kernels = [s for s in tree.body if isinstance(s, ast.FunctionDef)]
    if len(kernels) != 1 or len(tree.body) != 1 or kernels[0].name != "kernel":
        raise KernelFault("language", "a text is one function named kernel", 1)
    rewriter = _Rewriter(kernels[0])
    module = ast.fix_missing_locations(ast.Module([rewriter.function()], []))
    return compile(module, FILE, "exec"), rewriter.accesses


class _Names(ast.NodeVisitor):
    """Where each name is set and read: (its block, its place among all accesses), the way down to a block being its name."""

    def __init__(self, function: ast.FunctionDef) -> None:
        self.sets: dict[str, list[tuple[tuple[int, ...], int]]] = {}
        self.reads: dict[str, list[tuple[tuple[int, ...], int]]] = {}
        self.way: tuple[int, ...] = ()
        self.count = 0
        self.loops: dict[str, list[tuple[tuple[int, ...], int]]] = {}  # the same of loop indices
        for s in function.body:
            self.visit(s)

    def visit_Name(self, node: ast.Name) -> None:
        self.count += 1
        where = self.sets if isinstance(node.ctx, ast.Store) else self.reads
        where.setdefault(node.id, []).append((self.way, self.count))

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for t in node.targets:
            self.visit(t)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(ast.copy_location(_loaded(node.target), node))
        self.visit(node.value)
        self.visit(node.target)

    def _down(self, body: Sequence[ast.stmt]) -> None:
        before = self.way
        self.count += 1
        self.way = (*before, self.count)
        for s in body:
            self.visit(s)
        self.way = before

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        self._down(node.body)
        self._down(node.orelse)

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        before = self.way
        self.count += 1
        self.way = (*before, self.count)
        if isinstance(node.target, ast.Name):
            self.loops.setdefault(node.target.id, []).append((self.way, self.count))
        self._down(node.body)
        self.way = before

    def visit_While(self, node: ast.While) -> None:
        before = self.way
        self.count += 1
        self.way = (*before, self.count)                   # the test runs again after the body
        self.visit(node.test)
        self._down(node.body)
        self.way = before

    def passing(self) -> set[str]:
        """Names whose values never outlive the blocks that set them: what other lanes held before is not wanted."""
        return {name for name, sets in self.sets.items()
                if self.covered(name, sets) and not any(_inside(w, v) for w, _ in sets for v, _ in sets if w != v)}

    def covered(self, name: str, sets: list[tuple[tuple[int, ...], int]]) -> bool:
        """Is each read in a block, or inside one, that has set the name before?"""
        return all(any(_inside(way, w) and first < at for w, first in sets) for way, at in self.reads.get(name, []))


def _inside(way: tuple[int, ...], outer: tuple[int, ...]) -> bool:
    return way[:len(outer)] == outer


def _loaded(target: ast.expr) -> ast.expr:
    if isinstance(target, ast.Name):
        return ast.copy_location(ast.Name(target.id, ast.Load()), target)
    if isinstance(target, ast.Subscript):
        return ast.copy_location(ast.Subscript(target.value, target.slice, ast.Load()), target)
    raise KernelFault("language", f"{ast.unparse(target)} cannot be set", target.lineno)


def _leaves(s: ast.stmt) -> bool:
    """Does a statement leave the loop around it?"""
    if isinstance(s, ast.Break):
        return True
    return isinstance(s, ast.If) and any(map(_leaves, (*s.body, *s.orelse)))


def _name(n: str) -> ast.Name:
    return ast.Name(n, ast.Load())


def _call(fn: str, *args: ast.expr) -> ast.Call:
    return ast.Call(_name(fn), list(args), [])


def _set(n: str, value: ast.expr) -> ast.Assign:
    return ast.Assign([ast.Name(n, ast.Store())], value)


class _Rewriter:
    def __init__(self, function: ast.FunctionDef) -> None:
        self.old = function
        names = _Names(function)
        self.params = [a.arg for a in function.args.args]
        for name in {*names.sets, *self.params}:
            if name.startswith("_"):
                raise KernelFault("language", f"the name {name} begins with _", function.lineno)
        self.passing = names.passing()
        self.kept = sorted(set(names.sets) - self.passing)
        for name, loops in names.loops.items():
            if name in names.sets or name in self.params or not names.covered(name, loops):
                raise KernelFault("language", f"the loop index {name} is set or read outside its loop", function.lineno)
        self.accesses = Accesses()
        self.masks = 0
        self.sites = 0
        self.gone: list[str] = []                          # of each loop around: the lanes that left it

    def function(self) -> ast.FunctionDef:
        body: list[ast.stmt] = [_set(n, _name("_unset")) for n in self.kept if n not in self.params]
        body.append(_set("_m0", ast.Constant(None)))
        body += self._block([s for s in self.old.body if not _documents(s)], "_m0")
        new = ast.FunctionDef("kernel", self.old.args, body, [], None)
        return ast.copy_location(new, self.old)

    def _mask(self) -> str:
        self.masks += 1
        return f"_m{self.masks}"

    # ------------------------------------------------------------------ statements
    def _block(self, body: Sequence[ast.stmt], m: str) -> list[ast.stmt]:
        out: list[ast.stmt] = []
        for k, s in enumerate(body):
            out += [ast.copy_location(q, s) for q in self._statement(s, m)]
            if _leaves(s) and k + 1 < len(body):           # the rest is for the lanes that stay
                left = self._mask()
                rest = self._when(left, self._block(body[k + 1:], left))
                out += [ast.copy_location(q, s) for q in (_set(left, _call("_minus", _name(m), _name(self.gone[-1]))), rest)]
                break
        return out or [ast.Pass()]

    @staticmethod
    def _when(m: str, body: list[ast.stmt]) -> ast.If:
        return ast.If(ast.Compare(_name(m), [ast.IsNot()], [ast.Constant(False)]), body, [])

    def _statement(self, s: ast.stmt, m: str) -> list[ast.stmt]:
        if isinstance(s, ast.Assign) and len(s.targets) == 1:
            return self._assign(s.targets[0], s.value, m)
        if isinstance(s, ast.AugAssign):
            value = ast.copy_location(ast.BinOp(_loaded(s.target), s.op, s.value), s)
            return self._assign(s.target, value, m)
        if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call):
            return [ast.Expr(self._value(s.value, m))]
        if isinstance(s, ast.If):
            return self._if(s, m)
        if isinstance(s, ast.For) and not s.orelse:
            return self._for(s, m)
        if isinstance(s, ast.While) and not s.orelse:
            return self._while(s, m)
        if isinstance(s, ast.Break) and self.gone:
            return [_set(self.gone[-1], _call("_joined", _name(self.gone[-1]), _name(m)))]
        if isinstance(s, ast.Pass):
            return [ast.Pass()]
        raise KernelFault("language", f"kernels have no {type(s).__name__.lower()} statement", s.lineno)

    def _assign(self, target: ast.expr, value: ast.expr, m: str) -> list[ast.stmt]:
        if isinstance(target, ast.Subscript):
            if isinstance(target.value, ast.Name):
                self.accesses.writes.add(target.value.id)
            return [ast.Expr(_call("_store", _name(m), self._value(target.value, m), self._value(target.slice, m),
                                   self._value(value, m)))]
        if isinstance(target, ast.Tuple):
            names = [t.id for t in target.elts if isinstance(t, ast.Name)]
            parts = [f"_t{k}" for k in range(len(names))]
            if len(names) != len(target.elts):
                raise KernelFault("language", "only names stand left of = in a row", target.lineno)
            if isinstance(value, ast.Tuple):               # a, b = c, d
                packed: ast.expr = ast.Tuple([self._value(v, m) for v in value.elts], ast.Load())
            else:
                packed = self._value(value, m)
            first = ast.Assign([ast.Tuple([ast.Name(p, ast.Store()) for p in parts], ast.Store())], packed)
            return [first, *[self._named(n, _name(p), m) for n, p in zip(names, parts, strict=True)]]
        if not isinstance(target, ast.Name):
            raise KernelFault("language", f"{ast.unparse(target)} cannot be set", target.lineno)
        return [self._named(target.id, self._value(value, m), m)]

    def _named(self, name: str, value: ast.expr, m: str) -> ast.stmt:
        if name in self.passing:
            return _set(name, value)
        return _set(name, _call("_merge", _name(m), _name(name), value))

    def _if(self, s: ast.If, m: str) -> list[ast.stmt]:
        yes, no = self._mask(), self._mask()
        cond = f"_c{yes[2:]}"
        out: list[ast.stmt] = [_set(cond, _call("_truth", ast.Constant("if"), self._value(s.test, m))),
                               _set(yes, _call("_both", _name(m), _name(cond))),
                               self._when(yes, self._block(s.body, yes))]
        if s.orelse:
            out += [_set(no, _call("_without", _name(m), _name(cond))), self._when(no, self._block(s.orelse, no))]
        return out

    def _for(self, s: ast.For, m: str) -> list[ast.stmt]:
        call = s.iter
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range"
                and isinstance(s.target, ast.Name) and 1 <= len(call.args) <= 3 and not call.keywords):
            raise KernelFault("language", "loops go over range(lo, hi, step)", s.lineno)
        inside = self._mask()
        turns = _call("_range", _name(m), *[self._value(a, m) for a in call.args])
        target = ast.Tuple([ast.Name(s.target.id, ast.Store()), ast.Name(inside, ast.Store())], ast.Store())
        gone, body, before = self._loop(s.body, inside)
        if before:
            body = [_set(inside, _call("_minus", _name(inside), _name(gone))),
                    ast.If(ast.Compare(_name(inside), [ast.Is()], [ast.Constant(False)]), [ast.Break()], []), *body]
        return [*before, ast.For(target, turns, body, [])]

    def _loop(self, body: Sequence[ast.stmt], inside: str) -> tuple[str, list[ast.stmt], list[ast.stmt]]:
        """The name of the lanes that left, the new body, and what stands before the loop."""
        gone = f"_g{inside[2:]}"
        self.gone.append(gone)
        new = self._block(body, inside)
        self.gone.pop()
        return gone, new, [_set(gone, ast.Constant(False))] if any(map(_leaves, body)) else []

    def _while(self, s: ast.While, m: str) -> list[ast.stmt]:
        inside = self._mask()
        gone, body, before = self._loop(s.body, inside)
        head: list[ast.stmt] = []
        if before:
            head = [_set(inside, _call("_minus", _name(inside), _name(gone)))]
        test = self._value(s.test, inside)
        stop = ast.If(ast.Compare(_name(inside), [ast.Is()], [ast.Constant(False)]), [ast.Break()], [])
        head += [stop] if before else []
        turn = [*head, _set(inside, _call("_both", _name(inside), _call("_truth", ast.Constant("while"), test))),
                ast.If(ast.Compare(_name(inside), [ast.Is()], [ast.Constant(False)]), [ast.Break()], []), *body]
        counted = ast.For(ast.Name("_turn", ast.Store()), _call("_endless"), turn, [])
        return [*before, _set(inside, _name(m)), counted]

    # ------------------------------------------------------------------ expressions
    def _value(self, e: ast.expr, m: str) -> ast.expr:
        if isinstance(e, ast.Constant):
            if type(e.value) is float:
                raise KernelFault("type", f"the literal {e.value} is a float64: write f4({e.value})", e.lineno)
            if type(e.value) not in (int, bool):
                raise KernelFault("language", f"kernels have no literal {e.value!r}", e.lineno)
            return e
        if isinstance(e, ast.Name):
            return e
        if isinstance(e, ast.BinOp):
            return _call(f"_{type(e.op).__name__}", _name(m), self._value(e.left, m), self._value(e.right, m))
        if isinstance(e, ast.UnaryOp):
            if isinstance(e.op, ast.USub) and isinstance(e.operand, ast.Constant) and type(e.operand.value) is int:
                return ast.Constant(-e.operand.value)
            return _call(f"_{type(e.op).__name__}", _name(m), self._value(e.operand, m))
        if isinstance(e, ast.Compare):
            return self._comparison(e, m)
        if isinstance(e, ast.BoolOp):
            first = self._value(e.values[0], m)
            for v in e.values[1:]:
                first = _call("_conjunction", _name(m), first, self._later(v), ast.Constant(isinstance(e.op, ast.Or)))
            return first
        if isinstance(e, ast.IfExp):
            return _call("_choice", _name(m), self._value(e.test, m), self._later(e.body), self._later(e.orelse))
        if isinstance(e, ast.Subscript):
            if isinstance(e.value, ast.Name):
                self.accesses.reads.add(e.value.id)
            return _call("_load", _name(m), self._value(e.value, m), self._value(e.slice, m))
        if isinstance(e, ast.Call):
            return self._word(e, m)
        raise KernelFault("language", f"kernels have no {ast.unparse(e)}", e.lineno)

    def _later(self, e: ast.expr) -> ast.expr:
        """A value that is made when its lanes are known."""
        m = self._mask()
        args = ast.arguments([], [ast.arg(m)], None, [], [], None, [])
        return ast.Lambda(args, self._value(e, m))

    def _comparison(self, e: ast.Compare, m: str) -> ast.expr:
        if len(e.ops) == 1:
            return _call(f"_{type(e.ops[0]).__name__}", _name(m), self._value(e.left, m), self._value(e.comparators[0], m))
        left, pairs = e.left, []
        for op, right in zip(e.ops, e.comparators, strict=True):
            pairs.append(ast.copy_location(ast.Compare(left, [op], [right]), e))
            left = right
        return self._value(ast.copy_location(ast.BoolOp(ast.And(), list(pairs)), e), m)

    def _word(self, e: ast.Call, m: str) -> ast.expr:
        if not isinstance(e.func, ast.Name) or e.keywords:
            raise KernelFault("language", f"kernels have no {ast.unparse(e)}", e.lineno)
        word = e.func.id
        self.accesses.word(e, word)
        if word in _LITERALS:
            return _call(word, _name(m), self._number(e))
        args = [self._value(a, m) for a in e.args]
        if word.startswith(("shared_", "local_")):
            self.sites += 1
            args.append(ast.Constant(self.sites))
        return _call(word, _name(m), *args)

    @staticmethod
    def _number(e: ast.Call) -> ast.expr:
        """The number of f4(..): a literal, inf or nan, with a sign."""
        text = "".join(ast.unparse(a) for a in e.args)
        try:
            return ast.Constant(float(text))
        except ValueError:
            raise KernelFault("language", f"{ast.unparse(e)} is no literal", e.lineno) from None


def _documents(s: ast.stmt) -> bool:
    return isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant) and isinstance(s.value.value, str)
