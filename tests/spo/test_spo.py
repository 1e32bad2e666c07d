"""The agent: what it learns from, that its bounds hold, and SB3's habits."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from rlspo import PPO, SPO
from rlspo.common.advantages import generalized_advantages
from rlspo.common.errors import InvalidRolloutError, NotSimulatableError
from rlspo.policies import Gaussian
from rlspo.spo import Planner, losses
from rlspo.spo.search import search_divergence
from tests.spaces import SpacesEnv, policy_name

TINY = {"n_steps": 8, "batch_size": 16, "gradient_steps": 2, "n_particles": 4, "depth": 2, "seed": 0, "device": "cpu"}


def tiny(env="CartPole-v1", policy="MlpPolicy", **settings) -> SPO:
    return SPO(policy, env, **{**TINY, **settings})


@pytest.mark.parametrize("observation", ["box", "image", "dict", "discrete"])
@pytest.mark.parametrize("action", ["box", "discrete", "multi_discrete", "multi_binary"])
@pytest.mark.parametrize("mixture", [False, True])
def test_all_spaces_and_policies(observation, action, mixture):
    if mixture and observation != "box":
        pytest.skip("mixtures of one kind of observation are enough")
    name = policy_name(observation)
    model = tiny(make_vec_env(lambda: SpacesEnv(observation, action), 2), f"Moe{name}" if mixture else name)
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(32)
    assert any(not torch.equal(one, other) for one, other in zip(before, model.policy.parameters(), strict=True))
    actions, _ = model.predict(model.env.reset())
    assert all(model.action_space.contains(one) for one in actions)
    planned, found = model.plan(model.env, model.env.reset(), n_particles=5, depth=3)
    assert all(model.action_space.contains(one) for one in planned.astype(model.action_space.dtype))
    assert found.weights.shape == (2, 5)


class Board(gym.Env):
    """Actions that are a table of numbers."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (2, 3), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(2, np.float32), float(action.sum()), self.steps >= 5, False, {}


def test_actions_of_several_dimensions_have_a_bound_each():
    model = tiny(Board()).learn(16)
    assert len(model.policy.raw_multipliers) == 12
    planned, _ = model.plan(model.env, model.env.reset())
    assert planned.shape == (1, 2, 3)


def test_a_gradient_step_is_the_losses_with_adam_and_moves_the_average():
    """The whole of an update, written out again with torch's own optimiser."""
    model, copy = (tiny("Pendulum-v1", gradient_steps=1, n_steps=16, tau=0.3, max_grad_norm=1e9) for _ in range(2))
    model.learn(16)
    policy = copy.policy
    replay = model.replay
    rows = replay.flat("valid").nonzero()[0]
    copy.randomness.restore(copy.randomness.state())
    inputs = torch.from_numpy(replay.flat("observations")[rows])
    drawn = _minibatch_of(model)
    optimizer = torch.optim.Adam(
        [
            {"params": [p for n, p in policy.named_parameters() if n != "raw_multipliers"], "lr": 3e-4},
            {"params": [policy.raw_multipliers], "lr": 1e-2},
        ],
        eps=1e-5,
    )
    old = policy.distribution_of(policy.preprocess(inputs[drawn])).detach()
    actor, values = policy.evaluation_of(policy.preprocess(inputs[drawn]))
    actions, weights = (torch.from_numpy(replay.flat(name)[rows])[drawn] for name in ("root_actions", "root_weights"))
    returns = torch.from_numpy(replay.flat("returns")[rows])[drawn]
    moved, spread = losses.gaussian_divergences(old, actor)
    divergences = torch.cat([moved.mean(dim=0), spread.mean(dim=0)])
    price, multiplier_loss = losses.penalties(divergences, policy.raw_multipliers, torch.tensor([0.05, 5e-4]))
    likelihood = losses.decoupled_likelihood(actor, old, actions, weights)
    (price + multiplier_loss - likelihood + 0.5 * (values - returns).square().mean()).backward()
    before = policy.target.clone()
    optimizer.step()
    for (name, ours), theirs in zip(model.policy.named_parameters(), policy.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=2e-6), name
    assert torch.allclose(model.policy.target, before.lerp(model.update.vector.weights, 0.3), atol=1e-6)


def _minibatch_of(model: SPO) -> np.ndarray:
    """The rows that the only minibatch of ``model`` was, drawn again from the same seed."""
    twin = tiny("Pendulum-v1", gradient_steps=1, n_steps=16, tau=0.3, max_grad_norm=1e9)
    kept = []
    own = twin.minibatches
    twin.minibatches = lambda: kept.append(own()) or kept[0]
    twin.learn(16)
    assert np.array_equal(twin.replay.flat("observations"), model.replay.flat("observations"))
    return kept[0][0]


