"""Functions, which no deep copy copies: what they hold on to is the original's."""

import functools
import logging
import random
import warnings
import weakref
from collections import defaultdict
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation, TransformReward

from rlspo.envs import PostDecision, SimulatedPostDecision, TransformPostDecision
from rlspo.simulators import NotSimulatableError, simulator_for


class Helper:
    pass


class Slotted:
    __slots__ = ("f",)

    def __init__(self, f: Any) -> None:
        self.f = f


class Walk(gym.Env[Any, Any]):
    """x' = x + 1 or x - 1, and counts its steps; the rule is kept in ``rule`` in one of many ways.

    :param how: a key of :data:`LEADING_BACK` or :data:`ALRIGHT`
    """

    def __init__(self, how: str) -> None:
        self.observation_space: Any = spaces.Box(-1e9, 1e9, (2,), np.float64)
        self.action_space: Any = spaces.Discrete(2)
        self.table, self.log = np.array([-1.0, 1.0]), [0.0]
        self.helper = Helper()
        self.rule: Any = {**LEADING_BACK, **ALRIGHT}[how](self)

    def move(self, action: int) -> None:
        self.x += self.table[action]
        self.n += 1

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.n = 0.0, 0
        return np.zeros(2), {}

    def step(self, action: Any) -> Any:
        self.x += self.table[action]
        self.n += 1
        return np.array([self.x, self.n]), self.x, False, False, {}


def on_helper(env: Walk) -> Any:
    env.helper.f = lambda: env.move(1)  # type: ignore[attr-defined]


def through_another(env: Walk) -> Any:
    move = env.move
    inner = lambda: move(1)  # noqa: E731
    return lambda: inner()


def cyclic(env: Walk) -> Any:
    found: list[Any] = [lambda: found]
    found.append(found)
    return found


class Run:
    """An experiment, of which a reward function asks a number."""

    def __init__(self, env: Any) -> None:
        self.env, self.scale, self.rng, self.log = env, 1.0, np.random.default_rng(0), [].append


LEADING_BACK: dict[str, Any] = {
    "attribute": lambda env: lambda: env.move(1),
    "dispatch table": lambda env: {0: lambda: env.move(0), 1: lambda: env.move(1)},
    "list": lambda env: [lambda: env.move(0)],
    "tuple in a dict": lambda env: {"rules": (lambda: env.move(0),)},
    "partial": lambda env: partial(lambda action: env.move(action), 1),
    "helper": on_helper,
    "another function": through_another,
    "default": lambda env: lambda action, of=env: of.move(action),
    "weak reference": weakref.ref,
    "cache": lambda env: functools.cache(env.move),
    "slots": lambda env: Slotted(lambda: env.move(1)),
    "default of a dict": lambda env: defaultdict(lambda: env.x),
    "method around another": lambda env: MethodType((lambda old: lambda self, action: old(action))(env.move), env),
    "method of a list": lambda env: env.log.append,
    "generator": lambda env: random.Random(3).random,
    "generator in a function": lambda env: (lambda rng: lambda: rng.normal())(np.random.default_rng(3)),
}
ALRIGHT: dict[str, Any] = {
    "nothing": lambda env: None,
    "methods": lambda env: {0: env.move, 1: env.move},
    "partial of a method": lambda env: partial(env.move, 1),
    "reads a table": lambda env: (lambda table: lambda action: table[action])(np.array([1.0, 2.0])),
    "reads a dict": lambda env: {1: 2}.get,
    "global function": lambda env: np.sum,
    "logger": lambda env: logging.getLogger("walk").info,
    "holds on to what holds on to it": lambda env: (lambda run: lambda: run.scale)(Run(env)),
    "without a module": lambda env: FunctionType((lambda: 1).__code__, {"__name__": None}),
    "large table": lambda env: (lambda table: lambda: table)([(place,) for place in range(30_000)]),
    "itself": cyclic,
}


def branched(env: gym.Env) -> np.ndarray:
    env.reset(seed=0)
    simulator = simulator_for(env)
    return simulator.step(simulator.replicate(simulator.capture(env), 3), np.array([1, 1, 0])).observations  # type: ignore


