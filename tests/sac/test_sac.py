"""What SB3's users rely on works on rlspo's SAC as on SB3's; and what is ours: compilation, precision, seeds, errors."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.her import HerReplayBuffer

from rlspo import PPO, SAC
from rlspo.common.errors import DivergedError, IncompatibleModelError, InvalidRolloutError
from rlspo.common.replay_buffer import ReplayBuffer
from rlspo.sac.policies import SACPolicy
from tests.spaces import OBSERVATIONS, SpacesEnv, policy_name

SMALL: dict[str, Any] = {"learning_starts": 10, "batch_size": 16, "buffer_size": 200, "seed": 1}
SMALL |= {"policy_kwargs": {"net_arch": [16, 16]}}


def parameters(model: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_trains_saves_and_loads_on_every_observation(observation: str, tmp_path: Path, device: str) -> None:
    model = SAC(policy_name(observation), SpacesEnv(observation), **SMALL, device=device).learn(30)
    model.save(tmp_path / "model")
    loaded = SAC.load(tmp_path / "model", env=SpacesEnv(observation), device=device)
    batch = model.env.reset()
    actions, _ = model.predict(batch, deterministic=True)
    np.testing.assert_array_equal(actions, loaded.predict(batch, deterministic=True)[0])
    assert model.action_space.contains(actions[0])
    loaded.learn(30)


def test_saving_and_loading_changes_nothing_that_follows(tmp_path: Path) -> None:
    """Weights, optimiser states, entropy coefficient, replay buffer and random streams all come back."""
    model = SAC("MlpPolicy", SpacesEnv(), **SMALL).learn(60)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = SAC.load(tmp_path / "model", env=SpacesEnv())
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert torch.equal(model.log_ent_coef, loaded.log_ent_coef)
    for one in (model, loaded):
        one.env.seed(7)
        one._last_obs = None
        one.action_space.seed(7)
        one.learn(40, reset_num_timesteps=False)
    assert torch.equal(parameters(model), parameters(loaded))
    assert torch.equal(model.log_ent_coef, loaded.log_ent_coef)


def test_warm_up_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    """Neither the random actions nor the environment's episodes begin again."""
    settings: dict[str, Any] = {**SMALL, "learning_starts": 200}
    uninterrupted = SAC("MlpPolicy", "Pendulum-v1", **settings).learn(60).learn(60, reset_num_timesteps=False)
    SAC("MlpPolicy", "Pendulum-v1", **settings).learn(60).save(tmp_path / "model")
    loaded = SAC.load(tmp_path / "model", env="Pendulum-v1").learn(60, reset_num_timesteps=False)
    actions = uninterrupted.replay_buffer.data["actions"][:120]
    np.testing.assert_array_equal(actions[60:], loaded.replay_buffer.data["actions"][:60])
    first = uninterrupted.replay_buffer.data["observations"][0]
    assert not torch.equal(first, loaded.replay_buffer.data["observations"][0])


def test_an_interval_that_trainings_are_too_short_for_is_named() -> None:
    with pytest.warns(UserWarning, match=r"target_update_interval is 10 and gradient_steps 1: .* as in SB3"):
        SAC("MlpPolicy", "Pendulum-v1", target_update_interval=10)


def test_a_seed_decides_everything_and_looking_changes_nothing() -> None:
    models = []
    for global_seed, seed in ((1, 5), (2, 5), (2, 6)):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)
        model = SAC("MlpPolicy", SpacesEnv(), **{**SMALL, "seed": seed}).learn(40)
        if global_seed == 2:
            model.predict(model.env.reset(), deterministic=False)
        model._last_obs = None
        model.env.seed(0)
        models.append(model.learn(20, reset_num_timesteps=False))
    assert torch.equal(parameters(models[0]), parameters(models[1]))
    assert not torch.equal(parameters(models[0]), parameters(models[2]))


def test_low_precision_stays_near_and_weights_stay_float32() -> None:
    losses = {}
    for precision in ("float32", "bfloat16"):
        model = SAC("MlpPolicy", SpacesEnv(), **{**SMALL, "batch_size": 128}, precision=precision).learn(60)
        assert all(parameter.dtype == torch.float32 for parameter in model.policy.parameters())
        losses[precision] = model.logger.name_to_value["train/critic_loss"]
        model.train(1, 128)
        losses[precision] = model.logger.name_to_value["train/critic_loss"]
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.2)


