"""Gymnasium's vectorised environments behave as SB3's own, whichever way they reset."""

import multiprocessing
import warnings
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

import rlspo
from rlspo.common.vector_env import GymnasiumVecEnv, autoreset_mode, only_reset, split_infos

MODES = list(AutoresetMode)


class Counting(gym.Env):
    """Observes how often it was reset and stepped; pays the step's number; ends after ``length`` steps."""

    action_space: spaces.Space = spaces.Discrete(3)
    metadata: ClassVar = {"render_modes": ["rgb_array"]}

    def __init__(self, length: int, ends: str = "terminated", kind: str = "box", render_mode: str | None = None) -> None:
        box = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.observation_space = {
            "box": box,
            "dict": spaces.Dict({"counts": box, "parity": spaces.Discrete(2)}),
            "discrete": spaces.Discrete(1000),
        }[kind]
        self.length, self.ends, self.kind, self.render_mode = length, ends, kind, render_mode
        self.episode, self.t = 0, 0
        self.actions: list[Any] = []

    def _observation(self) -> Any:
        counts = np.array([self.episode, self.t], dtype=np.float32)
        discrete = np.int64(100 * self.episode + self.t)
        return {"box": counts, "dict": {"counts": counts, "parity": np.int64(self.t % 2)}, "discrete": discrete}[self.kind]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self._observation(), {
            "begun": self.episode,
            **({"seed": seed} if seed is not None else {}),
            **(options or {}),
        }

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.actions.append(action)
        self.t += 1
        over = self.t == self.length
        terminated, truncated = over and "terminated" in self.ends, over and "truncated" in self.ends
        return self._observation(), float(self.t), terminated, truncated, {"t": self.t, "even": {"is": self.t % 2 == 0}}

    def render(self) -> np.ndarray:
        return np.full((4, 4, 3), self.t, dtype=np.uint8)

    def double(self, number: int) -> int:
        return 2 * number * self.length


def vectorised(mode: AutoresetMode, *lengths: int, vector: type = SyncVectorEnv, **kwargs: Any) -> GymnasiumVecEnv:
    makers = [lambda length=length: Counting(length, **kwargs) for length in lengths]
    return GymnasiumVecEnv(vector(makers, autoreset_mode=mode))


def roll(env: Any, n_steps: int) -> tuple[list[Any], list[Any]]:
    """First observations, and (observations, rewards, dones, infos) of each step."""
    start = env.reset()
    return start, [env.step(np.full(env.num_envs, t % 3)) for t in range(n_steps)]


@pytest.mark.parametrize("kind", ["box", "dict", "discrete"])
@pytest.mark.parametrize("vector", [SyncVectorEnv, AsyncVectorEnv])
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_same_as_sb3_where_resets_cost_no_step(mode: AutoresetMode, vector: type, kind: str) -> None:
    """Three environments of different lengths, against SB3's own DummyVecEnv in the same run."""
    ours = vectorised(mode, 2, 3, 5, vector=vector, kind=kind, ends="truncated")
    theirs = DummyVecEnv([lambda length=length: Counting(length, "truncated", kind) for length in (2, 3, 5)])
    try:
        for env in (ours, theirs):
            env.seed(7)
        (start, steps), (sb3_start, sb3_steps) = roll(ours, 11), roll(theirs, 11)
        np.testing.assert_equal(start, sb3_start)
        for (observations, rewards, dones, infos), expected in zip(steps, sb3_steps, strict=True):
            np.testing.assert_equal(observations, expected[0])
            np.testing.assert_array_equal(rewards, expected[1])
            assert rewards.dtype == np.float32
            np.testing.assert_array_equal(dones, expected[2])
            for info, sb3_info in zip(infos, expected[3], strict=True):
                np.testing.assert_equal(info.get("terminal_observation"), sb3_info.get("terminal_observation"))
                assert {key: info[key] for key in ("t", "even", "TimeLimit.truncated")} == {
                    key: sb3_info[key] for key in ("t", "even", "TimeLimit.truncated")
                }
        assert [info["begun"] for info in ours.reset_infos] == [info["begun"] for info in theirs.reset_infos]
    finally:
        ours.close()


