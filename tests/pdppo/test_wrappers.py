"""Post-decision states reach the agent as observations do: through vectorised environments and every wrapper."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvWrapper

from rlspo import PDPPO
from rlspo.common.errors import InvalidRolloutError, MissingPostDecisionError
from rlspo.common.vector_env import GymnasiumVecEnv, only_reset
from rlspo.envs import TransformPostDecision
from rlspo.envs.post_decision import OBSERVATION_KEY, REWARD_KEY
from rlspo.pdppo.post_decisions import PostDecisions
from rlspo.policies import ActorCriticPolicy
from tests.pdppo.chain import ChainEnv, VectorChainEnv

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "seed": 0}


class Counter(gym.Env[Any, Any]):
    """Observes 2 t at period t and 2 t + 1 in between, so that any mix-up of moments shows; episodes of three steps.

    :param kind: ``"vector"``, ``"image"`` or ``"dict"``
    """

    def __init__(self, kind: str = "vector") -> None:
        image, vector = spaces.Box(0, 255, (36, 40, 1), np.uint8), spaces.Box(-100, 100, (2,), np.float32)
        self.kind = kind
        self.observation_space = {"vector": vector, "image": image, "dict": spaces.Dict(a=vector, b=image)}[kind]
        self.action_space = spaces.Discrete(2)
        self.render_mode = None

    def observe(self, number: int) -> Any:
        vector, image = np.array([number, -number], np.float32), np.full((36, 40, 1), number, np.uint8)
        return {"vector": vector, "image": image, "dict": {"a": vector, "b": image}}[self.kind]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self.observe(0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        info = {OBSERVATION_KEY: self.observe(2 * self.t - 1), REWARD_KEY: 2.0 * self.t}
        return self.observe(2 * self.t), 5.0 * self.t, False, self.t == 3, info


class Beside(Counter):
    """Observes vectors; the states after decisions are shown as images whose upper left corner counts."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.post_decision_space = self.observation_space
        self.observation_space, self.kind, self.shown = Counter().observation_space, "vector", kind

    @staticmethod
    def picture(number: int) -> np.ndarray:
        image = np.zeros((36, 40, 1), np.uint8)
        image[:3, :2] = number
        return image

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        image = self.picture(2 * self.t - 1)
        info[OBSERVATION_KEY] = image if self.shown == "image" else {"a": observation, "b": image}
        return observation, reward, terminated, truncated, info


def counters(kind: str = "vector", n: int = 2) -> VecEnv:
    return DummyVecEnv([lambda: Counter(kind)] * n)


def steps(env: VecEnv, n: int) -> list[tuple[Any, Any, np.ndarray]]:
    """What the agent sees before each step, the post-decision observation after it, and its reward."""
    reader = PostDecisions(env)
    before: Any = env.reset()
    seen = []
    for _ in range(n):
        reader.before_step()
        after, _, _, infos = env.step(np.array([env.action_space.sample()] * env.num_envs))
        seen.append((before, *reader.read(infos, 0)))
        before = after
    return seen


def test_frame_stacking_makes_it_the_newest_frame() -> None:
    for before, post, _ in steps(VecFrameStack(counters(), 3), 8):
        np.testing.assert_array_equal(post[:, :4], before[:, 2:])
        np.testing.assert_array_equal(post[:, 4], before[:, 4] + 1)


def test_frame_stacking_of_dictionaries_and_images() -> None:
    env = VecFrameStack(VecTransposeImage(counters("dict")), 2)
    for before, post, _ in steps(env, 7):
        np.testing.assert_array_equal(post["a"][:, 2], before["a"][:, 2] + 1)
        assert post["b"].shape == before["b"].shape == (2, 2, 36, 40)
        np.testing.assert_array_equal(post["b"][:, 0], before["b"][:, 1])
        np.testing.assert_array_equal(post["b"][:, 1], before["b"][:, 1] + 1)


def test_images_are_transposed() -> None:
    for before, post, _ in steps(VecTransposeImage(counters("image")), 4):
        assert post.shape == before.shape == (2, 1, 36, 40)
        np.testing.assert_array_equal(post, before + 1)


