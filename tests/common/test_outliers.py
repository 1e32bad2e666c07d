"""One absurd number, or one that is not finite, leaves no trace in running statistics; ordinary ones are counted exactly."""

import contextlib
import functools
import pickle
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rlspo import PPO, SAC
from rlspo.common import outliers
from rlspo.common.errors import InvalidRolloutError
from rlspo.common.normalizers import BoundedMeanStd, bound
from rlspo.common.outliers import without_outliers
from rlspo.common.reward_scaling import RewardScaler
from rlspo.policies.preprocessing import RunningNormalizer
from rlspo.zoo.config.schema import Settings
from rlspo.zoo.envs.recipe import EnvRecipe

ABSURD = [1e20, -1e30, np.nan, np.inf]
random = np.random.default_rng(0)


@pytest.mark.parametrize("absurd", ABSURD)
@pytest.mark.parametrize("first", [True, False])
def test_one_absurd_observation(absurd: float, first: bool) -> None:
    batches = [random.normal([5.0, -2.0], [0.1, 30.0], (200, 2)).astype(np.float32) for _ in range(3)]
    plain, spoilt = RunningNormalizer((2,)), RunningNormalizer((2,))
    for number, batch in enumerate(batches):
        plain.update(batch)
        if number == (0 if first else 1):
            batch = batch.copy()
            batch[7, 1] = absurd
            with pytest.warns(UserWarning, match="1 of the observations are not finite or a million times larger"):
                spoilt.update(batch)
        else:
            spoilt.update(batch)
    np.testing.assert_allclose(spoilt.variance, plain.variance, rtol=0.02)
    np.testing.assert_allclose(spoilt.mean, plain.mean, rtol=0.02, atol=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it was said once
        spoilt.update(np.full((1, 2), absurd, np.float32))


@pytest.mark.parametrize("absurd", ABSURD)
def test_one_absurd_reward(absurd: float) -> None:
    plain, spoilt = RewardScaler(0.99, 2), RewardScaler(0.99, 2)
    for number in range(4):
        rewards, dones = random.normal(1.0, 3.0, (64, 2)), np.zeros((64, 2))
        plain.update(rewards, dones)
        if number == 1:
            rewards = rewards.copy()
            rewards[9, 1] = absurd
            with pytest.warns(UserWarning, match="rewards"):
                spoilt.update(rewards, dones)
        else:
            spoilt.update(rewards, dones)
    assert spoilt.scale == pytest.approx(plain.scale, rel=0.1)


def test_what_is_rare_or_large_is_no_outlier() -> None:
    """Sparse rewards, another scale from one rollout to the next, large units: exactly as without."""
    for batch in (
        np.eye(1, 500)[0] * 1e5,  # one reward, among none at all
        np.full(500, 1e9) + random.normal(size=500),
        np.append(random.normal(scale=1e-3, size=499), 100.0),
        random.standard_cauchy(500),
    ):
        kept, count = without_outliers(batch, 0.0, 1e-4, 0)
        assert count == 0 and (kept == batch).all()
    scaler, reference = RewardScaler(0.9, 1), RunningMeanStd(shape=())
    for scale in (0.0, 1.0, 1e5, 1e9):  # another scale, and all of it
        rewards = np.full((50, 1), scale)
        scaler.update(rewards, np.ones((50, 1)))
        reference.update(rewards.reshape(-1))
    assert (scaler.statistics.mean, scaler.statistics.var) == (reference.mean, reference.var)


class Told(gym.Env[Any, Any]):
    """Says what it is told, once, at a step: an observation or a reward.

    :param what: ``"observation"`` or ``"reward"``
    """

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)
    render_mode = None

    def __init__(self, what: str = "", number: float = 0.0, at: int = 9) -> None:
        self.what, self.number, self.at, self.time = what, number, at, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        said = self.what if self.time == self.at else ""
        seen = np.array([self.time % 3, self.number if said == "observation" else 0.0], np.float32)
        return seen, self.number if said == "reward" else 1.0, self.time % 5 == 0, False, {}


