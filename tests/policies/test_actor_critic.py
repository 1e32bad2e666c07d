"""The functional side of the policies against SB3's policies with the same weights."""

from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common import policies as sb3

from rlspo import PPO
from rlspo.common.trees import to_tensor
from rlspo.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
    functional_policy_class,
)
from tests.spaces import ACTIONS, OBSERVATIONS, SpacesEnv, policy_name

SMALL: dict[str, Any] = {"n_steps": 8, "batch_size": 8, "seed": 1}


def pair(observation: str, action: str, device: str, **kwargs: Any) -> tuple[Any, Any, Any]:
    """An SB3 policy, ours with its weights, and a batch of observations."""
    env = SpacesEnv(observation, action)
    reference = stable_baselines3.PPO(policy_name(observation), env, **SMALL, device=device, **kwargs)
    ours = PPO(policy_name(observation), env, **SMALL, device=device, **kwargs)
    ours.set_parameters(reference.get_parameters())
    if reference.use_sde:
        reference.policy.reset_noise()  # SB3 draws the first noise before the policy moves to its device
    return reference.policy, ours.policy, to_tensor(reference.env.reset(), ours.device)


def check(reference: Any, ours: Any, observations: Any) -> None:
    with torch.no_grad():
        actions, values, log_probs = reference(observations)
        theirs = reference.evaluate_actions(observations, actions)
        distribution, value = ours.evaluation_of(ours.preprocess(observations))
        alone = ours.distribution_of(ours.preprocess(observations)), ours.values_of(ours.preprocess(observations))
    torch.testing.assert_close(value, values.flatten(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone[1], value)
    torch.testing.assert_close(distribution.log_prob(actions), log_probs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone[0].log_prob(actions), log_probs, rtol=1e-4, atol=1e-4)
    entropy = distribution.entropy()
    assert (entropy is None) == (theirs[2] is None)
    if entropy is not None:
        torch.testing.assert_close(entropy, theirs[2], rtol=1e-4, atol=1e-4)
    expected = reference.get_distribution(observations).mode()
    torch.testing.assert_close(distribution.mode().float(), expected.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_equals_sb3(observation: str, action: str, device: str) -> None:
    check(*pair(observation, action, device))


@pytest.mark.parametrize(
    "options",
    [
        {"use_sde": True},
        {"use_sde": True, "policy_kwargs": {"squash_output": True, "full_std": False}},
        {"policy_kwargs": {"share_features_extractor": False}},
        {"policy_kwargs": {"net_arch": {"pi": [], "vf": [7]}}},
    ],
    ids=str,
)
def test_equals_sb3_with_options(options: dict[str, Any], device: str) -> None:
    check(*pair("box", "box", device, **options))


@pytest.mark.parametrize("observation", ["box", "image", "dict"])
@pytest.mark.parametrize("share", [True, False])
def test_parameters_are_an_argument(observation: str, share: bool, device: str) -> None:
    """With another policy's parameters it gives what the other policy gives, and its own are left alone."""
    kwargs: dict[str, Any] = {**SMALL, "device": device, "policy_kwargs": {"share_features_extractor": share}}
    name, env = policy_name(observation), SpacesEnv(observation, "discrete")
    mine, other = PPO(name, env, **kwargs), PPO(name, env, **{**kwargs, "seed": 2})
    own = {key: tensor.clone() for key, tensor in mine.policy.state_dict().items()}
    inputs = mine.policy.preprocess(to_tensor(mine.env.reset(), mine.device))
    parameters = {key: parameter.detach() for key, parameter in other.policy.named_parameters()}
    with torch.no_grad():
        distribution, values = mine.policy.evaluate(parameters, inputs)
        expected, expected_values = other.policy.evaluation_of(inputs)
        assert (expected.logits - mine.policy.distribution_of(inputs).logits).abs().max() > 1e-4
        torch.testing.assert_close(mine.policy.action_distribution(parameters, inputs).logits, expected.logits)
        torch.testing.assert_close(mine.policy.values(parameters, inputs), expected_values)
    torch.testing.assert_close(distribution.logits, expected.logits)
    torch.testing.assert_close(values, expected_values)
    assert all(torch.equal(own[key], tensor) for key, tensor in mine.policy.state_dict().items())


def test_gradient_with_respect_to_the_argument_is_that_of_the_module(device: str) -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL, device=device)
    inputs = torch.randn(6, 5, device=model.device)
    expected = torch.autograd.grad(model.policy.values_of(inputs).sum(), model.policy.value_net.weight)[0]
    parameters = {name: parameter.detach() for name, parameter in model.policy.named_parameters()}
    gradient = torch.func.grad(lambda p: model.policy.values(p, inputs).sum())(parameters)
    torch.testing.assert_close(gradient["value_net.weight"], expected)
    assert gradient["action_net.weight"].abs().max() == 0


class Tied(ActorCriticPolicy):
    """Actor and critic with one first layer."""

    def _build_mlp_extractor(self) -> None:
        super()._build_mlp_extractor()
        self.mlp_extractor.value_net[0].weight = self.mlp_extractor.policy_net[0].weight


def test_a_replaced_layer_takes_the_argument_too() -> None:
    """Where layers keep their parameters is looked up once, until a layer is another one."""
    policy = PPO("MlpPolicy", SpacesEnv("box"), n_steps=16, batch_size=16, device="cpu", seed=0).policy
    inputs = policy.preprocess(torch.randn(4, *SpacesEnv("box").observation_space.shape))

    def slope() -> torch.Tensor:
        parameters = {name: parameter.detach() for name, parameter in policy.named_parameters()}
        found = torch.func.grad(lambda given: policy.evaluate(given, inputs)[1].pow(2).sum())(parameters)
        return found["mlp_extractor.value_net.0.weight"].norm()

    assert slope() > 0
    old = policy.mlp_extractor.value_net[0]
    policy.mlp_extractor.value_net[0] = torch.nn.Linear(old.in_features, old.out_features)
    assert slope() > 0
    with pytest.raises(KeyError, match=r"no parameter 'action_net\.w'"):
        policy.evaluate({"action_net.w": torch.zeros(1)}, inputs)


def test_a_parameter_in_two_places_stays_one() -> None:
    model = PPO(Tied, SpacesEnv(), **SMALL, device="cpu")
    inputs = torch.randn(6, 5)
    parameters = {name: torch.zeros_like(parameter) for name, parameter in model.policy.named_parameters()}
    parameters["value_net.weight"] += 1
    parameters["mlp_extractor.value_net.2.weight"] += 1
    assert model.policy.values(parameters, inputs).abs().max() == 0, "the critic must see the shared layer's zeros"
    before = model.policy.mlp_extractor.policy_net[0].weight.clone()
    model.learn(8)
    assert not torch.equal(before, model.policy.mlp_extractor.policy_net[0].weight)
    assert model.policy.mlp_extractor.value_net[0].weight is model.policy.mlp_extractor.policy_net[0].weight


def test_low_precision_is_close_and_gives_float32(device: str) -> None:
    model = PPO("CnnPolicy", SpacesEnv("image"), **SMALL, device=device)
    inputs = model.policy.preprocess(to_tensor(model.env.reset(), model.device))
    with torch.no_grad():
        exact = model.policy.values_of(inputs)
        model.policy.convolution_dtype = torch.bfloat16
        rough = model.policy.values_of(inputs)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact), "bfloat16 should show"
    torch.testing.assert_close(rough, exact, rtol=0.1, atol=0.02)


