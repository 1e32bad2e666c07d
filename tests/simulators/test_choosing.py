"""Which environments get a simulator, which one, and what those are told that get none."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnvWrapper

from rlspo.common.vector_env import GymnasiumVecEnv, only_reset
from rlspo.simulators import NotSimulatableError, check_simulator, simulator_for
from rlspo.simulators.arrays import ArrayCore
from rlspo.simulators.copies import CopyCore
from tests.simulators.environments import Drift, DriftForm, Noisy


class VectorDrift(VectorEnv):
    """:class:`Drift` several times at once."""

    def __init__(self, num_envs: int = 3) -> None:
        one = Drift()
        self.num_envs, self.autoreset_mode = num_envs, AutoresetMode.NEXT_STEP
        self.single_observation_space, self.single_action_space = one.observation_space, one.action_space
        self.observation_space: Any = batch_space(one.observation_space, num_envs)
        self.action_space: Any = batch_space(one.action_space, num_envs)
        self._autoreset_envs = np.zeros(num_envs, bool)

    def array_form(self) -> Any:
        return VectorForm(None, False)

    def _begun(self) -> Any:
        return self.np_random.uniform(-1, 1, (self.num_envs, 2)).astype(np.float32)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x = self._begun()
        self._autoreset_envs = np.zeros(self.num_envs, bool)
        return self.x.copy(), {}

    def step(self, actions: Any) -> Any:
        only = self._autoreset_envs[:, None]
        x = self.x * np.float32(0.9) + actions.astype(np.float32)
        self.x = np.where(only, self._begun(), x)
        over = (abs(self.x[:, 1]) > 1.5) & ~only[:, 0]
        self._autoreset_envs = over
        return self.x.copy(), np.where(only[:, 0], 0, self.x[:, 0]), over, np.zeros(self.num_envs, bool), {}


class VectorForm(DriftForm):
    """Of all copies at once."""

    def capture(self, env: Any) -> dict[str, Any]:
        return {"x": env.x.copy()}

    def restore(self, env: Any, states: dict[str, Any]) -> None:
        env.x = states["x"].copy()


def limited() -> gym.Env:
    return wrappers.TimeLimit(gym.make("MountainCar-v0"), 7)


def sync(mode: AutoresetMode = AutoresetMode.NEXT_STEP, make: Callable[[], gym.Env] = limited) -> SyncVectorEnv:
    return SyncVectorEnv([make] * 3, autoreset_mode=mode)


KINDS: dict[str, tuple[Callable[[], Any], type]] = {
    "array form": (Drift, ArrayCore),
    "copy": (limited, CopyCore),
    "dummy": (lambda: DummyVecEnv([limited] * 3), CopyCore),
    "dummy, arrays": (lambda: DummyVecEnv([lambda: wrappers.TimeLimit(Drift(), 5)] * 3), ArrayCore),
    "sync": (sync, CopyCore),
    "sync, arrays": (lambda: sync(make=lambda: wrappers.TimeLimit(Drift(), 5)), ArrayCore),
    "sync, same step": (lambda: sync(AutoresetMode.SAME_STEP), CopyCore),
    "sync, disabled": (lambda: sync(AutoresetMode.DISABLED), CopyCore),
    "adapter": (lambda: GymnasiumVecEnv(sync()), CopyCore),
    "adapter, same step": (lambda: GymnasiumVecEnv(sync(AutoresetMode.SAME_STEP)), CopyCore),
    "adapter, disabled": (lambda: GymnasiumVecEnv(sync(AutoresetMode.DISABLED)), CopyCore),
    "native": (VectorDrift, ArrayCore),
    "adapter, native": (lambda: GymnasiumVecEnv(VectorDrift()), ArrayCore),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_simulated_as_it_is(kind: str) -> None:
    make, core = KINDS[kind]
    env = make()
    assert type(simulator_for(env).core) is core
    notes = check_simulator(env, steps=40)
    assert all(note.startswith("Chance") for note in notes)


def test_a_vector_gives_one_state_for_each_environment() -> None:
    env = DummyVecEnv([limited] * 3)
    env.reset()
    simulator = simulator_for(env)
    states = simulator.capture(env)
    assert len(states) == 3
    outcome = simulator.step(simulator.replicate(states, 2), np.array([0, 1] * 3))
    observations = env.step(np.array([0, 0, 0]))[0]
    np.testing.assert_array_equal(outcome.observations[::2], observations)


def test_environments_that_only_reset_next_are_over() -> None:
    env = GymnasiumVecEnv(sync())
    env.reset()
    for _ in range(7):
        env.step(np.array([0, 1, 0]))
    simulator = simulator_for(env)
    captured = simulator.capture(env)
    np.testing.assert_array_equal(captured.ended, env.resets_next)
    assert captured.ended.any()
    first = env.step(np.array([0, 1, 0]))
    simulator.restore(env, captured)
    again = env.step(np.array([0, 1, 0]))
    np.testing.assert_array_equal(first[0], again[0])
    assert [only_reset(info) for info in first[3]] == [only_reset(info) for info in again[3]]


def test_states_that_are_over_do_not_go_into_an_environment_that_has_none() -> None:
    env = DummyVecEnv([limited])
    env.reset()
    simulator = simulator_for(env)
    states = simulator.capture(env)
    for _ in range(7):
        states = simulator.step(states, np.array([0])).states
    assert states.ended.all()
    with pytest.raises(ValueError, match="are over"):
        simulator.restore(env, states)


def test_noisy_arrays_are_put_back_each_with_its_own_chance() -> None:
    assert check_simulator(Noisy()) == []
    env = DummyVecEnv([Noisy] * 3)
    assert [note[:6] for note in check_simulator(env)] == ["Replay"]
    simulator = simulator_for(env)
    captured = simulator.capture(env)
    zeros = np.zeros((3, 2), np.float32)
    second = simulator.step(simulator.select(captured, np.array([1])), zeros[:1]).observations[0]
    stepped = simulator.step(simulator.select(captured, np.arange(3)), zeros).states
    first = env.step(zeros)[0]
    np.testing.assert_allclose(second, first[1], rtol=1e-6)
    simulator.restore(env, captured)
    np.testing.assert_array_equal(env.step(zeros)[0], first)
    simulator.restore(env, stepped)
    states = [str(one.np_random.bit_generator.state) for one in env.envs]
    assert len({*states}) == 3, "environments must not come to draw the same numbers"


class Odd(VecEnvWrapper):
    """Unknown."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        return self.venv.step_wait()