@pytest.mark.parametrize("vector", [SyncVectorEnv, AsyncVectorEnv])
def test_next_step_marks_the_step_that_only_resets(vector: type) -> None:
    env = vectorised(AutoresetMode.NEXT_STEP, 2, 3, vector=vector)
    start, steps = roll(env, 6)
    env.close()
    np.testing.assert_array_equal(start, [[1, 0], [1, 0]])
    observations, rewards, dones, infos = zip(*steps, strict=True)
    # Environment 0 lives 2 steps and then resets for one; environment 1 lives 3.
    np.testing.assert_array_equal(np.stack(rewards)[:, 0], [1, 2, 0, 1, 2, 0])
    np.testing.assert_array_equal(np.stack(rewards)[:, 1], [1, 2, 3, 0, 1, 2])
    np.testing.assert_array_equal(np.stack(dones)[:, 0], [False, True, False, False, True, False])
    np.testing.assert_array_equal(np.stack(dones)[:, 1], [False, False, True, False, False, False])
    assert [only_reset(info[0]) for info in infos] == [False, False, True, False, False, True]
    assert [only_reset(info[1]) for info in infos] == [False, False, False, True, False, False]
    np.testing.assert_array_equal(infos[1][0]["terminal_observation"], [1, 2])
    np.testing.assert_array_equal(infos[4][0]["terminal_observation"], [2, 2])
    np.testing.assert_array_equal(np.stack(observations)[:, 0], [[1, 1], [1, 2], [2, 0], [2, 1], [2, 2], [3, 0]])
    assert "t" not in infos[2][0]
    assert env.reset_infos[0]["begun"] == 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("ends", "expected"), [("terminated", False), ("truncated", True), ("terminated and truncated", False)]
)
def test_only_a_pure_time_limit_counts_as_truncation(mode: AutoresetMode, ends: str, expected: bool) -> None:
    _, steps = roll(vectorised(mode, 2, ends=ends), 2)
    (_, _, first_done, first_infos), (_, _, done, infos) = steps
    assert not first_done[0] and done[0]
    assert first_infos[0]["TimeLimit.truncated"] is False
    assert infos[0]["TimeLimit.truncated"] is expected
    assert "terminal_observation" not in first_infos[0]


@pytest.mark.parametrize("mode", MODES)
def test_episode_statistics_leave_out_resets(mode: AutoresetMode) -> None:
    _, steps = roll(vectorised(mode, 2, 3), 12)
    episodes: list[list[dict[str, Any]]] = [[], []]
    for _, _, dones, infos in steps:
        for i, info in enumerate(infos):
            assert ("episode" in info) == dones[i]
            episodes[i] += [info["episode"]] if dones[i] else []
    assert len(episodes[0]) >= 4 and len(episodes[1]) >= 3
    assert all((episode["r"], episode["l"]) == (1 + 2, 2) for episode in episodes[0])
    assert all((episode["r"], episode["l"]) == (1 + 2 + 3, 3) for episode in episodes[1])
    times = [episode["t"] for episode in episodes[0]]
    assert times == sorted(times) and times[0] >= 0


@pytest.mark.parametrize("mode", MODES)
def test_statistics_of_the_environment_are_kept(mode: AutoresetMode) -> None:
    """A TransformReward outside of Monitor must not change what Monitor reports."""
    scaled = [lambda: gym.wrappers.TransformReward(Monitor(Counting(2)), lambda reward: 100 * reward)] * 2
    _, steps = roll(GymnasiumVecEnv(SyncVectorEnv(scaled, autoreset_mode=mode)), 2)
    assert steps[-1][1][0] == 200
    assert steps[-1][3][0]["episode"]["r"] == 3


def test_reset_forgets_the_unfinished_episode() -> None:
    env = vectorised(AutoresetMode.NEXT_STEP, 2)
    roll(env, 2)
    start, steps = roll(env, 2)  # the reset came instead of the step that would have done it
    np.testing.assert_array_equal(start, [[2, 0]])
    assert [only_reset(step[3][0]) for step in steps] == [False, False]
    assert steps[-1][3][0]["episode"]["r"] == 3


