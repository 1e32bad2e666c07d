"""Model files and replay buffers of others: data come back, code does not run, and what an agent lacks then it says."""

import base64
import io
import json
import pathlib
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rlspo import PPO, SAC
from rlspo.common import pickle_parts
from rlspo.common.agent import load_model
from rlspo.common.checkpoints import read_settings
from rlspo.common.errors import IncompatibleModelError, UntrustedFileError
from rlspo.common.registry import agent_class, agent_names
from rlspo.common.trust import read_pickle, safe_objects
from rlspo.common.withheld import check_may_learn
from rlspo.envs import PostDecision
from tests.spaces import SpacesEnv

pytestmark = pytest.mark.usefixtures("files_of_others")
ON: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "seed": 0}
OFF: dict[str, Any] = {"buffer_size": 100, "learning_starts": 4, "seed": 0}
HERE = "tests.common.test_trust"


def pendulum() -> gym.Env:
    return gym.make("Pendulum-v1")


def cart_pole() -> gym.Env:
    return gym.make("CartPole-v1")


def after_decision() -> gym.Env:
    return PostDecision(cart_pole(), lambda observation, action: (observation, 0.0))


AGENTS: dict[str, tuple[Callable[[], gym.Env], dict[str, Any]]] = {
    "arpo": (cart_pole, {**ON, "n_epochs": 1, "normalize_observations": True}),
    "barpo": (cart_pole, {**ON, "n_epochs": 1, "normalize_rewards": True}),
    "pdppo": (after_decision, {**ON, "n_epochs": 1, "normalize_observations": True, "normalize_rewards": True}),
    "ppo": (pendulum, {**ON, "n_epochs": 1, "normalize_observations": True, "normalize_rewards": True, "use_sde": True}),
    "sac": (pendulum, {**OFF, "action_noise": NormalActionNoise(np.zeros(1), np.full(1, 0.1))}),
    "spo": (cart_pole, {"n_steps": 4, "batch_size": 4, "gradient_steps": 1, "seed": 0}),
}


def test_agents_of_all_names_are_tried() -> None:
    assert set(AGENTS) == {name for name in agent_names() if agent_class(name).__module__.startswith("rlspo.")}


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_comes_back_whole_without_trust(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, settings = AGENTS[name]
    cls: Any = agent_class(name)
    model = cls("MlpPolicy", make(), **settings, device="cpu").learn(16)
    model.save(tmp_path / "model")
    monkeypatch.setattr(cloudpickle, "loads", None)  # nobody unpickles
    objects, withheld = safe_objects(read_settings(tmp_path / "model"), "model")
    assert not withheld and not any(value is None for key, value in objects.items() if key != "env")
    loaded = cls.load(tmp_path / "model", env=make(), device="cpu")
    observation = make().observation_space.sample()
    np.testing.assert_array_equal(
        loaded.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
    )
    loaded.learn(16)


@pytest.mark.parametrize(
    ("cls", "make", "settings"),
    [
        (stable_baselines3.PPO, cart_pole, {"n_steps": 16}),
        (stable_baselines3.A2C, cart_pole, {}),
        (stable_baselines3.DQN, cart_pole, OFF),
        (stable_baselines3.TD3, pendulum, OFF),
        (stable_baselines3.SAC, pendulum, OFF),
        (sb3_contrib.TQC, pendulum, OFF),
        (sb3_contrib.QRDQN, cart_pole, OFF),
        (sb3_contrib.ARS, cart_pole, {"n_delta": 1}),
    ],
)
def test_agents_of_sb3_come_back_without_trust(cls: Any, make: Any, settings: dict[str, Any], tmp_path: pathlib.Path) -> None:
    model = cls("MlpPolicy", make(), **settings).learn(20)
    model.save(tmp_path / "model")
    loaded = load_model(cls, tmp_path / "model.zip", device="cpu")
    check_may_learn(loaded)
    observation = make().observation_space.sample()
    np.testing.assert_array_equal(
        loaded.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
    )


# What a file holds as code.


def test_an_agent_acts_without_its_schedules_and_learns_with_trust(tmp_path: pathlib.Path) -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **ON, learning_rate=lambda r: 1e-3 * r, clip_range=lambda r: 0.2).learn(16)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=SpacesEnv())
    observation = SpacesEnv().observation_space.sample()
    np.testing.assert_array_equal(
        loaded.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
    )
    words = r"holds learning_rate, clip_range as pickled code.*the function .*<lambda>.*trust=True.*'learning_rate': \.\.\."
    with pytest.raises(UntrustedFileError, match=words):
        loaded.learn(16)
    with pytest.raises(UntrustedFileError, match="learning_rate"):
        loaded.train()
    assert loaded.policy.optimizer.param_groups[0]["lr"] == model.policy.optimizer.param_groups[0]["lr"]
    PPO.load(tmp_path / "model", env=SpacesEnv(), trust=True).learn(16)
    own = {"learning_rate": 1e-3, "clip_range": 0.2}
    PPO.load(tmp_path / "model", env=SpacesEnv(), custom_objects=own).learn(16)
    # Saved again, it still lacks them, until they are given.
    loaded.save(tmp_path / "again")
    with pytest.raises(UntrustedFileError, match="clip_range"):
        PPO.load(tmp_path / "again", env=SpacesEnv()).learn(16)
    PPO.load(tmp_path / "again", env=SpacesEnv(), custom_objects=own).learn(16)


