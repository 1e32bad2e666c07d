"""What bad input gets: one clear error, and nothing lost."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

from rlspo import BARPO, PDPPO, PPO, SAC, SPO
from rlspo.common.env_failures import in_one_line
from rlspo.common.errors import IncompatibleModelError, InvalidRolloutError
from tests.spaces import SpacesEnv

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 8, "n_epochs": 1, "seed": 1}


class Sick(SpacesEnv):
    """Fails at a given step of its life."""

    def __init__(self, when: int, what: str) -> None:
        super().__init__()
        self.when, self.what, self.age = when, what, 0

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        self.age += 1
        if self.age == self.when:
            if self.what == "raise":
                raise RuntimeError("the simulator fell over")
            if self.what == "observation":
                observation = np.array([0, np.nan, 0, 0, 0], np.float32)
            else:
                reward = float(self.what)
        return observation, reward, terminated, truncated, info


@pytest.mark.parametrize(
    ("what", "message"), [("observation", "observation.*NaN"), ("nan", "reward"), ("inf", "reward"), ("raise", "fell over")]
)
@pytest.mark.parametrize("sick_index", [0, 2])
def test_a_sick_environment_stops_training_and_leaves_the_weights(what: str, message: str, sick_index: int) -> None:
    def make(index: int) -> Any:
        return lambda: Sick(20 if index == sick_index else 10**9, what)

    model = PPO("MlpPolicy", DummyVecEnv([make(i) for i in range(3)]), **SMALL)
    with pytest.raises(RuntimeError if what == "raise" else InvalidRolloutError, match=message) as error:
        model.learn(1000)
    assert f"nvironment {sick_index} " in in_one_line(error.value)
    assert "step 19" in in_one_line(error.value)
    assert model._n_updates == 1, "the first rollout of 16 steps was learned from"
    assert all(torch.isfinite(parameter).all() for parameter in model.policy.parameters())


def test_nan_where_a_time_limit_cuts_the_episode() -> None:
    """This observation reaches the agent only through the bootstrap value."""

    class Cut(SpacesEnv):
        def step(self, action: Any) -> Any:
            self.steps += 1
            cut = self.steps == 5
            return np.full(5, np.nan if cut else 0.0, np.float32), 0.0, False, cut, {}

    model = PPO("MlpPolicy", Cut(), **SMALL)
    with pytest.raises(InvalidRolloutError, match=r"Environment 0 .*NaN"):
        model.learn(16)
    assert all(torch.isfinite(parameter).all() for parameter in model.policy.parameters())


def test_nan_in_the_very_first_observation() -> None:
    class Broken(SpacesEnv):
        def reset(self, **kwargs: Any) -> Any:
            return np.full(5, np.inf, np.float32), {}

    with pytest.raises(InvalidRolloutError, match=r"Environment 0 .* step 0"):
        PPO("MlpPolicy", Broken(), **SMALL).learn(16)


def test_a_rollout_of_one_step() -> None:
    """Its advantage cannot be normalised; SB3 says so in the same words."""
    with pytest.raises(ValueError, match=r"`n_steps \* n_envs` must be greater than 1. Currently n_steps=1 and n_envs=1"):
        PPO("MlpPolicy", SpacesEnv(), **{**SMALL, "n_steps": 1})
    with pytest.warns(UserWarning, match="truncated mini-batch of size 1"):
        model = PPO("MlpPolicy", SpacesEnv(), **{**SMALL, "n_steps": 1}, normalize_advantage=False)
    assert model.learn(4)._n_updates == 4


BAD_NUMBERS: list[tuple[str, Any]] = [
    *(("batch_size", value) for value in (0, -64, "64", 32.0, True, None)),
    *(("n_steps", value) for value in (0, 64.0)),
    *(("n_epochs", value) for value in (0, 2.5)),
    *((name, value) for name in ("gamma", "gae_lambda") for value in (1.5, -1, "0.9", float("nan"))),
    *(("clip_range", value) for value in (-0.2, 0.0, torch.nn.Tanh)),
    *(("learning_rate", value) for value in (-1e-3, "x", torch.nn.Tanh)),
    *(("clip_range_vf", value) for value in (-0.2, "0.2")),
    *(("target_kl", value) for value in (-1, 0, "0.01")),
    *(("max_grad_norm", value) for value in (None, 0, -0.5)),
    *((name, value) for name in ("vf_coef", "ent_coef") for value in ("x", -0.1, None, float("inf"))),
]


@pytest.mark.parametrize("agent", [PPO, BARPO])
@pytest.mark.parametrize(("name", "value"), BAD_NUMBERS)
def test_numbers_out_of_range_are_named_at_construction(agent: type[PPO], name: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as error:
        agent("MlpPolicy", SpacesEnv(), **{**SMALL, name: value})
    assert str(error.value).startswith(f"{name} is {value!r}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gamma", 1),
        ("gamma", 0.0),
        ("gae_lambda", 1.0),
        ("vf_coef", 0),
        ("ent_coef", np.float32(0.01)),
        ("n_epochs", np.int64(2)),
        ("clip_range", lambda remaining: 0.1 + 0.1 * remaining),
        ("target_kl", None),
        ("clip_range_vf", None),
        ("max_grad_norm", 1),
    ],
)
def test_numbers_in_range_are_taken(name: str, value: Any) -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **{**SMALL, name: value}).learn(16)
    assert all(torch.isfinite(parameter).all() for parameter in model.policy.parameters())


@pytest.mark.parametrize(
    ("name", "value"), [("compile", "yes"), ("precision", "float16"), ("clip_range_vf", -1.0), ("batch_size", 1)]
)
def test_other_bad_arguments(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        PPO("MlpPolicy", SpacesEnv(), **{**SMALL, name: value})


def test_what_is_no_number_of_steps() -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL)
    for wrong in ("100", None, True, float("nan"), float("inf")):
        with pytest.raises(TypeError, match=r"total_timesteps is .* number of steps, such as 100_000 or 1e6"):
            model.learn(wrong)
    for steps in (-5, np.array(0), torch.tensor(0)):
        assert model.learn(steps).num_timesteps == 0
    with pytest.raises(TypeError, match="total_timesteps is '100'"):
        SAC("MlpPolicy", SpacesEnv()).learn("100")


@pytest.mark.parametrize("agent", [PPO, BARPO, PDPPO, SAC, SPO])
def test_no_environment(agent: Any) -> None:
    with pytest.raises(ValueError, match=rf"env is None; .* such as {agent.__name__}\('MlpPolicy', 'CartPole-v1'\)"):
        agent("MlpPolicy", None)


def test_use_sde_is_the_agents() -> None:
    for agent in (PPO, SAC):
        with pytest.raises(TypeError, match=rf"policy_kwargs has 'use_sde'.*: {agent.__name__}\(..., use_sde="):
            agent("MlpPolicy", SpacesEnv(), policy_kwargs={"use_sde": True})
    shared = {"net_arch": [4], "use_sde": True}
    for agent in (PPO, SAC):
        agent("MlpPolicy", SpacesEnv(), policy_kwargs=shared, use_sde=True)
    assert shared == {"net_arch": [4], "use_sde": True}
    with pytest.raises(TypeError, match=r"'use_beta', which ActorCriticPolicy does not take. It takes: (?!.*use_sde)"):
        PPO("MlpPolicy", SpacesEnv(), policy_kwargs={"use_beta": True})


def test_flags_are_true_or_false() -> None:
    with pytest.raises(TypeError, match="clip_to_space is 'yes'"):
        BARPO("MlpPolicy", SpacesEnv(), clip_to_space="yes")
    with pytest.raises(TypeError, match="normalize_observations is 'x'"):
        PPO("MlpPolicy", SpacesEnv(), policy_kwargs={"normalize_observations": "x"})


def test_sb3s_argument_for_code_in_files_has_another_name(tmp_path: Path) -> None:
    PPO("MlpPolicy", SpacesEnv(), **SMALL).save(tmp_path / "model")
    with pytest.raises(TypeError, match=r"'deserialization_mode'.*trust=True"):
        PPO.load(tmp_path / "model", deserialization_mode="legacy")


def test_model_files(tmp_path: Path) -> None:
    model = BARPO("MlpPolicy", SpacesEnv(), **SMALL)
    model.save(tmp_path / "barpo")
    whole = (tmp_path / "barpo.zip").read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.zip").write_text("not a model")
    with pytest.raises(IncompatibleModelError, match=r"truncated.*another checkpoint"):
        BARPO.load(tmp_path / "half.zip")
    with pytest.raises(IncompatibleModelError, match="not a readable model"):
        BARPO.load(tmp_path / "text")
    with pytest.raises(IncompatibleModelError, match=r"saved by BARPO, not by PPO.*BARPO\.load"):
        PPO.load(tmp_path / "barpo")
    with pytest.raises(FileNotFoundError, match=r"nothing\.zip"):
        PPO.load(tmp_path / "nothing")
    assert (tmp_path / "barpo.zip").read_bytes() == whole


def test_another_environment_at_load(tmp_path: Path) -> None:
    PPO("MlpPolicy", SpacesEnv(), **SMALL).save(tmp_path / "model")
    with pytest.raises(ValueError, match="spaces do not match"):
        PPO.load(tmp_path / "model", env=gym.make("CartPole-v1"))


def test_the_entropy_bonus_may_follow_a_schedule() -> None:
    """It is what the loss weighs the entropy by, at every moment of training; a number stays the number that it is."""
    falling = PPO("MlpPolicy", "CartPole-v1", n_steps=64, ent_coef=LinearSchedule(0.2, 0.0, 0.5), seed=0)
    weights = []
    for remaining in (1.0, 0.75, 0.4):
        falling._current_progress_remaining = remaining
        weights.append(falling.schedules()["ent_coef"])
    assert weights == pytest.approx([0.2, 0.1, 0.0])
    assert "ent_coef" not in PPO("MlpPolicy", "CartPole-v1", n_steps=64, ent_coef=0.2).schedules()
    constant = PPO("MlpPolicy", "CartPole-v1", n_steps=64, ent_coef=0.2, seed=0).learn(64)
    scheduled = PPO("MlpPolicy", "CartPole-v1", n_steps=64, ent_coef=lambda remaining: 0.2, seed=0).learn(64)
    for one, other in zip(constant.policy.parameters(), scheduled.policy.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7)
