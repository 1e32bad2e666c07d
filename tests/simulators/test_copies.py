"""Deep copies: true ones, or none."""

import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces, wrappers
from gymnasium.utils import EzPickle
from stable_baselines3.common.monitor import Monitor

from rlspo.simulators import NotSimulatableError, check_simulator, simulator_for
from rlspo.simulators.copies import CopyCore, true_copy
from rlspo.simulators.views import views_among
from tests.simulators.environments import Drift


class Grid(gym.Env[Any, Any]):
    """A walk whose row is a view of its grid, with noise from a source.

    :param source: of random numbers: "", "own", "old", "python", "deep", "space", "global" or "python global"
    """

    def __init__(self, source: str = "") -> None:
        self.source = source
        self.observation_space: Any = spaces.Box(-100, 100, (3,), np.float64)
        self.action_space: Any = spaces.Discrete(3)
        self.own, self.old, self.python = np.random.default_rng(1), np.random.RandomState(1), random.Random(1)
        self.deep = {"inside": [np.random.default_rng(2)]}
        self.noise_space: Any = spaces.Box(-1, 1, (1,), np.float64, seed=3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.grid = np.zeros((4, 3))
        self.row = self.grid[1]
        self.log: list[int] = []
        return self.row.copy(), {}

    def noise(self) -> float:
        return {
            "": lambda: 0.0,
            "own": self.own.normal,
            "old": self.old.normal,
            "python": self.python.random,
            "deep": self.deep["inside"][0].normal,
            "space": lambda: float(self.noise_space.sample()[0]),
            "global": np.random.normal,
            "python global": random.random,
        }[self.source]()

    def step(self, action: Any) -> Any:
        self.log.append(int(action))
        self.grid[:, action] += 1 + self.noise()
        return self.row, float(len(self.log)), bool(self.row.sum() > 9), False, {}


@pytest.mark.parametrize("source", ["", "own", "old", "python", "deep", "space"])
def test_copies_go_on_as_the_environment_does(source: str) -> None:
    env = Monitor(wrappers.TimeLimit(Grid(source), 6))
    notes = check_simulator(env, steps=64)
    assert len(notes) == (not source), "chance shows wherever there is some"


@pytest.mark.parametrize(
    "env_id", ["MountainCarContinuous-v0", "Acrobot-v1", "MountainCar-v0", "FrozenLake-v1", "Taxi-v4", "CliffWalking-v1"]
)
def test_gymnasium_classics_are_copied(env_id: str) -> None:
    check_simulator(gym.make(env_id), steps=24)


@pytest.mark.parametrize("source", ["own", "deep", "space"])
def test_reseeded_states_meet_chance_of_their_own(source: str) -> None:
    env = Grid(source)
    env.reset(seed=0)
    simulator = simulator_for(env)
    captured = simulator.capture(env)

    def ends(seed: int | None) -> list[float]:
        states = simulator.replicate(captured, 4)
        if seed is not None:
            states = simulator.reseed(states, seed)
        return simulator.step(states, np.zeros(4, int)).observations[:, 0].tolist()

    same = ends(None)
    assert len(set(same)) == 1
    fresh = ends(5)
    assert len({*fresh, same[0]}) == 5
    assert ends(5) == fresh != ends(6)
    assert env.step(0)[0][0] == same[0], "nothing was drawn from the environment's own"


def test_copies_of_a_reseeded_state_part() -> None:
    env = Grid("own")
    env.reset(seed=0)
    simulator = simulator_for(env)
    root = simulator.reseed(simulator.capture(env), 1)
    found = simulator.step(simulator.replicate(root, 3), np.zeros(3, int)).observations[:, 0]
    assert len({*found.tolist()}) == 3


@pytest.mark.parametrize("source", ["global", "python global"])
def test_global_generators_are_rejected_and_left_alone(source: str) -> None:
    env = Grid(source)
    env.reset(seed=0)
    simulator = simulator_for(env)
    before = np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index, union-attr]
    with pytest.raises(NotSimulatableError, match="global generator"):
        simulator.step(simulator.capture(env), np.array([0]))
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # type: ignore[index]
    assert random.getstate() == before[1]


class Pickled(Grid, EzPickle):
    """Is built anew instead of copied."""

    def __init__(self) -> None:
        EzPickle.__init__(self)
        super().__init__()


