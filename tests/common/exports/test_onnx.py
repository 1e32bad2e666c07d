"""Policies as ONNX files: onnxruntime gives the actions that ``predict`` gives."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

from rlspo import BARPO, PDPPO, PPO, SAC, SPO
from rlspo.common.errors import NotExportableError
from rlspo.common.exports.onnx import Acting, export_onnx
from rlspo.policies import ActorCriticPolicy
from tests.spaces import ACTIONS, OBSERVATIONS, SpacesEnv, policy_name

onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'rlspo[onnx]'")
pytest.importorskip("onnxscript", reason="pip install 'rlspo[onnx]'")
ON_POLICY: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 1, "seed": 1, "device": "cpu"}
OFF_POLICY: dict[str, Any] = {"learning_starts": 20, "batch_size": 16, "buffer_size": 500, "seed": 1, "device": "cpu"}


def stacked(space: Any, count: int) -> Any:
    samples = [space.sample() for _ in range(count)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([each[key] for each in samples]) for key in space}
    return np.stack(samples)


def check_same(model: Any, tmp_path: Path, normalize: Any = None) -> np.ndarray:
    """The file acts as the agent on batches of 1, 7 and 64 observations.

    :param normalize: from raw observations to those that ``predict`` wants
    :return: the last actions
    """
    session = onnxruntime.InferenceSession(export_onnx(model, tmp_path / "policy.onnx"), providers=["CPUExecutionProvider"])
    model.observation_space.seed(5)
    for count in (1, 7, 64):
        observations = stacked(model.observation_space, count)
        given = observations if isinstance(observations, dict) else {"observation": observations}
        (actions,) = session.run(None, given)
        seen = observations if normalize is None else normalize(observations)
        expected, _ = model.predict(seen, deterministic=True)
        assert actions.shape == expected.shape and actions.dtype == expected.dtype
        if isinstance(model.action_space, spaces.Box):
            np.testing.assert_allclose(actions, expected, atol=1e-5)
        else:
            np.testing.assert_array_equal(actions, expected)
        assert all(map(model.action_space.contains, actions.astype(model.action_space.dtype)))
    return actions


@pytest.mark.parametrize(
    ("observation", "action"),
    [*((each, "box") for each in OBSERVATIONS), *(("box", each) for each in ACTIONS if each != "box")],
)
def test_every_space(observation: str, action: str, device: str, tmp_path: Path) -> None:
    env, settings = SpacesEnv(observation, action), {**ON_POLICY, "normalize_observations": True, "device": device}
    model = PPO(policy_name(observation), env, **settings, learning_rate=0.01).learn(64)
    check_same(model, tmp_path)


class OtherNumbers(gym.Env[Any, Any]):
    """Choices that do not begin at 0, in observations and actions."""

    def __init__(self, several: bool) -> None:
        self.observation_space = spaces.Discrete(4, start=-2)
        self.action_space = spaces.MultiDiscrete([3, 2], start=[5, -1]) if several else spaces.Discrete(3, start=7)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), float(np.sum(action)), False, True, {}


@pytest.mark.parametrize("several", [False, True])
def test_choices_that_start_elsewhere(several: bool, tmp_path: Path) -> None:
    actions = check_same(PPO("MlpPolicy", OtherNumbers(several), **ON_POLICY).learn(32), tmp_path)
    assert actions.max() >= 5


@pytest.mark.parametrize("action", ACTIONS)
def test_mixtures(action: str, tmp_path: Path) -> None:
    model = PPO("MoeMlpPolicy", SpacesEnv("box", action), **ON_POLICY, policy_kwargs={"gate_arch": [8]}).learn(32)
    check_same(model, tmp_path)


@pytest.mark.parametrize("settings", [{}, {"use_sde": True}, {"policy_kwargs": {"squash_output": True}, "use_sde": True}])
def test_exploration_leaves_no_trace(settings: dict[str, Any], tmp_path: Path) -> None:
    check_same(BARPO("MlpPolicy", SpacesEnv(), **ON_POLICY, **settings).learn(32), tmp_path)


@pytest.mark.parametrize(
    ("policy", "settings"), [("MlpPolicy", {}), ("MoeMlpPolicy", {}), ("MoeMlpPolicy", {"mode_by": "critic"})]
)
def test_sac(policy: str, settings: dict[str, Any], tmp_path: Path) -> None:
    env = gym.wrappers.RescaleAction(SpacesEnv(), np.array([-3.0, 0.0], np.float32), np.array([1.0, 7.0], np.float32))
    model = SAC(policy, env, **OFF_POLICY, policy_kwargs=settings).learn(60)
    actions = check_same(model, tmp_path)
    assert actions[:, 1].max() > 1.0


def test_planning_agents(tmp_path: Path) -> None:
    check_same(SPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8, gradient_steps=1, seed=0, device="cpu"), tmp_path)
    check_same(PDPPO("MlpPolicy", "rlspo/LotSizing-v0", **ON_POLICY), tmp_path)


@pytest.mark.parametrize("observation", ["box", "discrete", "dict"])
def test_a_memory_of_width_zero(observation: str, tmp_path: Path) -> None:
    policy = policy_name(observation).replace("Policy", "LstmPolicy")
    check_same(PPO(policy, SpacesEnv(observation), **ON_POLICY, policy_kwargs={"lstm_hidden_size": 0}), tmp_path)


def test_a_network_for_batches_of_one_size_is_refused(tmp_path: Path) -> None:
    class Pairs(BaseFeaturesExtractor):
        def __init__(self, space: Any) -> None:
            super().__init__(space, 5)

        def forward(self, observations: Any) -> Any:
            return observations + torch.zeros(len(observations), 5)

    model = PPO("MlpPolicy", SpacesEnv(), **ON_POLICY, policy_kwargs={"features_extractor_class": Pairs})
    with pytest.raises(NotExportableError, match=r"batches of 2 only.*shape\[0\]"):
        export_onnx(model, tmp_path / "policy.onnx")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("mixture", "settings", "observation"),
    [
        ("", {"memory": "lstm", "n_lstm_layers": 2}, "dict"),
        ("Moe", {"memory": "lstm"}, "box"),
        ("", {"memory": "gru", "enable_critic_lstm": False}, "box"),
    ],
)
def test_memory(mixture: str, settings: dict[str, Any], observation: str, tmp_path: Path) -> None:
    """Ten steps, episodes that begin in between included."""
    policy = mixture + policy_name(observation).replace("Policy", "LstmPolicy")
    model = PPO(policy, SpacesEnv(observation), **ON_POLICY, policy_kwargs={"lstm_hidden_size": 8, **settings}).learn(32)
    session = onnxruntime.InferenceSession(export_onnx(model, tmp_path / "policy.onnx"))
    remembered, memory = np.zeros((4, model.policy.state_size), np.float32), None
    seen = set()
    for step in range(10):
        observations = stacked(model.observation_space, 4)
        starts = np.array([step == 0, step == 3, step in (4, 5), False])
        given = observations if isinstance(observations, dict) else {"observation": observations}
        given = {**given, "state": remembered, "episode_start": starts.astype(np.float32)}
        actions, remembered = session.run(None, given)
        expected, memory = model.predict(observations, memory, starts, deterministic=True)
        np.testing.assert_allclose(actions, expected, atol=1e-5)
        seen.add(tuple(actions[3]))
    assert len(seen) > 1 and np.abs(remembered).max() > 0


@pytest.mark.parametrize("observation", ["box", "dict"])
def test_vecnormalize(observation: str, tmp_path: Path) -> None:
    keys = ["vector"] if observation == "dict" else None
    env = VecNormalize(make_vec_env(SpacesEnv, 2, env_kwargs={"observation": observation}), clip_obs=1.0, norm_obs_keys=keys)
    model = PPO(policy_name(observation), env, **ON_POLICY).learn(64)
    check_same(model, tmp_path, env.normalize_obs)
    stacks = VecFrameStack(VecNormalize(make_vec_env(SpacesEnv, 2)), 2)
    with pytest.raises(NotExportableError, match="stacked or turned"):
        export_onnx(PPO("MlpPolicy", stacks, **ON_POLICY), tmp_path / "policy.onnx")


class OwnActions(ActorCriticPolicy):
    def get_distribution(self, obs: Any) -> Any:
        return super().get_distribution(obs)


def test_actions_that_are_computed_in_another_way(tmp_path: Path) -> None:
    model = PPO(OwnActions, SpacesEnv(), **ON_POLICY)
    with pytest.raises(NotExportableError, match="OwnActions computes its actions in a way of its own"):
        export_onnx(model, tmp_path / "policy.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["action", "state", "episode_start"])
def test_keys_that_the_file_keeps_for_itself(key: str) -> None:
    class Named(SpacesEnv):
        def __init__(self) -> None:
            super().__init__("dict")
            self.observation_space = spaces.Dict({key: spaces.Box(-1, 1, (2,), np.float32)})

    with pytest.raises(NotExportableError, match=f"the key '{key}'"):
        Acting(PPO("MultiInputPolicy", Named(), n_steps=32, batch_size=32))
