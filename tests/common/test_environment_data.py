"""What environments give reaches the buffers as it is: refused where it does not fit, copied where it may be overwritten."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecFrameStack, VecNormalize

from rlspo import PDPPO, PPO, SAC, SPO
from rlspo.common.replay_buffer import ReplayBuffer
from rlspo.common.rollout_buffer import Field, RolloutBuffer, check_rows
from rlspo.common.vector_env import GymnasiumVecEnv, only_reset
from rlspo.envs.post_decision import OBSERVATION_KEY, REWARD_KEY
from tests.spaces import SpacesEnv

pytestmark = pytest.mark.filterwarnings("ignore:Nothing is learned")
ON_POLICY: dict[str, Any] = {"n_steps": 12, "batch_size": 24, "seed": 0, "device": "cpu", "gamma": 0.9}
OFF_POLICY: dict[str, Any] = {"learning_starts": 30, "batch_size": 4, "buffer_size": 60, "seed": 0, "device": "cpu"}


class Clock(gym.Env[Any, Any]):
    """Observes its time, which a limit ends after five steps; the state between decision and chance is half a step ahead."""

    observation_space: spaces.Space = spaces.Box(-99, 99, (3,), np.float32)
    action_space: spaces.Space = spaces.Box(-1, 1, (1,), np.float32)
    render_mode = None

    def look(self, time: float) -> Any:
        return np.full(3, time, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return self.look(0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        info = {OBSERVATION_KEY: self.look(self.time - 0.5), REWARD_KEY: 0.0, "autoreset": False}
        return self.look(self.time), float(self.time), False, self.time == 5, info


class Reusing(VecEnvWrapper):
    """Gives everything in the same few arrays, again and again."""

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        n, shape = venv.num_envs, venv.observation_space.shape
        assert shape is not None
        self.seen, self.rewards, self.dones = np.zeros((n, *shape), np.float32), np.zeros(n, np.float32), np.zeros(n, bool)
        self.ends = np.zeros((n, *shape), np.float32)
        self.between = np.zeros((n, *shape), np.float32)

    def reset(self) -> Any:
        self.seen[:] = self.venv.reset()
        return self.seen

    def step_wait(self) -> Any:
        self.seen[:], self.rewards[:], self.dones[:], infos = self.venv.step_wait()
        for index, info in enumerate(infos):
            self.between[index] = info[OBSERVATION_KEY]
            info[OBSERVATION_KEY] = self.between[index]
            if self.dones[index]:
                self.ends[index] = info["terminal_observation"]
                info["terminal_observation"] = self.ends[index]
        return self.seen, self.rewards, self.dones, infos


@pytest.mark.parametrize("agent", [PPO, PDPPO])
def test_rollouts_from_arrays_that_are_reused(agent: Any) -> None:
    found = []
    for wrap in (Reusing, lambda env: env):
        model = agent("MlpPolicy", wrap(DummyVecEnv([Clock] * 2)), **ON_POLICY, n_epochs=1)
        model.train = lambda: None
        model.learn(24)
        found.append({**model.rollout_buffer.data, "last": model._last_obs, "starts": model._last_episode_starts})
    np.testing.assert_array_equal(found[1]["observations"][:7, 0, 0], [0, 1, 2, 3, 4, 0, 1])
    for name, kept in found[1].items():
        np.testing.assert_array_equal(found[0][name], kept, err_msg=name)


def test_transitions_from_arrays_that_are_reused() -> None:
    reused, plain = (
        SAC("MlpPolicy", wrap(DummyVecEnv([Clock] * 2)), **OFF_POLICY).learn(30).replay_buffer.data
        for wrap in (Reusing, lambda env: env)
    )
    assert plain["observations"][:12:2, 0].tolist() == [0, 1, 2, 3, 4, 0]
    assert plain["next_observations"][:12:2, 0].tolist() == [1, 2, 3, 4, 5, 1]
    for name, kept in plain.items():
        np.testing.assert_array_equal(reused[name].numpy(), kept.numpy(), err_msg=name)


class Tells(VectorWrapper):
    def step(self, actions: Any) -> Any:
        *rest, info = super().step(actions)
        return *rest, {**info, "autoreset": np.ones(self.num_envs, bool)}


# A search does not follow a vector wrapper that it does not know.
@pytest.mark.parametrize(
    ("agent", "mode"),
    [(SPO, None)]
    + [(agent, mode) for agent in (PPO, PDPPO, SAC) for mode in (None, AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)],
)
def test_an_environments_own_infos_mean_nothing(agent: Any, mode: AutoresetMode | None) -> None:
    env = Clock() if mode is None else Tells(SyncVectorEnv([Clock] * 2, autoreset_mode=mode))
    if agent is SAC:
        model = SAC("MlpPolicy", env, **OFF_POLICY).learn(24)
        # Every sixth step only resets.
        assert model.replay_buffer.size() == (20 if mode is AutoresetMode.NEXT_STEP else 24)
        return
    small = {"gradient_steps": 1, "n_particles": 2, "depth": 1} if agent is SPO else {"n_epochs": 1}
    model = agent("MlpPolicy", env, **{**ON_POLICY, "batch_size": 4}, **small).learn(1)
    assert model.rollout_buffer.data["valid"].mean() == (10 / 12 if mode is AutoresetMode.NEXT_STEP else 1.0)


class Turned(VecEnvWrapper):
    """Changes one of the arrays that a step gives.

    :param place: of observations, rewards or dones
    :param change: of that array
    """

    def __init__(self, venv: VecEnv, place: int, change: Any) -> None:
        super().__init__(venv)
        self.place, self.change = place, change

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        given: list[Any] = [*self.venv.step_wait()]
        given[self.place] = self.change(given[self.place])
        return tuple(given)


@pytest.mark.parametrize("agent", [PPO, SAC])
@pytest.mark.parametrize(
    ("place", "change", "words"),
    [
        (0, lambda seen: seen[:, :1], r"observations has the shape \(1, 1\); it must be \(1, 3\)"),
        (0, lambda seen: seen[0, 0], r"observations has the shape \(\); it must be \(1, 3\)"),
        (1, lambda rewards: rewards[:, None], r"rewards has the shape \(1, 1\); it must be \(1,\)"),
        (1, lambda rewards: rewards[0], r"rewards has the shape \(\)"),
        (2, lambda dones: dones[:, None], r"dones has the shape \(1, 1\)"),
    ],
)
def test_arrays_of_another_shape_are_rejected(agent: Any, place: int, change: Any, words: str) -> None:
    small = OFF_POLICY if agent is SAC else {**ON_POLICY, "batch_size": 12}
    with pytest.raises(ValueError, match=words):
        agent("MlpPolicy", Turned(DummyVecEnv([Clock]), place, change), **small).learn(12)


IMAGE = spaces.Box(0, 255, (36, 40, 3), np.uint8)
MISFITS: dict[str, tuple[spaces.Space, Any, str]] = {
    "a scalar": (spaces.Box(-1, 1, (3,)), 0.5, "shape"),
    "one of three": (spaces.Box(-1, 1, (3,)), np.zeros(1), "shape"),
    "fractions for bytes": (IMAGE, np.zeros((36, 40, 3)), "float64, but the spaces say uint8"),
    "a fraction for a choice": (spaces.Discrete(3), 1.5, "int64"),
    "a key too few": (spaces.Dict(a=spaces.Discrete(3), b=spaces.Discrete(2)), {"a": 1}, "lacks 'b'"),
    "a scalar in a Dict": (spaces.Dict(a=spaces.Box(-1, 1, (3,))), {"a": 0.5}, r"\['a'\].*shape"),
}


@pytest.mark.parametrize("case", [*MISFITS])
def test_observations_that_are_not_of_their_space_are_rejected(case: str) -> None:
    space, observation, words = MISFITS[case]

    class Misfit(Clock):
        observation_space = space

        def look(self, time: float) -> Any:
            return observation

    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    with pytest.raises(ValueError, match=words):
        PPO(policy, Misfit(), **{**ON_POLICY, "batch_size": 12}).learn(12)


class Small(Clock):
    """Gives one number, on its own or in a row, where its space says three."""

    def __init__(self, alone: bool) -> None:
        self.alone = alone

    def look(self, time: float) -> Any:
        return np.float32(0.5) if self.alone else np.full(1, 0.5, np.float32)


SURROUNDED: dict[str, Any] = {
    "bare": lambda env: env,
    "normalised": VecNormalize,
    "stacked": lambda env: VecNormalize(VecFrameStack(env, 2)),
}


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("around", SURROUNDED)
@pytest.mark.parametrize("agent", [PPO, SAC])
def test_what_a_users_dummy_vec_env_would_broadcast_is_rejected(agent: Any, around: str, alone: bool) -> None:
    small = ON_POLICY if agent is PPO else OFF_POLICY
    model = agent("MlpPolicy", SURROUNDED[around](DummyVecEnv([Clock, lambda: Small(alone)])), **small)
    with pytest.raises(ValueError, match=r"observation of environment 1 has the shape .*must be \(1, 3\)"):
        model.learn(24)


def test_what_vec_normalize_would_broadcast_is_rejected() -> None:
    """Whatever makes the rows: a VecEnv of somebody's own, or SB3's of processes."""
    narrow = Turned(DummyVecEnv([Clock] * 2), 0, lambda rows: rows[:, :1])
    with pytest.raises(ValueError, match=r"array of observations has the shape \(2, 1\); it must be \(2, 3\)"):
        PPO("MlpPolicy", VecNormalize(narrow), **ON_POLICY).learn(24)


def test_a_last_observation_of_another_shape_is_rejected() -> None:
    class Short(Clock):
        def look(self, time: float) -> Any:
            return super().look(time)[: 1 if time == 5 else 3]

    with pytest.raises(ValueError, match="terminal_observation of environment 1"):
        SAC("MlpPolicy", DummyVecEnv([Clock, Short]), **OFF_POLICY).learn(24)


class Ends(SpacesEnv):
    """Dict observations; every episode ends after three steps, by a time limit or not.

    :param limit: by a time limit
    """

    def __init__(self, limit: bool) -> None:
        super().__init__("dict")
        self.limit = limit

    def step(self, action: Any) -> Any:
        observation, reward, *_ = super().step(action)
        over = self.steps == 3
        return observation, reward, over and not self.limit, over and self.limit, {}


class OneKey(VecEnvWrapper):
    """Shows one part of the observations, and leaves infos as they are."""

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv, observation_space=venv.observation_space["vector"])

    def reset(self) -> Any:
        return self.venv.reset()["vector"]

    def step_wait(self) -> Any:
        observations, *more = self.venv.step_wait()
        return observations["vector"], *more


def test_a_wrapper_that_leaves_last_observations_as_they_are() -> None:
    """They count only where they are learned from."""
    PPO("MlpPolicy", OneKey(DummyVecEnv([lambda: Ends(limit=False)])), **ON_POLICY).learn(24)
    words = r"terminal_observation of environment 0 is of type dict.*infos\[i\]"
    with pytest.raises(ValueError, match=words):
        PPO("MlpPolicy", OneKey(DummyVecEnv([lambda: Ends(limit=True)])), **ON_POLICY).learn(24)
    with pytest.raises(ValueError, match=words):
        SAC("MlpPolicy", OneKey(DummyVecEnv([lambda: Ends(limit=False)])), **OFF_POLICY).learn(24)


class Painted(Clock):
    observation_space = IMAGE

    def look(self, time: float) -> Any:
        return np.full((36, 40, 3), [10, 20, 30 + int(time)], np.uint8)


def small_cnn(env: Any) -> SAC:
    sizes = {"net_arch": [8], "features_extractor_kwargs": {"features_dim": 8}}
    return SAC("CnnPolicy", env, **{**OFF_POLICY, "learning_starts": 8}, policy_kwargs=sizes)


def test_vec_normalize_inside_of_wrappers_that_turn_or_stack() -> None:
    painted = small_cnn(VecNormalize(DummyVecEnv([Painted] * 2), norm_obs=False)).learn(24).replay_buffer
    assert (painted.data["observations"][:24, 1] == 20).all()
    assert painted.data["next_observations"][:10:2, 2, 0, 0].tolist() == [31, 32, 33, 34, 35]
    inner = VecNormalize(DummyVecEnv([Clock] * 4), norm_obs=False, gamma=0.9)
    model = SAC("MlpPolicy", VecFrameStack(inner, 2), **{**OFF_POLICY, "learning_starts": 8}).learn(40)
    rows = model.replay_buffer.data
    assert rows["observations"][:20:4, ::3].tolist() == [[0, 0], [0, 1], [1, 2], [2, 3], [3, 4]]
    assert rows["next_observations"][16:20, ::3].tolist() == [[4, 5]] * 4
    assert rows["rewards"][:20:4].tolist() == [1, 2, 3, 4, 5]  # as they came in; they are scaled when they are drawn
    data, _ = model._minibatch(64)
    assert data["rewards"].max() < 5 and data["observations"].max() == 4
    # Normalised observations are kept as they were seen.
    inner = VecNormalize(DummyVecEnv([Clock] * 4), clip_obs=1.0)
    model = SAC("MlpPolicy", VecFrameStack(inner, 2), **{**OFF_POLICY, "learning_starts": 8}).learn(40)
    assert model._minibatch(64)[0]["observations"].abs().max() == 1.0


def test_a_replay_buffer_is_filled_from_outside_with_what_fits() -> None:
    buffer, seen = small_cnn(Painted()).replay_buffer, Painted().look(0)[None]
    assert isinstance(buffer, ReplayBuffer)
    rest: Any = (np.zeros((1, 1)), np.ones(1), np.zeros(1), [{}])
    with pytest.raises(ValueError, match="channel last; put a VecTransposeImage"):
        buffer.add(seen, seen, *rest)
    turned = seen.transpose(0, 3, 1, 2)
    for place, wrong in ((1, np.ones((1, 1))), (0, np.zeros((2, 1))), (2, np.zeros((1, 1))), (3, [{}, {}])):
        with pytest.raises(ValueError, match="shape"):
            buffer.add(turned, turned, *rest[:place], wrong, *rest[place + 1 :])
    assert buffer.size() == 0
    buffer.add(turned, turned, *rest)
    assert buffer.data["observations"][0, :, 0, 0].tolist() == [10, 20, 30]


def test_fields_reject_what_they_cannot_hold() -> None:
    buffer = RolloutBuffer(4, spaces.Dict(a=IMAGE), spaces.Discrete(2), "cpu", n_envs=2)
    with pytest.raises(ValueError, match=r"observations\['a'\]"):
        buffer.add(observations={"a": np.zeros((1, 36, 40, 3), np.uint8)})
    with pytest.raises(ValueError, match="dictionary"):
        buffer.add(observations=np.zeros((2, 36, 40, 3), np.uint8))
    check_rows("bytes", np.array([0, 255], np.int64), Field((), np.uint8), 2)
    with pytest.raises(ValueError, match="int64"):
        check_rows("bytes", np.array([0, 256], np.int64), Field((), np.uint8), 2)


def test_only_the_adapters_own_mark_is_one() -> None:
    assert not any(map(only_reset, ({}, {"autoreset": True}, {"rlspo.only_reset": False}, {"rlspo.only_reset": "x"})))
    env = GymnasiumVecEnv(SyncVectorEnv([Clock], autoreset_mode=AutoresetMode.NEXT_STEP))
    env.reset()
    marks = [only_reset(env.step(np.zeros((1, 1)))[3][0]) for _ in range(7)]
    assert marks == [False] * 5 + [True, False]


class Pool(VectorWrapper):
    """Tells the spaces of one environment, as envpool does.

    :param at_a_time: how many of the environments a step steps
    """

    def __init__(self, env: Any, at_a_time: int, says: bool) -> None:
        super().__init__(env)
        self.action_space, self.observation_space = env.single_action_space, env.single_observation_space
        self.at_a_time = at_a_time
        if says:
            env.unwrapped.config = {"batch_size": at_a_time}

    def reset(self, **kwargs: Any) -> Any:
        seen, info = super().reset(**kwargs)
        return seen[: self.at_a_time], info


@pytest.mark.parametrize("agent", [PPO, SAC])
@pytest.mark.parametrize("n_envs", [1, 4])
@pytest.mark.parametrize("shape", [(1,), (4,)])
def test_vector_environments_that_tell_the_action_space_of_one(agent: Any, n_envs: int, shape: tuple[int, ...]) -> None:
    class Several(Clock):
        action_space = spaces.Box(-1, 1, shape, np.float32)

        def step(self, action: Any) -> Any:
            assert action.shape == shape
            return super().step(action)

    pool = Pool(SyncVectorEnv([Several] * n_envs, autoreset_mode=AutoresetMode.NEXT_STEP), n_envs, says=True)
    small = OFF_POLICY if agent is SAC else {**ON_POLICY, "batch_size": 12}
    agent("MlpPolicy", pool, **small).learn(12)
    adapted = GymnasiumVecEnv(pool)
    adapted.reset()
    with pytest.raises(ValueError, match=r"one for each environment, \("):
        adapted.step(np.zeros((*shape, n_envs, 1)))


def test_steps_of_some_environments_at_a_time_are_rejected() -> None:
    makers = SyncVectorEnv([Clock] * 4), SyncVectorEnv([Clock] * 4)
    for env in makers:
        env.metadata = {**env.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
    with pytest.raises(ValueError, match=r"steps 2 of its 4 environments.*batch_size"):
        PPO("MlpPolicy", Pool(makers[0], 2, says=True))
    with pytest.raises(ValueError, match=r"steps 2 of its 4 environments.*batch_size"):
        PPO("MlpPolicy", Pool(makers[1], 2, says=False), **{**ON_POLICY, "batch_size": 48}).learn(48)


@pytest.mark.parametrize("agent", [PPO, SAC])
def test_the_logger_holds_numbers_only(agent: Any, tmp_path: Any) -> None:
    """What others read from ``logger.name_to_value``: the settings for TensorBoard are not among it."""
    found: list[Any] = []
    small = {**OFF_POLICY, "learning_starts": 2} if agent is SAC else {**ON_POLICY, "batch_size": 12}
    model = agent("MlpPolicy", Clock(), **small, tensorboard_log=str(tmp_path))
    model.learn(12, callback=lambda seen, _: found.append(dict(model.logger.name_to_value)) or True)
    assert all(isinstance(value, int | float) for values in found for value in values.values())
    assert any(b"_hparams_" in file.read_bytes() for file in tmp_path.rglob("events*"))
