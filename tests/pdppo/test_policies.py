"""The policy with two critics: its networks, their learning rates and statistics."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN

from rlspo import PDPPO
from rlspo.common.flat_parameters import FlatParameters
from rlspo.pdppo.policies import PostDecisionCnnPolicy, PostDecisionMultiInputPolicy, PostDecisionPolicy
from tests.spaces import OBSERVATIONS

ACTION = spaces.Discrete(3)
#: As the policy sees them: VecTransposeImage has put the channels first.
SEEN = {
    **OBSERVATIONS,
    "dict": spaces.Dict({**OBSERVATIONS["dict"].spaces, "image": spaces.Box(0, 255, (1, 36, 36), np.uint8)}),  # type: ignore[attr-defined]
}


def policy(cls: type = PostDecisionPolicy, observation: str = "box", post: str = "box", **kwargs: Any) -> Any:
    spaces_ = SEEN[observation], ACTION
    return cls(*spaces_, lambda _: 1e-3, post_decision_space=SEEN[post], **kwargs)


@pytest.mark.parametrize(
    ("cls", "observation", "post", "extractor"),
    [
        (PostDecisionPolicy, "box", "box", FlattenExtractor),
        (PostDecisionPolicy, "box", "discrete", FlattenExtractor),
        (PostDecisionPolicy, "multi_discrete", "box", FlattenExtractor),
        (PostDecisionCnnPolicy, "image", "image", NatureCNN),
        (PostDecisionCnnPolicy, "image", "box", FlattenExtractor),
        (PostDecisionPolicy, "box", "image", NatureCNN),
        (PostDecisionMultiInputPolicy, "dict", "dict", CombinedExtractor),
        (PostDecisionMultiInputPolicy, "dict", "box", FlattenExtractor),
        (PostDecisionPolicy, "box", "dict", CombinedExtractor),
    ],
)
def test_the_post_critic_fits_its_space(cls: type, observation: str, post: str, extractor: type) -> None:
    made = policy(cls, observation, post)
    assert type(made.post_features_extractor) is extractor
    space = SEEN[post]
    space.seed(0)
    rows = [space.sample() for _ in range(3)]
    batch: Any = (
        {key: torch.as_tensor(np.stack([row[key] for row in rows])) for key in rows[0]}
        if isinstance(rows[0], dict)
        else torch.as_tensor(np.stack(rows))
    )
    values = made.post_values_of(made.preprocess_post(batch))
    assert values.shape == (3,) and values.isfinite().all()
    named = dict(made.named_parameters())
    assert torch.equal(made.post_values(named, made.preprocess_post(batch)), values)


def test_each_network_has_its_learning_rate() -> None:
    """After one step of Adam each number has moved by its network's rate."""
    made = policy(vf_lr_scale=3.0, post_vf_lr_scale=0.5)
    vectors = FlatParameters(made, made.optimizer)
    gradient = torch.ones_like(vectors.weights)
    state = vectors.first_moment, vectors.second_moment, vectors.steps, torch.tensor(1e-3)
    assert vectors.adam is not None
    moved = vectors.weights - vectors.adam.step(vectors.weights, gradient, *state, vectors.rates())[0]
    for name, part in vectors.named(moved).items():
        scale = 0.5 if name.startswith("post_") else 3.0 if "value" in name else 1.0
        np.testing.assert_allclose(part.numpy(), 1e-3 * scale, rtol=1e-2, err_msg=name)


def test_the_post_critic_is_clipped_apart() -> None:
    """So a large error of V^x does not shrink the steps of actor and V, which then are PPO's."""
    made = policy()
    vectors = FlatParameters(made, made.optimizer)
    own = sum(parameter.numel() for name, parameter in made.named_parameters() if name.startswith("post_"))
    assert vectors.clip_sizes() == [vectors.weights.numel() - own, own]
    assert [name.startswith("post_") for name in vectors.names] == sorted(name.startswith("post_") for name in vectors.names)


def test_each_part_that_is_clipped_apart_has_a_norm_of_its_own() -> None:
    """V^x and, of a mixture, the Q that its routing asks."""
    made = PDPPO("MoeMlpPolicy", "rlspo/LotSizing-v0", policy_kwargs={"routing": "frequency", "n_experts": 2}).policy
    vectors = FlatParameters(made, made.optimizer)
    named = dict(zip(vectors.names, vectors.sizes, strict=True))
    sizes = [sum(size for name, size in named.items() if name.startswith(start)) for start in ("post_", "action_value_net")]
    assert sorted(vectors.clip_sizes()[1:]) == sorted(sizes)
    kinds = [name.partition("_")[0] if name.startswith(("post_", "action_value")) else "" for name in vectors.names]
    assert len([*itertools.groupby(kinds)]) == 3  # each in one piece


def test_layers_of_the_post_critic() -> None:
    assert [layer.out_features for layer in policy(net_arch=[8, 4]).post_value_net if hasattr(layer, "out_features")] == [
        8,
        4,
        1,
    ]
    arch = {"pi": [5], "vf": [6]}
    assert [layer.out_features for layer in policy(net_arch=arch).post_value_net if hasattr(layer, "out_features")] == [6, 1]
    wide = policy(net_arch=[8], post_net_arch=[32, 16]).post_value_net
    assert [layer.out_features for layer in wide if hasattr(layer, "out_features")] == [32, 16, 1]


def test_statistics_of_both_inputs_are_kept_apart() -> None:
    made = policy(normalize_observations=True)
    rng = np.random.default_rng(0)
    rows = {"observations": rng.normal(2.0, 1.0, (500, 5)), "post_observations": rng.normal(-7.0, 3.0, (500, 5))}
    made.update_statistics(rows.__getitem__)
    seen = made.preprocess_post(torch.as_tensor(rows["post_observations"], dtype=torch.float32))
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(seen.std(0), 1, atol=1e-2)
    np.testing.assert_allclose(made.preprocess.parts["observation"].normalizer.mean, 2.0, atol=0.2)
    assert "post_preprocessing.parts.observation.normalizer.mean" in made.state_dict()
