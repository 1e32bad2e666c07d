"""When compiling the update pays, and with which options."""

from __future__ import annotations

import functools
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils._triton

from rlspo.common.precision import has_convolutions
from rlspo.common.processor import mkl_is_slow

#: Updates of PPO after which compilation has paid for itself: it costs 10 s and saves 1 ms an update of small networks.
UPDATES_THAT_PAY = 10_000
#: What it saves where networks have convolutions, in units of that: 20 to 50 ms for 15 s.
GAIN_OF_CONVOLUTIONS = 10.0
#: Minibatch updates of one run after which it pays to compile the loop over them too: it costs 3 s (PPO) to 14 s (BARPO) more,
#: which torch does not keep on disk, and saves 0.06 to 0.12 ms an update.
UPDATES_THAT_PAY_LOOPS = 100_000


@functools.cache
def compiler_available(device_type: str) -> bool:
    """Whether ``torch.compile`` can work here: on a CPU it needs a C++ compiler, on CUDA it needs Triton."""
    if device_type == "cuda":
        return torch.utils._triton.has_triton()
    compiler = os.environ.get("CXX", "")
    return any(shutil.which(name) for name in (compiler, "g++", "clang++", "c++") if name)


def should_compile(
    choice: str | bool, n_updates: int, device: torch.device, networks: torch.nn.Module | None = None, gain: float = 1.0
) -> tuple[bool, str]:
    """Resolve ``compile="auto"``.

    :param choice: ``"auto"``, ``True`` or ``False``
    :param n_updates: minibatch updates that the coming training run will do
    :param networks: what is trained: with convolutions, fewer updates pay
    :param gain: what compiling saves in an update for what it costs, in units of PPO's
    :return: the decision and the reason for it, in words for the user
    """
    if choice != "auto":
        return bool(choice), f"compile={choice} was asked for"
    convolutional = networks is not None and has_convolutions(networks)
    enough = round(UPDATES_THAT_PAY / (max(gain, GAIN_OF_CONVOLUTIONS) if convolutional else gain))
    if n_updates < enough:
        return False, f"{n_updates} updates are too few to pay for compilation ({enough} are needed)"
    if not compiler_available(device.type):
        what = "Triton" if device.type == "cuda" else "a C++ compiler (install g++ or set CXX)"
        return False, f"compilation would pay, but {what} was not found"
    return True, f"{n_updates} updates pay for about 15 s of compilation"


def mark_static(tensor: torch.Tensor) -> torch.Tensor:
    """Promise that ``tensor`` keeps its place between calls of a compiled function, so that CUDA graphs use it there.

    What a function writes to must stay; what does not stay is copied at each call.
    """
    if tensor.device.type == "cuda":
        torch._dynamo.mark_static_address(tensor)
    return tensor


#: That calls may skip their guards is a setting of the whole process: compiled functions of one thread run at a time.
_IN_TURN = threading.RLock()