def test_stock_policies_have_twins() -> None:
    assert functional_policy_class(sb3.ActorCriticPolicy) is ActorCriticPolicy
    assert functional_policy_class(sb3.ActorCriticCnnPolicy) is ActorCriticCnnPolicy
    assert functional_policy_class(sb3.MultiInputActorCriticPolicy) is MultiInputActorCriticPolicy
    assert functional_policy_class(Tied) is Tied


@pytest.mark.parametrize("policy", [type("Mine", (sb3.BasePolicy,), {}), torch.nn.Linear, "MlpPolicy"])
def test_other_policies_are_refused(policy: Any) -> None:
    with pytest.raises(TypeError, match=r"policy is .*rlspo\.policies\.ActorCriticPolicy"):
        functional_policy_class(policy)


def test_inputs_are_copied_nowhere_they_should_not_be() -> None:
    """``predict`` accepts one observation, a batch, and leaves both as they were."""
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL, device="cpu", normalize_observations=True)
    observations = np.ones((3, 5), np.float32)
    batch, _ = model.predict(observations, deterministic=True)
    single, _ = model.predict(observations[0], deterministic=True)
    np.testing.assert_allclose(single, batch[0], atol=1e-6)
    assert (observations == 1).all()


def test_policy_kwargs_survive_a_rebuild() -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL, policy_kwargs={"normalize_observations": True, "clip_observations": 4.0})
    arguments = model.policy._get_constructor_parameters()
    rebuilt = ActorCriticPolicy(**arguments)
    assert rebuilt.preprocess.parts["observation"].normalizer.clip == 4.0
    assert rebuilt.state_dict().keys() == model.policy.state_dict().keys()


def test_image_observations_need_no_channel_order() -> None:
    """Channels-last in memory is the same image."""
    model = PPO("CnnPolicy", SpacesEnv("image", "discrete"), **SMALL, device="cpu")
    images = torch.rand(4, *OBSERVATIONS["image"].shape)
    with torch.no_grad():
        first = model.policy.values_of(images)
        second = model.policy.values_of(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(first, second)