@pytest.mark.parametrize("kind", ["image", "dict"])
def test_images_beside_observations_that_are_none_are_transposed_too(kind: str) -> None:
    """SB3 wraps environments whose observations are images, and these are vectors."""
    env: Any = DummyVecEnv([lambda: Beside(kind)])
    model: Any = PDPPO("MlpPolicy", env, **SMALL)
    image = spaces.Box(0, 255, (1, 36, 40), np.uint8)
    assert model.post_decision_space == (image if kind == "image" else spaces.Dict(a=env.observation_space, b=image))
    [(before, post, _)] = steps(env, 1)
    seen = post if kind == "image" else post["b"]
    np.testing.assert_array_equal(seen, Beside.picture(before[0, 0] + 1).transpose(2, 0, 1)[None])
    model.learn(16)
    stored = model.rollout_buffer.flat("post_observations")
    corners = np.asarray(stored if kind == "image" else stored["b"])[:, 0, :3, :2]
    assert {tuple(np.unique(corner)) for corner in corners} == {(1,), (3,), (5,)}


@pytest.mark.parametrize("stacked", ["inside", "outside", "not"])
def test_vec_normalize_treats_both_alike(stacked: str) -> None:
    env: Any = VecFrameStack(counters(), 2) if stacked == "inside" else counters()
    normalizer = env = VecNormalize(env, clip_obs=5.0)
    env = VecFrameStack(env, 2) if stacked == "outside" else env
    env.reset()
    for _ in range(5):
        env.step(np.zeros(2, int))
    normalizer.training = False
    for before, post, reward in steps(env, 6):
        mean, std = normalizer.obs_rms.mean, np.sqrt(normalizer.obs_rms.var + normalizer.epsilon)
        if stacked == "outside":
            mean, std = np.tile(mean, 2), np.tile(std, 2)
        number = before * std + mean
        np.testing.assert_allclose((post * std + mean)[:, -2], number[:, -2] + 1, atol=1e-4)
        scale = np.sqrt(normalizer.ret_rms.var + normalizer.epsilon)
        np.testing.assert_allclose(reward * scale, number[:, -2] + 2, atol=1e-4)


def test_rewards_add_up_in_the_units_of_the_values() -> None:
    """r^x + r^w = r at every step: raw, scaled by the engine, and scaled by VecNormalize."""
    env = make_vec_env(VectorChainEnv, n_envs=4)
    for venv, normalize in ((env, False), (env, True), (VecNormalize(env, norm_obs=False, clip_reward=1e9), False)):
        agent = PDPPO("MlpPolicy", venv, **SMALL, normalize_rewards=normalize, gae_lambda=0.0, gamma=0.9).learn(64)
        data = agent.rollout_buffer.data
        rewards = data["rewards"] if agent.reward_scaler is None else agent.reward_scaler(data["rewards"])
        scale = agent.reward_scaler.scale if agent.reward_scaler else 1.0
        # With lambda = 0 the targets are r^x + r^w + gamma V(s') and r^w + gamma V(s').
        np.testing.assert_allclose(data["returns"] - data["post_returns"], data["post_rewards"] / scale, atol=1e-5)
        assert (rewards <= data["post_rewards"] / scale + 1e-5).all(), "waiting costs, so r^w is never positive"


class Rare(gym.Env[Any, Any]):
    """Decisions earn a little, now and then a loss that clipping cuts; chance pays nothing."""

    observation_space: Any = spaces.Box(0, 1, (1,), np.float32)
    action_space: Any = spaces.Discrete(2)
    render_mode = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        reward = -1000.0 if self.t == 500 else self.np_random.random()
        seen = np.zeros(1, np.float32)
        return seen, reward, False, self.t == 510, {OBSERVATION_KEY: seen, REWARD_KEY: reward}


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_clipping_cuts_off_a_decision_is_not_left_to_chance(wrapped: bool) -> None:
    env: Any = make_vec_env(Rare, n_envs=1)
    env = VecNormalize(env, norm_obs=False, gamma=0.0) if wrapped else env
    small = {"n_steps": 512, "batch_size": 512, "n_epochs": 1, "seed": 0}
    agent = PDPPO("MlpPolicy", env, **small, normalize_rewards=not wrapped, gae_lambda=0.0, gamma=0.0).learn(512)
    data = agent.rollout_buffer.data
    assert np.isclose(data["returns"].min(), -10.0), "the loss is clipped"
    np.testing.assert_allclose(data["post_returns"], 0.0, atol=1e-4, err_msg="r^w, which is nothing")


