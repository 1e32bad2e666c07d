"""What SB3's users rely on works on rlspo's agents as on SB3's own."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import (
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack, VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlspo import ARPO, BARPO, PPO
from rlspo.policies import ActorCriticPolicy
from tests.spaces import ACTIONS, OBSERVATIONS, SpacesEnv, policy_name

SMALL: dict[str, Any] = {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "seed": 1}
AGENTS = [PPO, ARPO, BARPO]


def parameters(model: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_trains_saves_and_loads_on_every_space(observation: str, action: str, tmp_path: Path, device: str) -> None:
    model = PPO(policy_name(observation), SpacesEnv(observation, action), **SMALL, device=device).learn(64)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=SpacesEnv(observation, action), device=device)
    batch = model.env.reset()
    actions, _ = model.predict(batch, deterministic=True)
    again, _ = loaded.predict(batch, deterministic=True)
    np.testing.assert_array_equal(actions, again)
    assert model.env.action_space.contains(actions[0])
    loaded.learn(64)


@pytest.mark.parametrize("agent", AGENTS)
def test_saving_and_loading_changes_nothing_that_follows(agent: type[PPO], tmp_path: Path) -> None:
    """Weights, optimiser state, observation statistics, reward scale and random streams all come back."""
    kwargs = {**SMALL, "normalize_observations": True, "normalize_rewards": True, "learning_rate": 1e-3}
    model = agent("MlpPolicy", SpacesEnv(), **kwargs).learn(128)
    model.save(tmp_path / "model")
    loaded = agent.load(tmp_path / "model", env=SpacesEnv())
    assert torch.equal(
        model.policy.preprocess.parts["observation"].normalizer.mean,
        loaded.policy.preprocess.parts["observation"].normalizer.mean,
    )
    for one in (model, loaded):
        one.env.seed(7)
        one._last_obs = None
        one.learn(128, reset_num_timesteps=False)
    assert torch.equal(parameters(model), parameters(loaded))


def test_same_seed_same_agent_and_another_seed_another() -> None:
    first, second = (PPO("MlpPolicy", SpacesEnv(), **SMALL).learn(128) for _ in range(2))
    other = PPO("MlpPolicy", SpacesEnv(), **{**SMALL, "seed": 2}).learn(128)
    assert torch.equal(parameters(first), parameters(second))
    assert not torch.equal(parameters(first), parameters(other))


def test_get_and_set_parameters(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL).learn(64)
    other = PPO("MlpPolicy", SpacesEnv(), **{**SMALL, "seed": 9})
    other.set_parameters(model.get_parameters())
    assert torch.equal(parameters(model), parameters(other))
    model.save(tmp_path / "model")
    other = PPO("MlpPolicy", SpacesEnv(), **{**SMALL, "seed": 9})
    other.set_parameters(tmp_path / "model.zip")
    assert torch.equal(parameters(model), parameters(other))
    with pytest.raises(ValueError, match="do not match"):
        other.set_parameters({"policy": model.policy.state_dict()})


def test_weights_move_between_the_libraries(tmp_path: Path) -> None:
    theirs = stable_baselines3.PPO("MlpPolicy", SpacesEnv(), **SMALL, device="cpu").learn(64)
    theirs.save(tmp_path / "sb3")
    ours = PPO.load(tmp_path / "sb3", env=SpacesEnv(), device="cpu")
    observations = np.stack([OBSERVATIONS["box"].sample() for _ in range(8)])
    np.testing.assert_allclose(
        ours.predict(observations, deterministic=True)[0], theirs.predict(observations, deterministic=True)[0], atol=1e-6
    )
    ours.learn(64)
    theirs.set_parameters(ours.get_parameters())
    np.testing.assert_allclose(
        ours.predict(observations, deterministic=True)[0], theirs.predict(observations, deterministic=True)[0], atol=1e-6
    )


@pytest.mark.parametrize("agent", AGENTS)
def test_callbacks(agent: type[PPO], tmp_path: Path) -> None:
    model = agent("MlpPolicy", "CartPole-v1", **SMALL)
    checkpoint = CheckpointCallback(64, str(tmp_path / "checkpoints"))
    evaluation = EvalCallback(
        make_vec_env("CartPole-v1", 1),
        eval_freq=64,
        n_eval_episodes=2,
        best_model_save_path=str(tmp_path),
        log_path=str(tmp_path),
        verbose=0,
    )
    every = EveryNTimesteps(100, CheckpointCallback(1, str(tmp_path / "every")))
    model.learn(256, callback=[checkpoint, evaluation, every])
    assert len(list((tmp_path / "checkpoints").glob("*.zip"))) == 4
    assert len(list((tmp_path / "every").glob("*.zip"))) == 2
    assert evaluation.evaluations_timesteps == [64, 128, 192, 256]
    saved = np.load(tmp_path / "evaluations.npz")
    np.testing.assert_array_equal(saved["timesteps"], [64, 128, 192, 256])
    assert saved["results"].shape == (4, 2)
    assert evaluation.best_mean_reward == saved["results"].mean(axis=1).max()
    best = agent.load(tmp_path / "best_model")
    assert best.predict(np.zeros(4, np.float32))[0] in (0, 1)


def test_callbacks_stop_training() -> None:
    model = PPO("MlpPolicy", "CartPole-v1", **SMALL)
    model.learn(10_000, callback=StopTrainingOnMaxEpisodes(3))
    assert model.num_timesteps < 500
    stop = EvalCallback(
        make_vec_env("CartPole-v1", 1),
        callback_on_new_best=StopTrainingOnRewardThreshold(1.0),
        eval_freq=50,
        n_eval_episodes=1,
        verbose=0,
    )
    model.learn(10_000, callback=stop)
    assert model.num_timesteps < 500


def test_evaluate_policy() -> None:
    """SB3's evaluation of our agent is what stepping the environment by hand gives."""
    model = PPO("MlpPolicy", "CartPole-v1", **SMALL).learn(128)
    returns, lengths = evaluate_policy(model, make_vec_env("CartPole-v1", 1, seed=11), 3, return_episode_rewards=True)
    env = gym.make("CartPole-v1")
    by_hand = []
    for episode in range(3):
        observation, _ = env.reset(seed=11 if episode == 0 else None)
        total, over = 0.0, False
        while not over:
            action, _ = model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        by_hand.append(total)
    assert returns == lengths == by_hand


