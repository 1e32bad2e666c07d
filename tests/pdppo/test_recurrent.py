"""PDPPO with memory: V^x sees the post-decision state and what the critic remembers."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import FlattenExtractor

from rlspo import PDPPO, PPO
from rlspo.common.compilation import compiler_available
from rlspo.common.sequences import with_memory
from rlspo.common.update import gather
from rlspo.envs.post_decision import OBSERVATION_KEY, REWARD_KEY
from rlspo.pdppo import recorder
from rlspo.policies import ActorCriticPolicy
from tests.envs_for_memory import Recall

Tensor = torch.Tensor
SMALL: dict[str, Any] = {"lstm_hidden_size": 16, "net_arch": [32]}
SETTINGS: dict[str, Any] = {"n_steps": 32, "batch_size": 64, "n_epochs": 2, "seed": 0, "normalize_rewards": False}
KINDS = {
    "separate": {},
    "shared": {"shared_lstm": True, "enable_critic_lstm": False},
    "none": {"enable_critic_lstm": False},
    "gru": {"memory": "gru", "n_lstm_layers": 2},
}


class RecallByChance(Recall):
    """:class:`Recall` whose right answer earns 1 by chance only: V^x of an answer is the chance, which the cue decides.

    The post-decision state is the action and whether it was the answer; it does not show the cue.
    """

    RIGHT, WRONG = 0.8, 0.2

    def __init__(self, delay: int = 1) -> None:
        super().__init__(delay)
        self.post_decision_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def post_decision(self, action: Any) -> tuple[np.ndarray, float]:
        return np.array([2.0 * int(action) - 1, self.step_number == self.delay], np.float32), 0.0

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        post, decision_reward = self.post_decision(action)
        seen, right, done, cut, _ = super().step(action)
        chance = self.RIGHT if right else self.WRONG
        reward = float(done and self.np_random.random() < chance)
        return seen, reward, done, cut, {OBSERVATION_KEY: post, REWARD_KEY: decision_reward}


class TwoAnswers(RecallByChance):
    """The same with an action of two parts, both of which are to be the cue."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space: Any = gym.spaces.MultiDiscrete([2, 2])
        self.post_decision_space = gym.spaces.Box(-1, 1, (3,), np.float32)

    def post_decision(self, action: Any) -> tuple[np.ndarray, float]:
        return np.array([*(2.0 * np.asarray(action) - 1), self.step_number == self.delay], np.float32), 0.0

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        post, decision_reward = self.post_decision(action)
        seen, _, done, cut, _ = Recall.step(self, action[0])
        right = (np.asarray(action) == self.cue).sum()
        return seen, float(done) * right / 2, done, cut, {OBSERVATION_KEY: post, REWARD_KEY: decision_reward}


def agent(policy: str = "MlpLstmPolicy", env: Any = RecallByChance, **changes: Any) -> Any:
    kwargs = {**SMALL, **changes.pop("policy_kwargs", {})} if "Lstm" in policy else {"net_arch": [32]}
    return PDPPO(policy, make_vec_env(env, 4, seed=0), policy_kwargs=kwargs, **{**SETTINGS, **changes})


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("policy", ["MlpLstmPolicy", "MoeMlpLstmPolicy"])
def test_every_kind_of_memory_learns(policy: str, kind: dict[str, Any]) -> None:
    model = agent(policy, policy_kwargs=kind)
    before = {name: tensor.clone() for name, tensor in model.policy.named_parameters()}
    model.learn(256)
    assert all(not torch.equal(before[name], tensor) for name, tensor in model.policy.named_parameters())


def test_without_width_it_is_the_policy_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActorCriticPolicy, "fast_actor", lambda *_: None)
    none, plain = agent(policy_kwargs={"lstm_hidden_size": 0}), agent("MlpPolicy")
    for model in (none, plain):
        model.set_random_seed(0)
        model.learn(256)
    weights = plain.policy.state_dict()
    assert all(torch.equal(none.policy.state_dict()[name], tensor) for name, tensor in weights.items())


def test_by_the_advantage_of_v_alone_it_is_ppo_with_memory() -> None:
    """Where V^x does not shape the memory that V sees."""
    shared = KINDS["shared"]
    ours = agent(advantage="pre", ratio="joint", policy_kwargs=shared)
    ppo: Any = PPO("MlpLstmPolicy", make_vec_env(RecallByChance, 4, seed=0), policy_kwargs={**SMALL, **shared}, **SETTINGS)
    for model in (ours, ppo):
        model.learn(512)
    found = ours.policy.state_dict()
    for name, tensor in ppo.policy.state_dict().items():
        torch.testing.assert_close(found[name], tensor, msg=name)