def test_time_limits_are_bootstrapped_and_ends_are_not() -> None:
    """Where the task ends, V^x learns r^w alone; where a time limit cuts, V of what would have come."""
    for truncates in (True, False):
        agent = PDPPO(
            "MlpPolicy",
            ChainEnv(length=4, truncates=truncates),
            **SMALL,
            gamma=0.9,
            normalize_rewards=False,
            policy_kwargs={"net_arch": []},
        )
        agent.policy.value_net.bias.data.fill_(100.0)
        agent.policy.value_net.weight.data.zero_()
        agent.policy.optimizer.param_groups[0]["lr"] = 0.0
        agent._setup_learn(16)
        agent.collect_rollouts(agent.env, agent._init_callback(None), agent.rollout_buffer, 16)
        data = agent.rollout_buffer.data
        chance = data["rewards"] - data["post_rewards"]
        following = np.full((16, 1), 90.0)
        if not truncates:
            following[3::4] = 0.0
        np.testing.assert_allclose(data["post_returns"], chance + following, atol=1e-4)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_autoreset_mode(mode: AutoresetMode) -> None:
    """Values belong to the step that was taken; a step that only resets is no decision."""
    env = GymnasiumVecEnv(SyncVectorEnv([Counter] * 2, autoreset_mode=mode))
    reader = PostDecisions(env)
    env.reset()
    number = 0
    for _ in range(9):
        reader.before_step()
        _, _, dones, infos = env.step(np.zeros(2, int))
        post, rewards = reader.read(infos, 0)
        if only_reset(infos[0]):
            np.testing.assert_array_equal(rewards, 0)
            continue
        np.testing.assert_array_equal(post[:, 0], number + 1)
        np.testing.assert_array_equal(rewards, number + 2)
        number = 0 if dones[0] else number + 2


@pytest.mark.parametrize("kind", ["vector", "image", "dict"])
def test_learns_from_every_kind_of_observation(kind: str) -> None:
    policy = {"vector": "MlpPolicy", "image": "CnnPolicy", "dict": "MultiInputPolicy"}[kind]
    agent = PDPPO(policy, counters(kind), **SMALL, normalize_observations=True).learn(64)
    assert agent._n_updates == 2


def test_learns_in_worker_processes_and_native_vectors() -> None:
    PDPPO("MlpPolicy", SubprocVecEnv([VectorChainEnv] * 2, start_method="fork"), **SMALL).learn(32)
    native = gym.make_vec("rlspo/LotSizing-v0", num_envs=2, instance="2x1")
    PDPPO("MlpPolicy", native, **SMALL).learn(250)
    wrapped = VecMonitor(VecNormalize(VecFrameStack(counters(), 2)))
    PDPPO("MlpPolicy", wrapped, **SMALL, normalize_rewards=False).learn(32)


@pytest.mark.parametrize("native", [False, True])
def test_looking_ahead_says_what_stepping_would_tell(native: bool) -> None:
    """Through every kind of vectorised environment and wrapper, for the action that is taken and one that is not."""
    kwargs = {"instance": "3x2"}
    if native:
        base: VecEnv = GymnasiumVecEnv(gym.make_vec("rlspo/LotSizing-v0", num_envs=3, **kwargs))
    else:
        base = make_vec_env("rlspo/LotSizing-v0", n_envs=3, env_kwargs=kwargs)
    env = VecFrameStack(VecNormalize(base, gamma=0.9), 2)
    reader = PostDecisions(env)
    assert reader.can_look_ahead and not PostDecisions(counters()).can_look_ahead
    env.action_space.seed(0)
    env.reset()
    for step in range(6):
        actions = np.stack([[env.action_space.sample() for _ in range(2)] for _ in range(3)])
        if step == 3:
            env.venv.training = False  # so that the step's own statistics are those of looking ahead
        reader.before_step()
        ahead, ahead_rewards = reader.look_ahead(actions)
        _, _, _, infos = env.step(actions[:, 1])
        seen, rewards = reader.read(infos, step)
        if step >= 3:
            np.testing.assert_allclose(ahead[:, 1], seen, atol=1e-5)
            np.testing.assert_allclose(ahead_rewards[:, 1], rewards, atol=1e-6)
            assert not np.allclose(ahead[:, 0], seen)


class Box1(gym.Env[Any, Any]):
    """No post-decision interface."""

    observation_space: Any = spaces.Box(-1, 1, (1,), np.float32)
    action_space: Any = spaces.Box(-1, 1, (1,), np.float32)
    render_mode = None
    extra: dict[str, Any]

    def __init__(self, extra: dict[str, Any] | None = None) -> None:
        self.extra = extra or {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), 0.0, False, False, dict(self.extra)