class Shared(VectorEnv):
    """Natively vectorised: writes every observation into the same array, gives infos without masks."""

    def __init__(self, num_envs: int = 2, length: int = 2) -> None:
        self.num_envs, self.length, self.gravity = num_envs, length, 9.8
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.single_action_space = spaces.Box(-1, 1, (1,), np.float32)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self._t = np.zeros((num_envs, 1), dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._t[:] = 0
        return self._t, {}

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        assert actions.dtype == np.float32 and actions.shape == (self.num_envs, 1)
        self._t += 1
        over = self._t[:, 0] == self.length
        info = {"final_obs": self._t.copy(), "speed": 2 * self._t[:, 0], "version": "v1"}
        self._t[over] = 0
        return self._t, np.ones(self.num_envs, dtype=np.int32), over, np.zeros(self.num_envs, dtype=bool), info

    def weigh(self, factor: float) -> float:
        return factor * self.gravity


def test_natively_vectorised() -> None:
    env = GymnasiumVecEnv(Shared())
    first = env.reset()
    second, rewards, _, infos = env.step(np.zeros((2, 1)))  # float64 in, as the environment wants it out
    third, _, dones, last_infos = env.step(np.zeros((2, 1)))
    np.testing.assert_array_equal(np.stack([first, second, third])[..., 0], [[0, 0], [1, 1], [0, 0]])
    assert rewards.dtype == np.float32 and dones.all()
    assert infos[0] == {"speed": 2.0, "version": "v1", "TimeLimit.truncated": False}
    np.testing.assert_array_equal(last_infos[1]["terminal_observation"], [2])
    env.step(np.zeros((2, 1)))
    np.testing.assert_array_equal(last_infos[1]["terminal_observation"], [2])


def test_attributes_and_methods_of_a_natively_vectorised_environment() -> None:
    env = GymnasiumVecEnv(Shared())
    assert env.get_attr("gravity") == [9.8, 9.8] and env.has_attr("gravity") and not env.has_attr("levity")
    env.set_attr("gravity", 1.5)
    assert env.env_method("weigh", 2.0) == [3.0, 3.0]
    assert env.env_is_wrapped(gym.wrappers.TimeLimit) == [False, False]
    with pytest.raises(ValueError, match="acts on all of its 2"):
        env.set_attr("gravity", 0.0, indices=[0])
    with pytest.raises(ValueError, match="SyncVectorEnv"):
        env.env_method("weigh", 2.0, indices=1)


def test_attributes_and_methods_of_separate_environments() -> None:
    env = vectorised(AutoresetMode.SAME_STEP, 2, 3)
    env.set_attr("length", 7, indices=[1])
    assert env.get_attr("length") == [2, 7] and env.get_attr("length", indices=1) == [7]
    assert env.env_method("double", 10) == [40, 140] and env.env_method("double", number=1, indices=[0]) == [4]
    assert env.env_is_wrapped(gym.wrappers.TimeLimit, indices=0) == [False]
    assert not env.has_attr("levity")
    limited = GymnasiumVecEnv(gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync"))
    assert limited.env_is_wrapped(gym.wrappers.TimeLimit) == [True, True]


def test_attributes_and_methods_across_processes_and_close() -> None:
    env = vectorised(AutoresetMode.SAME_STEP, 2, 3, vector=AsyncVectorEnv)
    assert env.get_attr("length") == [2, 3] and env.get_attr("length", indices=[1]) == [3]
    assert not env.has_attr("levity")
    with pytest.raises(AttributeError, match="no attribute 'levitate'"):
        env.env_method("levitate")
    env.set_attr("length", 4)  # the workers survived being asked for what is not there
    assert env.env_method("double", 10) == [80, 80]
    assert env.env_is_wrapped(Monitor) == [True, True]
    with pytest.raises(RuntimeError, match="TimeLimit"):
        env.env_is_wrapped(gym.wrappers.TimeLimit)
    with pytest.raises(ValueError, match="at once"):
        env.env_method("double", 10, indices=[0])
    workers = set(env.env.processes)
    assert workers <= set(multiprocessing.active_children())
    env.close()
    assert not workers & set(multiprocessing.active_children())


@pytest.mark.parametrize("vector", [SyncVectorEnv, AsyncVectorEnv])
def test_seeds_and_options_are_used_once(vector: type) -> None:
    env = vectorised(AutoresetMode.SAME_STEP, 2, 3, vector=vector)
    assert env.seed(5) == [5, 6]
    env.set_options({"height": 3})
    env.reset()
    assert [(info["seed"], info["height"]) for info in env.reset_infos] == [(5, 3), (6, 3)]
    env.reset()
    assert not any({"seed", "height"} & set(info) for info in env.reset_infos)
    env.set_options([{"height": 3}, {"height": 4}])
    with pytest.raises(ValueError, match="differ between environments"):
        env.reset()
    env.close()


def test_frames() -> None:
    env = vectorised(AutoresetMode.SAME_STEP, 9, 9, render_mode="rgb_array")
    roll(env, 3)
    assert [frame[0, 0, 0] for frame in env.get_images()] == [3, 3]
    assert env.render().shape == (8, 4, 3)
    with pytest.warns(UserWarning, match="render_mode is None"):
        assert vectorised(AutoresetMode.SAME_STEP, 9).get_images() == [None]


@pytest.mark.parametrize("mode", MODES)
def test_evaluate_policy_reports_true_returns(mode: AutoresetMode) -> None:
    """SB3's evaluation counts the steps that only reset, unless it is given the adapter's statistics."""
    env = vectorised(mode, 4, 4)
    model = PPO("MlpPolicy", env, n_steps=4, batch_size=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        returns, lengths = evaluate_policy(model, env, n_eval_episodes=6, return_episode_rewards=True)
    assert returns == [1 + 2 + 3 + 4] * 6 and lengths == [4] * 6


def test_sb3_trains_and_logs_on_it() -> None:
    env = vectorised(AutoresetMode.SAME_STEP, 4, 4, kind="dict")
    model = PPO("MultiInputPolicy", VecNormalize(env, norm_obs_keys=["counts"]), n_steps=8, batch_size=8, n_epochs=1).learn(16)
    assert np.mean([episode["r"] for episode in model.ep_info_buffer]) == 1 + 2 + 3 + 4


@pytest.mark.parametrize("mode", MODES)
def test_gymnasium_cartpole_ends_where_the_pole_falls(mode: AutoresetMode) -> None:
    """The last observation is beyond the limit and the next one within reset bounds, in every mode."""
    kwargs = {"vector_kwargs": {"autoreset_mode": mode}, "vectorization_mode": "sync"}
    env = GymnasiumVecEnv(gym.make_vec("CartPole-v1", num_envs=3, **kwargs))
    env.seed(0)
    env.reset()
    ended = np.zeros(3, dtype=bool)
    for _ in range(60):
        observations, _, dones, infos = env.step(np.ones(3, dtype=np.int64))
        for i in np.flatnonzero(dones):
            assert abs(infos[i]["terminal_observation"][2]) > 12 * 2 * np.pi / 360
            assert mode is AutoresetMode.NEXT_STEP or np.abs(observations[i]).max() <= 0.05
        ended |= dones
    assert ended.all()


def test_atari() -> None:
    """A short time limit ends the episodes, so frames, counters and truncation can all be checked."""
    vector = pytest.importorskip("ale_py.vector_env")

    def make(mode: AutoresetMode) -> GymnasiumVecEnv:
        env = vector.AtariVectorEnv("breakout", num_envs=2, autoreset_mode=mode, max_num_frames_per_episode=80)
        return GymnasiumVecEnv(env)

    same, next_step = make(AutoresetMode.SAME_STEP), make(AutoresetMode.NEXT_STEP)
    assert (same.autoreset_mode, next_step.autoreset_mode) == (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)
    last = []
    for env in (same, next_step):
        env.seed(3)
        observations, dones, steps = env.reset(), np.zeros(2, dtype=bool), 0
        assert observations.shape == (2, 4, 84, 84) and observations.dtype == np.uint8
        while not dones[0]:
            previous, steps = observations, steps + 1
            observations, rewards, dones, infos = env.step(np.zeros(2, dtype=np.int64))
        assert infos[0]["TimeLimit.truncated"] and infos[0]["episode"]["l"] == steps and rewards.dtype == np.float32
        assert infos[0]["lives"] == 5
        # Frames are stacked oldest first: all but the newest were there one step before.
        np.testing.assert_array_equal(infos[0]["terminal_observation"][:-1], previous[0, 1:])
        last.append(infos[0]["terminal_observation"])
        env.close()
    np.testing.assert_array_equal(*last)


def test_no_hearsay_about_the_mode() -> None:
    """ale_py writes its mode into the metadata that all classes share; others must not inherit it."""
    env = Shared()
    del env.metadata
    VectorEnv.metadata["autoreset_mode"] = AutoresetMode.DISABLED
    try:
        with pytest.raises(ValueError, match=r"does not say how it resets.*None.*AutoresetMode\.SAME_STEP"):
            GymnasiumVecEnv(env)
    finally:
        del VectorEnv.metadata["autoreset_mode"]
    env.metadata = {"autoreset_mode": "Sometimes"}
    with pytest.raises(ValueError, match="'Sometimes'"):
        autoreset_mode(env)
    env.metadata = {"autoreset_mode": "NextStep"}
    assert autoreset_mode(env) is AutoresetMode.NEXT_STEP


def test_what_cannot_be_adapted_is_rejected() -> None:
    with pytest.raises(TypeError, match="Counting"):
        GymnasiumVecEnv(Counting(2))
    nested = Shared()
    nested.single_observation_space = spaces.Dict({"a": spaces.Dict({"b": nested.single_observation_space})})
    with pytest.raises(ValueError, match="without nesting"):
        GymnasiumVecEnv(nested)
    hybrid = Shared()
    hybrid.single_action_space = spaces.Tuple([spaces.Discrete(2), spaces.Discrete(2)])
    with pytest.raises(ValueError, match="Action space Tuple"):
        GymnasiumVecEnv(hybrid)
    partial = Shared()
    partial.action_space = gym.vector.utils.batch_space(partial.single_action_space, 1)
    with pytest.raises(ValueError, match="1 of its 2 environments"):
        GymnasiumVecEnv(partial)


def test_same_step_without_a_last_observation() -> None:
    env = GymnasiumVecEnv(Shared(length=1))
    env.env.step = lambda actions: (np.zeros((2, 1)), np.zeros(2), np.array([False, True]), np.zeros(2, dtype=bool), {})
    env.reset()
    with pytest.raises(RuntimeError, match="environment 1 ended an episode without 'final_obs'"):
        env.step(np.zeros((2, 1)))


def test_split_infos_reads_masks_and_nesting() -> None:
    infos = split_infos(
        {
            "speed": np.array([1.0, 2.0]),
            "_speed": np.array([True, False]),
            "nested": {"depth": np.array([3, 4]), "_depth": np.array([False, True])},
            "_private": np.array([5, 6]),
            "table": np.zeros(3),
        },
        num_envs=2,
    )
    assert [info.get("speed") for info in infos] == [1.0, None]
    assert [info["nested"] for info in infos] == [{}, {"depth": 4}]
    assert [info["_private"] for info in infos] == [5, 6]
    assert all(info["table"].shape == (3,) for info in infos)


@pytest.mark.parametrize("mode", MODES)
def test_the_last_info_of_an_episode_has_nothing_of_the_next_one(mode: AutoresetMode) -> None:
    """Its number stands in the info of reset."""
    env = vectorised(mode, 2)
    _, steps = roll(env, 2)
    (info,) = steps[-1][3]
    assert steps[-1][2].all()
    assert "begun" not in info
    assert info["t"] == 2
    env.close()


@pytest.mark.parametrize(
    ("around", "refused"),
    [
        (lambda env: VecFrameStack(env, 2), True),
        (VecNormalize, True),
        (lambda env: VecNormalize(env, norm_reward=False), False),
        (lambda env: VecNormalize(env, training=False), False),
    ],
)
def test_wrappers_that_would_count_steps_that_only_reset_are_refused(around: Any, refused: bool) -> None:
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        env = around(vectorised(mode, 3))
        if refused and mode is AutoresetMode.NEXT_STEP:
            with pytest.raises(ValueError, match="reset in a step of their own, which Vec"):
                rlspo.PPO("MlpPolicy", env, n_steps=8, batch_size=8)
        else:
            rlspo.PPO("MlpPolicy", env, n_steps=8, batch_size=8)