@pytest.mark.parametrize("how", LEADING_BACK)
def test_a_function_that_leads_back_to_the_original_is_refused(how: str) -> None:
    env = Walk(how)
    with pytest.raises(NotSimulatableError, match=r"Walk cannot be simulated: its attribute (rule|helper) .* holds on to"):
        branched(env)
    assert (env.x, env.n, env.log) == (0.0, 0, [0.0])
    with pytest.raises(NotSimulatableError, match="holds on to"):
        SimulatedPostDecision(Walk(how)).step(1)


@pytest.mark.parametrize("how", ALRIGHT)
def test_other_functions_are_fine(how: str) -> None:
    env = Walk(how)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(branched(env), [[1, 1], [1, 1], [-1, 1]])
    assert (env.x, env.n) == (0.0, 0)


def test_an_environment_that_copies_itself_knows_how() -> None:
    class Own(Walk):
        def __deepcopy__(self, memo: Any) -> Any:
            twin = Own("attribute")
            twin.x, twin.n = self.x, self.n
            return twin

    np.testing.assert_array_equal(branched(Own("attribute")), [[1, 1], [1, 1], [-1, 1]])


def test_a_wrapper_s_functions_are_looked_at_too() -> None:
    class Listed(gym.RewardWrapper):
        simulated_state = ()

        def __init__(self, env: gym.Env) -> None:
            super().__init__(env)
            self.rules = [lambda reward: reward - env.unwrapped.state[0]]  # type: ignore[attr-defined]

        def reward(self, reward: Any) -> Any:
            return self.rules[0](reward)

    for env in (Listed(gym.make("CartPole-v1")), Listed(gym.make("Acrobot-v1"))):
        env.reset(seed=0)
        with pytest.raises(NotSimulatableError, match="Listed cannot be simulated: its attribute rules contains a function"):
            simulator_for(env)


def counter() -> Any:
    counts = {"steps": 0}

    def count(really: bool) -> None:
        counts["steps"] += really

    return count


class Counting(Walk):
    """Counts steps in variables of functions.

    :param which: of the functions counts
    """

    def __init__(self, which: int) -> None:
        super().__init__("nothing")
        self.which, self.counters = which, [counter(), counter()]

    def step(self, action: Any) -> Any:
        for place, count in enumerate(self.counters):
            count(place == self.which)
        return super().step(action)


@pytest.mark.parametrize("which", [0, 1])
def test_a_variable_of_a_function_that_a_step_changes_is_told(which: int) -> None:
    env = Counting(which)
    with pytest.warns(UserWarning, match=r"changes variable counts of Counting\.counters, which all copies share"):
        branched(env)
    simulator = simulator_for(env)
    with pytest.warns(UserWarning, match="changes variable counts"):
        simulator.step(simulator.capture(env), np.array([1]))
    env.rule = lambda: env.move(1)
    with pytest.raises(NotSimulatableError, match="its attribute rule is a function"):  # also after the warning
        simulator.capture(env)


def test_a_function_that_a_step_makes_anew_changes_nothing() -> None:
    class Remaking(Walk):
        def step(self, action: Any) -> Any:
            self.rule = (lambda n: lambda: n)(self.n)
            return super().step(action)

    env = Remaking("reads a table")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        branched(env)


def test_large_tables_hide_no_function() -> None:
    class Large(Walk):
        def __init__(self) -> None:
            super().__init__("nothing")
            self.nodes = [[place] for place in range(20_000)]
            self.other = (lambda table: lambda: table)([[place] for place in range(20_000)])
            self.last = lambda: self.move(1)

    with pytest.raises(NotSimulatableError, match="its attribute last is a function"):
        branched(Large())


def test_a_bound_method_leads_back_where_the_environment_is_not_copied() -> None:
    for env_id, refused in (("CartPole-v1", True), ("Acrobot-v1", False)):
        env = gym.make(env_id)
        base: Any = env.unwrapped
        env = TransformReward(env, partial(lambda of, reward: reward - of.state[0], base))
        env.reset(seed=0)
        if refused:
            with pytest.raises(
                NotSimulatableError, match="TransformReward cannot be simulated: its attribute func is a method"
            ):
                simulator_for(env)
        else:
            simulator_for(env)


def less(env_id: str) -> gym.Env:
    """An environment with an array form, in a subclass with other rewards."""
    base: Any = type(gym.make(env_id).unwrapped)

    class Less(base):  # type: ignore[misc]
        def step(self, action: Any) -> Any:
            observation, reward, *rest = super().step(action)
            return observation, reward - 7, *rest

    made: gym.Env = Less()
    return made