def test_monitor() -> None:
    """Episode lengths and returns in the agent's buffer are those that the rollout shows."""
    model = PPO("MlpPolicy", "CartPole-v1", **{**SMALL, "n_steps": 128}).learn(128)
    assert model.ep_info_buffer
    recorded = [(info["l"], info["r"]) for info in model.ep_info_buffer]
    starts = np.append(model.rollout_buffer.data["episode_starts"], model._last_episode_starts)
    seen = np.diff(np.flatnonzero(starts))
    assert len(seen) > 1
    assert recorded == [(length, float(length)) for length in seen]


@pytest.mark.parametrize("wrapper", [VecNormalize, lambda env: VecFrameStack(env, 2)])
def test_vec_env_wrappers(wrapper: Any) -> None:
    env = wrapper(make_vec_env("Pendulum-v1", 2, seed=0))
    model = PPO("MlpPolicy", env, **SMALL).learn(256)
    assert torch.isfinite(parameters(model)).all()
    assert (model.get_vec_normalize_env() is None) == (wrapper is not VecNormalize)


def test_subprocesses() -> None:
    env = make_vec_env("CartPole-v1", 2, vec_env_cls=SubprocVecEnv, vec_env_kwargs={"start_method": "spawn"})
    try:
        PPO("MlpPolicy", env, **SMALL).learn(128)
    finally:
        env.close()