class OwnCritics(SACPolicy):
    """Critics that are no list of layers."""

    def make_critic(self, features_extractor: Any = None) -> Any:
        class Own(torch.nn.Module):
            def __init__(self, inner: torch.nn.Module) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, pairs: torch.Tensor) -> torch.Tensor:
                return self.inner(pairs)

        critic = super().make_critic(features_extractor)
        for index, net in enumerate(critic.q_networks):
            own = Own(net)
            critic.q_networks[index] = own
            setattr(critic, f"qf{index}", own)
        return critic


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_critics_may_be_any_networks(precision: str) -> None:
    model = SAC(OwnCritics, SpacesEnv(), **SMALL, precision=precision).learn(30)
    assert all(parameter.isfinite().all() for parameter in model.policy.parameters())


@pytest.mark.parametrize("policy", ["MlpPolicy", "MoeMlpPolicy"])
def test_large_values_keep_their_differences_in_low_precision(policy: str) -> None:
    """Eight bits of a Q of 500 are steps of 4: no expert and no action could be told from another."""
    model = SAC(policy, SpacesEnv(), **SMALL, precision="bfloat16")
    model.policy.set_training_mode(True)
    seen, actions = torch.randn(64, 5), torch.rand(64, 2) * 2 - 1
    with torch.no_grad():
        for net in model.critic.q_networks:
            net[-1].bias.fill_(500.0)
        low = model.policy.q_values_of((seen, actions))
        model.policy.matmul_dtype = None
        exact = model.policy.q_values_of((seen, actions))
    assert not torch.equal(low, exact)
    assert (low - exact).abs().max() < 0.1 * exact.std()


def test_callbacks_noise_and_several_environments(tmp_path: Path) -> None:
    env = make_vec_env(SpacesEnv, 3, seed=0)
    noise = NormalActionNoise(np.zeros(2), 0.1 * np.ones(2))
    model = SAC("MlpPolicy", env, **SMALL, action_noise=noise, gradient_steps=-1, tensorboard_log=str(tmp_path))
    evaluation = EvalCallback(SpacesEnv(), eval_freq=10, n_eval_episodes=1, verbose=0, warn=False)
    model.learn(90, callback=[evaluation, CheckpointCallback(10, str(tmp_path))], log_interval=1)
    assert model._n_updates == 3 * 27  # learning begins after 12 steps
    assert np.isfinite(evaluation.last_mean_reward)
    assert [*tmp_path.glob("rl_model_*.zip")]
    assert {
        "train/critic_loss",
        "train/actor_loss",
        "train/ent_coef",
        "train/ent_coef_loss",
    } <= model.logger.name_to_value.keys()


def test_gymnasiums_vector_environments() -> None:
    for mode in gym.vector.AutoresetMode:
        if mode == gym.vector.AutoresetMode.DISABLED:
            continue
        env = gym.make_vec("Pendulum-v1", 2, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode})
        model = SAC("MlpPolicy", env, **{**SMALL, "buffer_size": 1000}).learn(420)
        # 200 steps to an episode; with a reset step of its own each environment has one row less
        resets = 2 * (210 // 201) if mode == gym.vector.AutoresetMode.NEXT_STEP else 0
        assert model.replay_buffer.size() == 420 - resets


def test_episodic_training_and_steps_between_trainings() -> None:
    model = SAC("MlpPolicy", SpacesEnv(), **SMALL, train_freq=[2, "episode"], gradient_steps=-1).learn(60)
    assert model._n_updates > 0
    assert SAC("MlpPolicy", SpacesEnv(), **SMALL, train_freq=5, gradient_steps=2).learn(60)._n_updates == 20


def test_gsde_trains() -> None:
    model = SAC("MlpPolicy", SpacesEnv(), **SMALL, use_sde=True, sde_sample_freq=4, use_sde_at_warmup=True).learn(40)
    assert parameters(model).isfinite().all()


class Reach(gym.Env[Any, Any]):
    """Move a point to a goal."""

    def __init__(self) -> None:
        box = spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = spaces.Dict({"observation": box, "achieved_goal": box, "desired_goal": box})
        self.action_space = box
        self.steps = 0

    def _seen(self) -> dict[str, np.ndarray]:
        return {"observation": self.place, "achieved_goal": self.place, "desired_goal": self.goal}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.goal = (self.np_random.uniform(-1, 1, 2).astype(np.float32) for _ in range(2))
        self.steps = 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.place = np.clip(self.place + 0.2 * action, -1, 1).astype(np.float32)
        return self._seen(), float(self.compute_reward(self.place, self.goal, {})), False, self.steps >= 10, {}

    def compute_reward(self, achieved: Any, desired: Any, _: Any) -> Any:
        return -(np.linalg.norm(achieved - desired, axis=-1) > 0.2).astype(np.float32)


def test_hindsight_experience_replay() -> None:
    model = SAC("MultiInputPolicy", Reach(), **SMALL, replay_buffer_class=HerReplayBuffer).learn(60)
    assert parameters(model).isfinite().all()


def test_replaced_layers_are_adopted() -> None:
    model = SAC("MlpPolicy", SpacesEnv(), **SMALL).learn(30)
    model.critic.qf0[0] = torch.nn.Linear(7, 16)
    model.log_ent_coef.data = torch.zeros(1)
    new = model.critic.qf0[0].weight.clone()
    model.learn(10, reset_num_timesteps=False)
    assert not torch.equal(model.critic.qf0[0].weight, new)
    assert model.log_ent_coef.item() != 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 1.5}, "tau is 1.5"),
        ({"n_steps": 0}, "n_steps is 0"),
        ({"gradient_steps": -5}, "gradient_steps is -5"),
        ({"train_freq": 0}, "train_freq is 0"),
        ({"train_freq": (1,)}, r"train_freq is \(1,\); it must be a number of steps or a pair"),
        ({"train_freq": (1, "day")}, "train_freq is .*'day'.*; it must be a number of steps or a pair"),
        ({"ent_coef": -1.0}, "ent_coef is -1.0"),
        ({"ent_coef": "foo"}, "ent_coef is 'foo'"),
        ({"ent_coef": "auto_much"}, "ent_coef is 'auto_much'"),
        ({"ent_coef": "auto_0"}, "ent_coef is 'auto_0'; .* above 0"),
        ({"target_entropy": "foo"}, "target_entropy is 'foo'"),
        ({"gamma": -0.1}, "gamma is -0.1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"compile": "yes"}, "compile is 'yes'"),
        ({"precision": "half"}, "precision is 'half'"),
        ({"policy_kwargs": {"optimizer_class": torch.optim.SGD}}, "is SGD; .* Adam and AdamW"),
        ({"policy_kwargs": {"optimizer_kwargs": {"amsgrad": True}}}, "is Adam; .* without amsgrad"),
    ],
)
def test_bad_settings_are_refused_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SAC("MlpPolicy", SpacesEnv(), **{**SMALL, **options})