def test_returns_are_those_of_the_averaged_critic_with_time_limits():
    model = tiny(gym.wrappers.TimeLimit(gym.make("Pendulum-v1").unwrapped, 7), n_steps=20, gae_lambda=0.8, gamma=0.9)
    model.learn(20)
    with torch.no_grad():
        model.policy.target.mul_(0.7)
    model.learning_data()
    replay, ending = model.replay, model.replay.endings[0]
    target = model.update.target_parameters()

    def value(seen):
        with torch.no_grad():
            return model.policy.values(target, torch.as_tensor(np.asarray(seen), dtype=torch.float32)).numpy()

    rewards = replay.data["rewards"][:20].copy()
    for (step, index), seen in zip(ending.time_limits.where, ending.time_limits.observations, strict=True):
        rewards[step, index] += 0.9 * value(seen[None])[0]
    assert len(ending.time_limits.where) == 2
    values = value(replay.data["observations"][:20, 0])[:, None]
    starts = np.append(replay.data["episode_starts"][1:20, 0], ending.dones)[:, None]
    expected = generalized_advantages(rewards, values, value(ending.last_observations), 1.0 - starts, 0.9, 0.8) + values
    assert replay.data["returns"][:20] == pytest.approx(expected, abs=1e-4)


def test_the_oldest_rollout_is_overwritten():
    model = tiny(replay_rollouts=2, n_steps=8).learn(8 * 5)
    assert len(model.replay.endings) == 2
    assert model.replay.flat("valid").all()
    newest = model.rollout_buffer.data["observations"]
    assert np.array_equal(model.replay.data["observations"][:8], newest)  # the fifth took the place of the third


@pytest.mark.no_cover
@pytest.mark.parametrize("env", ["Pendulum-v1", "CartPole-v1"])
def test_the_bounds_hold_on_average(env):
    """However hard the search pulls, the actor stays near its average."""
    bounds = {"policy_kl": 0.01, "spread_kl": 0.005}
    model = tiny(
        env, **bounds, n_steps=64, gradient_steps=64, batch_size=64, n_particles=16, search_kl=2.0, dual_learning_rate=0.05
    )
    model.learn(64 * 12)
    logged = model.logger.name_to_value
    assert logged["train/policy_kl"] < 2 * bounds["policy_kl"]
    if env == "Pendulum-v1":
        assert logged["train/spread_kl"] < 2 * bounds["spread_kl"]
        loose = tiny(
            env, policy_kl=10.0, spread_kl=10.0, n_steps=64, gradient_steps=64, batch_size=64, n_particles=16, search_kl=2.0
        )
        loose.learn(64 * 12)
        assert loose.logger.name_to_value["train/policy_kl"] > 2 * logged["train/policy_kl"]


