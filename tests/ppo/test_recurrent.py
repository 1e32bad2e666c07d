"""PPO with memory: sb3-contrib's numbers, and tasks that cannot be done without."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from rlspo import PPO
from rlspo.common.sequences import MEMORY as ROWS
from rlspo.common.sequences import with_memory
from rlspo.policies import ActorCriticPolicy
from rlspo.policies.distributions import Gaussian
from tests.envs_for_memory import Copy, Recall, TMaze

MEMORY: dict[str, Any] = {"lstm_hidden_size": 16, "net_arch": [32]}
VARIANTS: dict[str, Any] = {
    "separate": {},
    "shared": {"shared_lstm": True, "enable_critic_lstm": False},
    "actor": {"enable_critic_lstm": False},
    "two layers": {"n_lstm_layers": 2},
}


class InOrder:
    """A generator that shuffles nothing."""

    def permutation(self, count: int) -> np.ndarray:
        """Environment by environment, as sb3-contrib goes through a rollout."""
        return np.arange(count).reshape(-1, 4).T.reshape(-1)


@pytest.fixture
def both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[PPO, RecurrentPPO]:
    """Agents of both libraries with the same weights and the same rollout, in which episodes begin at any step."""
    variant, length = request.param
    settings: dict[str, Any] = {"n_steps": 32, "batch_size": length, "n_epochs": 2, "seed": 1, "ent_coef": 0.01}
    settings["policy_kwargs"] = {**MEMORY, **VARIANTS[variant]}
    theirs: Any = RecurrentPPO("MlpLstmPolicy", make_vec_env("CartPole-v1", 4, seed=0), **settings)
    mine: Any = PPO("MlpLstmPolicy", make_vec_env("CartPole-v1", 4, seed=0), sequence_length=length, compile=False, **settings)
    mine.policy.load_state_dict(theirs.policy.state_dict())
    for model in (mine, theirs):
        model._setup_learn(128, None)
    buffer = theirs.rollout_buffer
    theirs.collect_rollouts(theirs.env, theirs._init_callback(None), buffer, 32)
    assert 4 < buffer.episode_starts.sum() < 30
    data = mine.rollout_buffer.data
    for name in ("observations", "rewards", "episode_starts", "values", "log_probs", "advantages", "returns"):
        data[name][:] = getattr(buffer, name)
    data["actions"][:] = buffer.actions.reshape(32, 4)
    parts = [buffer.hidden_states_pi, buffer.cell_states_pi, buffer.hidden_states_vf, buffer.cell_states_vf]
    # (n_steps, n_layers, n_envs, H) each
    rows = np.concatenate([part.transpose(0, 2, 1, 3).reshape(32, 4, -1) for part in parts], axis=-1)
    data[ROWS][:] = rows[..., : mine.policy.memory_size]
    mine.randomness.numpy = InOrder()  # type: ignore[assignment]
    monkeypatch.setattr(np.random, "randint", lambda *_: 0)
    return mine, theirs


@pytest.mark.parametrize("both", [(variant, length) for variant in VARIANTS for length in (32, 16)], indirect=True)
def test_the_update_is_sb3_contribs(both: tuple[PPO, RecurrentPPO]) -> None:
    mine, theirs = both
    before = {name: tensor.clone() for name, tensor in mine.policy.state_dict().items()}
    mine.train()
    theirs.train()
    after = theirs.policy.state_dict()
    for name, tensor in mine.policy.state_dict().items():
        torch.testing.assert_close(tensor, after[name], rtol=1e-4, atol=1e-5)
        if "critic.weight" not in name:
            assert not torch.equal(tensor, before[name])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_whole_training_is_sb3_contribs(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six rollouts with the same exploration noise and order, in which episodes are cut by a time limit at any step."""
    settings: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "n_epochs": 2, "seed": 1, "learning_rate": 1e-3}
    settings["policy_kwargs"] = {**MEMORY, **VARIANTS[variant]}

    def envs() -> Any:
        return make_vec_env("Pendulum-v1", 4, seed=0, env_kwargs={"max_episode_steps": 13})

    theirs: Any = RecurrentPPO("MlpLstmPolicy", envs(), **settings)
    mine: Any = PPO("MlpLstmPolicy", envs(), sequence_length=32, compile=False, **settings)
    mine.policy.load_state_dict(theirs.policy.state_dict())
    before = {name: tensor.clone() for name, tensor in mine.policy.state_dict().items()}
    noise = torch.randn(6 * 32, 4, 1, generator=torch.Generator().manual_seed(0))
    their_noise, my_noise = iter(noise), iter(noise)
    monkeypatch.setattr(torch.distributions.normal, "_standard_normal", lambda shape, **_: next(their_noise).reshape(shape))
    monkeypatch.setattr(np.random, "randint", lambda *_: 0)
    theirs.learn(6 * 32 * 4)
    monkeypatch.setattr(Gaussian, "sample", lambda self, _: self.from_noise(next(my_noise)))
    mine.randomness.numpy = InOrder()
    mine.learn(6 * 32 * 4)
    for name in ("observations", "returns"):
        by_env = mine.rollout_buffer.data[name].swapaxes(0, 1)
        expected = getattr(theirs.rollout_buffer, name).reshape(by_env.shape)
        np.testing.assert_allclose(by_env, expected, rtol=1e-3, atol=1e-3)
    for name, tensor in theirs.policy.state_dict().items():
        torch.testing.assert_close(mine.policy.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
        assert not torch.equal(tensor, before[name])


@pytest.mark.parametrize("both", [("separate", 32)], indirect=True)
def test_stored_values_and_log_probabilities_are_those_of_the_sequences(both: tuple[PPO, RecurrentPPO]) -> None:
    """What the loss computes from sequences is what was computed step by step while acting."""
    mine, _ = both
    data = mine.learning_data()
    rows = torch.as_tensor(mine.minibatches()[0])
    seen = {key: part[rows] for key, part in data["observations"].items()}
    distribution, values = mine.policy.evaluation_of(mine.policy.preprocess(seen))
    torch.testing.assert_close(values, data["values"][rows], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(distribution.log_prob(data["actions"][rows]), data["log_probs"][rows], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("both", [("separate", 32)], indirect=True)
def test_wrongly_masked_states_give_other_values(both: tuple[PPO, RecurrentPPO]) -> None:
    mine, _ = both
    data = mine.learning_data()
    rows = torch.as_tensor(mine.minibatches()[0])
    seen = {key: part[rows] for key, part in data["observations"].items()}
    (starts,) = (key for key in seen if key.startswith("begins"))
    for wrong in (torch.zeros_like(seen[starts]), seen[starts].roll(4)):
        _, values = mine.policy.evaluation_of(mine.policy.preprocess({**seen, starts: wrong}))
        assert (values - data["values"][rows]).abs().max() > 1e-3


def test_a_memory_of_width_zero_is_ppo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActorCriticPolicy, "fast_actor", lambda *_: None)
    settings: dict[str, Any] = {"n_steps": 64, "seed": 3, "compile": False}
    with_none = PPO("MlpLstmPolicy", "CartPole-v1", policy_kwargs={"lstm_hidden_size": 0}, **settings).learn(256)
    plain = PPO("MlpPolicy", "CartPole-v1", **settings).learn(256)
    weights = plain.policy.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in with_none.policy.state_dict().items())


@pytest.mark.parametrize(("task", "memory"), [(Recall, "lstm"), (TMaze, "gru"), (Copy, "lstm")])
def test_remembers_what_was_shown_once(task: type[gym.Env], memory: str) -> None:
    """All earn 1 with memory, and 1/2 by guessing."""
    env = make_vec_env(task, 8, seed=0)
    settings: dict[str, Any] = {"n_steps": 64, "batch_size": 128, "learning_rate": 2e-3, "seed": 0, "gamma": 0.95}
    settings["ent_coef"] = 0.01
    model = PPO("MlpLstmPolicy", env, policy_kwargs={**MEMORY, "memory": memory}, **settings).learn(12_000)
    plain = PPO("MlpPolicy", env, **settings).learn(2_000)  # whatever it learns, it guesses
    with_it: Any
    without: Any
    with_it, without = (evaluate_policy(one, make_vec_env(task, 8, seed=1), 200)[0] for one in (model, plain))
    assert with_it > 0.95
    assert without < 0.65


def test_predict_carries_states_and_leaves_them_where_an_episode_begins() -> None:
    env: Any = make_vec_env("CartPole-v1", 2, seed=0)
    model: Any = PPO("MlpLstmPolicy", env, n_steps=16, policy_kwargs=MEMORY, seed=0)
    theirs: Any = RecurrentPPO("MlpLstmPolicy", env, n_steps=16, policy_kwargs=MEMORY, seed=0)
    theirs.policy.load_state_dict(model.policy.state_dict())
    observation, state, their_state = env.reset() * 30, None, None
    starts = np.array([True, True])
    for number in range(4):
        action, state = model.predict(observation, state, starts, deterministic=True)
        their_action, their_state = theirs.predict(observation, their_state, starts, deterministic=True)
        assert np.array_equal(action, their_action)
        assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(state, their_state, strict=True))
        starts = np.array([False, number == 1])
    single, single_state = model.predict(observation[0])
    assert np.shape(single) == () and single_state[0].shape == (1, 1, 16)