GIVEN: dict[str, Any] = {"learning_rate": 1e-3, "clip_range": 0.2}


def with_schedules(file: pathlib.Path) -> pathlib.Path:
    """A file with two schedules that are code."""
    schedules = {"learning_rate": lambda remaining: 0.5 * remaining, "clip_range": lambda remaining: 0.3}
    PPO("MlpPolicy", SpacesEnv(), **ON, **schedules).learn(16).save(file)
    return file


def test_what_is_given_by_keyword_or_later_is_no_more_lacking(tmp_path: pathlib.Path) -> None:
    file = with_schedules(tmp_path / "model.zip")
    loaded = PPO.load(file, env=SpacesEnv(), **GIVEN).learn(16)
    assert loaded.policy.optimizer.param_groups[0]["lr"] == 1e-3
    later = PPO.load(file, env=SpacesEnv(), clip_range=0.2)
    with pytest.raises(UntrustedFileError, match=r"holds learning_rate as pickled code.*load\(\.\.\., learning_rate=\.\.\.\)"):
        later.learn(16)
    later.learning_rate = 1e-3
    later.learn(16).save(tmp_path / "later.zip")
    PPO.load(tmp_path / "later.zip", env=SpacesEnv()).learn(16)
    trusted = PPO.load(tmp_path / "later.zip", env=SpacesEnv(), trust=True)
    assert (trusted.learning_rate, trusted.clip_range(1.0)) == (1e-3, 0.2), "what was given stays"


def test_what_was_not_run_stays_in_the_next_file(tmp_path: pathlib.Path) -> None:
    """Loaded without trust, saved twice, and trusted then: the schedules are the author's."""
    file = with_schedules(tmp_path / "model.zip")
    for _ in range(2):
        PPO.load(file, env=SpacesEnv()).save(tmp_path / "again.zip")
        file = tmp_path / "again.zip"
    trusted = PPO.load(file, env=SpacesEnv(), trust=True)
    assert (trusted.learning_rate(0.5), trusted.clip_range(1.0)) == (0.25, 0.3)
    trusted.learn(16).save(tmp_path / "mine.zip")
    assert not read_settings(tmp_path / "mine.zip").get("_withheld")


class Wave(NormalActionNoise):
    """Of the program; what its file holds of it is another class by that name."""

    def __reduce__(self) -> Any:
        return eval, ("__import__('stable_baselines3').common.noise.NormalActionNoise([3.0], [0.0])",)


def test_noise_that_was_not_read_stays_too(tmp_path: pathlib.Path) -> None:
    SAC("MlpPolicy", pendulum(), **OFF, action_noise=Wave(np.zeros(1), np.ones(1))).save(tmp_path / "model")
    loaded = SAC.load(tmp_path / "model", env=pendulum())
    assert loaded.action_noise is None
    loaded.save(tmp_path / "again")
    assert SAC.load(tmp_path / "again", trust=True).action_noise._mu == [3.0]
    with pytest.raises(UntrustedFileError, match="action_noise"):
        loaded.learn(8)
    loaded.action_noise = NormalActionNoise(np.zeros(1), np.ones(1))
    loaded.learn(8)


def test_agents_of_sb3_take_them_by_keyword(tmp_path: pathlib.Path) -> None:
    stable_baselines3.SAC("MlpPolicy", pendulum(), **OFF, learning_rate=lambda r: 1e-3 * r).save(tmp_path / "model")
    loaded = load_model(stable_baselines3.SAC, tmp_path / "model.zip", env=pendulum(), learning_rate=1e-3).learn(8)
    check_may_learn(loaded)
    lacking = load_model(stable_baselines3.SAC, tmp_path / "model.zip")
    lacking.save(tmp_path / "again.zip")
    assert load_model(stable_baselines3.SAC, tmp_path / "again.zip", trust=True).learning_rate(0.5) == 5e-4


