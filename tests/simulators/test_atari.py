"""Atari games: the real one is never touched, its chance never foreseen."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from rlspo.simulators import NotSimulatableError, check_simulator, simulator_for
from rlspo.simulators.atari import AtariCore

ale_py = pytest.importorskip("ale_py")
gym.register_envs(ale_py)


def breakout(**kwargs: Any) -> gym.Env:
    return gym.make("ALE/Breakout-v5", **{"frameskip": 1, "repeat_action_probability": 0.0, **kwargs})


GAMES: dict[str, Callable[[], Any]] = {
    "screen": lambda: gym.make("ALE/Breakout-v5", repeat_action_probability=0.0),
    "memory": lambda: gym.make("ALE/Breakout-v5", obs_type="ram", repeat_action_probability=0.0),
    "sticky": lambda: wrappers.TimeLimit(gym.make("ALE/Breakout-v5", obs_type="ram"), 30),
    "frame skip": lambda: gym.make("ALE/Breakout-v5", obs_type="ram", frameskip=(2, 5), repeat_action_probability=0.0),
    "preprocessed": lambda: Monitor(
        wrappers.FrameStackObservation(wrappers.AtariPreprocessing(breakout(), terminal_on_life_loss=True), 4)
    ),
    "no skip": lambda: wrappers.AtariPreprocessing(breakout(), frame_skip=1),
    "sb3": lambda: AtariWrapper(Monitor(breakout()), action_repeat_probability=0.2),
    "vector": lambda: VecFrameStack(DummyVecEnv([lambda: AtariWrapper(breakout())] * 2), 4),
}


@pytest.mark.parametrize("game", GAMES)
def test_games_are_played_as_the_real_ones(game: str) -> None:
    env = GAMES[game]()
    simulator = simulator_for(env)
    assert isinstance(simulator.core, AtariCore)
    assert simulator.stochastic == (game in ("sticky", "frame skip", "sb3"))
    notes = check_simulator(env, steps=24)
    assert any("would repeat is no part of the state" in note for note in notes) == (game == "sticky")
    assert notes == [] or simulator.stochastic


def played(env: gym.Env, steps: int) -> None:
    env.reset(seed=2)
    for step in range(steps):
        env.step(1 if step % 5 == 0 else step % 4)


def sticky(probability: float = 0.25) -> gym.Env:
    env = gym.make("ALE/Breakout-v5", obs_type="ram", frameskip=2, repeat_action_probability=probability)
    env.reset(seed=2)
    env.step(1)
    for _ in range(20):
        env.step(3)  # Over and over, so that the emulator surely took it.
    return env


def run(simulator: Any, states: Any, actions: list[int]) -> Any:
    seen = []
    for action in actions:
        outcome = simulator.step(states, np.full(len(states), action))
        states = outcome.states
        seen.append(outcome.observations)
    return np.stack(seen, 1)


WAY = [3] * 4 + [2, 2, 3, 3, 2, 2, 2, 3] * 3


def test_the_real_game_goes_on_exactly_with_its_own_chance() -> None:
    env = sticky()
    simulator = simulator_for(env)
    captured = simulator.capture(env)
    way = [env.step(action)[0] for action in [*WAY, 3, 3, 3, 3]]
    simulator.restore(env, captured)
    np.testing.assert_array_equal(way, [env.step(action)[0] for action in [*WAY, 3, 3, 3, 3]])


def test_a_search_leaves_the_real_game_alone() -> None:
    one, two = sticky(), sticky()
    simulator = simulator_for(one)
    captured = simulator.capture(one)
    run(simulator, simulator.reseed(simulator.replicate(captured, 3), 0), WAY)
    run(simulator, simulator.replicate(captured, 2), WAY)
    for action in WAY:
        np.testing.assert_array_equal(one.step(action)[0], two.step(action)[0])


def test_a_search_does_not_foresee_sticky_actions() -> None:
    env = sticky(0.5)
    simulator = simulator_for(env)
    captured = simulator.capture(env)
    # The other emulator is made to repeat what the real one would.
    telling = simulator.core._telling  # type: ignore[attr-defined]
    for _ in range(30):
        telling.step(3)
    foretold = run(simulator, simulator.select(captured, np.array([0])), WAY)[0]
    blind = run(simulator, simulator.reseed(simulator.replicate(captured, 4), 0), WAY)
    # Stepping states that foretell in between must not tell the others anything.
    run(simulator, simulator.select(captured, np.array([0])), WAY)
    blind = np.concatenate([blind, run(simulator, simulator.reseed(simulator.replicate(captured, 4), 1), WAY)])
    real = np.stack([env.step(action)[0] for action in WAY])
    np.testing.assert_array_equal(foretold, real)
    assert len({*map(bytes, blind), bytes(real)}) == 9


def test_branches_repeat_their_own_actions() -> None:
    """One branch goes left, the one that is stepped after it right: what sticks is never the other's action."""

    def leftwards(probability: float) -> int:
        simulator = simulator_for(env := sticky(probability))
        states = simulator.reseed(simulator.replicate(simulator.capture(env), 2), 0)
        paddles = []
        for _ in range(8):
            states = simulator.step(states, np.array([2, 3])).states
            paddles.append(int(states.observations[0, 72]))
        return paddles[0] - paddles[-1]

    assert abs(leftwards(0.5)) >= 0.95 * abs(leftwards(0.0)) > 0