def test_a_missing_key_is_an_error_at_the_first_step_that_says_how_to_add_it() -> None:
    agent = PDPPO("MlpPolicy", Box1(), **SMALL)
    with pytest.raises(
        MissingPostDecisionError, match=r"environment 0 has no 'post_decision_obs' and no 'post_decision_reward'"
    ):
        agent.learn(32)
    assert agent.num_timesteps == 1
    agent = PDPPO("MlpPolicy", Box1({OBSERVATION_KEY: np.zeros(1, np.float32)}), **SMALL)
    with pytest.raises(MissingPostDecisionError, match=r"no 'post_decision_reward' .*rlspo.envs.PostDecision\(env"):
        agent.learn(32)


@pytest.mark.parametrize("at", [0, 5])
def test_what_is_not_declared_is_an_error_at_its_step(at: int) -> None:
    class Turns(Box1):
        steps = 0

        def step(self, action: Any) -> Any:
            self.steps += 1
            self.extra = {OBSERVATION_KEY: np.zeros(3 if self.steps > at else 1, np.float32), REWARD_KEY: 0.0}
            return super().step(action)

    words = rf"environment 0 has the shape \(3,\) at step {at}, but post-decision observations are .* Box.*post_decision_space"
    with pytest.raises(ValueError, match=words):
        PDPPO("MlpPolicy", Turns(), **SMALL).learn(32)


@pytest.mark.parametrize("bad", ["observation", "reward"])
def test_nan_stops_before_it_reaches_the_weights(bad: str) -> None:
    extra = {
        OBSERVATION_KEY: np.full(1, np.nan if bad == "observation" else 0, np.float32),
        REWARD_KEY: np.nan if bad == "reward" else 0.0,
    }
    agent = PDPPO("MlpPolicy", Box1(extra), **SMALL)
    with pytest.raises(InvalidRolloutError, match=f"a post-decision {bad}.* that is NaN or infinite at step 0"):
        agent.learn(32)


class Halved(VecEnvWrapper):
    """Changes observations in a way of its own."""

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv, observation_space=spaces.Box(-50, 50, (2,), np.float32))

    def reset(self) -> Any:
        return self.venv.reset() / 2

    def step_wait(self) -> Any:
        observations, *rest = self.venv.step_wait()
        return (observations / 2, *rest)


def test_statistics_that_do_not_fit_are_told() -> None:
    class Short(Counter):
        post_decision_space = spaces.Box(-100, 100, (1,), np.float32)

    with pytest.warns(UserWarning, match="these stay as they are"):
        PostDecisions(VecNormalize(DummyVecEnv([Short])))


@pytest.mark.parametrize("bad", [np.array([1.0]), "a", None])
def test_a_reward_that_is_no_number_is_an_error_at_the_first_step(bad: Any) -> None:
    class Wrong(Counter):
        def step(self, action: Any) -> Any:
            seen, reward, terminated, truncated, info = super().step(action)
            return seen, reward, terminated, truncated, {**info, REWARD_KEY: bad}

    with pytest.raises(ValueError, match=r"post_decision_reward'\] of environment 0 is .* at step 0; it must be a number"):
        PDPPO("MlpPolicy", Wrong(), **SMALL).learn(16)


def test_steps_that_are_taken_together_are_an_error() -> None:
    env = gym.wrappers.MaxAndSkipObservation(VectorChainEnv(), 2)
    with pytest.raises(TypeError, match="MaxAndSkipObservation takes other steps than the one given"):
        PDPPO("MlpPolicy", env, **SMALL)


def test_a_policy_without_the_second_critic_is_an_error() -> None:
    with pytest.raises(TypeError, match="ActorCriticPolicy, which has no critic of post-decision states"):
        PDPPO(ActorCriticPolicy, VectorChainEnv(), **SMALL)  # type: ignore[arg-type]


def test_it_is_said_which_credit_auto_is(capsys: pytest.CaptureFixture[str]) -> None:
    PDPPO("MlpPolicy", "rlspo/LotSizing-v0", **SMALL, verbose=1)
    assert "credit is for each component here" in capsys.readouterr().out
    PDPPO("MlpPolicy", gym.make("rlspo/LotSizing-v0", instance="2x1"), **SMALL, verbose=1)  # one machine makes one choice
    assert "credit is joint here" in capsys.readouterr().out
    PDPPO("MlpPolicy", VectorChainEnv(), **SMALL, verbose=1)
    assert "credit is joint here" in capsys.readouterr().out


def test_a_wrapper_that_is_not_known_is_an_error_at_construction() -> None:
    with pytest.raises(TypeError, match="Halved changes observations"):
        PDPPO("MlpPolicy", Halved(counters()), **SMALL)


