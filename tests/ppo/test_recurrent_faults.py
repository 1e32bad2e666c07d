"""What may go wrong around a policy with memory."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent import policies as contrib
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from rlspo import PPO, SPO
from rlspo.attacks import CriticAttack, attacked_evaluation
from rlspo.common.errors import DivergedError
from rlspo.common.sequences import MEMORY
from rlspo.policies import ActorCriticPolicy
from rlspo.policies.recurrent import Recurrent
from tests.envs_for_memory import Recall

KIND: dict[str, Any] = {"lstm_hidden_size": 16, "net_arch": [32]}


def make(env: Any = None, **settings: Any) -> Any:
    env = make_vec_env("CartPole-v1", 2, seed=0) if env is None else env
    given: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "n_epochs": 2, "seed": 0, "policy_kwargs": KIND, **settings}
    return PPO("MlpLstmPolicy", env, **given)


def test_after_weights_were_not_finite_it_goes_on(tmp_path: Any) -> None:
    model = make().learn(64)
    with torch.no_grad():
        for parameter in model.policy.lstm_critic.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(DivergedError):
        model.learn(64)
    model.save(tmp_path / "agent")
    PPO.load(tmp_path / "agent", env=model.get_env(), force_reset=False).learn(64)
    model.learn(128)
    assert np.isfinite(model._env_memory.now).all()


def test_nothing_is_left_of_a_memory_where_an_episode_begins() -> None:
    model = make()
    observations, lost = np.zeros((2, 4), np.float32), np.full((1, 2, 16), np.nan, np.float32)
    fresh, remembered = model.predict(observations, deterministic=True)
    actions, state = model.predict(observations, (lost, lost), np.ones(2, bool), deterministic=True)
    assert np.array_equal(actions, fresh) and all(map(np.array_equal, state, remembered))
    memory = model._env_memory
    memory.now = np.full(memory.shape, np.nan, np.float32)
    seen = memory.seen(np.zeros((2, 4), np.float32), [True, False])[MEMORY]
    assert (seen[0] == 0).all() and np.isnan(seen[1]).all()


@pytest.mark.parametrize(("size", "length"), [(16, 16), (64, 32), (48, 24)])
def test_another_batch_size_later(size: int, length: int) -> None:
    model = make(n_steps=96)
    model.batch_size = size
    assert model._sequences.length == length
    assert {len(rows) for rows in model.minibatches()} == {size}
    model.learn(192)


def test_a_batch_size_that_does_not_fit_is_refused_and_leaves_the_old_one() -> None:
    model = make(sequence_length=16)
    with pytest.raises(ValueError, match="sequence_length is 16"):
        model.batch_size = 24
    assert model.batch_size == 32


def test_a_critic_under_attack_remembers() -> None:
    seen = []

    class Watched(CriticAttack):
        def objective(self, policy: Any, inputs: Any) -> Any:
            seen.append(inputs[MEMORY].clone())
            return super().objective(policy, inputs)

    model = make(make_vec_env(Recall, 2, seed=0)).learn(64)
    attacked_evaluation(model, make_vec_env(Recall, 2, seed=0), Watched, 0.1, n_eval_episodes=2)
    of_actor = model.policy.lstm_actor.size
    assert seen[0].abs().sum() == 0
    assert (seen[1][:, :of_actor].abs().sum(-1) > 0).all()
    assert (seen[1][:, of_actor:].abs().sum(-1) > 0).all()


def test_environments_that_reset_apart_are_refused_later_too() -> None:
    with pytest.raises(ValueError, match="reset in a step of their own"):
        make().set_env(gym.make_vec("CartPole-v1", 2, vectorization_mode="sync"))


def test_names_of_a_users_own_are_left_alone() -> None:
    class Own(PPO):
        def __init__(self, *args: Any, **settings: Any) -> None:
            self.memory, self.sequences = [1, 2], "mine"
            super().__init__(*args, **settings)

    agent = Own("MlpLstmPolicy", "CartPole-v1", n_steps=32, policy_kwargs=KIND)
    assert agent.memory == [1, 2] and agent.sequences == "mine"


def test_methods_that_a_memory_would_replace_are_refused() -> None:
    class Own(ActorCriticPolicy):
        def values_of(self, inputs: Any) -> torch.Tensor:
            return super().values_of(inputs) * 0 + 7

    class Both(Recurrent, Own):
        pass

    with pytest.raises(TypeError, match="Own defines values_of, which a memory before it replaces"):
        PPO(Both, "CartPole-v1", n_steps=32)


def test_very_short_sequences_are_spoken_of() -> None:
    with pytest.warns(UserWarning, match="sequences of 2 steps only"):
        make(n_steps=50, batch_size=64)


class StopAt(BaseCallback):
    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def _on_step(self) -> bool:
        return self.n_calls != self.step


def test_a_stopped_rollout_remembers_what_its_last_observation_follows() -> None:
    """It goes on where the environments stand, and not from an observation that they have left."""
    model, at_once = make(), make()
    at_once.learn(64, StopAt(4))
    callback = StopAt(3)
    model.learn(64, callback)
    assert np.array_equal(model._last_obs, callback.locals["new_obs"])
    model.learn(64, StopAt(1), reset_num_timesteps=False)
    assert np.array_equal(model._last_obs, at_once._last_obs)
    assert np.allclose(model._env_memory.now, at_once._env_memory.now, atol=1e-6)


@pytest.mark.parametrize("width", [None, False, -1, 1.5])
def test_widths_that_are_none_are_refused(width: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="lstm_hidden_size is"):
        make(policy_kwargs={"lstm_hidden_size": width})


def test_episode_starts_of_another_number_are_refused() -> None:
    model, seen = make(), np.zeros((2, 4), np.float32)
    model.predict(seen, None, np.array(True))
    with pytest.raises(ValueError, match="one truth value for each of 2 observations"):
        model.predict(seen, None, np.array([True, False, True]))


@pytest.mark.parametrize("policy", ["MlpLstmPolicy", "MoeMlpPolicy"])
def test_dict_observations_need_the_policy_for_them(policy: str) -> None:
    class Dictionary(gym.ObservationWrapper):
        def __init__(self, env: gym.Env) -> None:
            super().__init__(env)
            self.observation_space = gym.spaces.Dict({"seen": env.observation_space})

        def observation(self, observation: Any) -> Any:
            return {"seen": observation}

    env = make_vec_env("CartPole-v1", 2, wrapper_class=Dictionary)
    with pytest.raises(ValueError, match="MultiInput"):
        PPO(policy, env, n_steps=32)
    PPO(policy.replace("Mlp", "MultiInput"), env, n_steps=32, batch_size=32).learn(64)


def test_gsde_explores_by_its_matrices() -> None:
    model = make(make_vec_env("Pendulum-v1", 2, seed=0), use_sde=True).learn(64)
    policy, seen, starts = model.policy, torch.zeros(2, 3), torch.zeros(2)
    memory = policy.packed(None, 2)
    states = (policy.lstm_actor.states(memory[:, :32]), policy.lstm_critic.states(memory[:, 32:]))
    policy.reset_noise(2)
    one, two = (policy(seen, states, starts)[0] for _ in range(2))
    assert torch.equal(one, two)
    policy.reset_noise(2)
    assert not torch.equal(one, policy(seen, states, starts)[0])


def test_goes_on_inside_an_episode_with_its_memory(tmp_path: Any) -> None:
    model = make(make_vec_env("Pendulum-v1", 2, seed=0)).learn(64)
    model.save(tmp_path / "agent")
    again: Any = PPO.load(tmp_path / "agent", env=model.get_env(), force_reset=False)
    assert np.array_equal(again._env_memory.now, model._env_memory.now) and again._env_memory.now.any()
    model.save(tmp_path / "agent")
    of_three: Any = PPO.load(tmp_path / "agent", env=make_vec_env("Pendulum-v1", 3, seed=0))
    assert of_three._env_memory.now.shape[0] == 3 and not of_three._env_memory.now.any()
    of_three.learn(96)


@pytest.mark.parametrize("kind", [{}, {"shared_lstm": True, "enable_critic_lstm": False}, {"enable_critic_lstm": False}])
def test_files_of_recurrent_ppo_are_loaded(tmp_path: Any, kind: dict[str, Any]) -> None:
    kwargs: dict[str, Any] = {**KIND, **kind}
    theirs = RecurrentPPO("MlpLstmPolicy", "CartPole-v1", n_steps=32, batch_size=32, policy_kwargs=kwargs, seed=0).learn(64)
    theirs.save(tmp_path / "theirs")
    ours: Any = PPO.load(tmp_path / "theirs", env="CartPole-v1")
    assert isinstance(ours.policy, Recurrent) and ours.n_steps == 32
    state: Any = None
    theirs_state: Any = None
    for observation in np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32):
        action, state = ours.predict(observation, state, deterministic=True)
        expected, theirs_state = theirs.predict(observation, theirs_state, deterministic=True)
        assert action == expected
        np.testing.assert_allclose(state[0], theirs_state[0], rtol=1e-5, atol=1e-6)
    moments, expected_moments = (m.policy.optimizer.state_dict()["state"] for m in (ours, theirs))
    assert all(torch.equal(moments[row]["exp_avg"], kept["exp_avg"]) for row, kept in expected_moments.items())
    ours.learn(64)


def test_files_of_recurrent_ppo_that_cannot_be_taken_as_they_are(tmp_path: Any) -> None:
    settings: dict[str, Any] = {"n_steps": 25, "batch_size": 16, "seed": 0}
    theirs = RecurrentPPO("MlpLstmPolicy", "CartPole-v1", policy_kwargs={**KIND, "lstm_kwargs": {}}, **settings)
    theirs.save(tmp_path / "odd")
    PPO.load(tmp_path / "odd").predict(np.zeros(4, np.float32))  # to act it needs no sequences
    with pytest.raises(ValueError, match=r"no common divisor above 1.*load\(file, env, n_steps=128, batch_size=64\)"):
        PPO.load(tmp_path / "odd", env="CartPole-v1")
    PPO.load(tmp_path / "odd", env="CartPole-v1", n_steps=32).learn(32)
    make(policy_kwargs={**KIND, "lstm_kwargs": {"bias": True, "dropout": 0.0}})  # the defaults of torch
    with pytest.raises(ValueError, match=r"lstm_kwargs is \{'bias': False\}"):
        make(policy_kwargs={**KIND, "lstm_kwargs": {"bias": False}})


def test_episodes_under_way_of_recurrent_ppo_begin_anew(tmp_path: Any) -> None:
    """Its file has what it remembers in a form of its own."""
    env = make_vec_env("Pendulum-v1", 2, seed=0)
    settings: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "policy_kwargs": KIND, "seed": 0}
    RecurrentPPO("MlpLstmPolicy", env, **settings).learn(64).save(tmp_path / "theirs")
    ours = PPO.load(tmp_path / "theirs", env=env, force_reset=False)
    under_way = ours._last_obs.copy()
    ours.learn(32, reset_num_timesteps=False)
    assert np.array_equal(ours.rollout_buffer.data["observations"][0], under_way)
    assert ours.rollout_buffer.data["episode_starts"][0].all()


def test_predict_of_the_policy_is_contribs() -> None:
    ours = make()
    theirs = RecurrentPPO("MlpLstmPolicy", make_vec_env("CartPole-v1", 2), n_steps=32, policy_kwargs=KIND)
    theirs.policy.load_state_dict(ours.policy.state_dict())
    draws = torch.Generator().manual_seed(0)
    given = (torch.randn(2, 4, generator=draws), tuple(torch.randn(2, 1, 2, 16, generator=draws)), torch.tensor([0.0, 1.0]))
    (actions, states), (expected, their_states) = (each.policy._predict(*given, deterministic=True) for each in (ours, theirs))
    assert torch.equal(actions, expected)
    torch.testing.assert_close(states, their_states)


def test_policies_of_contrib_are_told_what_they_lack() -> None:
    class Own(contrib.RecurrentActorCriticPolicy):
        pass

    with pytest.raises(TypeError, match="Own extends a policy with memory of sb3-contrib"):
        PPO(Own, "CartPole-v1")
    with pytest.raises(TypeError, match="this agent has no memory"):
        SPO(contrib.RecurrentActorCriticPolicy, "CartPole-v1")
    assert type(PPO(contrib.RecurrentActorCriticPolicy, "CartPole-v1").policy).__module__.startswith("rlspo.")


def test_an_agent_of_contrib_is_attacked_with_its_memory() -> None:
    env = make_vec_env(Recall, 4, seed=0)
    settings: dict[str, Any] = {"n_steps": 64, "batch_size": 128, "learning_rate": 2e-3, "seed": 0, "gamma": 0.95}
    theirs = RecurrentPPO("MlpLstmPolicy", env, policy_kwargs=KIND, **settings).learn(256)
    ours: Any = PPO("MlpLstmPolicy", env, policy_kwargs=KIND, **settings)
    ours.policy.load_state_dict(theirs.policy.state_dict())
    for attack in (None, "mad"):
        returns = (attacked_evaluation(model, env, attack, 0.3, n_eval_episodes=20, seed=1) for model in (theirs, ours))
        assert np.array_equal(*returns)


def test_policies_for_dictionaries_say_what_they_are_for() -> None:
    for policy in ("MultiInputPolicy", "MultiInputLstmPolicy"):
        with pytest.raises(ValueError, match="is for Dict observations"):
            PPO(policy, "CartPole-v1")