def test_agents_of_sb3_say_so_too(tmp_path: pathlib.Path) -> None:
    stable_baselines3.SAC("MlpPolicy", pendulum(), **OFF, learning_rate=lambda r: 1e-3 * r).save(tmp_path / "model")
    loaded = load_model(stable_baselines3.SAC, tmp_path / "model.zip", env=pendulum())
    loaded.predict(np.zeros(3))
    with pytest.raises(UntrustedFileError, match="learning_rate"):
        check_may_learn(loaded)
    with pytest.raises(UntrustedFileError, match="learning_rate"):
        loaded.learn(20)


class Extractor(BaseFeaturesExtractor):
    """Of the program that loads, found by its name."""

    def __init__(self, observation_space: gym.Space) -> None:
        super().__init__(observation_space, 3)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return observations[:, :3]


def test_classes_of_the_program_are_found(tmp_path: pathlib.Path) -> None:
    kwargs = {"features_extractor_class": Extractor, "activation_fn": torch.nn.ELU}
    PPO("MlpPolicy", pendulum(), **ON, policy_kwargs=kwargs).save(tmp_path / "model")
    assert PPO.load(tmp_path / "model").policy_kwargs == kwargs


def test_a_class_that_is_code_is_needed_to_act(tmp_path: pathlib.Path) -> None:
    class Own(BaseFeaturesExtractor):
        def __init__(self, observation_space: gym.Space) -> None:
            super().__init__(observation_space, 3)

        def forward(self, observations: torch.Tensor) -> torch.Tensor:
            return observations[:, :3]

    kwargs = {"features_extractor_class": Own}
    PPO("MlpPolicy", pendulum(), **ON, policy_kwargs=kwargs).save(tmp_path / "model")
    words = r"model was not loaded: its policy_kwargs is more than data, it would run the class Own.*trust=True"
    with pytest.raises(UntrustedFileError, match=words):
        PPO.load(tmp_path / "model")
    PPO.load(tmp_path / "model", custom_objects={"policy_kwargs": kwargs})
    PPO.load(tmp_path / "model", trust=True)


def changed(file: pathlib.Path, **entries: Any) -> pathlib.Path:
    """A copy of a model file with other pickles in its data; text stands there as it is."""
    other = file.with_name("changed.zip")
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(other, "w") as target:
        for member in source.namelist():
            data = source.read(member)
            if member == "data":
                settings = json.loads(data)
                for key, value in entries.items():
                    pickled = {":type:": "x", ":serialized:": base64.b64encode(pickle.dumps(value)).decode()}
                    settings[key] = value if isinstance(value, str) else pickled
                data = json.dumps(settings).encode()
            if member != "checksums.json":
                target.writestr(member, data)
    return other


class Bomb:
    """Its pickle leaves a trace."""

    def __reduce__(self) -> Any:
        return exec, ("import pathlib; pathlib.Path('ran').touch()",)


