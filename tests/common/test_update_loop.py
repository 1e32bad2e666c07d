"""In long runs the compiled call takes all minibatches of an epoch."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from rlspo import BARPO, PPO, SPO
from rlspo.common import compilation
from tests.spaces import SpacesEnv

#: 40 rows: two whole minibatches and a smaller one in each of two epochs.
OPTIONS: dict[str, Any] = {"n_steps": 40, "batch_size": 16, "n_epochs": 2, "seed": 2, "device": "cpu", "learning_rate": 3e-3}
AGENTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "target_kl": (PPO, {"policy": "MlpPolicy", "target_kl": 0.005}),
    "barpo": (BARPO, {"policy": "MlpPolicy", "epsilon": 0.1, "adversary_steps": 1}),
    "mixture": (PPO, {"policy": "MoeMlpPolicy", "policy_kwargs": {"n_experts": 2}}),
}


def trained(kind: str, **options: Any) -> PPO:
    agent, own = AGENTS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the smaller minibatch
        return agent(env=SpacesEnv("box"), **OPTIONS, **own, **options).learn(120)


@pytest.fixture
def every_run_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "UPDATES_THAT_PAY_LOOPS", 1)


@pytest.mark.parametrize("kind", AGENTS)
def test_equals_one_call_after_the_other(kind: str, every_run_is_long: None) -> None:
    eager, looping = (trained(kind, compile=choice) for choice in (False, True))
    assert looping.update.loops and looping.update.compiled and not eager.update.compiled
    moved = [model.update.vector.weights for model in (eager, looping)]
    assert (moved[0] - moved[1]).norm() < 1e-4 * moved[0].norm()
    assert float(looping.update.vector.steps) == float(eager.update.vector.steps)
    assert (float(eager.update.vector.steps) < 18) == (kind == "target_kl")
    for name, value in eager.logger.name_to_value.items():
        if name.startswith("train/"):
            assert looping.logger.name_to_value[name] == pytest.approx(value, rel=1e-2, abs=1e-4), name
    for mine, theirs in zip(looping.policy.parameters(), eager.policy.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, rtol=1e-2, atol=1e-4)
    if kind != "target_kl":
        assert_fewer_minibatches_do_not_compile_again(looping)


def assert_fewer_minibatches_do_not_compile_again(model: PPO) -> None:
    """Steps that only reset leave fewer rows in some rollouts."""
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    model.rollout_buffer.data["valid"][:20] = False
    model.train()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before
    assert float(model.update.vector.steps) == 18 + 2 * 2


def test_a_failing_compiler_costs_speed_only(every_run_is_long: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "UPDATES_THAT_PAY", 1)
    monkeypatch.setattr(compilation, "compiler_available", lambda device: True)

    def fail(*arguments: Any) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda function, **options: fail)
    with pytest.warns(UserWarning, match="Compiling failed"):
        agent, own = AGENTS["mixture"]
        failing = agent(env=SpacesEnv("box"), **OPTIONS, **own, compile="auto").learn(120)
    eager = trained("mixture", compile=False)
    torch.testing.assert_close(failing.update.vector.weights, eager.update.vector.weights)


def test_short_runs_and_long_vectors_do_not_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "compile_whole", lambda function, *_: function)
    short = PPO("MlpPolicy", SpacesEnv("box"), compile=True, **{**OPTIONS, "batch_size": 20}).learn(40)
    assert not short.update.loops
    short.update.plan(compilation.UPDATES_THAT_PAY_LOOPS)
    assert short.update.loops
    wide = PPO("MlpPolicy", SpacesEnv("box"), policy_kwargs={"net_arch": [400, 400]}, **{**OPTIONS, "batch_size": 20})
    wide.update.plan(compilation.UPDATES_THAT_PAY_LOOPS)
    assert len(wide.update.vector.weights) > 200_000 and not wide.update.loops
    assert np.isfinite(float(short.update.vector.weights.sum()))


def test_epochs_of_one_short_minibatch(monkeypatch: pytest.MonkeyPatch, every_run_is_long: None) -> None:
    """As resets that take a step of their own leave them: then nothing is left for the loop."""
    monkeypatch.setattr(compilation, "compile_whole", lambda function, *_: function)
    model = PPO("MlpPolicy", SpacesEnv("box"), compile=True, **{**OPTIONS, "batch_size": 40}).learn(40)
    model.rollout_buffer.data["valid"][:30] = False
    model.train()
    assert float(model.update.vector.steps) == 4


def test_gradients_shown_are_those_of_a_step_that_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained("target_kl", compile=False)
    for parameter in model.policy.parameters():
        parameter.grad = None
    monkeypatch.setattr(model.update, "_within_target", lambda active, *_: active & False)
    model.train()
    assert all(parameter.grad is None for parameter in model.policy.parameters())


def test_steps_that_do_more_are_taken_one_by_one(monkeypatch: pytest.MonkeyPatch, every_run_is_long: None) -> None:
    """SPO's average of the parameters follows in each step, which the loop does not know."""
    monkeypatch.setattr(compilation, "compile_whole", lambda function, *_: function)
    model = SPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, gradient_steps=2, compile=True, seed=0).learn(16)
    before = model.update.target.clone()
    model.learn(16, reset_num_timesteps=False)
    assert model.update.long_run and not model.update.loops
    assert not torch.equal(model.update.target, before)


def test_with_a_memory_and_burn_in(every_run_is_long: None) -> None:
    memory = {"sequence_length": 8, "burn_in": 4, "policy_kwargs": {"lstm_hidden_size": 4, "net_arch": [8]}}
    models = [
        PPO("MlpLstmPolicy", SpacesEnv("box"), **{**OPTIONS, "batch_size": 8}, **memory, compile=choice).learn(80)
        for choice in (False, True)
    ]
    assert models[1].update.loops and models[1].update.compiled
    moved = [model.update.vector.weights for model in models]
    assert (moved[0] - moved[1]).norm() < 1e-4 * moved[0].norm()
