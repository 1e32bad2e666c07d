"""Acting with a small network on the CPU: the same arithmetic in numpy, where a batch of one costs microseconds.

Dispatching a torch operator costs more than multiplying 64 by 64 numbers, and a rollout acts on one to a few observations
at a time. The arrays used here share memory with the policy's parameters, so nothing is copied or goes stale. Values and
log-probabilities are not computed here: the collector evaluates the whole rollout in one batch afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import nn

from rlspo.policies.distributions import Bernoulli, Categorical, Gaussian, MultiCategorical
from rlspo.policies.mixtures import Mixture

Array = np.ndarray
Layer = Callable[[Array], Array]
#: Where the methods are defined that this arithmetic repeats.
OWN_MODULES = ("rlspo.policies.actor_critic", "rlspo.policies.functional", "rlspo.policies.moe.actor_critic")
_ACTIVATIONS: dict[type[nn.Module], Layer] = {nn.Tanh: np.tanh, nn.ReLU: lambda x: np.maximum(x, 0)}


def _affine(layer: Any) -> Layer:
    weight, bias = layer.weight.detach().numpy().T, layer.bias.detach().numpy()
    return lambda inputs: inputs @ weight + bias


def _plain(policy: Any) -> bool:
    """Whether the policy is a multilayer perceptron over vectors, on the CPU, with the distributions of this package."""
    part = policy.preprocess.parts["observation"] if not policy.preprocess.nested else None
    stock = (
        type(policy.features_extractor) is FlattenExtractor
        and type(policy.mlp_extractor) is MlpExtractor
        and type(policy.action_net) is nn.Linear
        and all(
            getattr(type(policy), method).__module__ in OWN_MODULES
            for method in ("distribution_of", "_distribution_at", "_distribution", "_features")
        )
    )
    vectors = part is not None and part.continuous and part.scale == 1.0
    return vectors and stock and not policy.use_sde and policy.device.type == "cpu"


def _features(policy: Any) -> Layer:
    """Observations to what the first layer sees."""
    normalizer = policy.preprocess.parts["observation"].normalizer
    if normalizer is None:
        return lambda observations: observations.reshape(len(observations), -1).astype(np.float32, copy=False)
    mean = normalizer.mean.numpy().reshape(-1)
    scale = 1 / np.sqrt(normalizer.variance.numpy().reshape(-1) + np.float32(1e-8))

    def normalize(observations: Array) -> Array:
        inputs = observations.reshape(len(observations), -1).astype(np.float32, copy=False)
        return np.clip((inputs - mean) * scale, -normalizer.clip, normalizer.clip)

    return normalize


def _network(layers: Iterable[nn.Module]) -> Layer | None:
    """A stack of layers as one numpy function, or None where a layer has no equal here."""
    functions: list[Layer] = []
    for layer in layers:
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            functions.append(_affine(layer))
        elif type(layer) in _ACTIVATIONS:
            functions.append(_ACTIVATIONS[type(layer)])
        else:
            return None

    def apply(inputs: Array) -> Array:
        for function in functions:
            inputs = function(inputs)
        return inputs

    return apply


def _sampler(distribution: Any, generator: np.random.Generator) -> Callable[[Array, Any], Array]:
    """Distribution heads ``(B, ...)``, and which row of a state-independent scale is theirs, to sampled actions."""
    if isinstance(distribution, Gaussian):
        std = np.exp(distribution.log_std.detach().numpy())
        return lambda mean, row: mean + std[row] * generator.standard_normal(mean.shape, dtype=np.float32)
    if isinstance(distribution, Categorical):
        # The maximum of logits plus Gumbel noise is a sample of their softmax.
        return lambda logits, row: (logits + generator.gumbel(size=logits.shape)).argmax(axis=-1)
    if isinstance(distribution, MultiCategorical):
        edges = np.cumsum(distribution.sizes)[:-1]

        def choose(logits: Array, row: Any) -> Array:
            parts = np.split(logits + generator.gumbel(size=logits.shape), edges, axis=-1)
            return np.stack([part.argmax(axis=-1) for part in parts], axis=-1)

        return choose
    assert isinstance(distribution, Bernoulli)
    return lambda logits, row: (generator.logistic(size=logits.shape) < logits).astype(np.float32)


def numpy_actor(policy: Any, generator: np.random.Generator) -> Callable[[Array], Array] | None:
    """A function from observations ``(n_envs, *obs_shape)`` to sampled actions, valid until the weights next change.

    :param policy: read, not copied
    :param generator: source of the exploration noise
    :return: None where the policy is not a plain MLP, or a mixture of such, on the CPU; act with torch then
    """
    hidden = _network(policy.mlp_extractor.policy_net) if _plain(policy) else None
    if hidden is None:
        return None
    features, head = _features(policy), _affine(policy.action_net)
    widths = (policy.action_net.in_features, policy.features_dim)
    with torch.no_grad():
        distribution = policy._distribution_at(*(torch.zeros(1, width) for width in widths))
    if not isinstance(distribution, Mixture):
        sample = _sampler(distribution, generator)
        return lambda observations: sample(head(hidden(features(observations))), ...)
    gate = _network(policy.gate_net)
    if gate is None:
        return None
    sample = _sampler(distribution.experts.each(lambda tensor: tensor.squeeze(0)), generator)
    sees_latent = policy.moe.gate == "latent"

    def act(observations: Array) -> Array:
        inputs = features(observations)
        latent = hidden(inputs)
        logits = gate(latent if sees_latent else inputs)
        expert = (logits + generator.gumbel(size=logits.shape)).argmax(axis=-1)
        heads = head(latent).reshape(*logits.shape, -1)
        return sample(heads[np.arange(len(expert)), expert], expert)

    return act
