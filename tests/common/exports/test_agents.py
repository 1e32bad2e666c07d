"""Agents that are exported and loaded again: they act exactly as before and learn on; what cannot be exported is said."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import load_file
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize
from torch import nn

import rlspo
from rlspo import ARPO, BARPO, PDPPO, PPO, SAC, SPO
from rlspo.attacks import attacked_evaluation
from rlspo.common.errors import IncompatibleModelError, NotExportableError
from rlspo.common.exports import agents, described_spaces, values
from rlspo.common.exports import folder as folder_of_agents
from rlspo.common.exports.folder import write_folder
from rlspo.policies import ActorCriticPolicy
from tests.spaces import ACTIONS, OBSERVATIONS, SpacesEnv, policy_name

ON_POLICY: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 1, "seed": 1, "device": "cpu"}
OFF_POLICY: dict[str, Any] = {"learning_starts": 20, "batch_size": 16, "buffer_size": 500, "seed": 1, "device": "cpu"}


def weights(model: Any) -> torch.Tensor:
    return torch.cat([tensor.detach().double().flatten() for tensor in model.policy.state_dict().values()])


def check_same(model: Any, tmp_path: Path, env: Any) -> None:
    """The loaded agent has the same weights, acts alike for five steps, and learns on in ``env``."""
    loaded = rlspo.load(model.export(tmp_path / "agent"), device="cpu")
    assert type(loaded) is type(model) and type(loaded.policy) is type(model.policy)
    assert loaded.num_timesteps == model.num_timesteps
    assert torch.equal(weights(model), weights(loaded))
    observations, states = model.env.reset(), [None, None]
    for _ in range(5):
        acted = [
            one.predict(observations, state=state, deterministic=True)
            for one, state in zip((model, loaded), states, strict=True)
        ]
        np.testing.assert_array_equal(acted[0][0], acted[1][0])
        states = [state for _, state in acted]
        observations, *_ = model.env.step(acted[0][0])
    loaded.set_env(env)
    loaded.learn(40, reset_num_timesteps=False)
    assert loaded.num_timesteps > model.num_timesteps
    assert not torch.equal(weights(model), weights(loaded))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_every_space(observation: str, action: str, tmp_path: Path) -> None:
    env = SpacesEnv(observation, action)
    model = PPO(policy_name(observation), env, **ON_POLICY, normalize_observations=True, normalize_rewards=True).learn(32)
    check_same(model, tmp_path, env)


@pytest.mark.parametrize("policy", ["MlpPolicy", "MoeMlpPolicy", "MlpLstmPolicy", "MoeMlpLstmPolicy"])
@pytest.mark.parametrize("agent", [PPO, ARPO, BARPO])
def test_every_policy_of_on_policy_agents(agent: type[PPO], policy: str, tmp_path: Path) -> None:
    model = agent(policy, SpacesEnv(), **ON_POLICY).learn(32)
    check_same(model, tmp_path, SpacesEnv())


@pytest.mark.parametrize(
    "settings",
    [
        {"use_sde": True},
        {"policy_kwargs": {"net_arch": {"pi": [8], "vf": [16]}, "activation_fn": nn.ReLU, "ortho_init": False}},
        {"policy_kwargs": {"features_extractor_class": FlattenExtractor, "share_features_extractor": False}},
        {"policy_kwargs": {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"eps": 1e-4, "betas": (0.8, 0.9)}}},
        {"learning_rate": LinearSchedule(1e-3, 1e-5, 0.5), "clip_range": LinearSchedule(0.2, 0.1, 1.0), "target_kl": 0.5},
    ],
)
def test_settings_of_policies_and_schedules(settings: dict[str, Any], tmp_path: Path) -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **ON_POLICY, **settings).learn(32)
    check_same(model, tmp_path, SpacesEnv())
    loaded = rlspo.load(tmp_path / "agent")
    for remaining in (1.0, 0.7, 0.2):
        assert loaded.lr_schedule(remaining) == model.lr_schedule(remaining)
        assert loaded.clip_range(remaining) == model.clip_range(remaining)
    assert type(loaded.policy.optimizer) is type(model.policy.optimizer)


@pytest.mark.parametrize("settings", [{}, {"ent_coef": 0.1}, {"use_sde": True}, {"train_freq": (2, "episode")}])
@pytest.mark.parametrize("policy", ["MlpPolicy", "MoeMlpPolicy"])
def test_sac(policy: str, settings: dict[str, Any], tmp_path: Path) -> None:
    if settings.get("use_sde") and policy == "MoeMlpPolicy":
        settings = {"policy_kwargs": {"mode_by": "critic"}}
    model = SAC(policy, SpacesEnv(), **OFF_POLICY, **settings).learn(60)
    loaded = rlspo.load(model.export(tmp_path / "agent"))
    if "ent_coef" not in settings:
        assert loaded.log_ent_coef.item() == model.log_ent_coef.item() != 0.0
    assert loaded.train_freq == model.train_freq
    check_same(model, tmp_path, SpacesEnv())


def test_sac_for_dictionaries_and_images(tmp_path: Path) -> None:
    model = SAC("MultiInputPolicy", SpacesEnv("dict"), **OFF_POLICY).learn(30)
    check_same(model, tmp_path, SpacesEnv("dict"))


@pytest.mark.parametrize("policy", ["MlpPolicy", "MoeMlpPolicy"])
def test_spo_with_its_average_and_its_temperature(policy: str, tmp_path: Path) -> None:
    settings = {"n_steps": 16, "batch_size": 16, "gradient_steps": 2, "n_particles": 4, "depth": 2, "seed": 0, "device": "cpu"}
    model = SPO(policy, "CartPole-v1", **settings, normalize_rewards=True).learn(32)
    loaded = rlspo.load(model.export(tmp_path / "agent"), env="CartPole-v1")
    assert loaded.search_temperature() == model.search_temperature() is not None
    assert loaded.reward_scaler.scale == model.reward_scaler.scale != 1.0
    check_same(model, tmp_path, gym.make("CartPole-v1"))


@pytest.mark.parametrize("settings", [{}, {"critics": "single", "normalize_observations": True}])
def test_pdppo(settings: dict[str, Any], tmp_path: Path) -> None:
    model = PDPPO("MlpPolicy", "rlspo/LotSizing-v0", **ON_POLICY, **settings).learn(32)
    assert rlspo.load(model.export(tmp_path / "agent"), env="rlspo/LotSizing-v0").learn(32).num_timesteps == 32
    check_same(model, tmp_path, gym.make("rlspo/LotSizing-v0"))


def test_a_shared_network_is_stored_once(tmp_path: Path) -> None:
    model = PPO("CnnPolicy", SpacesEnv("image"), **ON_POLICY)
    stored = load_file(model.export(tmp_path / "agent") / "weights.safetensors")
    assert sum(tensor.numel() for tensor in stored.values()) == sum(one.numel() for one in model.policy.parameters())


def test_everything_else_that_acts(tmp_path: Path) -> None:
    """``evaluate_policy`` and attacks take a loaded agent as they take any other."""
    model = BARPO("MlpPolicy", "CartPole-v1", **ON_POLICY).learn(32)
    loaded = rlspo.load(model.export(tmp_path / "agent"))
    returns = []
    for one in (model, loaded):
        env = make_vec_env("CartPole-v1", 1, seed=3)
        returns.append(
            [
                evaluate_policy(one, env, 2, return_episode_rewards=True)[0],
                attacked_evaluation(one, env, "mad", 0.1, n_eval_episodes=2, seed=0).tolist(),
            ]
        )
    assert loaded.epsilon == model.epsilon
    assert returns[0] == returns[1] and len({*returns[0][0], *returns[0][1]}) > 1


def test_settings_can_be_replaced(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **ON_POLICY, learning_rate=lambda remaining: 1e-3 * remaining)
    with pytest.raises(NotExportableError, match=r"learning_rate.* is a function.*export\(path, .*learning_rate.*=\.\.\.\)"):
        model.export(tmp_path / "agent")
    assert list(tmp_path.iterdir()) == []
    loaded = rlspo.load(model.export(tmp_path / "agent", learning_rate=1e-4))
    assert loaded.learning_rate == 1e-4
    assert rlspo.load(tmp_path / "agent", env=make_vec_env(SpacesEnv, 3), n_steps=64, learning_rate=2e-4).learn(10).n_envs == 3
    with pytest.raises(TypeError, match=r"no setting 'lerning_rate'.*'learning_rate'"):
        model.export(tmp_path / "agent", lerning_rate=1e-4)


@pytest.mark.parametrize(("agent", "settings"), [(PPO, ON_POLICY), (SAC, OFF_POLICY)])
def test_a_loaded_agent_explores_as_widely(agent: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    model = agent("MlpPolicy", "Pendulum-v1", use_sde=True, **settings)
    with torch.no_grad():
        for name, parameter in model.policy.named_parameters():
            if name.endswith("log_std"):
                parameter.fill_(-9.0)
    loaded = rlspo.load(model.export(tmp_path / "agent"))
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    noise = loaded.predict(rows)[0] - loaded.predict(rows, deterministic=True)[0]
    assert np.abs(noise).max() < 0.01


def test_other_numbers_of_environments(tmp_path: Path) -> None:
    loaded = rlspo.load(PPO("MlpPolicy", SpacesEnv(), **ON_POLICY).export(tmp_path / "agent"))
    with pytest.raises(ValueError, match=r"in 1 environments side by side, and these are 3.*rlspo.load\(path, env=env\)"):
        loaded.set_env(make_vec_env(SpacesEnv, 3))
    with pytest.raises(TypeError, match="policy_kwargs cannot be replaced"):
        loaded.export(tmp_path / "other", policy_kwargs={"net_arch": [7]})


def test_environments_with_other_spaces_are_refused(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **ON_POLICY)
    with pytest.raises(ValueError, match="do not match"):
        rlspo.load(model.export(tmp_path / "agent"), env="CartPole-v1")


class OwnPolicy(ActorCriticPolicy):
    pass


class OwnAgent(PPO):
    pass


def test_classes_that_nobody_has_declared(tmp_path: Path) -> None:
    with pytest.raises(NotExportableError, match=r"OwnPolicy.*rlspo\.parts.*model\.save"):
        PPO(OwnPolicy, SpacesEnv(), **ON_POLICY).export(tmp_path / "agent")
    with pytest.raises(NotExportableError, match=r"OwnAgent is no registered agent.*rlspo\.agents.*model\.save"):
        OwnAgent("MlpPolicy", SpacesEnv(), **ON_POLICY).export(tmp_path / "agent")


def test_classes_that_a_package_declares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = importlib.metadata.EntryPoint("own-policy", f"{__name__}:OwnPolicy", values.PARTS)
    monkeypatch.setattr(values, "entry_points", lambda group: [entry])
    model = PPO(OwnPolicy, SpacesEnv(), **ON_POLICY).learn(32)
    check_same(model, tmp_path, SpacesEnv())
    assert json.loads((tmp_path / "agent" / "agent.json").read_text())["policy"] == "own-policy"


# VecNormalize.


@pytest.mark.parametrize("observation", ["box", "dict"])
def test_statistics_of_vecnormalize(observation: str, tmp_path: Path) -> None:
    def make() -> Any:
        return make_vec_env(SpacesEnv, 2, env_kwargs={"observation": observation})

    keys = ["vector"] if observation == "dict" else None
    env = VecNormalize(make(), norm_obs_keys=keys, clip_obs=1.5)
    model = PPO(policy_name(observation), env, **ON_POLICY).learn(64)
    loaded = rlspo.load(model.export(tmp_path / "agent"))
    raw = env.venv.reset()
    before, after = (one.get_vec_normalize_env().normalize_obs(raw) for one in (model, loaded))
    for one, other in zip(before.values(), after.values(), strict=True) if keys else [(before, after)]:
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="loaded to act"):
        loaded.get_vec_normalize_env().reset()
    with pytest.raises(ValueError, match=r"statistics set_env would leave behind.*rlspo.load\(path, env=env\)"):
        loaded.set_env(make())
    with pytest.raises(ValueError, match="no environment to learn in"):
        loaded.learn(64)
    loaded.export(tmp_path / "again")
    texts = [json.loads((tmp_path / name / "agent.json").read_text())["normalize"] for name in ("agent", "again")]
    assert texts[0] == texts[1] and texts[0]["norm_reward"]
    for_evaluation = VecNormalize(make(), norm_obs_keys=keys, training=False, norm_reward=False)
    rlspo.load(tmp_path / "agent", env=for_evaluation)
    assert not for_evaluation.norm_reward and for_evaluation.clip_obs == 1.5
    with pytest.raises(IncompatibleModelError, match=r"VecNormalize has norm_obs=False, the agent's had True"):
        rlspo.load(tmp_path / "agent", env=VecNormalize(make(), norm_obs=False))
    if keys:
        with pytest.raises(IncompatibleModelError, match=r"has norm_obs_keys=.*the agent's had \['vector'\]"):
            rlspo.load(tmp_path / "agent", env=VecNormalize(make(), norm_obs_keys=[]))
    again = rlspo.load(tmp_path / "agent", env=make())
    normalize = again.get_vec_normalize_env()
    assert normalize.training and normalize.ret_rms.var == env.ret_rms.var != 1.0
    again.learn(64)


def test_statistics_of_stacked_frames(tmp_path: Path) -> None:
    def make() -> Any:
        return VecFrameStack(VecNormalize(make_vec_env(SpacesEnv, 1)), 2)

    model = PPO("MlpPolicy", make(), **ON_POLICY).learn(32)
    model.export(tmp_path / "agent")
    env = make()
    loaded = rlspo.load(tmp_path / "agent", env=env)
    np.testing.assert_array_equal(env.venv.obs_rms.mean, model.get_vec_normalize_env().obs_rms.mean)
    assert loaded.get_env() is env


# Files that nobody should have written.


def rewritten(model: Any, folder: Path, **changes: Any) -> Path:
    """An export with other contents, whose check sums are right."""
    data, tensors = agents._described(model, {})
    folder.mkdir()
    write_folder(folder, {**data, **changes}, {**tensors, **changes.pop("tensors", {})})
    return folder


#: Of a size that a single space may have.
HUGE = {"kind": "Box", "shape": [2**22], "dtype": "uint8", "low": 0, "high": 255}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agent": "os.system"}, "os.system.*not registered"),
        ({"agent": "stable_baselines3.PPO"}, "not registered"),
        ({"policy": "os.system"}, "not known here"),
        ({"policy": {"$class": "builtins.eval"}}, "no proper 'policy'"),
        ({"settings": {"policy_kwargs": {"activation_fn": {"$class": "builtins.print"}}}}, "builtins.print.*not known here"),
        ({"settings": {"policy_kwargs": {"activation_fn": {"$call": "builtins.print"}}}}, "does not know"),
        ({"settings": {"policy_kwargs": {"net_arch": [10**6, 10**6]}}}, "far larger than its weights"),
        ({"settings": {"policy_kwargs": {"net_arch": [1] * 3000}}}, "more than 2,000 values"),
        ({"settings": {"policy_kwargs": {"net_arch": [8, 8]}}}, "do not fit"),
        ({"settings": {"n_steps": -1}}, "n_steps is -1"),
        ({"settings": {"env": "CartPole-v1"}}, "'env'"),
        ({"settings": {"learning_rate": {"$linear": [1, 2]}}}, "linear schedule"),
        ({"n_envs": 10**9}, "n_envs"),
        ({"num_timesteps": "many"}, "num_timesteps"),
        ({"observation_space": {"kind": "Box", "shape": [10**5, 10**5], "dtype": "uint8", "low": 0, "high": 255}}, "numbers"),
        ({"observation_space": {"kind": "Sequence"}}, "not the description of a space"),
        ({"action_space": {"kind": "Box", "shape": [2], "dtype": "object", "low": 0, "high": 1}}, "dtype must be"),
        ({"observation_space": {"kind": "Dict", "spaces": [[f"{key}", HUGE] for key in range(1000)]}}, "16,777,216 numbers"),
        ({"state": {"x": 1}}, "its state has 'x', which this agent does not have"),
        ({"state": {"reward_scaler": {"mean": "x"}}, "settings": {"normalize_rewards": True}}, "could not be loaded"),
    ],
)
def test_hostile_files(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **ON_POLICY)
    with pytest.raises(IncompatibleModelError, match=message):
        rlspo.load(rewritten(model, tmp_path / "agent", **changes))


def test_a_space_of_absurd_size_is_refused_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bound of each part would take memory."""
    built: list[Any] = []
    monkeypatch.setitem(described_spaces._KINDS, "Box", lambda data: built.append(data) or spaces.Box(0, 1))
    with pytest.raises(IncompatibleModelError, match="more than 16,777,216 numbers"):
        described_spaces.space_of({"kind": "Dict", "spaces": [[f"{key}", HUGE] for key in range(1000)]}, "it")
    assert len(built) <= 4


