"""Acting with a small network on the CPU: the same arithmetic in numpy, where a batch of one costs microseconds.

Dispatching a torch operator costs more than multiplying 64 by 64 numbers, and a rollout acts on one to a few observations
at a time. The arrays used here share memory with the policy's parameters, so nothing is copied or goes stale. Values and
log-probabilities are not computed here: the collector evaluates the whole rollout in one batch afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import nn

from rlspo.policies.distributions import Bernoulli, Categorical, Gaussian, MultiCategorical

Array = np.ndarray
Layer = Callable[[Array], Array]
_ACTIVATIONS: dict[type[nn.Module], Layer] = {nn.Tanh: np.tanh, nn.ReLU: lambda x: np.maximum(x, 0)}


def _affine(layer: nn.Linear) -> Layer:
    weight, bias = layer.weight.detach().numpy().T, layer.bias.detach().numpy()
    return lambda inputs: inputs @ weight + bias


def _layers(policy: Any) -> list[Layer] | None:
    """Observation to distribution head as numpy functions, or None where a layer has no equal here."""
    part = policy.preprocess.parts["observation"] if not policy.preprocess.nested else None
    plain_vector = part is not None and part.continuous and part.scale == 1.0
    stock = (
        type(policy.features_extractor) is FlattenExtractor
        and type(policy.mlp_extractor) is MlpExtractor
        and type(policy.action_net) is nn.Linear
        and all(
            getattr(type(policy), method).__module__ in ("rlspo.policies.actor_critic", "rlspo.policies.functional")
            for method in ("distribution_of", "_distribution_at", "_distribution", "_features")
        )
    )
    if part is None or not plain_vector or not stock or policy.use_sde or policy.device.type != "cpu":
        return None
    layers: list[Layer] = [lambda observations: observations.reshape(len(observations), -1).astype(np.float32, copy=False)]
    if part.normalizer is not None:
        normalizer = part.normalizer
        mean = normalizer.mean.numpy().reshape(-1)
        scale = 1 / np.sqrt(normalizer.variance.numpy().reshape(-1) + np.float32(1e-8))
        layers.append(lambda inputs: np.clip((inputs - mean) * scale, -normalizer.clip, normalizer.clip))
    for layer in [*policy.mlp_extractor.policy_net, policy.action_net]:
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            layers.append(_affine(layer))
        elif type(layer) in _ACTIVATIONS:
            layers.append(_ACTIVATIONS[type(layer)])
        else:
            return None
    return layers


def _sampler(policy: Any, generator: np.random.Generator) -> Callable[[Array], Array]:
    """Distribution head ``(B, ...)`` to sampled actions."""
    distribution = policy._distribution(policy.action_net.weight.new_zeros(1, policy.action_net.in_features))
    if isinstance(distribution, Gaussian):
        std = np.exp(distribution.log_std.detach().numpy())
        return lambda mean: mean + std * generator.standard_normal(mean.shape, dtype=np.float32)
    if isinstance(distribution, Categorical):
        # The maximum of logits plus Gumbel noise is a sample of their softmax.
        return lambda logits: (logits + generator.gumbel(size=logits.shape)).argmax(axis=-1)
    if isinstance(distribution, MultiCategorical):
        edges = np.cumsum(distribution.sizes)[:-1]

        def choose(logits: Array) -> Array:
            parts = np.split(logits + generator.gumbel(size=logits.shape), edges, axis=-1)
            return np.stack([part.argmax(axis=-1) for part in parts], axis=-1)

        return choose
    assert isinstance(distribution, Bernoulli)
    return lambda logits: (generator.logistic(size=logits.shape) < logits).astype(np.float32)


def numpy_actor(policy: Any, generator: np.random.Generator) -> Callable[[Array], Array] | None:
    """A function from observations ``(n_envs, *obs_shape)`` to sampled actions, valid until the weights next change.

    :param policy: read, not copied
    :param generator: source of the exploration noise
    :return: None where the policy is not a plain MLP on the CPU; act with torch then
    """
    layers = _layers(policy)
    if layers is None:
        return None
    sample = _sampler(policy, generator)

    def act(observations: Array) -> Array:
        for layer in layers:
            observations = layer(observations)
        return sample(observations)

    return act
