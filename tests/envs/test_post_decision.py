"""The post-decision interface: giving it to an environment, checking it, and taking it through wrappers and simulators."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import (
    ClipReward,
    FlattenObservation,
    FrameStackObservation,
    MaxAndSkipObservation,
    NormalizeObservation,
    NormalizeReward,
    RescaleAction,
    RescaleObservation,
    TimeLimit,
)

from rlspo.envs import (
    PostDecision,
    SimulatedPostDecision,
    TransformPostDecision,
    check_post_decision_env,
    post_decision_space,
)
from rlspo.envs.post_decision import OBSERVATION_KEY, REWARD_KEY
from rlspo.envs.simulating import PeekMujoco, peek_copy


class Walk(gym.Env[Any, Any]):
    """x goes up by the action (0 or 1) and then by chance (0 or 1); pays -0.5 for the action and x for where it ends.

    :param flaw: what is wrong with it
    """

    def __init__(self, flaw: str = "") -> None:
        self.flaw = flaw
        self.observation_space: Any = spaces.Box(0, 200, (1,), np.float32)
        self.action_space: Any = spaces.Discrete(2)
        self.render_mode = None
        if flaw == "space":
            self.post_decision_space = spaces.Box(0, 200, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x = 0
        return np.array([self.x], np.float32), {}

    def post_decision(self, action: int) -> tuple[Any, float]:
        if self.flaw == "moves":
            self.x += action
        if self.flaw == "draws":
            self.np_random.random()
        after = np.array([self.x + action], np.float32)
        if self.flaw == "alone":
            return after  # type: ignore[return-value]
        if self.flaw == "array of a reward":
            return after, np.array([-0.5 * action])  # type: ignore[return-value]
        if self.flaw == "another shape":
            return after[None], -0.5 * action
        return (after + 1 if self.flaw == "differs" else after), -0.5 * action

    def post_decisions(self, actions: Any) -> tuple[Any, Any]:
        after = (self.x + actions[:, None]).astype(np.float32)
        rewards = -0.5 * actions
        if self.flaw == "array":
            return after  # type: ignore[return-value]
        return (after[::-1] if self.flaw == "mixed up" else after), rewards[:, None] if self.flaw == "columns" else rewards

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        info: dict[str, Any] = {
            OBSERVATION_KEY: np.array([self.x + action], np.float64 if self.flaw == "dtype" else np.float32),
            REWARD_KEY: np.nan if self.flaw == "nan" else -0.5 * action,
        }
        self.x += int(action) + int(self.np_random.integers(2))
        if self.flaw == "late":
            info[OBSERVATION_KEY] = np.array([self.x], np.float32)
        if self.flaw == "no reward":
            del info[REWARD_KEY]
        if self.flaw == "chance":
            info[OBSERVATION_KEY] = info[OBSERVATION_KEY] + np.float32(np.random.default_rng().random())
        return np.array([self.x], np.float32), self.x - 0.5 * action, self.x > 20, False, info


class Plain(Walk):
    """Without the methods that look ahead."""

    post_decision = post_decisions = None  # type: ignore[assignment]


def test_the_checker_passes_what_is_right() -> None:
    check_post_decision_env(Walk())
    check_post_decision_env(Plain())
    check_post_decision_env(TimeLimit(Walk(), 7))


@pytest.mark.parametrize("env_id", ["rlspo/LotSizing-v0", "rlspo/FrozenLakePostDecision-v0", "rlspo/AdmissionControl-v0"])
def test_the_checker_passes_our_environments(env_id: str) -> None:
    check_post_decision_env(gym.make(env_id))


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ("no reward", r"Step 0: the info has no 'post_decision_reward'\. step\(\) must put"),
        ("nan", r"'post_decision_reward'\] is nan; it must be a finite number"),
        ("dtype", r"is no element of Box.*give arrays its dtype"),
        ("space", r"is no element of Box\(0.0, 200.0, \(2,\)"),
        ("alone", r"post_decision\(\d\) said .*; it must be a pair: an element of Box.*, and a number, r\^x"),
        ("array of a reward", r"post_decision\(\d\) said .*and a number, r\^x"),
        ("another shape", r"post_decision\(\d\) said .* but step\(\d\) reports|says .* of it alone"),
        ("array", r"(?s)post_decisions\(.*\) says .*; it must be a pair: observations and rewards"),
        ("columns", r"says rewards of shape \(2, 1\); it must be \(2,\)"),
        ("differs", r"post_decision\(\d\) said .* but step\(\d\) reports|says .* of it alone"),
        ("late", r"Step \d: with other random numbers in the step, info\['post_decision_obs'\] was"),
        ("mixed up", r"says .* of action 0, but post_decision says"),
        ("moves", r"said|says|changes the environment"),
        ("draws", r"post_decision\(action\) changes the environment: .*step 0: the observation was"),
    ],
)
def test_the_checker_says_what_is_wrong(flaw: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_post_decision_env(Plain(flaw) if flaw == "late" else Walk(flaw))


def test_the_checker_finds_chance_in_the_decision() -> None:
    with pytest.raises(ValueError, match="the post-decision observation was"):
        check_post_decision_env(Plain("chance"))


def test_the_checker_rejects_what_infos_do_not_follow() -> None:
    with pytest.raises(TypeError, match="changes rewards"):
        check_post_decision_env(gym.wrappers.TransformReward(Walk(), lambda r: 0.1 * r))


def test_the_checker_wants_a_single_environment() -> None:
    with pytest.raises(TypeError, match="check a single gymnasium environment"):
        check_post_decision_env(gym.make_vec("rlspo/LotSizing-v0", num_envs=2))  # type: ignore[arg-type]


def test_an_existing_environment_is_given_the_interface() -> None:
    """Frozen lake with a slip that comes after the move has the intended tile as post-decision state."""
    space = spaces.Box(0, 400, (1,), np.float32)
    env = PostDecision(Plain(), lambda seen, action: (seen + np.float32(action), -0.5 * action), space)
    assert post_decision_space(env) is space
    check_post_decision_env(env)
    with pytest.raises(gym.error.ResetNeeded):
        PostDecision(Walk(), lambda seen, action: (seen, 0.0)).post_decision(0)
    with pytest.raises(TypeError, match="must be a function"):
        PostDecision(Walk(), {"not": "callable"})  # type: ignore[arg-type]


def test_wrappers_of_observations_are_followed() -> None:
    env = TransformPostDecision(RescaleObservation(Walk(), np.float32(-1), np.float32(1)))
    check_post_decision_env(env)
    env.reset(seed=0)
    for _ in range(5):
        seen, _, _, _, info = env.step(1)
        assert info[OBSERVATION_KEY] <= seen + 1e-6 <= info[OBSERVATION_KEY] + 0.0101
    assert TransformPostDecision(Plain()).post_decision is None, "what is not inside is not offered"
    nested = gym.make("rlspo/FrozenLakePostDecision-v0", size=4)
    flat = TransformPostDecision(nested)  # nothing between changes observations: left as it is
    assert flat.post_decision_space == nested.get_wrapper_attr("post_decision_space")


def test_frames_are_stacked_with_the_post_decision_state_as_the_newest() -> None:
    env = TransformPostDecision(FlattenObservation(FrameStackObservation(Walk(), 3)))
    check_post_decision_env(env)
    before, _ = env.reset(seed=0)
    for action in (1, 0, 1, 1):
        after, _, _, _, info = env.step(action)
        np.testing.assert_allclose(info[OBSERVATION_KEY], [before[1], before[2], before[2] + action])
        before = after


def test_running_statistics_are_used_and_left_alone() -> None:
    normalizer = NormalizeObservation(Walk())
    rewards = NormalizeReward(normalizer, gamma=0.9)
    env = TransformPostDecision(rewards)
    env.reset(seed=0)
    for _ in range(6):
        seen, reward, _, _, info = env.step(1)
        count = normalizer.obs_rms.count
        std, scale = np.sqrt(normalizer.obs_rms.var + 1e-8), np.sqrt(rewards.return_rms.var + 1e-8)
        x = seen * std + normalizer.obs_rms.mean
        post = info[OBSERVATION_KEY] * std + normalizer.obs_rms.mean
        assert np.isclose(x - post, 0, atol=1e-4) or np.isclose(x - post, 1, atol=1e-4)
        np.testing.assert_allclose(info[REWARD_KEY] * scale, -0.5, rtol=1e-5)
        np.testing.assert_allclose(reward * scale, x - 0.5, rtol=1e-4)
        assert normalizer.obs_rms.count == count
    check_post_decision_env(TransformPostDecision(TimeLimit(Walk(), 5)))


def test_statistics_that_move_tell_nothing_ahead_and_those_that_stand_still_do() -> None:
    """A step would change how its own post-decision state looks."""
    normalizer = NormalizeObservation(Walk())
    rewards = NormalizeReward(normalizer, gamma=0.9)
    moving = TransformPostDecision(rewards)
    assert moving.post_decision is None and moving.post_decisions is None
    check_post_decision_env(moving)
    assert normalizer.update_running_mean and rewards.update_running_mean
    normalizer.update_running_mean = rewards.update_running_mean = False
    check_post_decision_env(TransformPostDecision(rewards))
    count = normalizer.obs_rms.count
    TransformPostDecision(rewards).post_decision(0)
    assert normalizer.obs_rms.count == count


@pytest.mark.parametrize("wrapper", [ClipReward, lambda env: MaxAndSkipObservation(env, 2)])
def test_what_cannot_be_followed_is_an_error_at_construction(wrapper: Any) -> None:
    env = Walk()
    with pytest.raises(TypeError, match="post-decision"):
        TransformPostDecision(wrapper(env, -1, 1) if wrapper is ClipReward else wrapper(env))


class Gust(gym.Wrapper):
    """Pushes a pendulum after each of its steps."""

    def step(self, action: Any) -> Any:
        _, reward, terminated, truncated, info = self.env.step(action)
        base: Any = self.unwrapped
        base.state = base.state + np.array([0.0, 0.1 * base.np_random.standard_normal()])
        return base._get_obs(), reward, terminated, truncated, info


def test_an_environment_that_can_be_copied_is_simulated_without_its_noise() -> None:
    core = gym.make("Pendulum-v1")
    env = SimulatedPostDecision(Gust(core))
    assert env.peek is peek_copy
    check_post_decision_env(env)
    env.reset(seed=0)
    twin = gym.make("Pendulum-v1")
    for _ in range(10):
        twin.reset(seed=1)
        twin.unwrapped.state = env.unwrapped.state.copy()  # type: ignore[attr-defined]
        action = np.array([0.7], np.float32)
        expected, reward, *_ = twin.step(action)
        seen, _, _, _, info = env.step(action)
        np.testing.assert_allclose(info[OBSERVATION_KEY], expected, atol=1e-6)
        assert info[REWARD_KEY] == pytest.approx(reward)
        assert not np.allclose(seen, expected)


def test_mujoco_is_simulated_and_put_back_exactly() -> None:
    pytest.importorskip("mujoco")
    env = SimulatedPostDecision(gym.make("Hopper-v5"))
    assert isinstance(env.peek, PeekMujoco)
    check_post_decision_env(env, n_steps=60)
    plain = gym.make("Hopper-v5")
    seen, _ = env.reset(seed=3)
    other, _ = plain.reset(seed=3)
    np.testing.assert_array_equal(seen, other)
    env.action_space.seed(0)
    for _ in range(20):
        action = env.action_space.sample()
        seen, reward, *_, info = env.step(action)
        other, other_reward, *_ = plain.step(action)
        # Without noise the second half of the step does nothing, and looking ahead leaves no trace.
        np.testing.assert_array_equal(seen, other)
        np.testing.assert_array_equal(info[OBSERVATION_KEY], seen)
        assert reward == other_reward == info[REWARD_KEY]


@pytest.mark.parametrize("inside", [False, True], ids=["around the core", "in the core"])
@pytest.mark.parametrize("env_id", ["Pendulum-v1", "Hopper-v5"])
def test_actions_are_rescaled_on_their_way_to_the_simulation(env_id: str, inside: bool) -> None:
    if env_id == "Hopper-v5":
        pytest.importorskip("mujoco")
    core = gym.make(env_id)
    rescaled = RescaleAction(core, -3.0, 3.0)  # type: ignore[type-var]
    env = SimulatedPostDecision(rescaled, core=rescaled if inside else core)
    check_post_decision_env(env, n_steps=30)
    seen, _ = env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(5):
        seen, reward, *_, info = env.step(env.action_space.sample())
        np.testing.assert_allclose(info[OBSERVATION_KEY], seen, atol=1e-6)
        assert reward == pytest.approx(info[REWARD_KEY])


@pytest.mark.parametrize(
    "remembers", [gym.wrappers.NormalizeReward, gym.wrappers.NormalizeObservation, gym.wrappers.TimeAwareObservation]
)
def test_a_core_that_remembers_steps_is_refused(remembers: Any) -> None:
    """A step that is only tried out would count there, or be missed."""
    core = remembers(gym.make("Pendulum-v1"))
    with pytest.raises(TypeError, match=f"{remembers.__name__} inside of core remembers .*TransformPostDecision"):
        SimulatedPostDecision(core, core=core)
    SimulatedPostDecision(core, core=core, peek=lambda env, action: (np.zeros(3), 0.0))


def test_the_core_must_be_inside() -> None:
    with pytest.raises(ValueError, match="is not inside env"):
        SimulatedPostDecision(Walk(), core=Walk())


class OwnNoise(Walk):
    """Draws from another generator than gymnasium's."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source, self.own, self.old = source, np.random.default_rng(0), np.random.RandomState(0)

    def step(self, action: int) -> Any:
        noise = {"own": self.own.random, "old": self.old.rand, "global": np.random.rand}[self.source]()
        return np.array([self.x + action + noise], np.float32), 0.0, False, False, {}