def test_the_screen_is_not_that_of_another_state() -> None:
    env = breakout()
    played(env, 30)
    simulator = simulator_for(env)
    captured = simulator.capture(env)
    states = simulator.replicate(captured, 2)
    for _ in range(12):
        states = simulator.step(states, np.array([2, 3])).states
    left = simulator.step(simulator.select(states, np.array([0])), np.array([0])).observations[0]
    both = simulator.step(simulator.select(states, np.array([1, 0])), np.array([0, 0])).observations
    np.testing.assert_array_equal(both[1], left)
    assert not np.array_equal(both[0], left), "paddles are apart"


def test_a_finished_game_shows_its_last_observation() -> None:
    env = wrappers.TimeLimit(breakout(obs_type="ram"), 3)
    env.reset(seed=0)
    simulator = simulator_for(env)
    states = simulator.capture(env)
    for _ in range(3):
        outcome = simulator.step(states, np.array([0]))
        states = outcome.states
    again = simulator.step(states, np.array([1]))
    np.testing.assert_array_equal(again.observations, outcome.observations)
    assert states.ended.all() and not again.truncated.any() and again.rewards[0] == 0


class Peeping(gym.Wrapper):
    """Keeps the real emulator."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.game: Any = {"of": env.unwrapped}


def test_wrappers_that_hold_the_real_game_are_rejected() -> None:
    with pytest.raises(NotSimulatableError, match="Peeping cannot be simulated: its attribute game"):
        simulator_for(Peeping(breakout()))


class Chance(gym.RewardWrapper):
    """Adds noise of its own generator."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.rng = np.random.default_rng(0)

    def reward(self, reward: Any) -> Any:
        return reward + self.rng.normal()


@pytest.mark.parametrize("kind", ["wrapper", "frame skip"])
def test_copies_of_a_reseeded_state_draw_apart_and_foretell_nothing(kind: str) -> None:
    """As a search makes them: reseeded first, then replicated."""
    env = Chance(breakout(obs_type="ram")) if kind == "wrapper" else breakout(obs_type="ram", frameskip=(2, 6))
    env.reset(seed=2)
    simulator = simulator_for(env)
    for states in (
        simulator.replicate(simulator.reseed(simulator.capture(env), 5), 6),
        simulator.reseed(simulator.replicate(simulator.capture(env), 6), 5),
    ):
        seen, rewards = [], np.zeros(6)
        for step in range(12):
            outcome = simulator.step(states, np.full(6, 1 if step == 0 else 2 + step % 2))
            states, rewards = outcome.states, rewards + outcome.rewards
            seen.append(outcome.observations)
        futures = {(*rewards[row : row + 1], np.stack(seen)[:, row].tobytes()) for row in range(6)}
        assert len(futures) > 3
    real = sum(float(env.step(1 if step == 0 else 2 + step % 2)[1]) for step in range(12))
    assert kind != "wrapper" or not np.isclose(rewards, real).any()