@pytest.mark.no_cover
def test_the_compiled_update_gives_the_eager_numbers():
    models = [tiny("Pendulum-v1", compile=compiled, n_steps=16, gradient_steps=3).learn(32) for compiled in (False, True)]
    assert models[1].update.compiled
    for one, other in zip(models[0].policy.parameters(), models[1].policy.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert torch.allclose(models[0].policy.target, models[1].policy.target, atol=1e-5)


def test_the_same_seed_learns_the_same():
    one, other = (tiny("CartPole-v1", root_noise=0.2).learn(64) for _ in range(2))
    for mine, theirs in zip(one.policy.parameters(), other.policy.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_saving_loading_and_going_on(tmp_path):
    model = tiny("Pendulum-v1", temperature="auto", policy_kwargs={"net_arch": [16]}).learn(32)
    model.save(tmp_path / "spo.zip")
    loaded = SPO.load(tmp_path / "spo.zip", env=make_vec_env("Pendulum-v1", 1))
    seen = model.env.reset()
    assert np.array_equal(model.predict(seen, deterministic=True)[0], loaded.predict(seen, deterministic=True)[0])
    assert torch.equal(model.policy.target, loaded.policy.target)
    assert loaded.search_temperature() == model.search_temperature()
    assert loaded.policy.state_dict().keys() == model.policy.state_dict().keys()
    loaded.learn(32)


def test_a_state_dependent_spread_can_be_switched_off():
    model = tiny("Pendulum-v1", policy_kwargs={"state_dependent_std": False}).learn(16)
    assert hasattr(model.policy, "log_std")
    distribution = model.policy.distribution_of(torch.zeros(2, 3))
    assert isinstance(distribution, Gaussian)
    assert distribution.log_std.shape == (1,)


def test_a_constant_temperature_stays():
    model = tiny(temperature=0.7).learn(32)
    assert model.search_temperature() == 0.7
    assert model.planner.temperature == 0.7


def test_search_is_logged():
    model = tiny().learn(16, log_interval=100)
    logged = model.logger.name_to_value
    for name in ("effective_sample_size", "alive", "resampled", "distinct_actions", "entropy"):
        assert {f"search/{name}_1", f"search/{name}_2"} <= logged.keys()
    assert {"search/temperature", "search/search_kl", "search/model_steps", "search/model_steps_per_second"} <= logged.keys()


@pytest.mark.no_cover
def test_it_learns_to_solve_cartpole_beside_a_policy_that_did_not_learn():
    settings = {"n_steps": 32, "batch_size": 256, "learning_rate": 1e-3, "gradient_steps": 32}
    model = SPO("MlpPolicy", make_vec_env("CartPole-v1", 8, seed=0), seed=0, device="cpu", compile=False, **settings)
    env = make_vec_env("CartPole-v1", 8, seed=100)
    before, _ = evaluate_policy(model, env, 8)
    model.learn(5_000)
    by_policy, _ = evaluate_policy(model, env, 8)
    assert by_policy > 2 * before
    assert by_policy > 60


@pytest.mark.parametrize("agent", [PPO, SPO])
def test_planning_leaves_the_environment_as_it_is(agent):
    env = gym.make("Pendulum-v1")
    seen, _ = env.reset(seed=0)
    model = agent("MlpPolicy", "Pendulum-v1", seed=0, device="cpu")
    state = env.unwrapped.state.copy()
    planner = Planner(model, env, n_particles=8, depth=3, gamma=0.99)
    for _ in range(3):
        planner.act(env, seen[None])
    assert np.array_equal(env.unwrapped.state, state)


def test_deterministic_plans_are_means_and_of_mixtures_actions_that_were_drawn():
    env = gym.make("Pendulum-v1")
    seen, _ = env.reset(seed=0)
    for policy in ("MlpPolicy", "MoeMlpPolicy"):
        model = tiny("Pendulum-v1", policy)
        action, found = model.plan(env, seen, n_particles=6)
        drawn = found.actions[0, :, 0].clamp(-2.0, 2.0).numpy()
        assert np.isclose(drawn, action).any() == (policy == "MoeMlpPolicy")
        if policy == "MlpPolicy":
            mean = float((found.weights[0] * found.actions[0, :, 0]).sum())
            assert action == pytest.approx(np.clip(mean, -2.0, 2.0), abs=1e-6)


def test_a_planner_discounts_as_the_agent_does_and_each_particle_has_noise_of_its_own():
    """SB3's gSDE draws one matrix of noise for all rows unless it is asked for more."""
    model = stable_baselines3.PPO("MlpPolicy", "Pendulum-v1", use_sde=True, gamma=0.9, device="cpu", seed=0)
    planner = Planner(model, model.get_env(), n_particles=8, depth=2)
    assert planner.settings["gamma"] == 0.9
    found = planner.search(model.get_env(), model.get_env().reset())
    assert len(found.actions.unique()) == 8


def test_the_logged_divergence_is_that_of_the_searches_themselves():
    model = tiny(temperature=0.5, n_steps=16).learn(16, log_interval=100)
    advantages = torch.from_numpy(model.rollout_buffer.flat("root_advantages"))
    expected = search_divergence(advantages, 0.5).mean().item()
    assert model.logger.name_to_value["search/search_kl"] == pytest.approx(expected, rel=1e-5)


class Diverging(gym.Env):
    """Some of its three actions give rewards that are no numbers."""

    observation_space, action_space = gym.spaces.Box(-1, 1, (2,), np.float32), gym.spaces.Discrete(3)

    def __init__(self, bad):
        self.bad = bad

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        broken = action in self.bad
        return np.full(2, np.nan if broken else 0.5, np.float32), float("nan") if broken else 1.0, False, False, {}


def test_branches_that_diverge_are_avoided_and_training_goes_on():
    model = tiny(Diverging([2]), n_particles=32).learn(16)
    rows = model.replay.flat("valid")
    actions, weights = (model.replay.flat(name)[rows] for name in ("root_actions", "root_weights"))
    assert (actions == 2).any() and not weights[actions == 2].any()
    assert np.isfinite(model.replay.flat("root_advantages")[rows]).all()
    assert all(torch.isfinite(parameter).all() for parameter in model.policy.parameters())


def test_numbers_in_all_branches_that_are_none_stop_training_and_say_so():
    with pytest.raises(InvalidRolloutError, match="in all branches"):
        tiny(Diverging([0, 1, 2])).learn(16)


def test_settings_changed_later_are_honoured_or_rejected():
    model = tiny()
    model.depth = 3
    model.learn(16, log_interval=100)
    assert "search/alive_3" in model.logger.name_to_value
    with pytest.raises(ValueError, match=r"n_particles is 4 .* cannot change to 7"):
        model.n_particles = 7


def test_a_frozen_layer_stays_and_the_rest_learns():
    model = tiny().learn(16)
    frozen = model.policy.action_net.weight
    frozen.requires_grad = False
    before, other = frozen.clone(), model.policy.value_net.weight.clone()
    model.learn(16)
    assert torch.equal(frozen, before)
    assert not torch.equal(model.policy.value_net.weight, other)
    assert len(model.policy.target) == len(model.update.vector.weights)


def test_an_environment_that_resets_in_a_step_of_its_own():
    """Gymnasium's NEXT_STEP: in such a step nothing is searched, decided or learned."""
    model = tiny(gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync"), n_steps=64, gradient_steps=1).learn(128)
    reset_only = ~model.rollout_buffer.flat("valid")
    assert 0 < reset_only.sum() < 20
    assert np.abs(model.rollout_buffer.flat("root_advantages")[reset_only]).max(initial=0.0) == 0.0


class Unknown(gym.Wrapper):
    """A wrapper that nobody knows."""

    def __init__(self, env):
        super().__init__(env)
        self.count = 0

    def step(self, action):
        self.count += 1
        return super().step(action)


def test_what_cannot_be_simulated_is_rejected_at_construction():
    mujoco = pytest.importorskip("mujoco")
    assert mujoco
    with pytest.raises(NotSimulatableError, match="Unknown"):
        tiny(Unknown(gym.make("Hopper-v5")))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_particles": 1.5}, "n_particles is 1.5"),
        ({"depth": 0}, "depth is 0"),
        ({"gradient_steps": 0}, "gradient_steps is 0"),
        ({"search_kl": -1.0}, "search_kl is -1.0"),
        ({"search_kl": 2.0}, "search_kl is 2.0"),
        ({"temperature": "cold"}, "temperature is 'cold'"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"tau": 2.0}, "tau is 2.0"),
        ({"root_noise": 1.0}, "root_noise is 1.0"),
        ({"learning_rate": lambda remaining: 0.0}, "learning_rate is at most 0.0"),
        ({"resampling": "some"}, "resampling is 'some'"),
        ({"resample_period": 2, "ess_threshold": 0.5}, "give one of them"),
        ({"policy": "MlpPolcy"}, "Did you mean 'MlpPolicy'"),
    ],
)
def test_bad_settings_are_rejected_at_construction(settings, words):
    with pytest.raises((ValueError, TypeError), match=words):
        tiny(**settings)


