"""What a search must not do: foresee chance, touch the environment, wake the dead, or get worse where V is right."""

from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlspo.envs.tabular import TabularModel
from rlspo.simulators import Simulator, States, simulator_for
from rlspo.simulators.arrays import ArrayCore, ArrayStates
from rlspo.spo.search import SearchSettings, distinct, search
from tests.spo.trees import Tree


def uniform(n_actions: int, generator: torch.Generator):
    return lambda seen: torch.randint(n_actions, (len(seen),), generator=generator)


def zero(seen):
    return torch.zeros(len(seen))


class Coin:
    """Bet on 0 or 1; a coin decides. One who knew the generator would always win."""

    device, stochastic = None, True

    def step(self, states, actions, generator):
        won = (generator.random(len(actions)) < 0.5).astype(np.int64) == actions
        over = np.ones(len(actions), bool)
        return states, np.zeros(len(actions)), np.where(won, 1.0, -1.0), over, ~over


def test_chance_is_not_foreseen():
    generator = torch.Generator().manual_seed(0)
    simulator = Simulator(ArrayCore(Coin()), [], None)
    right, n_bets = 0, 400
    for seed in range(n_bets):
        states = States(ArrayStates({"nothing": np.zeros((1, 1))}, np.random.default_rng(seed)), [], np.zeros(1, bool))
        truth = int(np.random.default_rng(seed).random(1)[0] < 0.5)
        found = search(
            simulator,
            states,
            np.zeros(1),
            uniform(2, generator),
            zero,
            n_particles=1,
            depth=1,
            temperature=0.01,
            generator=generator,
        )
        right += int(found.advantages[0, 0] > 0) == (int(found.actions[0, 0]) == truth)
    # Whether a particle won tells nothing of the coin that the environment will toss: a share of one half.
    assert abs(right / n_bets - 0.5) < 4 * 0.5 / n_bets**0.5


@pytest.mark.parametrize(
    "env_id",
    ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "HalfCheetah-v5", "Ant-v5", "rlspo/RubiksCube-v0", "rlspo/LotSizing-v0"],
)
def test_the_real_environment_goes_on_as_if_nothing_was_searched(env_id):
    pair = []
    for searched in (False, True):
        env = gym.make(env_id)
        env.action_space.seed(1)
        observation, _ = env.reset(seed=3)
        generator, steps = torch.Generator().manual_seed(0), []
        simulator = simulator_for(env)
        for _ in range(15):
            if searched:
                space = copy.deepcopy(env.action_space)
                search(
                    simulator,
                    simulator.capture(env),
                    np.asarray(observation)[None],
                    lambda seen, space=space: torch.as_tensor(np.stack([space.sample() for _ in range(len(seen))])),
                    zero,
                    n_particles=4,
                    depth=3,
                    resample_period=1,
                    generator=generator,
                )
            observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            steps.append((np.array(observation), reward, terminated, truncated))
            if terminated or truncated:
                observation, _ = env.reset()
        pair.append(steps)
    for plain, other in zip(*pair, strict=True):
        assert np.array_equal(plain[0], other[0])
        assert plain[1:] == other[1:]


def chain(seed: int, n_states: int = 12, n_actions: int = 3) -> TabularModel:
    generator = np.random.default_rng(seed)
    post = generator.integers(n_states, size=(n_states, n_actions))
    return TabularModel(
        post, generator.normal(size=post.shape), np.eye(n_states), np.zeros(n_states), np.full(n_states, 1 / n_states)
    )


class Chain:
    """A deterministic :class:`TabularModel` as an array form."""

    device, stochastic = None, False

    def __init__(self, model: TabularModel) -> None:
        self.model = model

    def step(self, states, actions, generator):
        state = states["state"]
        new = self.model.post[state, actions]
        never = np.zeros(len(state), bool)
        return {"state": new}, new, self.model.decision_reward[state, actions], never, never