def test_another_environment_must_have_the_same_post_decision_states() -> None:
    class Other(VectorChainEnv):
        def __init__(self) -> None:
            super().__init__()
            self.post_decision_space = spaces.Discrete(4)

    agent = PDPPO("MlpPolicy", VectorChainEnv(), **SMALL).learn(16)
    agent.set_env(make_vec_env(VectorChainEnv, n_envs=1))
    agent.learn(16)
    with pytest.raises(ValueError, match="this agent was made for Box"):
        agent.set_env(make_vec_env(Other, n_envs=1))


@pytest.mark.parametrize(
    "wrapper", [lambda env: gym.wrappers.TransformReward(env, lambda r: 100 * r), gym.wrappers.NormalizeReward]
)
def test_rewards_that_are_changed_around_the_interface_are_an_error(wrapper: Any) -> None:
    with pytest.raises(TypeError, match="changes rewards, and the part of them that the decision fixes stays"):
        PDPPO("MlpPolicy", make_vec_env(lambda: wrapper(VectorChainEnv()), n_envs=1), **SMALL)
    PDPPO("MlpPolicy", make_vec_env(lambda: TransformPostDecision(gym.wrappers.NormalizeReward(VectorChainEnv()))), **SMALL)


@pytest.mark.parametrize(
    "wrapper",
    [
        lambda env: gym.wrappers.vector.TransformReward(env, lambda r: 0.01 * r),
        gym.wrappers.vector.NormalizeReward,
        lambda env: gym.wrappers.vector.RecordEpisodeStatistics(gym.wrappers.vector.ClipReward(env, -1, 1)),
    ],
)
@pytest.mark.parametrize("native", [False, True])
def test_and_so_are_those_that_are_changed_around_vectors_of_environments(wrapper: Any, native: bool) -> None:
    def env() -> Any:
        if native:
            return gym.make_vec("rlspo/LotSizing-v0", num_envs=2, instance="2x1")
        return SyncVectorEnv([VectorChainEnv] * 2, autoreset_mode=AutoresetMode.SAME_STEP)

    with pytest.raises(TypeError, match="changes rewards, and the part of them that the decision fixes stays"):
        PDPPO("MlpPolicy", wrapper(env()), **SMALL)
    PDPPO("MlpPolicy", gym.wrappers.vector.RecordEpisodeStatistics(env()), **SMALL)


class Pair(Rare):
    """Two choices, which earn their sum. At one step a choice costs a thousand: the one taken, or the one not taken."""

    action_space: Any = spaces.MultiDiscrete([2, 2])

    def __init__(self) -> None:
        self.t = 0

    def post_decision(self, action: Any) -> tuple[Any, float]:
        cost = 1000.0 if self.t == 499 and action[0] == 1 else 0.0
        return np.zeros(1, np.float32), float(np.sum(action)) - cost

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen, reward = self.post_decision(action)
        self.t += 1
        return seen, reward, False, self.t == 510, {OBSERVATION_KEY: seen, REWARD_KEY: reward}


@pytest.mark.parametrize("seed", range(4))
def test_rewards_of_actions_that_are_not_taken_are_clipped_as_well(seed: int) -> None:
    small = {"n_steps": 512, "batch_size": 512, "n_epochs": 1, "seed": seed, "advantage": "post", "credit": "component"}
    agent = PDPPO("MlpPolicy", make_vec_env(Pair, n_envs=1), **small, gae_lambda=0.0, gamma=0.0).learn(512)
    data, scaler = agent.rollout_buffer.data, agent.reward_scaler
    credit = data["component_advantages"]
    assert np.abs(credit).max() <= 10.0 + 2.0 / scaler.scale + 1e-4
    np.testing.assert_allclose(data["post_rewards"], data["credit_rewards"][..., -1])
    foreseen = scaler(data["credit_rewards"])
    np.testing.assert_allclose(credit, foreseen[..., -1:] - foreseen[..., :-1] + data["credit_values"], atol=1e-5)


class Unsendable(VectorChainEnv):
    """As environments of users are, whose functions no pickle takes."""

    def __init__(self) -> None:
        super().__init__()
        self.cost = lambda action: 0.0


def test_environments_in_other_processes_need_not_be_such_as_can_be_sent() -> None:
    env = SubprocVecEnv([Unsendable] * 2)
    agent = PDPPO("MlpPolicy", env, **SMALL, credit="component").learn(32)
    assert agent.recorder.credits_components
    env.close()
    moving = SubprocVecEnv([lambda: TransformPostDecision(gym.wrappers.NormalizeReward(Unsendable()))] * 2)
    with pytest.raises(ValueError, match="does not say where actions lead"):
        PDPPO("MlpPolicy", moving, **SMALL, credit="component")
    moving.close()
