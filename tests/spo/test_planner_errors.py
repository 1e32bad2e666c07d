"""Plans with what users hand in: other environments, other observations, copies of agents, settings left out."""

from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rlspo import PPO, SAC, SPO
from rlspo.common.vector_env import GymnasiumVecEnv
from rlspo.simulators import simulator_for
from rlspo.spo import Planner
from rlspo.spo.exploration import RootNoise

SMALL = {"n_steps": 8, "batch_size": 8, "gradient_steps": 2, "n_particles": 4, "depth": 2, "seed": 0, "device": "cpu"}


class Pictures(gym.Env):
    observation_space = spaces.Box(0, 255, (40, 40, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros((40, 40, 3), np.uint8), {}

    def step(self, action):
        return np.zeros((40, 40, 3), np.uint8), 0.0, False, False, {}


def test_environments_that_do_not_fit_the_agent_are_rejected():
    model = SPO("MlpPolicy", "CartPole-v1", **SMALL)
    with pytest.raises(ValueError, match="observation_space"):
        Planner(model, gym.make("Pendulum-v1"))
    pictures = SPO("CnnPolicy", Pictures(), **SMALL)
    env = Pictures()
    with pytest.raises(ValueError, match="VecTransposeImage"):
        pictures.plan(env, env.reset()[0])


@pytest.mark.parametrize("shape", [(4,), (2, 4), (1, 3, 4)])
def test_observations_must_be_one_for_each_environment(shape):
    env = DummyVecEnv([lambda: gym.make("CartPole-v1")] * 3)
    model = SPO("MlpPolicy", env, **SMALL)
    env.reset()
    with pytest.raises(ValueError, match="3 environment"):
        model.plan(env, np.zeros(shape, np.float32))


def test_a_search_has_no_place_for_a_memory():
    small = {"n_steps": 16, "batch_size": 16, "policy_kwargs": {"lstm_hidden_size": 4}}
    with pytest.raises(TypeError, match="PPO cannot be planned with: its RecurrentActorCriticPolicy has a memory"):
        Planner(PPO("MlpLstmPolicy", "CartPole-v1", **small), gym.make("CartPole-v1"))
    Planner(
        PPO("MlpLstmPolicy", "CartPole-v1", **{**small, "policy_kwargs": {"lstm_hidden_size": 0}}), gym.make("CartPole-v1")
    )


def test_plants_are_planned_in_more_than_once():
    env = make_vec_env("rlspo/LotSizing-v0", 2, seed=0)
    model = SPO("MlpPolicy", env, **SMALL)
    observations = model.env.reset()
    for _ in range(2):
        actions, _ = model.plan(model.env, observations)
        assert actions.shape == (2, *env.action_space.shape)


def test_a_copied_agent_plans_and_learns_with_its_own_policy():
    model = SPO("MlpPolicy", "CartPole-v1", **SMALL).learn(8)
    twin = copy.deepcopy(model)
    before = [parameter.clone() for parameter in model.policy.parameters()]
    with torch.no_grad():
        twin.policy.action_net.bias += torch.tensor([100.0, 0.0])
    assert (twin.planner.search(twin.env, twin.env.reset()).actions == 0).all()
    twin.learn(8)
    assert all(torch.equal(old, new) for old, new in zip(before, model.policy.parameters(), strict=True))


def test_a_plan_with_the_other_kind_of_resampling():
    model = SPO("MlpPolicy", "CartPole-v1", **SMALL)
    observations = model.env.reset()
    _, found = model.plan(model.env, observations, ess_threshold=1.0, depth=3)
    assert found.diagnostics["resampled"].tolist()[1:] == [1.0, 0.0]


def test_root_noise_without_a_number_of_particles():
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu")
    env = model.get_env()
    noise = RootNoise(0.2, 0.3, model.action_space)
    assert Planner(model, env, root_noise=noise).search(env, env.reset()).corrections.abs().sum() > 0
    other = sb3.PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu")
    with pytest.raises(TypeError, match="root_noise"):
        Planner(other, env, root_noise=noise)


def test_an_environment_that_is_rejected_leaves_the_agent_as_it_was():
    model = SPO("MlpPolicy", "CartPole-v1", **SMALL)
    with pytest.raises(ValueError, match="observation_space"):
        model.set_env(gym.make("Acrobot-v1"))
    model.learn(8)


def test_the_multipliers_rate_after_a_warm_up():
    model = SPO("MlpPolicy", "CartPole-v1", learning_rate=lambda left: 1e-3 * min(1.0, 10 * (1 - left)), **SMALL)
    assert model.policy.dual_lr_scale * 1e-3 == pytest.approx(model.dual_learning_rate)


def test_another_optimiser_than_adam():
    model = SPO("MlpPolicy", "CartPole-v1", policy_kwargs={"optimizer_class": torch.optim.SGD}, **SMALL)
    before = model.policy.action_net.weight.detach().clone()
    model.learn(8)
    assert not torch.equal(before, model.policy.action_net.weight)


def test_an_agent_with_frozen_layers_is_saved_and_loaded(tmp_path):
    model = SPO("MlpPolicy", "CartPole-v1", **SMALL)
    for parameter in model.policy.mlp_extractor.parameters():
        parameter.requires_grad = False
    model.learn(16).save(tmp_path / "frozen")
    loaded = SPO.load(tmp_path / "frozen", env=gym.make("CartPole-v1"), device="cpu")
    for name, parameter in model.policy.named_parameters():
        assert torch.equal(parameter, loaded.policy.get_parameter(name))
    assert torch.equal(loaded.update.target_parameters()["action_net.weight"], model.policy.action_net.weight)
    loaded.learn(8)


class Torque(gym.Env):
    """Pays the action; keeps the actions that the environment itself took."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, space=None):
        self.action_space = space or spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), float(np.sum(action)), False, False, {}


def test_a_plan_averages_what_the_branches_did():
    model = SPO("MlpPolicy", Torque(), policy_kwargs={"initial_std": 30.0}, **SMALL)
    planner = Planner(model, model.env, n_particles=64, depth=1, temperature=1e9, generator=torch.Generator().manual_seed(0))
    action, found = planner.act(model.env, model.env.reset())
    # At a temperature without end all weights are alike; draws lie far outside, about as many on each side.
    expected = np.clip(found.actions[0].numpy(), -1, 1).mean(axis=0)
    assert found.actions.abs().max() > 30
    assert action[0] == pytest.approx(expected, abs=1e-6)
    assert np.abs(action).max() < 0.9


def test_clipped_actions_that_are_the_same_count_together():
    env = Torque(spaces.Box(-1, 1, (1,), np.float32))
    model = PPO("MoeMlpPolicy", env, n_steps=8, batch_size=8, device="cpu", seed=0)
    planner = Planner(model, model.env, n_particles=64, depth=1, temperature=1e9, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, parameter in model.policy.named_parameters():
            if "log_std" in name:
                parameter.fill_(3.0)
    action, found = planner.act(model.env, model.env.reset())
    below, above = (found.actions < -1).sum(), (found.actions > 1).sum()
    assert min(below, above) > 10
    assert action[0, 0] == (1.0 if above > below else -1.0)


def test_squashed_policies_plan_within_the_bounds():
    model = SAC("MlpPolicy", Torque(spaces.Box(2, 6, (2,), np.float32)), device="cpu", seed=0)
    env = model.get_env()
    action, found = Planner(model, env, n_particles=64, depth=1, temperature=1e9).act(env, env.reset())
    assert action[0] == pytest.approx(4.0 + 2.0 * found.actions[0].mean(dim=0).numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("space", "words"), [(spaces.MultiBinary((2, 3)), "2 axes"), (spaces.MultiDiscrete([[2, 3], [4, 5]]), "2 axes")]
)
@pytest.mark.parametrize("kind", [PPO, SPO])
def test_choices_that_no_agent_numbers_are_rejected(kind, space, words):
    with pytest.raises(ValueError, match=words):
        kind("MlpPolicy", Torque(space))


def test_integer_actions_reach_branches_as_they_reach_the_environment():
    space = spaces.Box(0, 9, (1,), np.int64)
    env = GymnasiumVecEnv(gym.vector.SyncVectorEnv([lambda: Torque(space)]))
    env.reset()
    simulator = simulator_for(env)
    ahead = simulator.step(simulator.capture(env), np.array([[2.7]])).rewards
    assert ahead == env.step(np.array([[2.7]]))[1] == [2.0]


def test_settings_that_would_count_for_nothing_are_rejected():
    model = SPO("MlpPolicy", "CartPole-v1", **SMALL)
    env, observations = model.env, model.env.reset()
    for plan in (lambda **given: Planner(model, env, **given), lambda **given: model.plan(env, observations, **given)):
        with pytest.raises(ValueError, match="both say how greedy"):
            plan(temperature=1.0, search_kl=0.3)
    with pytest.raises(ValueError, match="None for the other"):
        SPO("MlpPolicy", "CartPole-v1", **SMALL, ess_threshold=0.5)
    assert SPO("MlpPolicy", "CartPole-v1", **SMALL, ess_threshold=0.5, resample_period=None).planner.settings["ess_threshold"]
    with pytest.raises(TypeError, match="dual_learning_rate"):
        SPO("MlpPolicy", "CartPole-v1", policy_kwargs={"dual_lr_scale": 3.0}, **SMALL)


def test_policy_kwargs_stay_as_given(tmp_path):
    model = SPO("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [8]}, dual_learning_rate=0.02, **SMALL)
    assert model.policy_kwargs == {"net_arch": [8]}
    model.save(tmp_path / "agent")
    loaded = SPO.load(tmp_path / "agent", policy_kwargs={"net_arch": [8]}, device="cpu")
    assert loaded.policy.dual_lr_scale == model.policy.dual_lr_scale == pytest.approx(0.02 / 3e-4)


def test_how_greedy_a_plan_is():
    """By what is given, else as in training."""
    model = SPO("MlpPolicy", "CartPole-v1", search_kl=0.2, **SMALL)

    def greed(**given):
        planner = Planner(model, model.env, **model.search_settings(), **given)
        return planner.temperature, planner.search_kl

    assert greed() == (None, 0.5) and greed(search_kl=0.1) == (None, 0.1) and greed(temperature=2.0)[0] == 2.0
    observations = model.env.reset()
    model._temperature = 1e9
    _, found = model.plan(model.env, observations, n_particles=8)
    assert torch.allclose(found.weights, torch.full_like(found.weights, 1 / 8))
    _, found = model.plan(model.env, observations, n_particles=8, search_kl=1.5)
    assert not torch.allclose(found.weights, torch.full_like(found.weights, 1 / 8), atol=1e-3)


def test_observations_as_lists_and_environments_in_a_list():
    env = DummyVecEnv([lambda: gym.make("CartPole-v1")] * 3)
    model = SPO("MlpPolicy", env, **SMALL)
    observations = env.reset()
    assert len(model.plan(env, observations.tolist())[0]) == 3
    one = gym.make("CartPole-v1")
    seen, _ = one.reset()
    assert model.plan(one, seen.tolist())[0].shape == ()
    with pytest.raises(TypeError, match="list cannot be simulated"):
        model.plan([one, one], [seen, seen])


class Breaking(Torque):
    """Shows no numbers after an action above 0."""

    def step(self, action):
        return np.full(1, np.nan if action[0] > 0 else 0.0, np.float32), 1.0, False, False, {}


@pytest.mark.parametrize("kind", [PPO, SAC, sb3.PPO, sb3.SAC, sb3.A2C])
def test_any_agent_plans_where_branches_diverge(kind):
    env = Breaking(spaces.Box(-1, 1, (1,), np.float32))
    model = kind("MlpPolicy", env, device="cpu", seed=0)
    env = model.get_env()
    action, found = Planner(model, env, n_particles=64, depth=3, temperature=1.0).act(env, env.reset())
    assert action[0] < 0 and found.diagnostics["diverged"].sum() > 0


class Ending(Breaking):
    """Ends where it has no numbers to show."""

    def step(self, action):
        seen, reward, *_ = super().step(action)
        return seen, reward, bool(np.isnan(seen).any()), False, {}


def test_an_environment_that_ends_where_it_diverges_says_so_itself():
    model = PPO("MlpPolicy", Ending(spaces.Box(-1, 1, (1,), np.float32)), device="cpu", seed=0)
    env = model.get_env()
    found = Planner(model, env, n_particles=64, depth=3, temperature=1.0).search(env, env.reset())
    assert not found.diagnostics["diverged"].any() and found.diagnostics["alive"][1] < 1.0
    assert found.weights.min() > 0.0


def test_mistakes_in_a_plan_are_told_in_words():
    env = gym.make("CartPole-v1")
    model = SPO("MlpPolicy", env, **SMALL)
    with pytest.raises(TypeError, match=r"observation is a tuple, .* give its first part: env.reset\(\)\[0\]"):
        model.plan(env, env.reset())
    observation, _ = env.reset()
    with pytest.raises(TypeError, match=r"A search has no setting 'particles'. Did you mean 'n_particles'\?"):
        model.plan(env, observation, particles=3)
    _, found = model.plan(env, observation, temperature="auto")
    assert np.isfinite(float(found.values))


def test_settings_of_the_search_count_from_the_next_rollout_on():
    model = SPO("MlpPolicy", "CartPole-v1", **SMALL, search_kl=0.3)
    model.search_kl = 0.05
    model.learn(8)
    assert model.planner.search_kl == 0.05


def test_the_search_that_finds_the_temperature_is_counted():
    env = gym.make("CartPole-v1")
    env.reset(seed=0)
    planner = Planner(PPO("MlpPolicy", env, n_steps=8, batch_size=8), env, n_particles=4, depth=3)
    steps = []
    step = planner.simulator.core.step
    planner.simulator.core.step = lambda states, actions, live: steps.append(int(live.sum())) or step(states, actions, live)
    planner.search(env, np.zeros((1, 4), np.float32))
    assert planner.model_steps == sum(steps) == 24


def test_rewards_are_in_the_units_of_an_agent_that_was_trained_in_a_vecnormalize():
    """SB3's usual way to evaluate is without scaled rewards."""
    trained = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]), gamma=0.9)
    model = SPO("MlpPolicy", trained, **SMALL, gamma=0.9).learn(32)
    found = []
    for norm_reward in (True, False):
        env = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]), gamma=0.9, training=False, norm_reward=norm_reward)
        env.obs_rms, env.ret_rms = trained.obs_rms, trained.ret_rms
        env.seed(3)
        model.randomness.predict.manual_seed(0)
        found.append(model.plan(env, env.reset())[1])
    torch.testing.assert_close(found[0].values, found[1].values, rtol=1e-3, atol=1e-4)