def test_a_fitted_temperature_is_in_the_units_of_the_coming_rewards():
    """Rewards of Pendulum reach -16, and their scale is found in the first rollout."""
    model = tiny(
        "Pendulum-v1",
        temperature="auto",
        search_kl=0.5,
        normalize_rewards=True,
        replay_rollouts=4,
        n_steps=128,
        n_particles=16,
        gamma=0.95,
    )
    strayed, scales = [], []

    def after(now, _):
        scales.append(now["self"].reward_scaler.scale)
        strayed.append(now["self"].logger.name_to_value.get("search/search_kl"))
        return True

    model.learn(128 * 5, callback=after)
    found = [value for value in dict.fromkeys(strayed) if value is not None]
    assert scales[-1] > 5.0
    assert all(0.1 < value < 2.0 for value in found), found


def test_rewards_of_any_size_tell_branches_apart_before_their_scale_is_known():
    env = make_vec_env(lambda: gym.wrappers.TransformReward(gym.make("Pendulum-v1"), lambda r: 1e4 * r), 1)
    model = SPO("MlpPolicy", env, n_steps=8, batch_size=8, gradient_steps=1, n_particles=16, seed=0, normalize_rewards=True)
    found = model.planner.search(env, env.reset())
    assert found.advantages.std() > 100.0