@pytest.mark.parametrize("source", ["own", "old", "global"])
def test_noise_from_any_generator_is_seen(source: str) -> None:
    env = SimulatedPostDecision(OwnNoise(source))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="draws random numbers in its own step"):
        env.step(1)


def test_an_environment_that_draws_noise_by_itself_is_not_simulated_by_a_copy() -> None:
    """The copy would draw the very noise that is to come."""
    env = SimulatedPostDecision(Walk())
    env.reset(seed=0)
    with pytest.raises(ValueError, match="draws random numbers in its own step"):
        env.step(1)
    quiet = SimulatedPostDecision(Walk(), peek=lambda core, action: (np.array([core.x + action], np.float32), -0.5 * action))
    check_post_decision_env(quiet)


@pytest.mark.parametrize("wrapper", [gym.wrappers.TimeAwareObservation, lambda env: gym.wrappers.DelayObservation(env, 2)])
def test_wrappers_that_observe_the_moment_are_not_asked_again(wrapper: Any) -> None:
    """Asked of a post-decision observation, they would change what the agent sees."""
    with pytest.raises(TypeError, match="observes the moment at which it is asked"):
        TransformPostDecision(wrapper(TimeLimit(Walk(), 5)))


def test_functions_of_observations_are_not_applied_to_elements_of_another_space() -> None:
    for name in ("rlspo/FrozenLakePostDecision-v0", "rlspo/AdmissionControl-v0"):
        with pytest.raises(TypeError, match="FlattenObservation is made for observations of"):
            TransformPostDecision(FlattenObservation(gym.make(name)))
    stacked = TransformPostDecision(FrameStackObservation(gym.make("rlspo/FrozenLakePostDecision-v0"), 3))
    check_post_decision_env(stacked, n_steps=20)


