"""quickjs-ng as WebAssembly: one instance of the engine, with limits the code inside cannot reach.

The counterpart of ``src/planner/engine/quickjs.ts``: the same bytes (``quickjs_module.py``), run by
wasmtime.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wasmtime import (
    Func,
    Instance,
    Limits,
    Memory,
    MemoryType,
    Store,
    Trap,
    WasmtimeError,
)

from .quickjs_module import EXPORTS, TICK, engine_and_module, ticking

# Flags of QTS_NewContext: base objects, eval, RegExp and its compiler, JSON, Map, typed arrays. No
# Date, Proxy, Promise, WeakRef.
_INTRINSICS = 1 | 4 | 16 | 32 | 64 | 256 | 512
_STACK = 128 << 10  # bytes of the interpreted code's stack; WebAssembly has 5 MiB
_PAGE = 1 << 16
# Upper half of a value that stands for what was thrown (JS_TAG_EXCEPTION of these bytes).
_EXCEPTION = (6).to_bytes(4, "little")
_OWN_MEMORY = 16 << 20  # bytes that the module asks for at the least
_ARGUMENTS = 2  # of a call at the most

Kind = Literal["threw", "interrupted", "exhausted", "trapped"]


class EngineError(Exception):
    """A failure of the engine: ``threw`` (the code threw the text; it stays usable), or its end:
    ``interrupted`` by the time limit, ``exhausted`` (no memory is left for an answer), ``trapped``
    (its stack is used up)."""

    def __init__(self, kind: Kind, text: str):
        super().__init__(text)
        self.kind = kind


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Image:
    """The memory of an engine at rest. Another engine that starts from it continues where that one
    was: all of an engine's state is in its memory, for its one global is the stack pointer, which
    is back at its first value whenever no code runs, and its table never changes."""

    context: int
    pages: int  # size of the memory
    filled: dict[int, bytes]  # pages that hold anything but zeros, by number


class QuickJs:
    """One engine: memory, runtime and context of its own. Not thread-safe; values are addresses.

    ``megabytes``: memory that code may take, MiB; ``image``: of an engine with the same limit, to
    start from.
    """

    def __init__(self, megabytes: int, image: Image | None = None):
        engine, module = engine_and_module()
        self._store = Store(engine)
        self._store.set_epoch_deadline(1 << 40)
        pages = -(-(_OWN_MEMORY + (megabytes << 20)) // _PAGE)
        # The module states 2 GiB at most; this is the wall that no code inside can move.
        limits = Limits(image.pages if image else _OWN_MEMORY // _PAGE, pages)
        self._memory = Memory(self._store, MemoryType(limits))
        self._ended: EngineError | None = None
        self._deadline: Callable[[], bool] = _never
        self._interrupted = False
        imports = [
            self._memory if item.name == "a" else self._import(str(item.name), item.type)
            for item in module.imports
        ]
        exports = Instance(self._store, module, imports).exports(self._store)
        self._functions: dict[str, Any] = {name: exports[short] for name, short in EXPORTS.items()}
        if image is None:
            self._context = self._begin(megabytes)
        else:
            self._context = image.context
            for page, content in image.filled.items():
                self.write(content, page * _PAGE)
        self._undefined = self._do("undefined")
        self._arguments = self._do("malloc", 4 * _ARGUMENTS)
        self._names: dict[str, int] = {}

    def _begin(self, megabytes: int) -> int:
        self._do("constructors")
        runtime = self._do("new_runtime")
        self._do("set_memory_limit", runtime, megabytes << 20)
        self._do("set_max_stack_size", runtime, _STACK)
        self._do("enable_interrupts", runtime)
        return self._do("new_context", runtime, _INTRINSICS)

    def image(self) -> Image:
        """What another engine can start from. Values of this one are valid there."""
        memory = bytes(self.read(0, self._memory.data_len(self._store)))
        pages, zeros = len(memory) // _PAGE, bytes(_PAGE)
        contents = ((page, memory[page * _PAGE : (page + 1) * _PAGE]) for page in range(pages))
        filled = {page: content for page, content in contents if content != zeros}
        return Image(self._context, pages, filled)

    @property
    def ended(self) -> bool:
        """Whether the engine can run no more."""
        return self._ended is not None

    def buffer(self, size: int) -> tuple[int, int]:
        """An ArrayBuffer of ``size`` bytes: (value, offset in the memory)."""
        offset = self._do("malloc", size)
        return self._do("new_array_buffer", self._context, offset, size), offset

    def read(self, start: int, stop: int) -> bytearray:
        """Bytes [start, stop) of the memory."""
        return self._memory.read(self._store, start, stop)

    def write(self, data: bytes, start: int) -> None:
        self._memory.write(self._store, data, start)

    def text(self, text: str) -> int:
        """A string, as a value. Raises ``EngineError`` (``exhausted``)."""
        pointer, _ = self._copied(text)
        value = self._do("new_string", self._context, pointer)
        self._do("free", pointer)
        if self._failed(value):
            raise self._exhausted()
        return value

    def evaluate(
        self, source: str, file: str, interrupt: Callable[[], bool], seconds: float
    ) -> int:
        """Run a script; its value. ``seconds``: time after which it is stopped, whatever it does.

        Raises ``EngineError``.
        """
        code, length = self._copied(source)
        name, _ = self._copied(file)
        value = self._guarded(interrupt, seconds, "eval", self._context, code, length, name, 0, 0)
        self._do("free", code)
        self._do("free", name)
        return value

    def name(self, text: str) -> int:
        """A string as a value that the engine keeps: for names that many calls give."""
        known = self._names.get(text)
        if known is None:
            known = self._names[text] = self.text(text)
        return known

    def free(self, value: int) -> None:
        self._do("free_value", self._context, value)

    def call(
        self, function: int, given: Sequence[int], interrupt: Callable[[], bool], seconds: float
    ) -> int:
        """Call a function that answers its own errors; its value, for `take` or `free`.

        Raises ``EngineError`` (``exhausted``, too, where the function raises: nothing was left for
        its ``catch``).
        """
        assert len(given) <= _ARGUMENTS
        self.write(b"".join(value.to_bytes(4, "little") for value in given), self._arguments)
        call = (self._context, function, self._undefined, len(given), self._arguments)
        try:
            return self._guarded(interrupt, seconds, "call", *call)
        except EngineError as error:
            raise (self._exhausted() if error.kind == "threw" else error) from None

    def take(self, value: int) -> str:
        """The text of what a call answered; the value is freed. Raises ``EngineError``
        (``exhausted``)."""
        text = self._text_of(value)
        if text is None:
            raise self._exhausted()
        return text

    def _failed(self, value: int) -> bool:
        """Whether a value is none: something was thrown, or no memory was left to hold it."""
        return value == 0 or self.read(value + 4, value + 8) == _EXCEPTION

    def _exhausted(self) -> EngineError:
        return self._end("exhausted", "no memory is left for an answer")

    def _text_of(self, value: int) -> str | None:
        """A value's text; None where it gives none: its ``toString`` throws, or no memory is left.
        The value is freed."""
        pointer = self._do("get_string", self._context, value)
        text = None
        if pointer:
            end, step = pointer, 256
            data = bytearray()
            while b"\0" not in data:
                data += self.read(end, end + step)
                end, step = end + step, step * 2
            text = data[: data.index(0)].decode("utf-8", "replace")
            self._do("free_c_string", self._context, pointer)
        self.free(value)
        return text

    def _do(self, name: str, *given: int) -> int:
        result = self._functions[name](self._store, *given)
        return result & 0xFFFFFFFF if isinstance(result, int) else 0

    def _guarded(
        self, interrupt: Callable[[], bool], seconds: float, name: str, *given: int
    ) -> int:
        if self._ended is not None:
            raise self._ended
        self._deadline, self._interrupted = interrupt, False
        thrown: str | None = None
        try:
            with ticking():
                # Where the engine's own interrupts are not asked (one built-in function can run for
                # hours), the epochs of wasmtime stop it.
                self._store.set_epoch_deadline(max(1, int(seconds / TICK)) + 1)
                result = self._do(name, *given)
                if result and self._failed(result):
                    exception = self._do("resolve_exception", self._context, result)
                    if exception:
                        self._do("free_value", self._context, result)
                        # To say what was thrown may run code as well.
                        thrown = self._text_of(exception) or ""
                    else:
                        result = 0
        except Trap as trap:
            interrupted = "interrupt" in str(trap)
            raise self._end("interrupted" if interrupted else "trapped", str(trap)) from None
        except WasmtimeError as error:
            raise self._end("trapped", str(error)) from None
        finally:
            self._store.set_epoch_deadline(1 << 40)
            self._deadline = _never
        if self._interrupted:
            raise self._end("interrupted", "interrupted")
        if not result:
            raise self._exhausted()
        if thrown is not None:
            raise EngineError("threw", thrown)
        return result

    def _end(self, kind: Kind, text: str) -> EngineError:
        self._ended = EngineError(kind, text.splitlines()[0])
        return self._ended

    def _copied(self, text: str) -> tuple[int, int]:
        data = text.encode("utf-8", "surrogatepass")
        pointer = self._do("malloc", len(data) + 1)
        if not pointer:
            raise self._exhausted()
        self.write(data + b"\0", pointer)
        return pointer, len(data)

    def _import(self, name: str, kind: Any) -> Func:
        """What the module asks of the outside: memory, and nothing that a policy could see."""
        # wasmtime keeps these functions until the store is dropped: with a reference to the engine,
        # which holds the store, neither would ever be freed.
        held = weakref.ref(self)

        def engine() -> QuickJs:
            owner = held()
            assert owner is not None
            return owner

        def asked(*given: int) -> int:
            owner = engine()
            owner._interrupted = owner._interrupted or owner._deadline()
            return int(owner._interrupted)

        def grow(size: int) -> int:
            memory, store = engine()._memory, engine()._store
            missing = -(-((size & 0xFFFFFFFF) - memory.data_len(store)) // _PAGE)
            try:
                if missing > 0:
                    memory.grow(store, missing)
            except WasmtimeError:
                return 0
            return 1

        def zeros(at: int, size: int) -> None:
            engine().write(bytes(size), at)

        def environment(count: int, size: int) -> int:
            zeros(count, 4)
            zeros(size, 4)
            return 0

        def clock(_id: int, _precision: int, at: int) -> int:
            zeros(at, 8)
            return 0

        def abort(*_: int) -> None:
            raise EngineError("trapped", "the engine aborted")

        answers: dict[str, Callable[..., Any]] = {
            "b": abort,  # __assert_fail
            "c": lambda *_: 8,  # fd_write: EBADF
            "d": lambda *_: 52,  # fd_close: ENOSYS
            "f": environment,  # environ_sizes_get
            "i": asked,  # the interrupt handler
            "k": grow,
            "m": lambda _seconds, at: zeros(at, 44),  # localtime
            "o": lambda *_: 70,  # fd_seek
            "p": lambda: 0.0,  # Date.now
            "q": clock,  # clock_time_get
            "r": abort,
            "s": abort,  # proc_exit
        }
        plain: Callable[..., Any] = (lambda *_: 0) if kind.results else (lambda *_: None)
        return Func(self._store, kind, answers.get(name, plain))


__all__ = ["EngineError", "Image", "QuickJs"]