def refused(env: Any, message: str) -> None:
    with pytest.raises(NotSimulatableError, match=message) as caught:
        simulator_for(env)
    for word in ("MuJoCo", "Atari", "array_form", "__deepcopy__", "simulated_state"):
        assert word in str(caught.value)
    assert isinstance(caught.value, TypeError)


def test_errors_name_what_and_why() -> None:
    refused(Odd(DummyVecEnv([limited])), "The wrapper Odd cannot be simulated")
    refused(gym.make_vec("CartPole-v1", vectorization_mode="vector_entry_point"), "CartPoleVectorEnv .* SyncVectorEnv")
    refused(wrappers.vector.RecordEpisodeStatistics(sync()), "RecordEpisodeStatistics")
    refused(3, "int cannot be simulated")
    refused(wrappers.Autoreset(gym.make("CartPole-v1")), "Autoreset")
    refused(
        DummyVecEnv([limited, lambda: wrappers.TimeLimit(gym.make("MountainCar-v0"), 8)]), "Environment 1 .* must be alike"
    )


def test_other_processes_are_rejected() -> None:
    env = SubprocVecEnv([Drift], start_method="fork")
    try:
        refused(env, "DummyVecEnv")
    finally:
        env.close()


def test_another_environment_of_the_same_make_will_do() -> None:
    one, two = limited(), limited()
    one.reset(seed=0)
    two.reset(seed=1)
    simulator = simulator_for(one)
    simulator.restore(two, simulator.capture(one))
    np.testing.assert_array_equal(one.step(1)[0], two.step(1)[0])


def test_an_environment_of_another_make_is_rejected() -> None:
    simulator = simulator_for(wrappers.TimeLimit(Drift(), 5))
    with pytest.raises(ValueError, match="This simulator was made for Drift in TimeLimit, and this is Drift"):
        simulator.capture(Drift())


def test_batches_are_joined_with_what_they_last_saw() -> None:
    env = wrappers.TimeLimit(Drift(), 3)
    env.reset(seed=0)
    simulator = simulator_for(env)
    one = simulator.step(simulator.replicate(simulator.capture(env), 2), np.array([[0.1, 0.2], [0.3, 0.1]]))
    both = simulator.join([simulator.select(one.states, np.array([1])), simulator.select(one.states, np.array([0, 1]))])
    np.testing.assert_array_equal(both.observations, one.observations[[1, 0, 1]])
    found = simulator.step(both, np.zeros((3, 2))).observations
    np.testing.assert_array_equal(found, simulator.step(one.states, np.zeros((2, 2))).observations[[1, 0, 1]])


def test_used_states_and_wrong_numbers_are_rejected() -> None:
    env = Drift()
    env.reset(seed=0)
    simulator = simulator_for(env)
    states = simulator.capture(env)
    simulator.step(states, np.zeros((1, 2)))
    with pytest.raises(ValueError, match="used up"):
        simulator.step(states, np.zeros((1, 2)))
    with pytest.raises(ValueError, match="2 states to put into 1"):
        simulator.restore(env, simulator.replicate(simulator.capture(env), 2))


def test_finished_states_stay_as_they_are() -> None:
    env = wrappers.TimeLimit(Drift(), 2)
    env.reset(seed=0)
    simulator = simulator_for(env)
    states = simulator.replicate(simulator.capture(env), 2)
    for _ in range(2):
        outcome = simulator.step(states, np.full((2, 2), 0.2))
        states = outcome.states
    assert outcome.truncated.all() and states.ended.all()
    again = simulator.step(states, np.ones((2, 2)))
    np.testing.assert_array_equal(again.observations, outcome.observations)
    assert not again.rewards.any() and not again.truncated.any()


def test_a_step_that_was_replaced_in_the_object_is_rejected():
    env = gym.make("CartPole-v1")
    step = env.unwrapped.step
    env.unwrapped.step = lambda action: (step(action)[0], 5.0, *step(action)[2:])
    with pytest.raises(NotSimulatableError, match="replaced"):
        simulator_for(env)
