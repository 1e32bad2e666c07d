"""PDPPO on exact ground: values and advantages against dynamic programming, and the limits in which it is PPO."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import explained_variance

from rlspo import PDPPO, PPO
from rlspo.envs import TabularModel
from rlspo.envs.lot_sizing import load_instance
from rlspo.envs.lot_sizing.exact import ExactPlant
from rlspo.pdppo.advantages import HalfSteps, split, textbook
from tests.pdppo.chain import GAMMA, ChainEnv, VectorChainEnv, chain

SMALL: dict[str, Any] = {"n_steps": 64, "batch_size": 32, "n_epochs": 3, "seed": 5}


def uniform(model: TabularModel) -> np.ndarray:
    return np.full(model.post.shape, 1 / model.n_actions)


def converged(
    env: Any, targets: str, gae_lambda: float, rate: float = 0.3, hidden: tuple[int, ...] = (), **others: Any
) -> PDPPO:
    """Critics that are tables (no hidden layer, one-hot states), trained while the policy stays uniform."""
    steps = others.pop("steps", 30_000)
    agent = PDPPO(
        "MlpPolicy",
        env,
        # Steps that shrink to nothing average the targets of the last rollouts.
        learning_rate=lambda remaining: rate * remaining**2,
        batch_size=512,
        gamma=GAMMA,
        gae_lambda=gae_lambda,
        vf_coef=1.0,
        max_grad_norm=1e9,
        targets=targets,
        normalize_rewards=False,
        policy_kwargs={"net_arch": list(hidden)},
        seed=1,
        **{"n_steps": 64, "n_epochs": 8, **others},
    )
    for parameter in agent.policy.action_net.parameters():
        torch.nn.init.zeros_(parameter)
        parameter.requires_grad_(False)
    return agent.learn(steps)


def table(agent: PDPPO, which: str, n: int) -> np.ndarray:
    policy = agent.policy
    rows = torch.arange(n)
    with torch.no_grad():
        if which == "post":
            return policy.post_values_of(policy.preprocess_post(rows)).numpy()
        return policy.values_of(policy.preprocess(rows)).numpy()


def assert_values(found: np.ndarray, exact: np.ndarray) -> None:
    """States against each other to a tenth of their spread; their common level, in which all luck adds up, to 3 %."""
    assert np.ptp(exact) > 1.5
    assert abs(found.mean() - exact.mean()) < 0.03 * np.abs(exact).mean()
    np.testing.assert_allclose(found - found.mean(), exact - exact.mean(), atol=0.1 * np.ptp(exact))


@pytest.mark.parametrize(("gae_lambda", "noise"), [(0.0, 0.3), (0.9, 0.3), (0.9, 0.0)])
def test_textbook_critics_converge_to_the_exact_values(gae_lambda: float, noise: float) -> None:
    """On a chain whose time limits are no end: V and V^x are those of the endless task."""
    model = chain(noise)
    exact = model.evaluate(uniform(model), GAMMA)
    agent = converged(make_vec_env(ChainEnv, n_envs=8, env_kwargs={"noise": noise}), "textbook", gae_lambda)
    assert_values(table(agent, "pre", 4), exact.v)
    assert_values(table(agent, "post", 4), exact.v_post)
    if noise == 0.0:  # one arrives at every step: V^x is what PPO would bootstrap from, and A^x its temporal difference
        after = np.minimum(np.arange(4) + 1, 3)
        np.testing.assert_allclose(table(agent, "post", 4), -after + GAMMA * table(agent, "pre", 4)[after], atol=0.3)


def test_textbook_critics_converge_in_a_small_inventory_world() -> None:
    """Two items on a machine, solved by dynamic programming: both critics in the states that a random plant meets."""
    plant = ExactPlant(load_instance("2x1"))
    value = np.zeros(plant.state_shape)
    led = [plant._follow(np.full((*plant.state_shape, 1), item)) for item in range(3)]
    for _ in range(200):
        after = plant.post_decision_value(value, GAMMA)
        value = np.mean([paid + after.ravel()[where] for where, paid in led], axis=0).reshape(plant.state_shape)
    env = gym.make_vec("rlspo/LotSizing-v0", num_envs=8, instance="2x1")
    agent = converged(env, "textbook", 0.9, rate=0.03, hidden=(64,), steps=120_000, n_steps=128, n_epochs=10)
    data = agent.rollout_buffer.data

    def exact(values: np.ndarray, seen: np.ndarray, low: Any = 0) -> np.ndarray:
        stock = np.round(seen[..., :2] * 10).astype(int) - low
        return values[seen[..., 2:].argmax(axis=-1), stock[..., 0], stock[..., 1]]

    for found, true in (
        (data["values"], exact(value, data["observations"])),
        (data["post_values"], exact(after, data["post_observations"], plant.post_decision_low)),
    ):
        assert np.ptp(true) > 10
        assert abs(found.mean() - true.mean()) < 0.03 * abs(true.mean())
        assert explained_variance(found.ravel(), true.ravel()) > 0.99


def test_textbook_critics_converge_where_a_queue_is_let_in() -> None:
    """Admission to a small queue, with more states than post-decision states, solved by dynamic programming."""
    kwargs = {"capacity": 3, "servers": 2, "rewards": (1.0, 4.0), "arrival_probabilities": (0.4, 0.3), "holding_cost": 0.5}
    env = make_vec_env("rlspo/AdmissionControl-v0", n_envs=8, env_kwargs=kwargs)
    base = env.envs[0].unwrapped  # type: ignore[attr-defined]
    model = base.model()
    exact = model.evaluate(uniform(model), GAMMA)
    agent = converged(env, "textbook", 0.9, rate=0.01, hidden=(32,))  # number and class together are no one-hot
    policy = agent.policy
    states = np.array([[k, c] for k in range(4) for c in range(3)])
    order = [base.state_index(state) for state in states]
    with torch.no_grad():
        values = policy.values_of(policy.preprocess(torch.as_tensor(states))).numpy()
    assert_values(table(agent, "post", 4), exact.v_post)
    assert_values(values, exact.v[order])


def test_split_critics_converge_to_the_values_of_their_streams() -> None:
    """V to the discounted r^w from s on, V^x to the discounted r^x from the decision on that led to s^x."""
    model = chain()
    policy = uniform(model)
    chance = TabularModel(model.post, np.zeros(model.post.shape), model.transition, model.chance_reward, model.start)
    decision = TabularModel(model.post, model.decision_reward, model.transition, np.zeros(model.n_post), model.start)
    # With lambda below 1, V^x would bootstrap, and r^x_t hangs on more than s^x_t: its fixed point is another one.
    agent = converged(make_vec_env(ChainEnv, n_envs=8, env_kwargs={"length": 100}), "split", 1.0)
    assert_values(table(agent, "pre", 4), chance.evaluate(policy, GAMMA).v)
    # What V^x is asked at s^x includes r^x of the decision that led there, averaged over the (s, a) that did.
    later = decision.evaluate(policy, GAMMA).v_post
    visits = stationary(model, policy)[:, None] * policy
    led = np.array([(visits * model.decision_reward)[model.post == x].sum() / visits[model.post == x].sum() for x in range(4)])
    assert_values(table(agent, "post", 4), led + later)


def stationary(model: TabularModel, policy: np.ndarray) -> np.ndarray:
    """How often each state is visited in episodes of 100 steps."""
    leads = np.zeros((model.n_states, model.n_post))
    np.add.at(leads, (np.arange(model.n_states)[:, None], model.post), policy)
    state, visits = model.start, np.zeros(model.n_states)
    for _ in range(100):
        visits += state / 100
        state = state @ leads @ model.transition
    return visits


def play(model: TabularModel, n: int, seed: int) -> tuple[HalfSteps, np.ndarray, np.ndarray]:
    """A long rollout of the uniform policy under the exact critics, with its states and actions."""
    rng = np.random.default_rng(seed)
    exact = model.evaluate(uniform(model), GAMMA)
    states, actions = np.zeros((n + 1, 1), int), rng.integers(model.n_actions, size=(n, 1))
    for t in range(n):
        x = model.post[states[t, 0], actions[t, 0]]
        states[t + 1] = rng.choice(model.n_states, p=model.transition[x])
    before = states[:-1]
    steps = HalfSteps(
        decision_rewards=model.decision_reward[before, actions],
        chance_rewards=-states[1:].astype(float),
        values=exact.v[before],
        post_values=exact.v_post[model.post[before, actions]],
        last_values=exact.v[states[-1]],
        continues=np.ones((n, 1)),
        cut=np.zeros((n, 1), bool),
        gamma=GAMMA,
        gae_lambda=0.5,
    )
    return steps, before, actions


def test_post_and_pre_advantages_agree_in_expectation() -> None:
    """Both are Q - V; the one from V^x holds no luck at all, the one from V all of it."""
    model = chain()
    exact = model.evaluate(uniform(model), GAMMA)
    steps, states, actions = play(model, 40_000, seed=0)
    found = textbook(steps)
    for s in range(model.n_states):
        for a in range(model.n_actions):
            here = (states == s) & (actions == a)
            advantage = model.q(exact.v_post)[s, a] - exact.v[s]
            np.testing.assert_allclose(found.post[here], advantage, atol=1e-5)
            error = found.pre[here].std() / np.sqrt(here.sum())
            assert abs(found.pre[here].mean() - advantage) < 4.5 * error
            assert found.pre[here].std() > 0.3
            # The target of V^x is right on average, too.
    for x in range(model.n_post):
        here = model.post[states, actions] == x
        error = found.post_returns[here].std() / np.sqrt(here.sum())
        assert abs(found.post_returns[here].mean() - exact.v_post[x]) < 4.5 * max(error, 1e-6)


def test_without_noise_the_post_advantage_is_the_temporal_difference() -> None:
    """Then V^x(s^x) = r^w + gamma V(s'), so A^x is PPO's one-step advantage."""
    steps, _, _ = play(chain(noise=0.0), 200, seed=1)
    found = textbook(steps)
    difference = steps.decision_rewards + steps.chance_rewards + GAMMA * np.append(steps.values[1:], [steps.last_values], 0)
    np.testing.assert_allclose(found.post, difference - steps.values, atol=1e-5)
    np.testing.assert_allclose(found.post_returns, steps.post_values, atol=1e-5)


def test_split_with_lambda_one_sums_up_each_stream() -> None:
    """The released code's targets: discounted sums of each stream to the end of the episode."""
    rng = np.random.default_rng(3)
    n = 12
    continues = np.ones((n, 2))
    continues[[4, 11]] = 0
    rx, rw, v, vx = rng.normal(size=(4, n, 2))
    steps = HalfSteps(rx, rw, v, vx, rng.normal(size=2), continues, np.zeros((n, 2), bool), GAMMA, 1.0)
    found = split(steps)

    def sums(stream: np.ndarray) -> np.ndarray:
        total, out = np.zeros(2), np.zeros((n, 2))
        for t in reversed(range(n)):
            total = stream[t] + GAMMA * continues[t] * total
            out[t] = total
        return out

    np.testing.assert_allclose(found.returns, sums(rw), atol=1e-5)
    np.testing.assert_allclose(found.post_returns, sums(rx), atol=1e-5)
    np.testing.assert_allclose(found.post, sums(rx) - vx, atol=1e-5)


def test_split_learns_nothing_from_a_post_state_that_is_not_known() -> None:
    rng = np.random.default_rng(4)
    rx, rw, v, vx = rng.normal(size=(4, 6, 1))
    continues, cut = np.ones((6, 1)), np.zeros((6, 1), bool)
    continues[2], cut[2] = 0, True
    found = split(HalfSteps(rx, rw, v, vx, rng.normal(size=1), continues, cut, GAMMA, 0.9))
    np.testing.assert_array_equal(found.post[[2, 5]], 0)
    np.testing.assert_allclose(found.post_returns[[2, 5]], vx[[2, 5]], atol=1e-6)
    assert (found.post[[0, 1, 3, 4]] != 0).all()


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("options", [{}, {"ent_coef": 0.01, "policy_kwargs": {"net_arch": [8]}, "max_grad_norm": 0.05}])
def test_the_pre_advantage_is_ppo_exactly(noise: float, options: dict[str, Any], device: str) -> None:
    """Actor and V take PPO's steps, whatever V^x does beside them."""
    settings = {**SMALL, "device": device, "normalize_rewards": True, **options}
    reference = PPO("MlpPolicy", VectorChainEnv(noise), **settings).learn(192)
    ours = PDPPO("MlpPolicy", VectorChainEnv(noise), **settings, advantage="pre", ratio="joint").learn(192)
    mine = dict(ours.policy.named_parameters())
    for name, parameter in reference.policy.named_parameters():
        torch.testing.assert_close(mine.pop(name), parameter, rtol=0, atol=1e-6)
    assert mine and all(name.startswith("post_") for name in mine)


class KnowsChance(PDPPO):
    """V^x as it is in a world without noise, r^w + gamma V(s'), in the place of a critic that has to learn it."""

    def estimate_advantages(
        self, buffer: Any, rewards: np.ndarray, last_values: np.ndarray, dones: np.ndarray, cut: np.ndarray
    ) -> None:
        following = np.append(buffer.data["values"][1:], [last_values], axis=0)
        self.known = rewards - buffer.data["post_rewards"] + self.gamma * buffer.continues(dones) * following
        super().estimate_advantages(buffer, rewards, last_values, dones, cut)

    def evaluate_decisions(self, buffer: Any) -> None:
        super().evaluate_decisions(buffer)
        buffer.data["post_values"][:] = self.known


@pytest.mark.parametrize("credit", ["joint", "auto"])
def test_without_noise_the_post_advantage_is_ppo_with_lambda_zero(credit: str) -> None:
    """Actor and V take PPO's steps from the first rollout to the last, once V^x is what it converges to there."""
    settings = {**SMALL, "gae_lambda": 0.0, "normalize_rewards": False}
    reference = PPO("MlpPolicy", VectorChainEnv(noise=0.0), **settings).learn(192)
    ours = KnowsChance("MlpPolicy", VectorChainEnv(noise=0.0), **settings, advantage="post", credit=credit).learn(192)
    mine = dict(ours.policy.named_parameters())
    for name, parameter in reference.policy.named_parameters():
        torch.testing.assert_close(mine[name], parameter, rtol=0, atol=1e-5)


def test_one_component_has_one_ratio() -> None:
    """With a single choice to make, a ratio for each component is the joint ratio."""
    joint, component = (
        PDPPO("MlpPolicy", VectorChainEnv(), **SMALL, ratio=ratio).learn(192) for ratio in ("joint", "component")
    )
    for one, other in zip(joint.policy.parameters(), component.policy.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("advantage", ["sum", "max", "post"])
def test_learns_the_optimal_policy(advantage: str) -> None:
    """In the chain, whose optimum is known, with each advantage that uses V^x."""
    model = chain()
    best = model.solve(GAMMA)
    agent = PDPPO(
        "MlpPolicy",
        make_vec_env(VectorChainEnv, n_envs=8),
        learning_rate=lambda remaining: 3e-3 * remaining,
        n_steps=64,
        batch_size=128,
        gamma=GAMMA,
        gae_lambda=0.9,
        advantage=advantage,
        seed=0,
        policy_kwargs={"net_arch": [16]},
    ).learn(25_000)
    actions, _ = agent.predict(np.eye(4, dtype=np.float32), deterministic=True)
    value = model.expected_return(model.deterministic(actions), GAMMA)
    assert value > model.expected_return(best.policy, GAMMA) - 0.05


def test_single_critic_is_one_network() -> None:
    agent = PDPPO("MlpPolicy", VectorChainEnv(), **SMALL, critics="single").learn(128)
    reference = PPO("MlpPolicy", VectorChainEnv(), **SMALL)
    names = [name for name, _ in agent.policy.named_parameters()]
    assert names == [name for name, _ in reference.policy.named_parameters()]
    rows = torch.eye(4)
    policy = agent.policy
    torch.testing.assert_close(policy.post_values_of(policy.preprocess_post(rows)), policy.values_of(policy.preprocess(rows)))
    with pytest.raises(ValueError, match="single critic needs"):
        PDPPO("MlpPolicy", gym.make("rlspo/AdmissionControl-v0"), critics="single")