def test_weights_of_another_agent(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **ON_POLICY)
    data, tensors = agents._described(model, {})
    for number, change in enumerate(({"policy.more": torch.zeros(2)}, {"policy.log_std": torch.zeros(3)})):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_folder(folder, data, {**tensors, **change})
        with pytest.raises(IncompatibleModelError, match=f"such as '{next(iter(change))}'"):
            rlspo.load(folder)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(number: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **ON_POLICY)
    with torch.no_grad():
        model.policy.value_net.weight[0, 0] = number
    with pytest.raises(NotExportableError, match=r"policy\.value_net\.weight holds NaN or infinity: the training diverged"):
        model.export(tmp_path / "agent")
    assert not (tmp_path / "agent").exists()
    with monkeypatch.context() as patched:
        patched.setattr(folder_of_agents, "_broken", lambda tensors: None)
        model.export(tmp_path / "agent")
    with pytest.raises(IncompatibleModelError, match="holds NaN or infinity"):
        rlspo.load(tmp_path / "agent")


def test_spaces_come_back(tmp_path: Path) -> None:
    """Bounds, starts, types and the order of keys."""
    space = spaces.Dict(
        [
            ("z", spaces.Box(np.array([-np.inf, 0.1], np.float32), np.array([1.5, np.inf], np.float32))),
            ("a", spaces.MultiDiscrete([2, 5], start=[1, -3])),
            ("b", spaces.Discrete(4, start=-2)),
            ("c", spaces.MultiBinary([2, 2])),
            ("d", spaces.Box(0, 255, (2, 2, 1), np.uint8)),
            ("e", spaces.Box(-1.0, 0.1, (3,), np.float64)),
            ("f", spaces.Box(0, 1, (3,), bool)),
        ]
    )
    again = agents.space_of(json.loads(json.dumps(agents.described(space))), "space")
    assert again == space
    assert list(again.keys()) == ["z", "a", "b", "c", "d", "e", "f"]
    np.testing.assert_array_equal(again["z"].low, space["z"].low)
    np.testing.assert_array_equal(again["e"].high, space["e"].high)