def statistics(env: VecNormalize) -> list[Any]:
    assert isinstance(env.obs_rms, RunningMeanStd)
    return [env.obs_rms.mean, env.obs_rms.var, env.obs_rms.count, env.ret_rms.mean, env.ret_rms.var, env.ret_rms.count]


@pytest.mark.parametrize("what", ["observation", "reward"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("agent", [PPO, SAC])
@pytest.mark.parametrize("bounded", [False, True])
def test_not_finite_in_vec_normalize(agent: Any, what: str, number: float, bounded: bool, tmp_path: Path) -> None:
    """The environment and the step are named rightly, though all rows are spoilt, and the statistics stay good."""
    env = VecNormalize(DummyVecEnv([Told, Told, lambda: Told(what, number)]))
    if bounded:
        bound(env)
    small = {"n_steps": 4, "batch_size": 12, "n_epochs": 1} if agent is PPO else {"learning_starts": 6, "batch_size": 4}
    model = agent("MlpPolicy", env, **small, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises(InvalidRolloutError, match=rf"Environment 2 returned an? {what}.*at step 8"):
            model.learn(90)
    kept = statistics(env)
    assert all(np.isfinite(part).all() for part in kept)
    assert env.ret_rms.count == pytest.approx(24, abs=0.1)  # eight steps: the rollout's, or all before
    env.save(str(tmp_path / "statistics.pkl"))
    again = VecNormalize.load(str(tmp_path / "statistics.pkl"), DummyVecEnv([Told] * 3))
    np.testing.assert_equal(statistics(again), kept)


@pytest.mark.parametrize("agent", [PPO, SAC])
def test_a_reset_that_is_not_finite(agent: Any) -> None:
    class Born(Told):
        def reset(self, **kwargs: Any) -> Any:
            return np.array([0.0, np.nan], np.float32), {}

    env = VecNormalize(DummyVecEnv([Told, Born]))
    before = statistics(env)
    with pytest.raises(InvalidRolloutError, match=r"Environment 1 returned an observation.*at step 0"):
        agent("MlpPolicy", env).learn(200)
    np.testing.assert_equal(statistics(env), before)


@pytest.mark.parametrize("what", ["observation", "reward"])
def test_the_zoos_vec_normalize_survives_one_absurd_number(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gym.registry, "Told-v0", gym.envs.registration.EnvSpec("Told-v0", entry_point=Told))
    found = []
    for number in (1e25, 0.0):
        settings = Settings(n_timesteps=1, policy="MlpPolicy", normalize=True)
        recipe = EnvRecipe.from_settings(
            settings, "Told-v0", lambda _: "here", env_kwargs={"what": what, "number": number, "at": 2001}
        )
        env = recipe.build(1, 0, training=True)
        env.reset()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(3000):
                env.step(np.zeros((1, 1)))
        assert len([one for one in told if "million times" in str(one.message)]) == (number > 0)
        assert isinstance(env, VecNormalize)
        found.append(statistics(env))
    for spoilt, plain in zip(*found, strict=True):
        np.testing.assert_allclose(spoilt, plain, rtol=0.01, atol=0.01)


def test_bounded_statistics_are_sb3s_where_nothing_is_absurd() -> None:
    ours, theirs = BoundedMeanStd(shape=(3,)), RunningMeanStd(shape=(3,))
    for scale in (1.0, 1e-3, 1e9, 50.0):
        rows = random.normal(scale, scale, (4, 3)).astype(np.float32)
        ours.update(rows)
        theirs.update(rows)
    for part in ("mean", "var", "count"):
        np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part))
    assert b"rlspo" not in pickle.dumps(ours) and type(pickle.loads(pickle.dumps(ours))) is RunningMeanStd


@pytest.mark.parametrize("what", ["observation", "reward"])
def test_an_agents_own_statistics_survive_one_absurd_number(what: str) -> None:
    found = []
    for number in (1e20, 0.0):
        settings: dict[str, Any] = {"n_steps": 64, "batch_size": 64, "n_epochs": 1, "seed": 0, "device": "cpu"}
        model = PPO("MlpPolicy", Told(what, number), **settings, normalize_observations=True, normalize_rewards=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model.learn(192)
        normalizer = model.policy.preprocess.parts["observation"].normalizer
        assert model.reward_scaler is not None
        found.append([*normalizer.mean.tolist(), *normalizer.variance.tolist(), model.reward_scaler.scale])
    np.testing.assert_allclose(found[0], found[1], rtol=0.05, atol=0.01)


@pytest.mark.parametrize(("envs", "absurd"), [(1, [1e14]), (8, [5e6, 1e9]), (64, [1e12])])
def test_a_batch_does_not_excuse_its_own_outlier(envs: int, absurd: list[float]) -> None:
    """Of few rows an outlier is what is usual, and among rows that do not move at all it is the only one that did."""
    ours, theirs = BoundedMeanStd(shape=()), RunningMeanStd(shape=())
    for number in range(1000):
        rows = random.normal(size=envs) if number < 900 else np.zeros(envs)
        theirs.update(rows)
        if number >= 900 and absurd:
            rows[0] = absurd.pop(0)
            with contextlib.nullcontext() if ours.told else pytest.warns(UserWarning, match="numbers"):
                ours.update(rows)
        else:
            ours.update(rows)
    assert ours.var == pytest.approx(theirs.var, rel=0.01)


def test_a_rare_observation_among_many_of_a_later_rollout() -> None:
    plain, spoilt = RunningNormalizer((2,)), RunningNormalizer((2,))
    batch = np.zeros((2048, 2), np.float32)
    for one in (plain, spoilt):
        one.update(batch)  # nothing has moved yet
    plain.update(batch)
    batch[3, 1] = 1e14
    with pytest.warns(UserWarning, match="observations"):
        spoilt.update(batch)
    np.testing.assert_array_equal(spoilt.variance, plain.variance)


def test_large_units_are_learned_from_the_first_rows() -> None:
    """Also one by one, and where the first of them is 0: no outliers."""
    ours, theirs = BoundedMeanStd(shape=(2,)), RunningMeanStd(shape=(2,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(500):
            row = np.array([[5e9 + 1e7 * random.normal(), 3e9 * (step > 5)]])
            ours.update(row)
            theirs.update(row)
    np.testing.assert_array_equal(ours.var, theirs.var)


def test_large_ordinary_numbers_are_not_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at the moments suffices, step after step; of a suspicious batch only the columns that are suspicious."""
    ours = BoundedMeanStd(shape=(376,))
    rows = 5e6 + random.normal(size=(200, 8, 376))
    ours.update(rows[0])
    sorts: list[float] = []

    def usual(distances: np.ndarray, known: float) -> float:
        sorts.append(known)
        return 0.0

    monkeypatch.setattr(outliers, "_usual", usual)
    for batch in rows[1:]:
        ours.update(batch)
    assert not sorts
    rows[0, 3, 7] = 1e30
    with pytest.warns(UserWarning):
        ours.update(rows[0])
    assert len(sorts) == 1


def test_the_users_vec_normalize_survives_one_absurd_reward(tmp_path: Path) -> None:
    """In place, since evaluations may share its statistics; what is saved is SB3's."""
    found = []
    for number in (1e30, 1.0):
        env = VecNormalize(DummyVecEnv([functools.partial(Told, "reward", number, at=150)]))
        shared = env.ret_rms
        model = PPO("MlpPolicy", env, n_steps=100, batch_size=100, n_epochs=1, seed=0, device="cpu")
        with contextlib.nullcontext() if number == 1.0 else pytest.warns(UserWarning, match="1 of the discounted returns"):
            model.learn(300)
        assert env.ret_rms is shared
        found.append(float(env.ret_rms.var))
        env.save(str(tmp_path / "statistics"))
        assert b"rlspo" not in (tmp_path / "statistics").read_bytes()
    assert found[0] == pytest.approx(found[1], rel=0.1)
