"""When the update is compiled, and what the user is told."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlspo import BARPO, PPO
from rlspo.common import compilation
from rlspo.common.compilation import (
    GAIN_OF_CONVOLUTIONS,
    UPDATES_THAT_PAY,
    Compilable,
    compiler_available,
    should_compile,
)
from tests.spaces import SpacesEnv

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def forget_what_was_found() -> Iterator[None]:
    compiler_available.cache_clear()
    yield
    compiler_available.cache_clear()


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The programs that this machine seems to have."""
    found: set[str] = set()
    monkeypatch.setattr(compilation.shutil, "which", lambda name: f"/bin/{name}" if name in found else None)
    monkeypatch.delenv("CXX", raising=False)
    return found


@pytest.mark.parametrize("choice", [True, False])
@pytest.mark.parametrize("n_updates", [0, 10**9])
def test_what_was_asked_for_is_done(choice: bool, n_updates: int, programs: set[str]) -> None:
    decision, reason = should_compile(choice, n_updates, CPU)
    assert decision is choice
    assert str(choice) in reason


def test_auto_compiles_where_it_pays(programs: set[str]) -> None:
    programs.add("g++")
    short, why_not = should_compile("auto", UPDATES_THAT_PAY - 1, CPU)
    assert not short
    assert str(UPDATES_THAT_PAY - 1) in why_not
    assert "too few" in why_not
    assert should_compile("auto", UPDATES_THAT_PAY, CPU)[0]


def test_convolutions_and_larger_updates_pay_sooner(programs: set[str]) -> None:
    programs.add("g++")
    images, dense = torch.nn.Sequential(torch.nn.Conv2d(4, 32, 8)), torch.nn.Sequential(torch.nn.Linear(4, 32))
    enough = int(UPDATES_THAT_PAY / GAIN_OF_CONVOLUTIONS)
    for networks, gain, decisions in (
        (images, 1.0, (False, True, True)),
        (images, 2.5, (False, True, True)),
        (dense, 1.0, (False, False, False)),
        (dense, 2.5, (False, False, True)),
    ):
        for n_updates, decision in zip((enough - 1, enough, 4 * enough), decisions, strict=True):
            assert should_compile("auto", n_updates, CPU, networks, gain)[0] is decision


def test_auto_without_a_compiler_says_what_to_install(programs: set[str]) -> None:
    decision, reason = should_compile("auto", 10 * UPDATES_THAT_PAY, CPU)
    assert not decision
    assert "install g++ or set CXX" in reason


@pytest.mark.parametrize("name", ["g++", "clang++", "c++"])
def test_any_usual_compiler_will_do(name: str, programs: set[str]) -> None:
    programs.add(name)
    assert compiler_available("cpu")