def _pendulum() -> Any:
    pytest.importorskip("mujoco")
    from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv

    return InvertedPendulumEnv


def test_looking_ahead_in_an_environment_of_ones_own_leaves_its_attributes() -> None:
    class Limited(_pendulum()):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.t, self.seen, self.where = 0, [], self.data.qpos

        def step(self, action: Any) -> Any:
            self.t += 1
            self.seen.append(self.t)
            observation, reward, *_ = super().step(action)
            return observation, reward, False, self.t >= 10, {}

    env = SimulatedPostDecision(Limited())
    env.reset(seed=0)
    for step in range(10):
        observation, reward, _, over, info = env.step(np.zeros(1))
        np.testing.assert_allclose(info[OBSERVATION_KEY], observation)
        assert reward == info[REWARD_KEY]
        assert over == (step == 9)
    assert env.unwrapped.seen == [*range(1, 11)]
    assert np.shares_memory(env.unwrapped.where, env.unwrapped.data.qpos)


def test_an_environment_of_ones_own_that_draws_noise_is_refused() -> None:
    class Noisy(_pendulum()):  # type: ignore[misc]
        def step(self, action: Any) -> Any:
            return super().step(action + self.np_random.normal(0, 0.1, 1))

    env = SimulatedPostDecision(Noisy())
    env.reset(seed=0)
    before = env.unwrapped.np_random.bit_generator.state
    with pytest.raises(ValueError, match="draws random numbers in its own step"):
        env.step(np.zeros(1))
    assert env.unwrapped.np_random.bit_generator.state == before