class Holding(Grid):
    """Has an EzPickle inside."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = [Pickled()]


class Locked(Grid):
    """Cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.file = open(__file__)  # noqa: SIM115


class Copied(Pickled):
    """Copies itself truly."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        twin = Copied()
        memo[id(self)] = twin
        vars(twin).update(grid=self.grid.copy(), log=[*self.log])
        twin.row = twin.grid[1]
        return twin


@pytest.mark.parametrize(("kind", "reason"), [(Pickled, "EzPickle"), (Holding, "EzPickle"), (Locked, "copy.deepcopy raises")])
def test_what_a_copy_would_change_is_rejected(kind: Any, reason: str) -> None:
    with pytest.raises(NotSimulatableError, match=reason):
        simulator_for(wrappers.TimeLimit(kind(), 5))


def test_an_environment_may_copy_itself() -> None:
    env = Copied()
    env.reset(seed=0)
    simulator = simulator_for(env)
    states = simulator.capture(env)
    expected = env.step(1)[0].copy()
    np.testing.assert_array_equal(simulator.step(states, np.array([1])).observations[0], expected)


class Asking(gym.Wrapper):
    """Holds a function that asks the environment itself."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.ask = lambda: env.unwrapped.grid  # type: ignore[attr-defined]


def test_a_function_that_holds_the_environment_is_rejected() -> None:
    with pytest.raises(NotSimulatableError, match="its attribute ask is a function"):
        simulator_for(Asking(Grid()))


def test_observations_must_be_arrays() -> None:
    with pytest.raises(NotSimulatableError, match="FlattenObservation"):
        simulator_for(gym.make("Blackjack-v1"))
    check_simulator(wrappers.FlattenObservation(gym.make("Blackjack-v1")), steps=16)


def test_files_and_records_stay_with_the_environment(tmp_path: Any) -> None:
    env = Monitor(wrappers.TimeLimit(Grid(), 3), str(tmp_path / "log"))
    for _ in range(2):
        env.reset()
        for _ in range(3):
            env.step(0)
    env.reset()
    env.step(0)
    size = (tmp_path / "log.monitor.csv").stat().st_size
    simulator = simulator_for(env)
    captured = simulator.capture(env)
    states = simulator.replicate(captured, 3)
    for _ in range(2):
        states = simulator.step(states, np.zeros(3, int)).states
    assert states.ended.all()
    assert (tmp_path / "log.monitor.csv").stat().st_size == size
    simulator.restore(env, captured)
    assert env.episode_lengths == [3, 3] and env.results_writer is not None and len(env.rewards) == 1
    env.step(0)
    assert env.step(0)[4]["episode"]["l"] == 3
    assert env.episode_lengths == [3, 3, 3]


def test_watchers_are_left_out(tmp_path: Any) -> None:
    pytest.importorskip("pygame")
    env: Any = wrappers.RenderCollection(gym.make("MountainCar-v0", render_mode="rgb_array"))
    env.reset(seed=0)
    simulator = simulator_for(env)
    captured = simulator.capture(env)
    assert not any(isinstance(layer, wrappers.RenderCollection) for layer in _stack(captured.core.envs[0]))
    simulator.step(simulator.select(captured, np.array([0])), np.array([1]))
    assert len(env.frame_list) == 1
    first = env.step(1)[0]
    simulator.restore(env, captured)
    np.testing.assert_array_equal(env.step(1)[0], first)


def _stack(env: Any) -> list[Any]:
    return [env, *_stack(env.env)] if isinstance(env, gym.Wrapper) else [env]


class Waiting(gym.Wrapper):
    """Must not be asked by branches."""

    only_watches = True

    def step(self, action: Any) -> Any:
        raise AssertionError("stepped in a branch")


@pytest.mark.parametrize("inner", [Grid, Drift])
def test_those_who_say_that_they_only_watch_are_left_out(inner: Any) -> None:
    env = wrappers.TimeLimit(Waiting(inner()), 5)
    env.reset(seed=0)
    simulator = simulator_for(env)
    captured = simulator.capture(env)
    simulator.step(simulator.select(captured, np.array([0])), np.stack([env.action_space.sample()]))
    simulator.restore(env, captured)
    assert isinstance(env.env, Waiting)


class Chart(Grid):
    """Declares what changes, so that its large chart is shared."""

    simulated_state = ("grid", "row", "log")

    def __init__(self) -> None:
        super().__init__()
        self.chart = np.zeros(10)