def _in_turn(compiled: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        with _IN_TURN:
            return compiled(*arguments)

    return call


class CompiledOrEager:
    """A compiled function that turns into the plain one where compiling fails: at its first call or, where a CUDA graph is
    recorded, at the second, before anything has run.

    :param function: the plain one
    :param compiled: the same, compiled at its first call
    """

    def __init__(self, function: Callable[..., Any], compiled: Callable[..., Any]) -> None:
        self.function = function
        self.in_use = compiled
        self.failed = False
        self._calls = 0

    def __call__(self, *arguments: Any) -> Any:
        if self._calls == 2:
            return self.in_use(*arguments)
        self._calls += 1
        try:
            return self.in_use(*arguments)
        except Exception as error:  # whatever compilers raise; an error of the function itself comes again just below
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            warnings.warn(f"Compiling failed ({reason}); training goes on without, several times slower.", stacklevel=2)
            self.in_use, self.failed = self.function, True
            return self.function(*arguments)


def _for_products() -> dict[str, Any]:
    """Options of ``torch.compile`` with which matrix products on the CPU are as fast as can be."""
    if not mkl_is_slow():
        return {}
    try:
        # Imported late: with it come seconds of torch's compiler.
        from rlspo.common.matrix_products import ProductsByOneDNN
    except (ImportError, AttributeError):  # of another version's compiler, of which this uses inner parts
        return {}
    return {"post_grad_custom_post_pass": ProductsByOneDNN()}


#: Modules as torch names them in guards, whose functions and constants are what they were when they were imported.
_SETTLED = ("G['__builtins_", *(f"G['__import_{package}{end}" for package in ("rlspo", "torch") for end in ("'", "_dot_")))


def _settled(guard: Any) -> bool:
    """Whether a guard asks for a function or a constant of torch's, Python's or this package's modules, as a quarter of them
    do. A user's own modules are asked each time."""
    return guard.is_global and guard.name.startswith(_SETTLED)


def compile_whole(
    function: Callable[..., Any],
    device: torch.device,
    otherwise: Callable[..., Any] | None = None,
    held: Collection[torch.Tensor] = (),
) -> Callable[..., Any]:
    """Compile ``function`` as one graph of static shapes.

    What a call of a small network costs is the way into it. On the CPU the wrapper is C++, too; on CUDA all kernels are one
    CUDA graph, whose results the next call overwrites, and which copies its inputs but for static ones (:func:`mark_static`).

    :param function: compiled at its first call
    :param device: of its tensors
    :param otherwise: where compilation fails (no working compiler, no Python headers), say so and go on with this
    :param held: tensors of which the caller itself makes sure, before each call, that they are where they were; torch does
        not ask again
    """
    # Built apart from the kernels, the wrapper is not optimised, which takes a third off the C++ compiler's time.
    options: dict[str, Any] = {"triton.cudagraphs": True}
    if device.type == "cpu":
        options = {"cpp_wrapper": True, "cpp_wrapper_build_separate": True, **_for_products()}
    known = {id(tensor) for tensor in held}
    options["guard_filter_fn"] = lambda guards: [id(guard.value) not in known and not _settled(guard) for guard in guards]
    # Isolated: torch counts compilations per line of code, and many agents may live in one process.
    compiler: Callable[..., Any] = torch.compile
    compiled = _in_turn(compiler(function, fullgraph=True, dynamic=False, options=options, isolate_recompiles=True))
    return CompiledOrEager(otherwise, compiled) if otherwise else compiled


class Compilable:
    """Stands before an update and switches between its eager and its compiled path; both give the same numbers."""

    device: torch.device
    #: Whether there is a compiled path; where not, the eager one is taken whatever is asked for.
    compilable = True
    _function: Callable[..., Any]
    _size: int | None = None
    _scalars: tuple[dict[str, float], dict[str, torch.Tensor]] = ({}, {})

    def pure_function(self) -> Callable[..., Any]:
        """What is called, and compiled as a whole."""
        raise TypeError(f"{type(self).__name__} names no function.")

    def forms(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """What is compiled, and what does the same where compiling fails."""
        return self.pure_function(), self.pure_function()

    def plan(self, n_updates: int) -> None:
        """Called before a run of so many calls."""

    def held(self) -> Collection[torch.Tensor]:
        """Tensors that are known to be unchanged at each call; see :func:`compile_whole`."""
        return ()

    def use_compiled(self, compiled: bool, or_eager: bool = False) -> None:
        """Choose the path.

        :param compiled: compile at the next call
        :param or_eager: where compilation fails, say so and go on eagerly
        """
        self.asked_to_compile, self._or_eager = compiled, or_eager
        self._function = self.pure_function()
        if compiled and self.compilable:
            function, otherwise = self.forms()
            self._function = compile_whole(function, self.device, otherwise if or_eager else None, self.held())

    def use_size(self, rows: int) -> None:
        """Minibatches have so many rows from now on. Others, the last ones of an epoch, take the eager path, so that one
        compilation serves; another size is compiled anew."""
        if self._size not in (None, rows) and self.compiled:
            self.use_compiled(True, self._or_eager)
        self._size = rows

    def function_for(self, rows: int) -> Callable[..., Any]:
        """The path of a minibatch of so many rows."""
        return self._function if self._size in (None, rows) else self.pure_function()

    @property
    def compiled(self) -> bool:
        """Whether the compiled path is in use: asked for, and not given up because compilation failed."""
        return self.asked_to_compile and self.compilable and not getattr(self._function, "failed", False)

    def tensors_of(self, scalars: dict[str, float]) -> dict[str, torch.Tensor]:
        """``scalars`` as tensors on the device, where a change needs no compiling.

        They are not to be written to: equal scalars get the same tensors again.
        """
        if scalars != self._scalars[0]:
            tensors = {name: torch.tensor(value, dtype=torch.float32, device=self.device) for name, value in scalars.items()}
            self._scalars = (dict(scalars), tensors)
        return dict(self._scalars[1])

    def clone_output(self, report: torch.Tensor) -> torch.Tensor:
        """The result, as a copy where the next call would overwrite it (a CUDA graph)."""
        return report.clone() if self.device.type == "cuda" else report

    @contextmanager
    def skip_guards(self) -> Iterator[None]:
        """A context in which compiled calls skip their guards: nothing may change in it that the last call was compiled for
        (settings, shapes, modules).

        Guards are a good part of what a small update costs. Other threads' updates wait until it ends, because torch skips the
        guards of all threads; compiled functions that are not this package's do not wait.
        """
        if not self.compiled:
            yield
            return
        with _IN_TURN, torch.compiler.set_stance(skip_guard_eval_unsafe=True):
            yield
