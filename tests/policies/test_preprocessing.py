"""Network inputs against SB3's preprocessing; running statistics against numpy's on all the data at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.preprocessing import preprocess_obs

from rlspo import PPO
from rlspo.adversary import PGD, Perturbation
from rlspo.common.trees import to_tensor, tree_leaves, tree_map
from rlspo.policies.preprocessing import Preprocessing, RunningNormalizer
from tests.spaces import OBSERVATIONS, SpacesEnv, policy_name

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 0}


def batch_of(space: spaces.Space, device: str, size: int = 6) -> Any:
    space.seed(0)
    samples = [space.sample() for _ in range(size)]
    if isinstance(space, spaces.Dict):
        arrays = {key: np.stack([sample[key] for sample in samples]) for key in space.spaces}
    else:
        arrays = np.stack(samples)
    return to_tensor(arrays, torch.device(device))


@pytest.mark.parametrize("normalize_images", [True, False])
@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_equals_sb3(kind: str, normalize_images: bool, device: str) -> None:
    space = OBSERVATIONS[kind]
    batch = batch_of(space, device)
    preprocess = Preprocessing(space, normalize_images, normalize=False, clip=10.0)
    got, expected = preprocess(batch), preprocess_obs(batch, space, normalize_images)
    if isinstance(space, spaces.Dict):
        assert got.keys() == expected.keys()
    for ours, theirs in zip(tree_leaves(got), tree_leaves(expected), strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([6] * 54), spaces.MultiDiscrete([3]), spaces.MultiDiscrete([3, 3, 2])])
def test_columns_of_one_size_and_of_several_equal_sb3(space: spaces.MultiDiscrete, device: str) -> None:
    batch = batch_of(space, device)
    got, expected = Preprocessing(space, True, normalize=False, clip=10.0)(batch), preprocess_obs(batch, space)
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=arrays(np.float32, (24, 2, 3), elements=st.floats(-1000, 1000, width=32)),
    cuts=st.sets(st.integers(1, 23), max_size=6),
)
def test_merged_pieces_have_the_moments_of_the_whole(device: str, data: np.ndarray, cuts: set[int]) -> None:
    normalizer = RunningNormalizer((2, 3)).to(device)
    for piece in np.split(data, sorted(cuts)):
        normalizer.update(piece)
    assert float(normalizer.count) == 24
    expected_mean, expected_variance = data.mean(axis=0, dtype=np.float64), data.var(axis=0, dtype=np.float64)
    np.testing.assert_allclose(normalizer.mean.cpu(), expected_mean, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(normalizer.variance.cpu(), expected_variance, rtol=1e-4, atol=1e-2)


def test_statistics_survive_many_rollouts_and_a_large_offset() -> None:
    """A thousand merges of numbers around 1000: the variance is that of all of them."""
    data = (np.random.default_rng(0).standard_normal((1000, 32, 2)) * [0.5, 3.0] + 1000.0).astype(np.float32)
    normalizer = RunningNormalizer((2,))
    for piece in data:
        normalizer.update(piece)
    np.testing.assert_allclose(normalizer.variance, data.reshape(-1, 2).var(axis=0, dtype=np.float64), rtol=1e-3)


def test_normalises_and_clips(device: str) -> None:
    data = np.random.default_rng(0).normal([5.0, -2.0], [0.1, 30.0], (500, 2)).astype(np.float32)
    normalizer = RunningNormalizer((2,), clip=3.0).to(device)
    normalizer.update(data)
    got = normalizer(torch.as_tensor(data, device=device)).cpu().numpy()
    expected = np.clip((data - data.mean(axis=0)) / np.sqrt(data.var(axis=0) + 1e-8), -3, 3)
    np.testing.assert_allclose(got, expected, atol=1e-3)
    far = normalizer(torch.tensor([[1e6, -1e6]], device=device))
    assert far.tolist() == [[3.0, -3.0]]


def test_constant_observations_are_harmless() -> None:
    normalizer = RunningNormalizer((1,))
    normalizer.update(np.full((10, 1), 7.0, np.float32))
    assert float(normalizer(torch.full((1, 1), 7.0))) == 0.0
    assert torch.isfinite(normalizer(torch.full((1, 1), 7.1))).all()


def test_only_boxes_that_are_no_images_are_normalised() -> None:
    preprocess = Preprocessing(OBSERVATIONS["dict"], True, normalize=True, clip=10.0)
    assert {key for key, part in preprocess.parts.items() if part.normalizer is not None} == {"vector"}
    assert set(preprocess.continuous_keys()) == {"image", "vector"}
    preprocess.update({key: leaf.numpy() for key, leaf in batch_of(OBSERVATIONS["dict"], "cpu", 64).items()})
    batch = batch_of(OBSERVATIONS["dict"], "cpu", 64)
    inputs = preprocess(batch)
    plain = preprocess_obs(batch, OBSERVATIONS["dict"])
    assert inputs["vector"].mean(dim=0).abs().max() < 1e-5
    assert torch.equal(inputs["image"], plain["image"])
    assert torch.equal(inputs["count"], plain["count"])


class Watch(BaseCallback):
    """Keeps each rollout's observations, and the statistics it was collected with."""

    def __init__(self) -> None:
        super().__init__()
        self.rollouts: list[Any] = []
        self.means: list[torch.Tensor] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer = self.model.rollout_buffer
        self.rollouts.append(tree_map(np.copy, buffer.flat("observations")))
        self.means.append(vector_normalizer(self.model).mean.clone())