def test_logger_formats_and_sb3s_names(tmp_path: Path) -> None:
    ours = PPO("MlpPolicy", "CartPole-v1", **SMALL)
    theirs = stable_baselines3.PPO("MlpPolicy", "CartPole-v1", **SMALL, device="cpu")
    columns = {}
    for name, model in (("ours", ours), ("theirs", theirs)):
        model.set_logger(configure(str(tmp_path / name), ["csv", "json", "log", "tensorboard"]))
        model.learn(256)
        columns[name] = set((tmp_path / name / "progress.csv").read_text().splitlines()[0].split(","))
        assert (tmp_path / name / "progress.json").stat().st_size > 0
    assert columns["ours"] == columns["theirs"]


def test_tensorboard_has_hyperparameters(tmp_path: Path) -> None:
    BARPO("MlpPolicy", "CartPole-v1", **SMALL, tensorboard_log=str(tmp_path), epsilon=0.03).learn(256)
    (folder,) = tmp_path.iterdir()
    assert folder.name == "BARPO_1"
    events = EventAccumulator(str(folder)).Reload()
    tags = events.Tags()["scalars"]
    assert {"train/approx_kl", "train/epsilon", "adversary/inner_kl", "adversary/gain_over_random_corner"} <= set(tags)
    written = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"epsilon" in written and b"adversary_steps" in written


@pytest.mark.parametrize("mode", ["SAME_STEP", "NEXT_STEP", "DISABLED"])
def test_gymnasium_vector_env(mode: str) -> None:
    kind = getattr(gym.vector.AutoresetMode, mode)
    env = gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1") for _ in range(4)], autoreset_mode=kind)
    model = PPO("MlpPolicy", env, **SMALL).learn(512)
    assert model.ep_info_buffer
    assert model.rollout_buffer.data["valid"].all() == (mode != "NEXT_STEP")


def test_learn_takes_a_float_and_string_envs_everywhere(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", "CartPole-v1", **SMALL).learn(1.28e2)
    assert model.num_timesteps == 128
    model.save(tmp_path / "model")
    PPO.load(tmp_path / "model", env="CartPole-v1").learn(64)


class WiderPolicy(ActorCriticPolicy):
    """A user's own policy class."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "net_arch": [16, 16]})


def test_policy_classes() -> None:
    PPO(WiderPolicy, SpacesEnv(), **SMALL).learn(64)
    PPO(stable_baselines3.common.policies.ActorCriticPolicy, SpacesEnv(), **SMALL).learn(64)
    with pytest.raises(TypeError, match=r"rlspo\.policies\.ActorCriticPolicy"):
        PPO(stable_baselines3.sac.policies.SACPolicy, SpacesEnv(), **SMALL)
    with pytest.raises(ValueError, match="MultiInputPolicy"):
        PPO("MlpPolicy", SpacesEnv("dict"), **SMALL)


def test_observation_statistics_travel_with_the_policy(tmp_path: Path, device: str) -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL, normalize_observations=True, device=device).learn(256)
    normalizer = model.policy.preprocess.parts["observation"].normalizer
    seen = model.rollout_buffer.flat("observations")
    assert float(normalizer.count) == 256
    np.testing.assert_allclose(normalizer.mean.cpu(), seen.mean(axis=0), atol=0.5)
    before = normalizer.mean.clone()
    model.predict(np.full(5, 100.0, np.float32))
    assert torch.equal(before, normalizer.mean), "predicting must not move the statistics"
    model.policy.save(tmp_path / "policy")
    policy = ActorCriticPolicy.load(tmp_path / "policy", device=device)
    assert torch.equal(policy.preprocess.parts["observation"].normalizer.mean, before)


@pytest.mark.parametrize("kind", ["MlpPolicy", "MultiInputPolicy"])
def test_sb3s_class_reads_a_policy_alone(kind: str, tmp_path: Path) -> None:
    model = PPO(kind, SpacesEnv("dict" if kind == "MultiInputPolicy" else "box"), **SMALL)
    model.policy.save(tmp_path / "policy")
    policy = getattr(stable_baselines3.ppo, kind).load(tmp_path / "policy")
    observation = model.observation_space.sample()
    theirs, _ = policy.predict(observation, deterministic=True)
    np.testing.assert_allclose(theirs, model.predict(observation, deterministic=True)[0], atol=1e-6)