@pytest.mark.parametrize("kind", ["separate", "shared", "gru"])
@pytest.mark.parametrize("how", [{}, {"burn_in": 4}, {"recompute_states": True}, {"burn_in": 4, "recompute_states": True}])
def test_v_x_of_the_rollout_is_that_of_the_loss(kind: str, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was stored after each step, and what sequences lead to, is the same memory."""
    model = agent(policy_kwargs=KINDS[kind], sequence_length=8, **how)
    monkeypatch.setattr(model, "train", lambda: None)
    model.learn(256)
    policy, data = model.policy, model.learning_data()
    if model.recompute_states:
        model._sequences.recompute(policy, data["observations"])
    rows = torch.as_tensor(model._sequences.rows(np.array([5, 3, 10, 15])))  # the second, the first, the third and the last
    batch = gather(data, rows, {}, None)
    post = policy.preprocess_post(batch.extra["post_observations"])
    with torch.no_grad():
        found = policy.post_values(dict(policy.named_parameters()), post, policy.preprocess(batch.observations))
        forgot = policy.post_values_of(post, torch.zeros(len(rows), policy.n_remembered))
    stored = torch.as_tensor(model.rollout_buffer.flat("post_values"))[rows]
    torch.testing.assert_close(found, stored)
    assert not torch.allclose(forgot, stored, atol=1e-4)


def test_v_x_shapes_the_memory_of_the_critics_and_nothing_of_the_actor() -> None:
    kwargs = {"features_extractor_class": Learned}
    model = agent(policy_kwargs=kwargs)
    policy = model.policy
    seen = policy.preprocess(with_memory(torch.randn(4, 2), torch.zeros(4, policy.memory_size), torch.zeros(4)))
    policy.post_values(dict(policy.named_parameters()), policy.preprocess_post(torch.randn(4, 2)), seen).sum().backward()
    shaped = {name.split(".")[0] for name, parameter in policy.named_parameters() if parameter.grad is not None}
    assert shaped == {"lstm_critic", "post_features_extractor", "post_value_net"}


class Learned(FlattenExtractor):
    """A layer that actor and critic share."""

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, observations: Tensor) -> Tensor:
        return self.layer(super().forward(observations))


def test_the_memory_of_the_critic_learns_at_the_rate_of_the_critic() -> None:
    policy = agent(policy_kwargs={"vf_lr_scale": 3.0}).policy
    scale = {id(one): group.get("lr_scale", 1.0) for group in policy.optimizer.param_groups for one in group["params"]}
    scales = {name: scale[id(parameter)] for name, parameter in policy.named_parameters()}
    assert {scale for name, scale in scales.items() if name.startswith("lstm_critic")} == {3.0}
    assert {scale for name, scale in scales.items() if name.startswith("lstm_actor")} == {1.0}


def test_v_x_is_the_chance_that_the_cue_decides() -> None:
    """Known: 0.8 where the answer repeats the cue, else 0.2. The post-decision state does not show the cue."""
    settings: dict[str, Any] = {"n_steps": 128, "batch_size": 128, "gamma": 0.95, "ent_coef": 3.0}  # nearly uniform
    model = agent(learning_rate=lambda remaining: 4e-3 * remaining, n_epochs=10, **settings).learn(10_000)
    data = model.rollout_buffer.data
    right, values = answers(data["observations"], data["post_observations"], data["post_values"])
    assert values[right].mean() == pytest.approx(0.8, abs=0.08)
    assert values[~right].mean() == pytest.approx(0.2, abs=0.08)
    assert values[right].min() > values[~right].max()


def answers(observations: np.ndarray, posts: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of all answers of a rollout: whether they were right, and V^x."""
    right, found = [], []
    for env in range(values.shape[1]):
        cue = 0.0
        for step in range(len(values)):
            cue = observations[step, env, 0] or cue
            if posts[step, env, -1] and cue:
                right.append(posts[step, env, 0] == cue)
                found.append(values[step, env])
    return np.array(right), np.array(found)


def test_credit_of_components_is_by_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The action that is taken is foreseen, too: its V^x is the one of the rollout, by the memory of this very step."""
    model = agent(env=TwoAnswers, credit="component")
    monkeypatch.setattr(model, "train", lambda: None)
    foreseen: list[np.ndarray] = []
    really = recorder.post_values

    def kept(*given: Any) -> np.ndarray:
        found = really(*given)
        foreseen.append(found.reshape(4, 3)[:, -1])  # of four environments; each of two components drawn anew, and the action
        return found

    monkeypatch.setattr(recorder, "post_values", kept)
    model.learn(128)
    values = model.rollout_buffer.data["post_values"]
    np.testing.assert_allclose(np.array(foreseen), values, rtol=1e-5, atol=1e-6)
    assert np.abs(values[1:] - values[:-1]).min() > 1e-4 and np.abs(values - values[:, ::-1])[1:].max() > 1e-4


def test_one_critic_has_no_memory() -> None:
    class Alike(RecallByChance):
        """Both spaces are of one shape."""

    with pytest.raises(ValueError, match="critics is 'single' and the policy has a memory"):
        agent(env=Alike, critics="single")
    agent(env=Alike, critics="single", policy_kwargs={"lstm_hidden_size": 0}).learn(128)


@pytest.mark.skipif(not compiler_available("cpu"), reason="needs a C++ compiler")
def test_compiled_as_eager(device: str) -> None:
    eager, compiled = (
        agent(device=device, compile=how, sequence_length=8, burn_in=4).learn(256).policy.state_dict() for how in (False, True)
    )
    for name, tensor in eager.items():
        torch.testing.assert_close(tensor, compiled[name], rtol=1e-3, atol=1e-4)


def test_saved_and_loaded(tmp_path: Any) -> None:
    model = agent().learn(128)
    model.save(tmp_path / "agent")
    again = PDPPO.load(tmp_path / "agent", env=model.get_env())
    weights = model.policy.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in again.policy.state_dict().items())
    again.learn(128)
