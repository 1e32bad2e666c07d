"""One seed, own generators: equal seeds give equal runs, whatever the global generators do, and these see nothing of it."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import set_random_seed
from torch import nn

from rlspo import BARPO, PPO, SAC, SPO
from rlspo.attacks import attacked_evaluation
from rlspo.common.randomness import Randomness, generators_seeded
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
        weights.append(train(case, device, seed).update.vector.weights.clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_seed_of_numpy_is_the_same_number() -> None:
    first, second = (train("gaussian", "cpu", seed=seed, steps=16) for seed in (5, np.int64(5)))
    assert torch.equal(first.update.vector.weights, second.update.vector.weights)


def test_agents_without_a_seed_differ() -> None:
    first, second = (train("gaussian", "cpu", seed=None, steps=16) for _ in range(2))
    assert not torch.equal(first.update.vector.weights, second.update.vector.weights)


class Careless(gym.Env[Any, Any]):
    """Draws from every global generator."""

    observation_space = gym.spaces.Box(-9, 9, (2,), np.float32)

    def __init__(self, continuous: bool = False) -> None:
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32) if continuous else gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.random.randn(2).astype(np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        reward = random.random() + float(torch.rand(()))
        return np.random.randn(2).astype(np.float32), reward, self.steps >= 5, False, {}


class Dropping(BaseFeaturesExtractor):
    """Dropout after a layer."""

    def __init__(self, space: Any, features_dim: int = 8) -> None:
        super().__init__(space, features_dim)
        self.net = nn.Sequential(nn.Linear(space.shape[0], features_dim), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.net(observations)


CARELESS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "PPO": (PPO, {"n_steps": 16, "n_epochs": 2}),
    "BARPO": (BARPO, {"n_steps": 16, "n_epochs": 2, "adversary_steps": 2}),
    "SPO": (SPO, {"n_steps": 16, "gradient_steps": 2, "n_particles": 4, "depth": 2}),
    "SAC": (SAC, {"learning_starts": 10}),
}


def careless(case: str, seed: int | None) -> Any:
    agent, options = CARELESS[case]
    kwargs = {"features_extractor_class": Dropping, "net_arch": [8]}
    env: Any = "CartPole-v1" if agent is SPO else Careless(agent is SAC)  # a search in branches of it refuses the careless one
    return agent("MlpPolicy", env, batch_size=16, seed=seed, device="cpu", policy_kwargs=kwargs, **options)


@pytest.mark.parametrize("case", CARELESS)
def test_one_seed_decides_dropout_and_careless_environments(case: str) -> None:
    weights = []
    for global_seed, seed in ((1, 5), (2, 5), (1, 6)):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)
        random.seed(global_seed)
        before = global_states()
        model = careless(case, seed).learn(32)
        assert global_states() == before
        weights.append(nn.utils.parameters_to_vector(model.policy.parameters()).detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


class Notes(Careless):
    """Keeps the rewards that it drew."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[float] = []

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        step = super().step(action)
        self.drawn.append(step[1])
        return step


def test_without_a_seed_the_global_generators_stay_the_programs(tmp_path: Any) -> None:
    """What a program seeds itself decides what environments draw, as in SB3; also after a model was loaded."""

    def drawn(seed: int, saved: bool = False) -> list[float]:
        env = Notes()
        set_random_seed(seed)
        model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, device="cpu")
        if saved:
            model.save(tmp_path / "model")
            model = PPO.load(tmp_path / "model", env)
        model.learn(16)
        return env.drawn

    assert drawn(0) == drawn(0, saved=True) != drawn(1)


def test_a_saved_agent_goes_on_drawing_where_it_was(tmp_path: Any) -> None:
    class Saves(BaseCallback):
        def _on_step(self) -> bool:
            self.model.save(tmp_path / "within")
            return True

    model = careless("PPO", 5).learn(16, callback=Saves())
    model.save(tmp_path / "after")
    randomness = {name: PPO.load(tmp_path / name).randomness for name in ("within", "after")}

    def drawn(one: Randomness) -> list[float]:
        with one.lend_globals():
            return [random.random(), np.random.random(), float(torch.rand(()))]

    assert drawn(randomness["after"]) == drawn(model.randomness)
    assert drawn(randomness["within"]) != drawn(Randomness(5, "cpu"))


def test_a_learning_agent_in_another_thread_does_not_mix_up_what_is_put_back() -> None:
    before = global_states()
    first, second = Randomness(1, "cpu"), Randomness(2, "cpu")
    with first.lend_globals():
        other = threading.Thread(target=lambda: second.lend_globals().__enter__())
        with pytest.warns(UserWarning, match="several threads.*not decided by seed"):
            other.start()
            other.join()
        random.random()
    assert global_states() == before


@pytest.mark.filterwarnings("ignore:Agents learn in several threads")
@pytest.mark.parametrize("first_out", ["the first in", "the last in"])
def test_the_last_of_overlapping_trainings_puts_back_what_was_there(first_out: str) -> None:
    before, drawn = global_states(), []
    entered, leave = threading.Event(), threading.Event()

    def elsewhere() -> None:
        with Randomness(2, "cpu").lend_globals():
            entered.set()
            leave.wait(10)
            drawn.append([random.random(), np.random.random(), float(torch.rand(()))])

    other = threading.Thread(target=elsewhere)
    with Randomness(1, "cpu").lend_globals():
        other.start()
        assert entered.wait(10)
        if first_out == "the last in":
            leave.set()
            other.join()
            random.random()
    leave.set()
    other.join()
    assert len(drawn) == 1
    assert global_states() == before


def test_a_training_within_a_training_leaves_it_as_it_was() -> None:
    one, other = Randomness(1, "cpu"), Randomness(1, "cpu")
    with one.lend_globals():
        expected = [random.random(), random.random()]
    with other.lend_globals():
        got = [random.random()]
        with Randomness(3, "cpu").lend_globals():
            random.random()
        got.append(random.random())
    assert got == expected


def test_an_evaluation_repeats_in_a_careless_environment() -> None:
    model = careless("PPO", 5)
    before = global_states()
    one, other = (attacked_evaluation(model, Careless(), None, 0.0, 4, seed=3, deterministic=False) for _ in range(2))
    assert global_states() == before
    np.testing.assert_array_equal(one, other)
    with generators_seeded(1):
        first = random.random()
    with generators_seeded(1):
        assert random.random() == first


def test_agents_made_in_threads_begin_as_those_made_alone() -> None:
    def weights(seed: int) -> torch.Tensor:
        model = PPO("MlpPolicy", "Pendulum-v1", seed=seed, device="cpu", policy_kwargs={"net_arch": [256, 256]})
        return model.update.vector.weights.clone()

    before = torch.random.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(weights, range(8)))
    assert torch.equal(torch.random.get_rng_state(), before)
    for seed, found in enumerate(together):
        assert torch.equal(found, weights(seed))