def test_saved_and_loaded_it_acts_alike(tmp_path: Any) -> None:
    model: Any = PPO("MlpLstmPolicy", make_vec_env(Recall, 2, seed=0), n_steps=32, policy_kwargs=MEMORY, seed=0).learn(64)
    model.save(tmp_path / "model")
    loaded: Any = PPO.load(tmp_path / "model", env=make_vec_env(Recall, 2, seed=0))
    seen = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    one, two = (agent.predict(seen, deterministic=True) for agent in (model, loaded))
    assert np.array_equal(one[0], two[0])
    assert all(np.array_equal(a, b) for a, b in zip(one[1], two[1], strict=True))
    loaded.learn(64)


class Ends(BaseCallback):
    """Compares the advantages of last steps, with lambda = 0, to what follows from the definition."""

    model: Any

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []
        self.errors: list[float] = []
        self.without_memory: list[float] = []

    def _on_step(self) -> bool:
        for index, info in enumerate(self.locals["infos"]):
            if info.get("TimeLimit.truncated"):
                remembered = self.model._env_memory.after[index].copy()
                self.seen.append((self.model.rollout_buffer.pos, index, info["terminal_observation"], remembered))
        return True

    def _on_rollout_end(self) -> None:
        data, policy = self.model.rollout_buffer.data, self.model.policy
        for step, index, last, remembered in self.seen:
            one_step = data["rewards"][step, index] - data["values"][step, index]
            for memory, into in ((remembered, self.errors), (0 * remembered, self.without_memory)):
                inputs = with_memory(torch.tensor(last[None]), torch.tensor(memory[None]), torch.zeros(1))
                with torch.no_grad():
                    value = policy.values_of(policy.preprocess(inputs)).item()
                into.append(abs(one_step + 0.9 * value - data["advantages"][step, index]))