def test_cxx_is_respected(programs: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    programs.add("icpx")
    assert not compiler_available("cpu")
    compiler_available.cache_clear()
    monkeypatch.setenv("CXX", "icpx")
    assert compiler_available("cpu")


@pytest.mark.parametrize("triton", [True, False])
def test_cuda_needs_triton_and_no_compiler(triton: bool, programs: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: triton)
    decision, reason = should_compile("auto", UPDATES_THAT_PAY, CUDA)
    assert decision is triton
    assert triton or "Triton" in reason


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The functions that were given to the compiler, which here returns them as they are."""
    seen: list[Any] = []

    def compile_nothing(function: Any, *_: Any) -> Any:
        seen.append(function)
        return function

    monkeypatch.setattr(compilation, "compile_whole", compile_nothing)
    return seen


def agent(choice: Any) -> PPO:
    options = {"n_steps": 16, "batch_size": 8, "n_epochs": 2, "device": "cpu", "verbose": 1}
    return PPO("MlpPolicy", SpacesEnv(), **options, compile=choice)


def test_agent_counts_the_updates_of_the_run(
    compilations: list[Any], programs: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """33 steps are three rollouts of two epochs of two minibatches; runs in slices add up."""
    programs.add("g++")
    monkeypatch.setattr(compilation, "UPDATES_THAT_PAY", 20)
    model = agent("auto")
    capsys.readouterr()
    model.learn(32)
    said = capsys.readouterr().out
    assert "eagerly" in said
    assert "8 updates are too few" in said
    assert not compilations
    model.learn(33.0)
    said = capsys.readouterr().out
    assert said.count("Compiling the update") == said.count("20 updates pay") == 1
    assert len(compilations) == 1
    model.learn(16)
    assert len(compilations) == 1, "a later run, however short, uses what was compiled"


def test_agent_compiles_as_the_argument_says(compilations: list[Any]) -> None:
    agent(False).learn(16)
    assert not compilations
    agent(True).learn(16)
    assert len(compilations) == 1


@pytest.mark.parametrize("choice", ["yes", "True", None, 2])
def test_other_choices_are_rejected_at_construction(choice: Any) -> None:
    with pytest.raises(ValueError, match=r"compile is .*must be 'auto', True or False"):
        agent(choice)


@pytest.mark.parametrize("rollouts", ["clean", "attacked"])
def test_a_compiler_that_fails_costs_speed_and_nothing_else(rollouts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under ``auto`` training goes on eagerly, in the update and in attacked rollouts; ``True`` insists."""

    def broken(function: Any, **options: Any) -> Any:
        def call(*arguments: Any) -> Any:
            raise RuntimeError("no working compiler")

        return call

    def trained(choice: str | bool) -> BARPO:
        settings = {"n_steps": 16, "batch_size": 8, "n_epochs": 1, "seed": 0, "device": "cpu", "adversary_steps": 2}
        return BARPO("MlpPolicy", "Pendulum-v1", **settings, rollouts=rollouts, compile=choice).learn(32)

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(compilation, "UPDATES_THAT_PAY", 1)
    monkeypatch.setattr(compilation, "compiler_available", lambda device: True)
    with pytest.warns(UserWarning, match=r"Compiling failed \(no working compiler\)"):
        fallen_back = trained("auto")
    assert not fallen_back.update.compiled
    eager = trained(False)
    assert torch.equal(fallen_back.update.vector.weights, eager.update.vector.weights)
    with pytest.raises(RuntimeError, match="no working compiler"):
        trained(True)


class Sine(Compilable):
    """A compiled function of its own."""

    device = torch.device("cpu")

    def pure_function(self) -> Any:
        return torch.sin


@pytest.mark.skipif(not compiler_available("cpu"), reason="no working C++ compiler")
def test_other_threads_wait_while_guards_are_skipped() -> None:
    """torch skips the guards of all threads: a call would run what was compiled for something else."""
    one, other, events = Sine(), Sine(), []
    for each in (one, other):
        each.use_compiled(True)
        each._function(torch.zeros(3))
    begun = threading.Event()

    def call() -> None:
        begun.set()
        other._function(torch.zeros(3))
        events.append("called")

    thread = threading.Thread(target=call)
    with one.skip_guards():
        thread.start()
        begun.wait()
        thread.join(0.2)
        events.append("left")
    thread.join()
    assert events == ["left", "called"]
    assert not torch._dynamo.eval_frame._stance.skip_guard_eval_unsafe


#: What a user's function takes from its module.
FACTOR = 2.0


def _scaled(values: torch.Tensor) -> torch.Tensor:
    return values * FACTOR


def test_what_a_users_module_says_is_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of torch's modules and this package's it is not: a quarter of all guards were theirs."""
    if not compiler_available("cpu"):
        pytest.skip("there is no C++ compiler")
    asked: list[str] = []
    settled = compilation._settled
    monkeypatch.setattr(compilation, "_settled", lambda guard: settled(guard) or asked.append(guard.name))
    scaled = compilation.compile_whole(_scaled, CPU)
    values = torch.ones(3)
    assert scaled(values).tolist() == [2.0] * 3
    assert "G['FACTOR']" in asked
    monkeypatch.setattr("tests.common.test_compilation.FACTOR", 5.0)
    assert scaled(values).tolist() == [5.0] * 3


@pytest.mark.parametrize(
    ("name", "settled"),
    [
        ("G['__import_torch_dot_nn_dot_utils'].stateless", True),
        ("G['__import_torch'].mean", True),
        ("G['__import_rlspo_dot_sac_dot_policies'].LOG_STD_MAX", True),
        ("G['__builtins_dict___0']['map']", True),
        ("G['__import_rlspo_extension'].SCALE", False),
        ("G['__import_torch_geometric'].nn", False),
        ("G['SCALE']", False),
    ],
)
def test_packages_that_are_only_called_alike_are_users_own(name: str, settled: bool) -> None:
    guard = SimpleNamespace(name=name, is_global=True)
    assert compilation._settled(guard) == settled
    assert not compilation._settled(SimpleNamespace(name=name, is_global=False))