def test_other_mistakes() -> None:
    with pytest.raises(TypeError, match="subclass of"):
        SAC(stable_baselines3.td3.policies.TD3Policy, SpacesEnv())
    with pytest.raises(ValueError, match=r"SAC takes actions of a Box, and the environment's are Discrete\(3\)\. PPO"):
        SAC("MlpPolicy", SpacesEnv("box", "discrete"))
    with pytest.raises(TypeError, match="replay_buffer_class is 'HER'; it must be a class"):
        SAC("MlpPolicy", SpacesEnv(), replay_buffer_class="HER")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"HerReplayBuffer learns from goals .* achieved_goal"):
        SAC("MlpPolicy", SpacesEnv(), replay_buffer_class=stable_baselines3.HerReplayBuffer)


def test_the_target_entropy_may_change() -> None:
    weights = []
    for entropy in (-2.0, 5.0):
        model = SAC("MlpPolicy", SpacesEnv(), **SMALL)
        model.target_entropy = entropy
        weights.append(model.learn(40).log_ent_coef.item())
    assert weights[0] < 0 < weights[1]


def test_a_load_that_changes_a_setting_names_it(tmp_path: Path) -> None:
    SAC("MlpPolicy", SpacesEnv(), **SMALL).save(tmp_path / "model")
    with pytest.raises(IncompatibleModelError, match=r"^ent_coef cannot change to 0.1: it is learned .*load_state_dict"):
        SAC.load(tmp_path / "model", ent_coef=0.1)


def test_a_run_that_ends_before_learning_starts_says_so() -> None:
    model = SAC("MlpPolicy", SpacesEnv(), **{**SMALL, "learning_starts": 30})
    with pytest.warns(UserWarning, match=r"Nothing is learned in 20 steps: learning_starts=30"):
        model.learn(20)
    with warnings.catch_warnings(action="error"):
        model.learn(20, reset_num_timesteps=False)


def test_files_of_other_agents_are_refused(tmp_path: Path) -> None:
    PPO("MlpPolicy", SpacesEnv(), n_steps=16, batch_size=8).save(tmp_path / "model")
    with pytest.raises(IncompatibleModelError, match="saved by PPO"):
        SAC.load(tmp_path / "model")


class Broken(SpacesEnv):
    def step(self, action: Any) -> Any:
        observation, *rest = super().step(action)
        return (observation * np.nan if self.steps == 5 else observation, *rest)


def test_a_diverged_environment_is_named() -> None:
    with pytest.raises(InvalidRolloutError, match="step 4"):
        SAC("MlpPolicy", Broken(), **SMALL).learn(20)


def test_normalised_environments_learn_from_normalised_rows() -> None:
    env = VecNormalize(make_vec_env(SpacesEnv, 1, seed=0))
    model = SAC("MlpPolicy", env, **SMALL).learn(40)
    data, rows = model._minibatch(16)
    assert len(rows) == 16
    assert data["rewards"].std() < model.replay_buffer.data["rewards"][:40].std() * 2
    assert model.replay_buffer.data["observations"][:40].abs().max() <= 2