def test_a_wrapper_with_a_step_of_its_own_inside_of_a_mujoco_core_is_refused() -> None:
    class Twice(gym.Wrapper):
        def step(self, action: Any) -> Any:
            self.env.step(action)
            return self.env.step(action)

    core = Twice(_pendulum()())
    with pytest.raises(TypeError, match="Twice inside of core has a step of its own"):
        SimulatedPostDecision(core, core=core)
    SimulatedPostDecision(gym.wrappers.TimeLimit(core, 5), core=core.env)


@pytest.mark.parametrize("source", ["own", "global"])
def test_noise_of_any_generator_is_seen_in_mujoco(source: str) -> None:
    class Noisy(_pendulum()):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.rng, self.log = np.random.default_rng(0), [0]
            self.same = self.log

        def step(self, action: Any) -> Any:
            self.log.append(1)
            return super().step(action + (self.rng.normal() if source == "own" else np.random.normal()))

    env = SimulatedPostDecision(Noisy())
    env.reset(seed=0)
    before = env.unwrapped.rng.bit_generator.state, np.random.get_state()[1].copy()
    with pytest.raises(ValueError, match="draws random numbers in its own step"):
        env.step(np.zeros(1))
    assert env.unwrapped.rng.bit_generator.state == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert env.unwrapped.log == [0]
    assert env.unwrapped.same is env.unwrapped.log