@pytest.mark.parametrize("depth", [1, 3, 6])
@pytest.mark.parametrize("seed", range(3))
def test_with_the_exact_value_of_the_optimum_search_acts_optimally(seed, depth):
    model, gamma = chain(seed), 0.9
    optimum = model.solve(gamma)
    values, generator = torch.as_tensor(optimum.v), torch.Generator().manual_seed(0)
    best = model.q(optimum.v_post)
    found = search(
        Simulator(ArrayCore(Chain(model)), [], None),
        States(ArrayStates({"state": np.arange(12)}, None), [], np.zeros(12, bool)),
        np.arange(12),
        uniform(3, generator),
        lambda seen: values[seen],
        n_particles=2048,
        depth=depth,
        temperature=0.01,
        gamma=gamma,
        resample_period=2,
        generator=generator,
    )
    chosen = found.best().numpy()
    assert best[np.arange(12), chosen] == pytest.approx(best.max(axis=1), abs=1e-9)
    # No path beats the optimum: its advantages are at most 0.
    assert found.advantages.max() <= 1e-9


def one_search(tree: Tree, **settings):
    generator = torch.Generator().manual_seed(0)
    return search(
        tree.simulator(),
        tree.roots(5),
        np.zeros(5, np.int64),
        tree.propose(generator),
        tree.value(True),
        generator=generator,
        **settings,
    )


@pytest.mark.parametrize("way", [{}, {"resample_period": 1}, {"ess_threshold": 0.5}, {"as_published": True}], ids=str)
def test_one_particle_is_one_draw_of_the_policy(way):
    found = one_search(Tree.random(seed=2), n_particles=1, depth=4, **way)
    assert found.weights.tolist() == [[1.0]] * 5
    assert found.model_steps == 20


def test_advantages_stop_at_the_first_resampling():
    tree = Tree.random(seed=7)
    first, whole = (one_search(tree, n_particles=32, depth=depth, resample_period=1) for depth in (1, 3))
    assert torch.equal(first.advantages, whole.advantages)
    assert not torch.equal(first.advantages, one_search(tree, n_particles=32, depth=3).advantages)


@pytest.mark.parametrize("gamma", [1.0, 0.6])
def test_the_value_of_a_root_is_v_and_what_the_paths_gained(gamma):
    """One particle's path telescopes: the discounted rewards and V at its end."""
    tree = Tree.random(seed=8)
    found = one_search(tree, n_particles=1, depth=4, gamma=gamma, resample_period=2)
    ends = [(node, gain) for node, gain in _leaves(tree, gamma)]
    for value in found.values.tolist():
        assert min(abs(value - gain - gamma**4 * tree.values[node]) for node, gain in ends) < 1e-9


def _leaves(tree, gamma, node=0, step=0, gain=0.0):
    """Nodes four steps from the root, and the discounted rewards on the way."""
    if step == 4:
        yield node, gain
        return
    for action in range(tree.n_actions):
        new = tree.child(node, action, 0)
        yield from _leaves(tree, gamma, new, step + 1, gain + gamma**step * tree.rewards[new])


def test_depth_one_weighs_by_the_one_step_advantage():
    tree = Tree.random(seed=3)
    found = one_search(tree, n_particles=64, depth=1, temperature=0.7, gamma=0.9)
    advantage = tree.rewards[1:4] + 0.9 * tree.values[1:4] - tree.values[0]
    expected = torch.as_tensor(advantage)[found.actions]
    assert torch.allclose(found.advantages, expected)
    assert torch.allclose(found.weights, (expected / 0.7).softmax(dim=-1))
    assert torch.allclose(found.values, torch.as_tensor(tree.values[0]) + (found.weights * expected).sum(dim=-1))


@pytest.mark.parametrize("way", [{}, {"resample_period": 1}, {"ess_threshold": 1.0}], ids=str)
def test_the_dead_are_not_stepped_and_keep_what_they_earned(way):
    tree = Tree.random(seed=4)
    tree.terminal[1:4] = True  # every first step ends the episode
    found = one_search(tree, n_particles=32, depth=4, temperature=1.0, gamma=1.0, **way)
    assert found.model_steps == 5 * 32
    assert found.diagnostics["alive"].tolist() == [1.0, 0.0, 0.0, 0.0]
    expected = torch.as_tensor(tree.rewards[1:4] - tree.values[0])
    if not way:
        assert torch.allclose(found.advantages, expected[found.actions])
        assert torch.allclose(found.weights, expected[found.actions].softmax(dim=-1))