def vector_normalizer(model: PPO) -> RunningNormalizer:
    parts = model.policy.preprocess.parts
    return parts["vector" if "vector" in parts else "observation"].normalizer


@pytest.mark.parametrize("kind", ["box", "box64", "dict"])
def test_training_updates_the_statistics_once_per_rollout_and_nothing_else_does(kind: str, device: str) -> None:
    model = PPO(policy_name(kind), SpacesEnv(kind), **SMALL, device=device, normalize_observations=True)
    watch = Watch()
    model.learn(96, callback=watch)
    seen = [rollout["vector"] if kind == "dict" else rollout for rollout in watch.rollouts]
    normalizer = vector_normalizer(model)
    assert float(normalizer.count) == 96
    np.testing.assert_allclose(normalizer.mean.cpu(), np.concatenate(seen).mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(normalizer.variance.cpu(), np.concatenate(seen).var(axis=0), rtol=1e-4)
    # A rollout is collected, evaluated and learned from with the statistics of the rollouts before it.
    assert watch.means[0].abs().max() == 0
    np.testing.assert_allclose(watch.means[2].cpu(), np.concatenate(seen[:2]).mean(axis=0), atol=1e-5)

    before = {name: tensor.clone() for name, tensor in normalizer.state_dict().items()}
    model.predict(model.env.reset(), deterministic=True)
    evaluate_policy(model, model.env, n_eval_episodes=2)
    assert all(torch.equal(before[name], tensor) for name, tensor in normalizer.state_dict().items())


def test_predictions_use_the_statistics(device: str) -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL, device=device, normalize_observations=True)
    plain = PPO("MlpPolicy", SpacesEnv(), **SMALL, device=device)
    model.policy.preprocess.update(np.random.default_rng(0).normal(3.0, 2.0, (100, 5)).astype(np.float32))
    normalizer = vector_normalizer(model)
    plain.policy.load_state_dict({k: v for k, v in model.policy.state_dict().items() if "preprocess" not in k})
    observations = np.random.default_rng(1).normal(3.0, 2.0, (20, 5)).astype(np.float32)
    by_hand = (observations - normalizer.mean.cpu().numpy()) / np.sqrt(normalizer.variance.cpu().numpy() + 1e-8)
    got, _ = model.predict(observations, deterministic=True)
    expected, _ = plain.predict(by_hand.astype(np.float32), deterministic=True)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_statistics_travel_with_the_weights(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL, normalize_observations=True).learn(32)
    observations = np.random.default_rng(1).normal(0.0, 2.0, (20, 5)).astype(np.float32)
    expected, _ = model.predict(observations, deterministic=True)

    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model")
    assert torch.equal(vector_normalizer(loaded).mean, vector_normalizer(model).mean)
    assert loaded.normalize_observations
    np.testing.assert_array_equal(loaded.predict(observations, deterministic=True)[0], expected)

    model.policy.save(tmp_path / "policy.pth")
    policy = type(model.policy).load(tmp_path / "policy.pth")
    np.testing.assert_array_equal(policy.predict(observations, deterministic=True)[0], expected)

    fresh = PPO("MlpPolicy", SpacesEnv(), **{**SMALL, "seed": 9}, normalize_observations=True)
    fresh.set_parameters(model.get_parameters())
    np.testing.assert_array_equal(fresh.predict(observations, deterministic=True)[0], expected)


def test_asked_for_through_policy_kwargs() -> None:
    """The policy's own argument does the same as the agent's."""
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL, policy_kwargs={"normalize_observations": True}).learn(32)
    assert float(vector_normalizer(model).count) == 32


@pytest.mark.parametrize("kind", ["box", "box64", "image", "dict"])
@pytest.mark.parametrize("normalize", [False, True])
def test_bounds_contain_every_input(kind: str, normalize: bool) -> None:
    check_bounds(OBSERVATIONS[kind], normalize)


def test_bounds_of_a_dictionary_with_several_choices_in_it() -> None:
    space = spaces.Dict({"speed": spaces.Box(-1, 1, (2,), np.float32), "gears": spaces.MultiDiscrete([2, 3])})
    check_bounds(space, normalize=False)


def check_bounds(space: spaces.Space, normalize: bool) -> None:
    """The bounds that an adversary keeps to enclose all network inputs, and are those of the space's own bounds."""
    preprocess = Preprocessing(space, True, normalize, clip=10.0)
    batch = batch_of(space, "cpu", 16)
    preprocess.update(tree_map(lambda leaf: leaf.numpy(), batch))
    ball = Perturbation(preprocess, space, PGD(), clip_to_space=True).ball(torch.tensor(0.1))
    nested = isinstance(space, spaces.Dict)
    for key in preprocess.continuous_keys():
        box = space[key] if nested else space
        inputs, low, high = (tree[key] if nested else tree for tree in (preprocess(batch), ball.low, ball.high))
        assert (inputs >= low).all()
        assert (inputs <= high).all()
        for bound, raw in ((low, box.low), (high, box.high)):
            expected = preprocess.parts[key](torch.as_tensor(raw[None].astype(np.float32)))
            torch.testing.assert_close(bound.expand_as(expected), expected)