def test_whole_numbers_stay_whole() -> None:
    class Words(Walk):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Box(0, 200, (1,), np.uint16)

        def reset(self, **kwargs: Any) -> Any:
            seen, info = super().reset(**kwargs)
            return seen.astype(np.uint16), info

    env = TransformPostDecision(FrameStackObservation(Words(), 2))
    assert env.post_decision_space.dtype == np.uint16


@pytest.mark.parametrize(
    ("around", "name"),
    [
        (lambda env: gym.wrappers.TransformReward(env, lambda r: 0.01 * r), "TransformReward"),
        (lambda env: gym.wrappers.ClipReward(env, -1, 1), "ClipReward"),
        (gym.wrappers.NormalizeReward, "NormalizeReward"),
        (lambda env: gym.wrappers.RepeatAction(env, 3), "RepeatAction"),
    ],
)
def test_rewards_in_another_unit_between_core_and_noise_are_refused(around: Any, name: str) -> None:
    noisy = Gust(around(gym.make("Pendulum-v1")))
    with pytest.raises(TypeError, match=f"{name} between core and env changes what a step earns"):
        SimulatedPostDecision(noisy)
    SimulatedPostDecision(noisy, peek=lambda env, action: (np.zeros(3), 0.0))
    if name in ("TransformReward", "ClipReward"):
        core = around(gym.make("Pendulum-v1"))
        env = SimulatedPostDecision(Gust(core), core=core)
        env.reset(seed=0)
        _, reward, _, _, info = env.step(np.zeros(1, np.float32))
        assert reward == pytest.approx(info[REWARD_KEY])