@pytest.mark.parametrize("way", [{}, {"resample_period": 1}, {"ess_threshold": 1.0}, {"as_published": True}], ids=str)
@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_branch_that_diverges_ends_there_with_no_weight(way, number):
    tree = Tree.random(seed=4)
    tree.rewards[2] = number  # after the second of three actions
    found = one_search(tree, n_particles=64, depth=3, **way)
    bad = found.actions == 1
    assert found.weights.isfinite().all() and found.values.isfinite().all() and not found.weights[bad].any()
    if not way:
        assert bad.any()
        worst = torch.where(bad, torch.inf, found.advantages).amin(dim=-1, keepdim=True)
        assert torch.equal(found.advantages[bad], worst.expand_as(bad)[bad])
        assert found.model_steps == 5 * 64 * 3 - 2 * bad.sum()
    assert found.advantages.isfinite().all()
    assert found.diagnostics["diverged"][0] > 0.0 and not found.diagnostics["diverged"][1:].any()


def test_the_rest_is_weighed_as_if_those_that_diverge_had_never_been():
    """q is that of the policy without the action that diverges."""
    tree = Tree.random(seed=9)
    whole = tree.exact(3, 1.0, 1.0)
    tree.rewards[2] = float("nan")
    generator = torch.Generator().manual_seed(0)
    found = search(
        tree.simulator(),
        tree.roots(4),
        np.zeros(4, np.int64),
        tree.propose(generator),
        tree.value(False),
        n_particles=4096,
        depth=3,
        gamma=1.0,
        resample_period=2,
        generator=generator,
    )
    shares = torch.stack([(found.weights * (found.actions == action)).sum() for action in range(3)]).numpy() / 4
    expected = np.where([True, False, True], whole, 0.0) / (whole[0] + whole[2])
    assert np.abs(shares - expected).sum() / 2 < 0.01


def test_where_all_branches_diverge_the_value_tells():
    tree = Tree.random(seed=4)
    tree.rewards[1:4] = float("nan")
    found = one_search(tree, n_particles=8, depth=3, resample_period=1)
    assert found.values.isnan().all() and found.weights.isfinite().all()


def test_a_root_whose_episode_is_over_is_not_searched():
    tree, generator = Tree.random(seed=5), torch.Generator().manual_seed(0)
    roots = tree.roots(3)
    roots.ended[1] = True
    found = search(
        tree.simulator(),
        roots,
        np.zeros(3, np.int64),
        tree.propose(generator),
        tree.value(True),
        n_particles=8,
        generator=generator,
    )
    assert found.advantages[1].abs().max() == 0.0
    assert torch.allclose(found.weights[1], torch.full((8,), 1 / 8, dtype=found.weights.dtype))
    assert found.model_steps == 2 * 8 * 4


def test_roots_can_be_searched_again():
    tree = Tree.random(seed=6)
    roots, simulator = tree.roots(2), tree.simulator()
    results = []
    for _ in range(2):
        generator = torch.Generator().manual_seed(9)
        results.append(
            search(simulator, roots, np.zeros(2, np.int64), tree.propose(generator), tree.value(True), generator=generator)
        )
    assert torch.equal(results[0].weights, results[1].weights)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_particles": 0}, "n_particles is 0"),
        ({"depth": 0}, "depth is 0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"gamma": 1.5}, "gamma is 1.5"),
        ({"resampling": "systemic"}, "'systematic'"),
        ({"resample_period": 2, "ess_threshold": 0.5}, "give one of them"),
        ({"ess_threshold": 1.5}, "ess_threshold is 1.5"),
    ],
)
def test_bad_settings_are_rejected(settings, words):
    with pytest.raises(ValueError, match=words):
        SearchSettings(**settings)


def test_distinct_actions_are_counted():
    assert distinct(torch.tensor([[1, 1, 2, 3], [4, 4, 4, 4]])).tolist() == [3, 1]
    assert distinct(torch.tensor([[[1.0, 2.0], [1.0, 2.5]]])).tolist() == [2]
    assert distinct(torch.tensor([[[1.0, 2.0], [3.0, 4.0], [1.0, 4.0], [3.0, 2.0], [1.0, 2.0]]])).tolist() == [4]
    many = torch.randint(0, 3, (2, 500, 4), generator=torch.Generator().manual_seed(0))
    assert distinct(many).tolist() == [len(set(map(tuple, actions.tolist()))) for actions in many]