def test_time_limits_are_bootstrapped_with_what_was_remembered() -> None:
    env = make_vec_env(lambda: gym.wrappers.TimeLimit(gym.make("Pendulum-v1").unwrapped, 5), 2, seed=0)
    settings: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "gamma": 0.9, "gae_lambda": 0.0, "seed": 0}
    ends = Ends()
    PPO("MlpLstmPolicy", env, policy_kwargs=MEMORY, **settings).learn(64, ends)
    assert len(ends.errors) == 12
    assert max(ends.errors) < 1e-5
    assert max(ends.without_memory) > 1e-3


@pytest.mark.parametrize("length", [5, 48])
def test_sequences_that_do_not_fit_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"sequence_length is {length}.*must divide"):
        PPO("MlpLstmPolicy", "CartPole-v1", n_steps=64, batch_size=64, sequence_length=length)


def test_a_rollout_without_whole_sequences_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n_steps is 25.*no common divisor"):
        PPO("MlpLstmPolicy", "CartPole-v1", n_steps=25, batch_size=16)


def test_environments_that_reset_in_a_step_of_their_own_are_refused() -> None:
    env = gym.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    with pytest.raises(ValueError, match=r"reset in a step of their own.*SAME_STEP"):
        PPO("MlpLstmPolicy", env, n_steps=32)
    same_step = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
    env = gym.make_vec("CartPole-v1", 2, vectorization_mode="sync", vector_kwargs=same_step)
    PPO("MlpLstmPolicy", env, n_steps=32, policy_kwargs=MEMORY).learn(64)
