"""What a call of a program does before its graph is replayed, as few steps of Python as can be.

In: how many inputs and outputs there are, and which may be numbers of the host.  Out: a function written for just that: a loop
over arguments takes three times as long as their names.  Never launches anything but by the program's methods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...config import config
from ...dtypes import memory as as_memory
from .memory import DeviceArray, Memory

NUMBER = 16                                               # bytes of a number's place


class Numbers:
    """Inputs of one element, which may be the host's: each has a place on the device that keeps its last value."""

    __slots__ = ("memory", "places", "image", "arrays", "changed")

    def __init__(self, memory: Memory, inputs: Sequence[Any]) -> None:
        self.memory = memory
        self.places = [(k, b.dtype) for k, b in enumerate(inputs) if b.size == 1]
        self.image: list[bytes] = [b""] * len(self.places)
        self.arrays: list[DeviceArray] = []               # made when a number comes
        self.changed = False                              # is something to be sent?

    def place(self, at: int, number: Any) -> DeviceArray:
        """The place of a number, which holds it once `send` was called."""
        dtype = self.places[at][1]
        data = (number if number.dtype == dtype.np else as_memory(number, dtype)).tobytes()
        if data != self.image[at]:
            self.image[at] = data
            self.changed = True
        if not self.arrays:
            block = self.memory.block(NUMBER * len(self.places))
            self.arrays = [self.memory.over(block.ptr + NUMBER * i, (), d, block) for i, (_, d) in enumerate(self.places)]
        return self.arrays[at]

    def send(self) -> None:
        """All of them, in the stream's order: earlier work still reads earlier ones."""
        self.memory.driver.put(self.arrays[0].ptr, b"".join([v.ljust(NUMBER, b"\0") for v in self.image]))
        self.changed = False


def written(inputs: int, outputs: int, numbers: Sequence[int], products: bool, single: Sequence[int] | None = None) -> str:
    """The text of the function: `numbers` are the inputs that may be the host's; `single`: the program is one kernel, which
    needs these inputs aligned.

    >>> print(written(2, 1, [1], False))
    def make(driver, graphs, takes, numbers, number, run, config, DeviceArray):
        p0, = takes
        def call(program, arrays):
            with driver.lock:
                a0, a1, = arrays
                if a1.__class__ is not DeviceArray:
                    a1 = number(0, a1)
                if numbers.changed:
                    numbers.send()
                o0 = p0()
                key = (a0.ptr, a1.ptr, o0.ptr,)
                graph = graphs.get(key)
                if graph is None:
                    program.first(key, (a0, a1,))
                else:
                    graphs.move_to_end(key)
                    driver.replay(graph)
                return [o0,]
        return call
    <BLANKLINE>
    """
    a, o = [f"a{k}" for k in range(inputs)], [f"o{k}" for k in range(outputs)]
    lines = [f"{', '.join(a)}, = arrays"] if a else []
    for at, k in enumerate(numbers):
        lines += [f"if a{k}.__class__ is not DeviceArray:", f"    a{k} = number({at}, a{k})"]
    if numbers:
        lines += ["if numbers.changed:", "    numbers.send()"]
    lines += [f"o{k} = p{k}()" for k in range(outputs)]
    if products:
        lines += ["if program.precision != config.matmul_precision:", "    program.forget()"]
    lines.append(f"key = ({''.join([f'{x}.ptr, ' for x in (*a, *o)]).rstrip()})")
    first = f"    program.first(key, ({''.join([f'{x}, ' for x in a]).rstrip()}))"
    if single is None:
        lines += ["graph = graphs.get(key)", "if graph is None:", first, "else:", "    graphs.move_to_end(key)",
                  "    driver.replay(graph)"]
    elif single:
        lines += [f"if ({' | '.join([f'a{k}.ptr' for k in single])}) & 15:", first, "else:", "    run(key)"]
    else:
        lines.append("run(key)")
    lines.append(f"return [{''.join([f'{x}, ' for x in o]).rstrip()}]")
    takes = f"    {', '.join([f'p{k}' for k in range(outputs)])}, = takes\n" if outputs else ""
    return ("def make(driver, graphs, takes, numbers, number, run, config, DeviceArray):\n" + takes
            + "    def call(program, arrays):\n        with driver.lock:\n"
            + "".join([f"            {line}\n" for line in lines]) + "    return call\n")


_makers: dict[str, Callable[..., Any]] = {}


def caller(program: Any, inputs: int) -> Callable[[Any, Sequence[Any]], list[DeviceArray]]:
    """The function for a program: called with it and its arrays.  It holds no reference to the program."""
    numbers = program.numbers
    single = program.aligned if len(program.steps) == 1 and not program.products else None
    text = written(inputs, len(program.pools), [k for k, _ in numbers.places], program.products, single)
    make = _makers.get(text)
    if make is None:
        names: dict[str, Any] = {}
        exec(compile(text, f"{__file__}: a call of a program", "exec"), names)
        make = _makers[text] = names["make"]
    made: Callable[[Any, Sequence[Any]], list[DeviceArray]] = make(
        program.driver, program.graphs, [pool.take for pool in program.pools], numbers, numbers.place,
        program.steps[0].run if program.steps else None, config, DeviceArray)
    return made