def test_a_spread_that_depends_on_the_state_has_an_initial_value_of_its_own():
    with pytest.raises(ValueError, match=r"log_std_init is -3.0, and the spread .* Give initial_std=0.0498"):
        SPO("MlpPolicy", "Pendulum-v1", **SMALL, policy_kwargs={"log_std_init": -3.0})
    SPO("MlpPolicy", "Pendulum-v1", **SMALL, policy_kwargs={"log_std_init": -3.0, "state_dependent_std": False})
    SPO("MlpPolicy", "CartPole-v1", **SMALL, policy_kwargs={"log_std_init": -3.0})


def test_root_noise_of_squashed_policies_stays_within_their_bounds():
    model = SAC("MlpPolicy", Torque(spaces.Box(2, 6, (2,), np.float32)), device="cpu", seed=0)
    env, noise = model.get_env(), RootNoise(0.5, 0.3, model.action_space)
    found = Planner(model, env, n_particles=200, depth=1, temperature=5.0, root_noise=noise).search(env, env.reset())
    assert found.actions.abs().max() <= 1.0


@pytest.mark.parametrize(("fraction", "alpha"), [(1.5, 0.3), (1.0, 0.3), (-0.1, 0.3), (0.5, 0.0)])
def test_root_noise_out_of_range_is_refused(fraction, alpha):
    with pytest.raises(ValueError, match=r"fraction|alpha"):
        RootNoise(fraction, alpha, spaces.Discrete(3))


def test_no_root_noise_is_the_policy_itself():
    model = SPO("MlpPolicy", "CartPole-v1", **SMALL)
    env = model.get_env()
    noise = RootNoise(0.0, 0.3, model.action_space)
    found = Planner(model, env, n_particles=8, depth=1, root_noise=noise).search(env, env.reset())
    assert (found.corrections == 0).all()


def test_a_planner_says_what_to_do_with_what_reset_returns():
    model, env = SPO("MlpPolicy", "CartPole-v1", **SMALL), gym.make("CartPole-v1")
    with pytest.raises(TypeError, match="give its first part"):
        Planner(model, env, n_particles=8, depth=1).act(env, env.reset())
