"""Kernel text to LLVM text without Numba: the language of `interpret` is small enough to be read at once.

In: the text of a kernel.  Out: LLVM text of one function, the same instructions as Numba's front end makes of it by
`library` (both take them from `words`), in a twentieth of the time and with nothing to import but llvmlite; loops that wait
for long chains are marked so that LLVM runs two turns side by side.  `Foreign` for whatever is not plainly the language:
Numba then decides, and says what is wrong.  Never guesses a type.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from llvmlite import ir
from llvmlite.ir import IRBuilder as Builder

from autojit.backends.cpu import interpret
from autojit.backends.cpu.instructions import F32, F64, I1, I32, I64, loaded, power, stored
from autojit.backends.cpu.words import (
    CASTS,
    COMPARISONS,
    LLVM,
    OPERATORS,
    SLOTS,
    WORDS,
    load_word,
    memory_type,
    scopes,
    table_word,
)

KINDS = {ty: kind for kind, ty in LLVM.items()}
_BINARY: dict[type, str] = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv", ast.FloorDiv: "floordiv",
                            ast.Mod: "mod", ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor"}
_UNARY: dict[type, str] = {ast.USub: "neg", ast.Invert: "invert", ast.Not: "not_"}
_COMPARED: dict[type, str] = {ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge", ast.Eq: "eq", ast.NotEq: "ne"}
_FUSED = frozenset(("fadd", "fsub", "fmul", "fdiv", "frem", "fcmp"))


# a loop over a chunk (long) with so many functions that one turn fills the processor's window: two turns go side by side
_CHUNK = ast.dump(ast.parse("lo, hi", mode="eval").body)
_WAITING = range(5, 41)
_PAIR = "autojit pair"
_PAIRED = re.compile(rf'^(!\d+) = !{{ !"{_PAIR} \d+" }}$', re.M)


def _waits(s: ast.For) -> bool:
    """Does a turn consist of much that waits for other parts of it?"""
    nodes = [n for line in s.body for n in ast.walk(line)]
    called = [n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    words = sum(name.rsplit("_", 1)[0] in interpret.MATH for name in called)
    return words in _WAITING and not any(isinstance(n, ast.For) for n in nodes)


class Foreign(Exception):
    """Not plainly a kernel."""


class View:
    """A buffer: its address, what it holds, and the marks of its accesses."""

    __slots__ = ("pointer", "name", "kind", "own", "others")

    def __init__(self, pointer: Any, name: str, own: Any, others: Any) -> None:
        self.pointer, self.name, self.own, self.others = pointer, name, own, others
        self.kind = name if name in LLVM else "i64"

    def mark(self, access: Any) -> Any:
        access.set_metadata("alias.scope", self.own)
        if self.others is not None:
            access.set_metadata("noalias", self.others)
        return access


def translate(text: str, name: str) -> str:
    """LLVM text that defines the kernel as `name`.  Raises Foreign."""
    try:
        tree = ast.parse(text)
    except SyntaxError as e:
        raise Foreign(str(e)) from None
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.FunctionDef):
        raise Foreign("not one function")
    return _Function(tree.body[0], name).text()


class _Function:
    def __init__(self, tree: ast.FunctionDef, name: str) -> None:
        self.tree = tree
        self.module = ir.Module()
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(I32, [pointer, pointer, I64.as_pointer(), I64, I64, I64])
        self.function = ir.Function(self.module, kind, name)
        self.entry = self.function.append_basic_block("entry")
        self.b = Builder(self.function.append_basic_block("body"))
        self.values: dict[str, Any] = {}                   # name → LLVM value, where it is assigned once
        self.places: dict[str, Any] = {}                   # name → its place on the stack, where it is assigned again
        self.views: dict[str, View] = {}
        self.again = self._assigned_again()
        self.ending: Any = None
        self.paired = 0

    def text(self) -> str:
        arguments = self.tree.args
        if [a.arg for a in arguments.args] != ["args", "lo", "hi", "chunk"] or arguments.defaults or arguments.kwonlyargs:
            raise Foreign("other arguments")
        self.table = self.function.args[2]
        for name, value in zip(("lo", "hi", "chunk"), self.function.args[3:]):
            self.values[name] = value
        if self.again & {"lo", "hi", "chunk", "args"}:
            raise Foreign("an argument is assigned")
        first = self.b.block
        self.block(self.tree.body)
        self.b.ret(I32(0) if self.ending is None else self.b.load(self.ending))
        self.b.position_at_end(self.entry)
        self.b.branch(first)
        if not compares(self.tree):
            _contract(self.function)
        return _PAIRED.sub(r'\1 = distinct !{ \1, !{ !"llvm.loop.interleave.count", i32 2 } }', str(self.module))

    def _assigned_again(self) -> set[str]:
        """Names that are assigned at more than one place: registers of loops."""
        count: dict[str, int] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                count[name] = count.get(name, 0) + 1
        return {name for name, n in count.items() if n > 1}

    # ------------------------------------------------------------------ statements
    def block(self, body: list[ast.stmt]) -> None:
        for s in body:
            kind = type(s)
            if kind is ast.Assign:
                self.assign(s)  # type: ignore[arg-type]
            elif kind is ast.For:
                self.loop(s)  # type: ignore[arg-type]
            elif kind is ast.While:
                self.repeat(s)  # type: ignore[arg-type]
            elif kind is ast.If:
                self.branch(s)  # type: ignore[arg-type]
            elif kind is ast.Expr and isinstance(s.value, ast.Call):  # type: ignore[attr-defined]
                self.call_for_effect(s.value)  # type: ignore[attr-defined]
            elif kind is not ast.Pass:
                raise Foreign(f"a statement {kind.__name__}")

    def scoped(self, body: list[ast.stmt]) -> None:
        """A block whose names end with it."""
        values, views = dict(self.values), dict(self.views)
        self.block(body)
        self.values, self.views = values, views

    def assign(self, s: ast.Assign) -> None:
        if len(s.targets) != 1:
            raise Foreign("several targets")
        target = s.targets[0]
        if isinstance(target, ast.Subscript):
            view, place = self.place(target)
            value = self.value(s.value)
            if KINDS.get(value.type) != view.kind:
                raise Foreign("a store of another type")
            view.mark(self.b.store(stored(self.b, value, memory_type(view.name)), place))
            return
        if not isinstance(target, ast.Name):
            raise Foreign("a target")
        name = target.id
        if isinstance(s.value, ast.Call) and isinstance(s.value.func, ast.Name) and s.value.func.id in interpret.VIEWS:
            if name in self.again:
                raise Foreign("a view is assigned again")
            self.views[name] = self.view(s.value.func.id, s.value.args)
            return
        value = self.value(s.value)
        if name not in self.again:
            self.values[name] = value
            return
        place = self.places.get(name)
        if place is None:
            here = self.b.block
            self.b.position_at_end(self.entry)
            place = self.places[name] = self.b.alloca(value.type)
            self.b.position_at_end(here)
        if place.allocated_type != value.type:
            raise Foreign("a name of two types")
        self.b.store(value, place)

    def loop(self, s: ast.For) -> None:
        """``for i in range(...)`` with a positive constant step."""
        if not (isinstance(s.target, ast.Name) and isinstance(s.iter, ast.Call) and isinstance(s.iter.func, ast.Name)
                and s.iter.func.id == "range" and 1 <= len(s.iter.args) <= 3 and not s.orelse):
            raise Foreign("a loop")
        name, bounds = s.target.id, s.iter.args
        if name in self.again:
            raise Foreign("a loop variable is assigned")
        step = 1
        if len(bounds) == 3:
            step = _integer(bounds[2])
            if step <= 0:
                raise Foreign("a step")
        start, stop = (self.whole(bounds[0]), self.whole(bounds[1])) if len(bounds) > 1 else (I64(0), self.whole(bounds[0]))
        b, before = self.b, self.b.block
        head, body, after = (self.function.append_basic_block(n) for n in ("head", "loop", "after"))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        i.add_incoming(start, before)
        b.cbranch(b.icmp_signed("<", i, stop), body, after)
        b.position_at_end(body)
        outer = self.values.get(name)
        self.values[name] = i
        self.scoped(s.body)
        if outer is None:
            del self.values[name]
        else:
            self.values[name] = outer
        i.add_incoming(b.add(i, I64(step), flags=("nsw",)), b.block)
        back = b.branch(head)
        if ast.dump(ast.Tuple(bounds, ast.Load())) == _CHUNK and _waits(s):
            self.paired += 1
            back.set_metadata("llvm.loop", self.module.add_metadata([f"{_PAIR} {self.paired}"]))
        b.position_at_end(after)

    def repeat(self, s: ast.While) -> None:
        """``while test:``; the test is made of names that the body assigns, and loads."""
        if s.orelse:
            raise Foreign("a loop with else")
        b = self.b
        head, body, after = (self.function.append_basic_block(n) for n in ("test", "turn", "after"))
        b.branch(head)
        b.position_at_end(head)
        b.cbranch(self.test(s.test), body, after)
        b.position_at_end(body)
        self.scoped(s.body)
        b.branch(head)
        b.position_at_end(after)

    def branch(self, s: ast.If) -> None:
        b = self.b
        then, other, after = (self.function.append_basic_block(n) for n in ("then", "else", "after"))
        b.cbranch(self.test(s.test), then, other)
        for block, body in ((then, s.body), (other, s.orelse)):
            b.position_at_end(block)
            self.scoped(body)
            b.branch(after)
        b.position_at_end(after)

    def call_for_effect(self, call: ast.Call) -> None:
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        if name == "call" and call.args:
            self.outside([self.whole(a) for a in call.args])
            return
        if name == "refuse" and not call.args:
            self.b.store(I32(1), self.status())
            return
        if name != "set_error" or len(call.args) != 3:
            raise Foreign("a call")
        self.b.store(self.whole(call.args[2]), table_word(self.b, self.table, self.whole(call.args[1])))

    def status(self) -> Any:
        """Where the number stands that the kernel ends with, 0 at first; made when a text first sets it."""
        if self.ending is None:
            here = self.b.block
            self.b.position_at_end(self.entry)
            self.ending = self.b.alloca(I32)
            self.b.store(I32(0), self.ending)
            self.b.position_at_end(here)
        return self.ending

    def outside(self, words: list[Any]) -> None:
        """A call of C's function at the address words[0]: it may read and write all memory."""
        kind = ir.FunctionType(ir.VoidType(), [I64] * (len(words) - 1))
        self.b.call(self.b.inttoptr(words[0], kind.as_pointer()), words[1:])

    def outside_f64(self, address: Any, values: list[Any]) -> Any:
        """A call of C's function of doubles, as SciPy has them: one more integer, 0, comes last."""
        if any([v.type != F64 for v in values]):
            raise Foreign("a call")
        kind = ir.FunctionType(F64, [F64] * len(values) + [I32])
        return self.b.call(self.b.inttoptr(address, kind.as_pointer()), [*values, I32(0)])

    # ------------------------------------------------------------------ memory
    def view(self, name: str, args: list[ast.expr]) -> View:
        if len(args) != 3 or not self.is_table(args[0]):
            raise Foreign("a view")
        k, n = _integer(args[1]), _integer(args[2])
        address = load_word(self.b, self.table, I64(k))
        pointer = self.b.inttoptr(address, memory_type(name).as_pointer())
        return View(pointer, name, *scopes(self.module, k, n))

    def is_table(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id == "args"

    def place(self, node: ast.Subscript) -> tuple[View, Any]:
        view = self.views.get(node.value.id) if isinstance(node.value, ast.Name) else None
        if view is None:
            raise Foreign("not a view")
        return view, self.b.gep(view.pointer, [self.whole(node.slice)], inbounds=True)

    # ------------------------------------------------------------------ expressions
    def whole(self, node: ast.expr) -> Any:
        value = self.value(node)
        if value.type is not I64 and value.type != I64:
            raise Foreign("not an integer")
        return value

    def test(self, node: ast.expr) -> Any:
        value = self.value(node)
        if value.type != I1:
            raise Foreign("not a test")
        return value

    def value(self, node: ast.expr) -> Any:
        kind = type(node)
        if kind is ast.Name:
            return self.name(node.id)  # type: ignore[attr-defined]
        if kind is ast.BinOp:
            op = _BINARY.get(type(node.op))  # type: ignore[attr-defined]
            return self.operator(op, self.value(node.left), self.value(node.right))  # type: ignore[attr-defined]
        if kind is ast.Subscript:
            view, place = self.place(node)  # type: ignore[arg-type]
            return loaded(self.b, view.mark(self.b.load(place)), view.name)
        if kind is ast.Call:
            return self.call(node)  # type: ignore[arg-type]
        if kind is ast.Constant:
            return _literal(node.value)  # type: ignore[attr-defined]
        if kind is ast.UnaryOp:
            return self.unary(node)  # type: ignore[arg-type]
        if kind is ast.Compare and len(node.ops) == 1:  # type: ignore[attr-defined]
            op = _COMPARED.get(type(node.ops[0]))  # type: ignore[attr-defined]
            return self.operator(op, self.value(node.left), self.value(node.comparators[0]))  # type: ignore[attr-defined]
        if kind is ast.BoolOp:
            return self.both(node)  # type: ignore[arg-type]
        if kind is ast.IfExp:
            return self.choice(node)  # type: ignore[arg-type]
        raise Foreign(f"an expression {kind.__name__}")

    def name(self, name: str) -> Any:
        value = self.values.get(name)
        if value is None:
            place = self.places.get(name)
            if place is None:
                raise Foreign(f"the name {name}")
            value = self.b.load(place)
        return value

    def operator(self, name: str | None, *args: Any) -> Any:
        kind = KINDS.get(args[0].type)
        emit = OPERATORS.get(name or "", {}).get(kind or "")
        if emit is None or any([a.type != args[0].type for a in args[1:]]):
            raise Foreign(f"{name} of {kind}")
        return emit(self.b, *args)

    def unary(self, node: ast.UnaryOp) -> Any:
        if type(node.op) is ast.USub and isinstance(node.operand, ast.Constant) and type(node.operand.value) is int:
            return _literal(-node.operand.value)
        return self.operator(_UNARY.get(type(node.op)), self.value(node.operand))

    def both(self, node: ast.BoolOp) -> Any:
        """``and``, ``or``: what only computes is computed; what loads is reached where it must be."""
        meets = isinstance(node.op, ast.And)
        value = self.test(node.values[0])
        for other in node.values[1:]:
            if any([isinstance(n, ast.Subscript) for n in ast.walk(other)]):
                yes, no = (lambda other=other: self.test(other)), (lambda meets=meets: I1(not meets))
                value = self.branched(value, yes, no) if meets else self.branched(value, no, yes)
            else:
                value = (self.b.and_ if meets else self.b.or_)(value, self.test(other))
        return value

    def choice(self, node: ast.IfExp) -> Any:
        return self.branched(self.test(node.test), lambda: self.value(node.body), lambda: self.value(node.orelse))

    def branched(self, test: Any, yes: Any, no: Any) -> Any:
        b = self.b
        then, other, after = (self.function.append_basic_block(n) for n in ("then", "else", "after"))
        b.cbranch(test, then, other)
        ends = []
        for block, make in ((then, yes), (other, no)):
            b.position_at_end(block)
            value = make()
            ends.append((value, b.block))
            b.branch(after)
        b.position_at_end(after)
        if ends[0][0].type != ends[1][0].type:
            raise Foreign("a choice of two types")
        phi = b.phi(ends[0][0].type)
        for value, block in ends:
            phi.add_incoming(value, block)
        return phi

    def call(self, node: ast.Call) -> Any:
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise Foreign("a call")
        name, args = node.func.id, node.args
        if name in ("f4", "f8") and len(args) == 1:
            number = _number(args[0])
            if number is not None:
                return (F32 if name == "f4" else F64)(number)
        slot = SLOTS.get(name)
        if slot is not None and len(args) == 2 and self.is_table(args[0]):
            return slot[1](self.b, load_word(self.b, self.table, I64(_integer(args[1]))))
        if name == "address" and len(args) == 2:
            return self.b.ptrtoint(self.place(ast.Subscript(args[0], args[1]))[1], I64)
        if name.startswith("powi_") and len(args) == 2:
            return self.power(name[5:], self.value(args[0]), _integer(args[1]))
        values = [self.value(a) for a in args]
        if name == "call_f64" and len(values) > 1 and values[0].type == I64:
            return self.outside_f64(values[0], values[1:])
        word = WORDS.get(name)
        if word is not None:
            if tuple([KINDS.get(v.type) for v in values]) != word.kinds:
                raise Foreign(f"arguments of {name}")
            return word.emit(self.b, *values)
        cast = CASTS.get(name)
        if cast is not None and len(values) == 1:
            return cast[1](self.b, values[0])
        if name == "select" and len(values) == 3 and values[0].type == I1 and values[1].type == values[2].type:
            return self.b.select(*values)
        raise Foreign(f"the word {name}")

    def power(self, kind: str, x: Any, n: int) -> Any:
        if KINDS.get(x.type) != kind or kind == "b1" or kind == "i64" and n < 0:
            raise Foreign("a power")
        return power(self.b, x, n)


def compares(tree: ast.AST) -> bool:
    """Does a kernel look for a value among values (greatest ones, and which they are)?  Then what is computed in two places
    must be the same bits in both, and products are not fused with sums."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq):
            return True
        if (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)
                and node.value.func.id.startswith(("maximum_f", "minimum_f")) and node.value.args
                and ast.unparse(node.value.args[0]) == ast.unparse(node.targets[0])):
            return True
    return False


def _contract(function: ir.Function) -> None:
    """Products may be fused with sums: the one freedom of all floating-point instructions of a kernel."""
    for block in function.blocks:
        for i in block.instructions:
            if i.opname in _FUSED:
                if "contract" not in i.flags:
                    i.flags = [*i.flags, "contract"]
            elif i.opname == "call" and i.type in (F32, F64):
                i.fastmath.add("contract")


def _literal(value: Any) -> Any:
    if type(value) is bool:
        return I1(value)
    if type(value) is int and -2 ** 63 <= value < 2 ** 63:
        return I64(value)
    raise Foreign(f"the literal {value!r}")


def _integer(node: ast.expr) -> int:
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        sign, node = -1, node.operand
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return sign * node.value
    raise Foreign("not a constant")


def _number(node: ast.expr) -> float | None:
    """The number inside f4() or f8(), if it is one."""
    sign = 1.0
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        sign, node = -1.0, node.operand
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return sign * float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name) and node.id in ("inf", "nan"):
        return sign * float(node.id)
    return None


assert set(_COMPARED.values()) == set(COMPARISONS)