def test_what_is_declared_as_constant_is_shared() -> None:
    env = Chart()
    check_simulator(env, steps=16)
    twin, *_ = true_copy(env)
    assert twin.chart is env.chart and twin.grid is not env.grid and twin.own is not env.own


def test_statistics_learn_nothing_from_copies() -> None:
    env = wrappers.NormalizeObservation(Grid())
    env.reset(seed=0)
    simulator = simulator_for(env)
    assert isinstance(simulator.core, CopyCore)
    captured = simulator.capture(env)
    count = captured.core.envs[0].obs_rms.count
    outcome = simulator.step(captured, np.array([0]))
    assert outcome.states.core.envs[0].obs_rms.count == count
    simulator.restore(env, outcome.states)
    assert env.update_running_mean and env.obs_rms.count == count


def test_restore_makes_no_tie_to_the_state() -> None:
    env = Grid()
    env.reset(seed=0)
    simulator = simulator_for(env)
    captured = simulator.capture(env)
    simulator.restore(env, captured)
    env.step(0)
    assert captured.core.envs[0].grid.sum() == 0 and captured.core.envs[0].log == []
    assert env.row.base is not None and env.row[0] == 1


def test_states_before_a_reset_are_rejected() -> None:
    env = gym.make("MountainCar-v0")
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        simulator_for(env).capture(env)


def test_views_are_copied_together() -> None:
    whole = np.arange(12.0).reshape(3, 4)
    row, column, alone = whole[1], whole.T[2], np.ones(3)
    alone.flags.writeable = False
    copies = views_among([whole, row, column, alone, "text"])
    assert copies.keys() == {id(whole), id(row), id(column)}
    copies[id(row)][2] = -1
    assert copies[id(whole)][1, 2] == copies[id(column)][1] == -1
    assert whole[1, 2] == 6
    assert views_among([whole[0], whole[1]]) == {}, "rows side by side have nothing in common"
    again = views_among([copies[id(whole)], copies[id(row)]])
    assert len(again) == 2, "copies of copies, too"


class Drawn(gym.Env):
    """Draws itself for people in each step."""

    observation_space = gym.spaces.Discrete(9)
    action_space = gym.spaces.Discrete(2)
    metadata = {"render_modes": ["human"]}  # noqa: RUF012
    render_mode = None

    def __init__(self):
        self.render_mode, self.where, self.pictures = "human", 0, 0

    def reset(self, *, seed=None, options=None):
        self.where = 0
        return 0, {}

    def step(self, action):
        self.where = min(self.where + int(action), 8)
        if self.render_mode == "human":
            self.pictures += 1
        return self.where, 1.0, False, False, {}


def test_branches_are_not_shown_to_people():
    env = Drawn()
    env.reset()
    simulator = simulator_for(env)
    states = simulator.capture(env)
    after = simulator.step(simulator.replicate(states, 3), np.array([0, 1, 1])).states
    assert all(branch.pictures == 0 for branch in after.core.envs)
    simulator.restore(env, states)
    env.step(1)
    assert env.render_mode == "human" and env.pictures == 1


class TorchChance(Drawn):
    def step(self, action):
        return self.where, float(torch.rand(())), False, False, {}


def test_torchs_global_generator_is_rejected_and_put_back():
    env = TorchChance()
    env.reset()
    simulator = simulator_for(env)
    before = torch.get_rng_state()
    with pytest.raises(NotSimulatableError, match="torch"):
        simulator.step(simulator.capture(env), np.array([0]))
    assert torch.equal(before, torch.get_rng_state())


class OwnTorchGenerator(Drawn):
    def __init__(self):
        super().__init__()
        self.chance = torch.Generator().manual_seed(3)

    def step(self, action):
        return self.where, float(torch.rand((), generator=self.chance)), False, False, {}


def test_a_torch_generator_in_an_environment_is_captured_and_not_foreseen():
    env = OwnTorchGenerator()
    env.reset()
    simulator = simulator_for(env)
    states = simulator.capture(env)
    copied = simulator.step(simulator.replicate(states, 1), np.array([0])).rewards
    drawn = simulator.step(simulator.replicate(simulator.reseed(states, 7), 3), np.array([0, 0, 0])).rewards
    real = env.step(0)[1]
    assert copied.tolist() == [real] and len({*drawn.tolist(), real}) == 4
