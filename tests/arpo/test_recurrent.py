"""Adversaries of agents with memory: they perturb whole sequences, and victims remember what they were shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env

from rlspo import ARPO, BARPO, PPO
from rlspo.adversary import Objective, Power, Solver
from rlspo.adversary.perturbation import Perturbation
from rlspo.attacks import MADAttack, attacked_evaluation
from rlspo.common.compilation import compiler_available
from rlspo.common.sequences import MEMORY as MEMORY_FIELD
from rlspo.common.sequences import OBSERVATION, with_memory
from tests.envs_for_memory import Recall

MEMORY = {"lstm_hidden_size": 16, "net_arch": [32]}
SETTINGS: dict[str, Any] = {
    "n_steps": 32,
    "batch_size": 64,
    "n_epochs": 2,
    "seed": 0,
    "policy_kwargs": MEMORY,
    "normalize_observations": False,
}


@pytest.fixture(scope="module")
def trained() -> PPO:
    """It remembers a cue, and answers."""
    settings: dict[str, Any] = {
        "n_steps": 64,
        "batch_size": 128,
        "learning_rate": 2e-3,
        "seed": 0,
        "gamma": 0.95,
        "ent_coef": 0.01,
    }
    return PPO("MlpLstmPolicy", make_vec_env(Recall, 8, seed=0), policy_kwargs=MEMORY, **settings).learn(12_000)


def sequences(policy: Any, length: int = 4, count: int = 3) -> dict[str, Any]:
    """Network inputs of sequences in which no episode begins after the first step."""
    starts = torch.zeros(length, count)
    starts[0] = 1
    torch.manual_seed(0)
    observations, memory = torch.randn(length * count, 2), torch.randn(count, policy.memory_size)
    return policy.preprocess(with_memory(observations, memory, starts.reshape(-1)))


@pytest.mark.parametrize("policy", ["MlpLstmPolicy", "MoeMlpLstmPolicy"])
@pytest.mark.parametrize("agent", [ARPO, BARPO])
def test_learns_with_every_kind_of_memory(agent: type[ARPO], policy: str) -> None:
    ball: dict[str, Any] = {"epsilon": 0.5, "epsilon_ramp": 0, "adversary_steps": 2}
    model = agent(policy, make_vec_env(Recall, 4, seed=0), **ball, **SETTINGS)
    before = [parameter.clone() for parameter in model.policy.lstm_actor.parameters()]
    model.learn(256)
    assert all(not torch.equal(old, new) for old, new in zip(before, model.policy.lstm_actor.parameters(), strict=True))
    assert model.logger.name_to_value["adversary/inner_kl"] != 0


@pytest.mark.skipif(not compiler_available("cpu"), reason="needs a C++ compiler")
def test_compiled_as_eager(device: str) -> None:
    given: dict[str, Any] = {**SETTINGS, "adversary_steps": 2, "device": device}
    eager, compiled = (
        BARPO("MlpLstmPolicy", make_vec_env(Recall, 4, seed=0), compile=compile, **given).learn(256)
        for compile in (False, True)
    )
    other = compiled.policy.state_dict()
    for name, tensor in eager.policy.state_dict().items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-3, atol=1e-4)


def test_without_a_ball_it_is_ppo() -> None:
    env, settings = make_vec_env(Recall, 4, seed=0), {**SETTINGS, "learning_rate": 1e-3, "normalize_rewards": False}
    robust, plain = BARPO("MlpLstmPolicy", env, epsilon=0, **settings), PPO("MlpLstmPolicy", env, **settings)
    for model in (robust, plain):
        model.set_random_seed(0)
        model.learn(256)
    weights = plain.policy.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in robust.policy.state_dict().items())


def test_what_is_shown_at_one_step_changes_later_ones() -> None:
    model = BARPO("MlpLstmPolicy", make_vec_env(Recall, 4, seed=0), **SETTINGS)
    policy = model.policy
    inputs = sequences(policy)
    with torch.no_grad():
        objective = model.adversary_objective(dict(policy.named_parameters()), None, policy.distribution_of(inputs))
    shown = (inputs[OBSERVATION] + 0.1).requires_grad_()
    last = objective({**inputs, OBSERVATION: shown})[-1]
    (gradient,) = torch.autograd.grad(last, shown)
    of_its_sequence = gradient.reshape(4, 3, 2)[:, -1].abs().sum(-1)
    assert (of_its_sequence > 0).all()
    assert gradient.reshape(4, 3, 2)[:, :-1].abs().sum() == 0  # of other sequences


def test_the_best_of_several_searches_is_one_for_a_sequence() -> None:
    model = BARPO("MlpLstmPolicy", make_vec_env(Recall, 4, seed=0), **SETTINGS)
    policy = model.policy
    inputs = sequences(policy)
    perturb = Perturbation(policy.preprocess, model.observation_space, Power(steps=6, restarts=6))
    with torch.no_grad():
        objective = model.adversary_objective(dict(policy.named_parameters()), None, policy.distribution_of(inputs))
        noise, radius = perturb.draw(inputs, torch.Generator().manual_seed(0)), torch.tensor(0.5)
        best = perturb(objective, inputs, radius, noise)
        single = [perturb(objective, inputs, radius, [start]) for start in noise]
    of_sequences = [objective(found).reshape(4, 3).mean(0) for found in single]
    torch.testing.assert_close(objective(best).reshape(4, 3).mean(0), torch.stack(of_sequences).amax(0))


@pytest.mark.parametrize("attack", [None, "random", "mad", "critic"])
def test_an_attacked_agent_keeps_its_memory(trained: PPO, attack: str | None) -> None:
    returns = attacked_evaluation(trained, make_vec_env(Recall, 4, seed=1), attack, 0.01, n_eval_episodes=40)
    assert returns.mean() > 0.95


class OtherCue(Solver):
    """Show the other cue where there is one, and elsewhere what is true."""

    def __call__(self, objective: Objective, clean: Any, ball: Any, noise: Any) -> Any:
        other = clean[OBSERVATION] * torch.tensor([-1.0, 1.0])
        return ball.project({**clean, OBSERVATION: other}, clean)


def test_a_victim_remembers_what_it_was_shown(trained: PPO) -> None:
    """A ball of radius 2 around a cue holds the other one. Shown at the first step only, the lie lasts to the end."""
    env = make_vec_env(Recall, 4, seed=1)
    natural = attacked_evaluation(trained, env, None, 0.0, n_eval_episodes=40)
    deceived = attacked_evaluation(trained, env, MADAttack(solver=OtherCue()), 2.0, n_eval_episodes=40)
    assert (natural.mean(), deceived.mean()) == (1.0, 0.0)


def moved(inputs: dict[str, Any]) -> dict[str, Any]:
    return {**inputs, OBSERVATION: inputs[OBSERVATION] + 0.3}


@pytest.mark.parametrize("memory", [{}, {"shared_lstm": True, "enable_critic_lstm": False}, {"enable_critic_lstm": False}])
def test_in_attacked_rollouts_the_actor_remembers_what_it_was_shown_and_the_critic_what_is_true(
    memory: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SETTINGS, "policy_kwargs": {**MEMORY, **memory}}
    model = ARPO("MlpLstmPolicy", make_vec_env(Recall, 4, seed=0), rollouts="attacked", normalize_rewards=False, **settings)
    monkeypatch.setattr(model, "_rollout_search", lambda perturb: lambda inputs, radius, noise: moved(inputs))
    monkeypatch.setattr(model, "train", lambda: None)
    model.learn(128)
    buffer, policy = model.rollout_buffer, model.policy
    observations, starts = (torch.as_tensor(buffer.flat(name)) for name in ("observations", "episode_starts"))
    empty = torch.zeros(4, policy.memory_size)
    true = policy.preprocess(with_memory(observations, empty, starts))
    with torch.no_grad():
        distribution, values = policy.distribution_of(moved(true)), policy.values_of(true)
        if policy.shared_lstm:  # what it sees now is true, what it remembers is not
            remembered = torch.as_tensor(buffer.flat(MEMORY_FIELD))
            values = policy.values_of(policy.preprocess(with_memory(observations, remembered, starts)))
    log_probs = distribution.log_prob(torch.as_tensor(buffer.flat("actions")))
    torch.testing.assert_close(torch.as_tensor(buffer.flat("log_probs")), log_probs)
    torch.testing.assert_close(torch.as_tensor(buffer.flat("values")), values)


@pytest.mark.parametrize("agent", [ARPO, BARPO])
def test_attacked_rollouts_with_a_memory_are_learned_from(agent: type[ARPO]) -> None:
    settings = {**SETTINGS, "n_steps": 64, "batch_size": 128, "learning_rate": 2e-3, "gamma": 0.95, "ent_coef": 0.01}
    ball: dict[str, Any] = {"rollouts": "attacked", "epsilon": 0.1, "epsilon_ramp": 0, "adversary_steps": 2}
    model = agent("MlpLstmPolicy", make_vec_env(Recall, 8, seed=0), normalize_rewards=False, **ball, **settings).learn(12_000)
    assert attacked_evaluation(model, make_vec_env(Recall, 4, seed=1), "mad", 0.1, n_eval_episodes=40).mean() > 0.9


def test_statistics_of_observations_are_kept_with_a_memory() -> None:
    model: Any = BARPO("MlpLstmPolicy", make_vec_env(Recall, 4, seed=0), **{**SETTINGS, "normalize_observations": True})
    model.learn(256)
    assert model.policy.preprocess.parts[OBSERVATION].normalizer.count == 256
    action, state = model.predict(np.zeros(2, np.float32))
    assert state is not None and action.shape == ()