@pytest.mark.parametrize("env_id", ["Sokoban", "RubiksCube", "FrozenLakePostDecision", "AdmissionControl", "LotSizing"])
def test_a_subclass_with_other_rules_is_not_stepped_by_those_of_its_parent(env_id: str) -> None:
    env = less(f"rlspo/{env_id}-v0")
    env.reset(seed=0)
    simulator = simulator_for(env)
    action: Any = env.action_space.sample()
    expected = simulator.step(simulator.capture(env), np.array([action])).rewards
    assert float(env.step(action)[1]) == pytest.approx(float(expected[0]))


def test_a_subclass_of_a_wrapper_with_other_rules_is_refused() -> None:
    class Less(PostDecision):
        def step(self, action: Any) -> Any:
            observation, reward, *rest = super().step(action)
            return observation, reward - 7, *rest

    class Drawn(gym.Wrapper):
        only_watches = True

    class Harder(Drawn):
        def step(self, action: Any) -> Any:
            observation, reward, *rest = super().step(action)
            return observation, reward - 7, *rest

    class Hooked(Drawn):
        """What it does beside a step is its own."""

        def write(self) -> None:
            pass

    for fine in (Drawn, Hooked):
        simulator_for(fine(gym.make("CartPole-v1")))
    for env in (Less(gym.make("CartPole-v1"), lambda state, action: (state, 0.0)), Harder(gym.make("CartPole-v1"))):
        with pytest.raises(NotSimulatableError, match=type(env).__name__):
            simulator_for(env)


@pytest.mark.parametrize(
    ("env_id", "name"), [("Hopper-v5", "_get_obs"), ("rlspo/Sokoban-v0", "step"), ("Pendulum-v1", "_get_obs")]
)
def test_methods_that_were_replaced_in_the_object_are_refused(env_id: str, name: str) -> None:
    if env_id.startswith("Hopper"):
        pytest.importorskip("mujoco")
    env = gym.make(env_id)
    env.reset(seed=0)
    old = getattr(env.unwrapped, name)
    setattr(env.unwrapped, name, lambda *given: old(*given))
    with pytest.raises(NotSimulatableError, match=rf"its {name}\(\) was replaced in the object itself"):
        simulator_for(env)


def test_a_step_is_refused_where_the_class_has_another_kind_of_callable() -> None:
    class Timed:
        def __call__(self, *given: Any) -> Any:
            raise AssertionError

    class Odd(Walk):
        step = Timed()  # type: ignore[assignment]

    env = Odd("nothing")
    env.step = lambda action: (np.zeros(2), 0.0, False, False, {})  # type: ignore[assignment]
    with pytest.raises(NotSimulatableError, match=r"its step\(\) was replaced in the object itself"):
        simulator_for(env)


@pytest.mark.parametrize("name", ["render", "close", "reset"])
def test_methods_without_rules_may_be_replaced(name: str) -> None:
    for env_id in ("CartPole-v1", "Acrobot-v1", "rlspo/Sokoban-v0"):
        env = gym.make(env_id)
        env.reset(seed=0)
        for one in (env, env.unwrapped):
            old = getattr(one, name)
            setattr(one, name, lambda *given, old=old, **named: old(*given, **named))
        simulator_for(env)


def test_post_decision_wrappers_of_rlspo_are_followed() -> None:
    for env in (
        SimulatedPostDecision(gym.make("Pendulum-v1")),
        TransformPostDecision(FrameStackObservation(gym.make("rlspo/LotSizing-v0"), 3)),
    ):
        assert simulator_for(env) is not None


def test_a_vectorised_subclass_with_other_rules_is_refused() -> None:
    base: Any = type(gym.make_vec("rlspo/LotSizing-v0", num_envs=2).unwrapped)

    class Less(base):  # type: ignore[misc]
        def step(self, actions: Any) -> Any:
            observations, rewards, *rest = super().step(actions)
            return observations, rewards - 7, *rest

    with pytest.raises(NotSimulatableError, match="Less cannot be simulated: it overrides methods of a class"):
        simulator_for(Less(num_envs=2))


def test_a_reward_function_of_a_wrapper_of_gymnasium_is_fine() -> None:
    scale = 0.1
    env = TransformReward(gym.make("CartPole-v1"), lambda reward: float(reward) * scale)
    env.reset(seed=0)
    simulator = simulator_for(env)
    assert float(simulator.step(simulator.capture(env), np.array([1])).rewards[0]) == pytest.approx(0.1)