@pytest.mark.parametrize(
    "key", ["policy_class", "policy_kwargs", "observation_space", "ep_info_buffer", "clip_range", "action_noise", "anything"]
)
def test_no_entry_runs(key: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PPO("MlpPolicy", SpacesEnv(), **ON).save("model.zip")
    file = changed(tmp_path / "model.zip", **{key: Bomb()})
    if key in ("policy_class", "policy_kwargs", "observation_space"):
        with pytest.raises(UntrustedFileError, match=f"its {key} is more than data, it would run builtins.exec"):
            PPO.load(file)
    else:
        PPO.load(file).predict(SpacesEnv().observation_space.sample())
    assert not (tmp_path / "ran").exists()
    with pytest.raises(Exception):  # noqa: B017 - whatever SB3 makes of it
        PPO.load(file, trust=True)
        raise AssertionError
    assert (tmp_path / "ran").exists()


def test_text_names_no_environment(tmp_path: pathlib.Path) -> None:
    """SB3 would make it, and import the module that it names."""
    PPO("MlpPolicy", SpacesEnv(), **ON).save(tmp_path / "model.zip")
    assert PPO.load(changed(tmp_path / "model.zip", env="this:Evil-v0")).env is None


def test_damaged_entries_are_named(tmp_path: pathlib.Path) -> None:
    PPO("MlpPolicy", SpacesEnv(), **ON).save(tmp_path / "model.zip")
    file = changed(tmp_path / "model.zip")
    settings = read_settings(file)
    for broken in ("no base64!", "", 3, base64.b64encode(b"\x80\x04").decode()):
        settings["policy_class"] = {":serialized:": broken}
        with pytest.raises(UntrustedFileError, match="its policy_class cannot be read"):
            safe_objects(settings, file)


# Archives that are more than they seem.


def archive(**parts: bytes) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in parts.items():
            zipped.writestr(name, data)
    file.seek(0)
    return file


def test_bombs_are_not_unpacked() -> None:
    with pytest.raises(IncompatibleModelError, match="policy would unpack from"):
        PPO.load(archive(data=b"{}", policy=bytes(50_000_000)))
    with pytest.raises(IncompatibleModelError, match="far more than it is"):
        PPO.load(archive(data=b"{}", **{f"part{i}": bytes(10_000_000) for i in range(8)}))
    with pytest.raises(IncompatibleModelError, match="not a readable model file"):
        PPO.load(archive(data=b"[" * 1_000_000))
    inner = archive(**{"archive/data/0": bytes(50_000_000)}).getvalue()
    with pytest.raises(IncompatibleModelError, match="would unpack from"):
        PPO.load(archive(data=b"{}", **{"policy.pth": inner}))


# Replay buffers and statistics.


@pytest.mark.parametrize("cls", [SAC, stable_baselines3.SAC])
def test_replay_buffers_come_back(cls: Any, tmp_path: pathlib.Path) -> None:
    model = cls("MlpPolicy", pendulum(), **OFF, device="cpu").learn(20)
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = SAC("MlpPolicy", pendulum(), **OFF, device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert loaded.replay_buffer.size() == 20
    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UntrustedFileError, match=r"bomb was not read: it would run builtins.exec.*trust=True"):
        loaded.load_replay_buffer(tmp_path / "bomb")
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(IncompatibleModelError, match="holds a list and no replay buffer"):
        loaded.load_replay_buffer(tmp_path / "list")
    (tmp_path / "cut.pkl").write_bytes((tmp_path / "buffer.pkl").read_bytes()[:-100])
    with pytest.raises(IncompatibleModelError, match=r"cut cannot be read"):
        loaded.load_replay_buffer(tmp_path / "cut")


def goals() -> gym.Env:
    box = gym.spaces.Box(-1.0, 1.0, (2,))
    space = gym.spaces.Dict({"observation": box, "achieved_goal": box, "desired_goal": box})

    class Reach(gym.Env):
        observation_space = space
        action_space = box

        def _look(self) -> Any:
            return {key: np.zeros(2, np.float32) for key in space.spaces}

        def reset(self, **_: Any) -> Any:
            self.steps = 0
            return self._look(), {}

        def step(self, action: Any) -> Any:
            self.steps += 1
            return self._look(), -1.0, False, self.steps == 5, {}

        def compute_reward(self, achieved: Any, desired: Any, infos: Any) -> Any:
            return -np.ones(len(achieved))

    return Reach()


BUFFERS: dict[str, tuple[Any, Callable[[], gym.Env], dict[str, Any]]] = {
    "ours": (SAC, pendulum, {}),
    "ours, Dict": (SAC, goals, {}),
    "ReplayBuffer": (stable_baselines3.SAC, pendulum, {}),
    "ReplayBuffer, observations once": (
        SAC,
        pendulum,
        {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
    ),
    "DictReplayBuffer": (stable_baselines3.SAC, goals, {}),
    "NStepReplayBuffer": (SAC, pendulum, {"n_steps": 3}),
    "HerReplayBuffer": (
        SAC,
        goals,
        {"replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": {"goal_selection_strategy": "final"}},
    ),
}


@pytest.mark.parametrize("kind", BUFFERS)
def test_buffers_of_every_kind_come_back_and_are_learned_from(kind: str, tmp_path: pathlib.Path) -> None:
    cls, make, settings = BUFFERS[kind]
    policy = "MultiInputPolicy" if make is goals else "MlpPolicy"
    model = cls(policy, make(), **{**OFF, **settings}, device="cpu").learn(20)
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = SAC(policy, make(), **{**OFF, **settings}, device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert type(loaded.replay_buffer) is type(model.replay_buffer)
    assert loaded.replay_buffer.size() == 20
    np.testing.assert_array_equal(loaded.replay_buffer.rewards[:20], model.replay_buffer.rewards[:20])
    for name in ("goal_selection_strategy", "n_steps", "optimize_memory_usage"):
        assert getattr(loaded.replay_buffer, name, None) == getattr(model.replay_buffer, name, None)
    loaded.learn(8)


def test_statistics_come_back(tmp_path: pathlib.Path) -> None:
    env = VecNormalize(DummyVecEnv([pendulum]))
    env.reset()
    env.step(np.zeros((1, 1)))
    env.save(str(tmp_path / "statistics.pkl"))
    found = read_pickle(tmp_path / "statistics.pkl")
    np.testing.assert_array_equal(found.obs_rms.mean, env.obs_rms.mean)
    assert found.ret_rms.count == env.ret_rms.count


def test_only_packages_that_are_known_are_imported() -> None:
    """The names of a file decide nothing."""
    assert pickle_parts.find("this", "s") is None and pickle_parts.find("antigravity", "X") is None
    assert pickle_parts.find("rlspo.zoo.train", "Run") is None
    assert pickle_parts.find(HERE, "Extractor") is Extractor
    assert pickle_parts.find(HERE, "Bomb") is None