@pytest.mark.parametrize(
    "options",
    [
        {"n_steps": 3},
        {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
        {"action_noise": NormalActionNoise(np.zeros(2), 0.1 * np.ones(2))},
        {"normalized": True},
        {"use_sde": True},
    ],
    ids=lambda options: "-".join(options),
)
def test_one_seed_decides_what_classes_of_others_draw_too(options: dict[str, Any]) -> None:
    models = []
    for global_seed in (1, 2):
        np.random.seed(global_seed)
        torch.manual_seed(global_seed)
        env = make_vec_env(SpacesEnv, 1, seed=0)
        env = VecNormalize(env) if options.get("normalized") else env
        kwargs = {key: value for key, value in options.items() if key != "normalized"}
        models.append(SAC("MlpPolicy", env, **SMALL, **kwargs).learn(40))
        assert np.random.get_state()[1][0] == np.random.RandomState(global_seed).get_state()[1][0]
    assert torch.equal(parameters(models[0]), parameters(models[1]))


def test_a_frozen_features_extractor(tmp_path: Path) -> None:
    for share in (False, True):
        options = {"net_arch": [16], "share_features_extractor": share}
        model = SAC("MultiInputPolicy", SpacesEnv("dict"), **{**SMALL, "policy_kwargs": options})
        for name, parameter in model.policy.named_parameters():
            parameter.requires_grad = "features_extractor" not in name
        frozen = model.actor.features_extractor.extractors["image"].cnn[0].weight.clone()
        model.learn(30)
        assert torch.equal(model.actor.features_extractor.extractors["image"].cnn[0].weight, frozen)


def test_resets_that_take_a_step_are_not_for_sb3s_buffers() -> None:
    env = gym.make_vec("Pendulum-v1", 2, vectorization_mode="sync")
    with pytest.raises(ValueError, match="reset in a step of their own"):
        SAC("MlpPolicy", env, **{**SMALL, "buffer_size": 1000}, n_steps=3).learn(500)


def test_files_of_sb3_learn_on_with_our_buffer(tmp_path: Path) -> None:
    stable_baselines3.SAC("MlpPolicy", SpacesEnv(), **SMALL).learn(30).save(tmp_path / "model")
    model = SAC.load(tmp_path / "model", env=SpacesEnv())
    assert isinstance(model.replay_buffer, ReplayBuffer)
    before = parameters(model)
    model.learn(30)
    assert not torch.equal(before, parameters(model))


def test_updates_are_planned_for_episodes_too(capsys: pytest.CaptureFixture[str]) -> None:
    model = SAC("MlpPolicy", SpacesEnv(), **SMALL, train_freq=(1, "episode"), gradient_steps=200)
    planned: list[int] = []
    model.decide_on_compiling = planned.append  # type: ignore[method-assign]
    model.learn(10)
    planned.clear()
    with pytest.raises(ZeroDivisionError):
        model.learn(1e6, callback=lambda *_: 1 / 0)
    steps = 1_000_000 - model.learning_starts  # episodes of 1000 are assumed
    assert planned == [steps * 200 // 1000]


class Kept(KVWriter):
    """What was logged."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        self.rows.append({key: value for key, value in key_values.items() if not key.startswith("time/")})


def test_statistics_that_are_read_late_are_the_same() -> None:
    """On a GPU they stay on the device until they are logged."""
    logged = []
    for kept in (1, 100):
        model, writer = SAC("MlpPolicy", SpacesEnv(), **SMALL), Kept()
        model.reports_kept = kept
        model.set_logger(Logger(None, [writer]))
        model.learn(150, log_interval=2)
        assert not model.reports
        logged.append(writer.rows)
    assert logged[0] == logged[1]
    assert len(logged[0]) > 1
    assert "train/critic_loss" in logged[0][-1]


def test_a_divergence_that_is_read_late_is_named_and_undone() -> None:
    model = SAC("MlpPolicy", SpacesEnv(), **SMALL).learn(40)
    model.reports_kept = 100
    model.learning_rate = 1e39
    with np.errstate(all="ignore"), pytest.raises(DivergedError, match=r"^Learning diverged at update \d+"):
        model.learn(40, reset_num_timesteps=False)
    assert parameters(model).abs().max() < 1e3


def test_statistics_of_weights_that_are_gone_are_not_read() -> None:
    model = SAC("MlpPolicy", SpacesEnv(), **SMALL).learn(40)
    good = model.get_parameters()
    model.reports_kept = 100
    model.reports.append((41, torch.full((len(model.update.stat_names) + 1,), torch.nan)))
    model.set_parameters(good)
    model.learn(40, reset_num_timesteps=False)
