"""One seed, own generators: equal seeds give equal runs, whatever the global generators do, and these see nothing of it."""

import random
from typing import Any

import numpy as np
import pytest
import torch

from rlspo import BARPO, PPO
from rlspo.common.randomness import Randomness
from tests.spaces import SpacesEnv, policy_name


def draws(randomness: Randomness) -> list[float]:
    device = randomness.torch.device
    return [*randomness.numpy.random(3), *torch.rand(3, generator=randomness.torch, device=device).tolist()]


def test_equal_seeds_give_equal_streams(device: str) -> None:
    assert draws(Randomness(3, device)) == draws(Randomness(3, device))
    assert draws(Randomness(3, device)) != draws(Randomness(4, device))


def test_no_seed_means_fresh_entropy(device: str) -> None:
    first, second = draws(Randomness(None, device)), draws(Randomness(None, device))
    assert not set(first) & set(second)


def test_the_two_generators_are_unrelated() -> None:
    """Neither repeats what a user would draw from the bare seed."""
    ours = draws(Randomness(3, "cpu"))
    assert ours[:3] != list(np.random.default_rng(3).random(3))
    assert ours[3:] != torch.rand(3, generator=torch.Generator().manual_seed(3)).tolist()


def test_restores_where_the_state_was_taken(device: str) -> None:
    randomness = Randomness(1, device)
    draws(randomness)
    state = randomness.state()
    expected = draws(randomness)
    draws(randomness)
    randomness.restore(state)
    assert draws(randomness) == expected
    other = Randomness(2, device)
    other.restore(state)
    assert draws(other) == expected


def test_state_of_another_kind_of_device_starts_a_fresh_stream() -> None:
    """A GPU generator's state has 16 bytes, a CPU generator's thousands."""
    randomness = Randomness(1, "cpu")
    state = {**randomness.state(), "torch": np.zeros(16, np.uint8)}
    old = draws(randomness)
    randomness.restore(state)
    new = draws(randomness)
    assert new[:3] == old[:3]
    assert not set(new[3:]) & set(old[3:])


def test_fork_leaves_no_trace_also_when_it_fails() -> None:
    def inside(seed: int | None) -> list[float]:
        with Randomness.fork(seed):
            return torch.rand(3).tolist()

    before = torch.get_rng_state()
    assert inside(1) == inside(1)
    assert inside(1) != inside(2)
    assert inside(None) != inside(None)
    with pytest.raises(KeyError), Randomness.fork(1):
        torch.rand(3)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


def global_states() -> list[Any]:
    numpy_state = np.random.get_state()
    cuda = [state.tolist() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else []
    return [random.getstate(), numpy_state[1].tolist(), numpy_state[2], torch.get_rng_state().tolist(), cuda]


CASES: dict[str, tuple[type[PPO], str, str, dict[str, Any]]] = {
    "gaussian": (PPO, "box", "box", {"normalize_observations": True, "normalize_rewards": True}),
    "discrete": (PPO, "box", "discrete", {}),
    "several": (PPO, "discrete", "multi_discrete", {"target_kl": 0.01}),
    "binary": (PPO, "dict", "multi_binary", {}),
    "gSDE": (PPO, "box", "box", {"use_sde": True, "sde_sample_freq": 3}),
    "adversary": (BARPO, "box", "box", {"adversary_steps": 2}),
}


def train(case: str, device: str, seed: int | None = 5, steps: int = 64) -> PPO:
    agent, observation, action, options = CASES[case]
    options = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": seed, "device": device, **options}
    return agent(policy_name(observation), SpacesEnv(observation, action), **options).learn(steps)


@pytest.mark.parametrize("case", CASES)
def test_global_generators_are_left_alone(case: str, device: str) -> None:
    train(case, device)  # whatever imports and first calls do
    before = global_states()
    train(case, device)
    train(case, device, seed=None, steps=16)
    assert global_states() == before


@pytest.mark.parametrize("case", CASES)
def test_a_seed_decides_everything_and_global_generators_nothing(case: str, device: str) -> None:
    weights = []
    for global_seed, seed in ((1, 5), (2, 5), (2, 6)):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)
        random.seed(global_seed)
        weights.append(train(case, device, seed).update.flat.values.clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_agents_without_a_seed_differ() -> None:
    first, second = (train("gaussian", "cpu", seed=None, steps=16) for _ in range(2))
    assert not torch.equal(first.update.flat.values, second.update.flat.values)
