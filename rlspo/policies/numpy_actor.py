"""Acting with a small network on the CPU: the same arithmetic in numpy, where a batch of one costs microseconds.

Dispatching a torch operator costs more than multiplying 64 by 64 numbers, and a rollout acts on one to a few observations
at a time. The arrays used here share memory with the policy's parameters, so nothing is copied or goes stale. Values and
log-probabilities are not computed here: the collector evaluates the whole rollout in one batch afterwards.

Each class of module, and of distribution, that is known here has one function below; a policy with any other, or with a
method of its own in place of one that this arithmetic repeats, acts in torch.
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
from rlspo.policies.preprocessing import Preprocessing, RunningNormalizer, SpaceInput

Array = np.ndarray
Layer = Callable[[Array], Array]
#: Distribution heads ``(B, ...)``, and which row of a state-independent scale is theirs, to sampled actions.
Sampler = Callable[[Array, Any], Array]


class _Unknown(Exception):
    """A module or a distribution has no equal in numpy."""


def _made_for(thing: Any, known: dict[type, Callable[..., Any]], *more: Any) -> Any:
    """What the function for the very class of ``thing`` makes of it: a subclass may do something else."""
    if type(thing) not in known:
        raise _Unknown
    return known[type(thing)](thing, *more)


# Modules.


def _layer(module: nn.Module) -> Layer:
    return _made_for(module, _LAYERS)


def _chain(modules: Iterable[nn.Module]) -> Layer:
    layers = [_layer(module) for module in modules]

    def apply(inputs: Array) -> Array:
        for layer in layers:
            inputs = layer(inputs)
        return inputs

    return apply


def _linear(layer: nn.Linear) -> Layer:
    weight = layer.weight.detach().numpy().T
    if layer.bias is None:
        return lambda inputs: inputs @ weight
    bias = layer.bias.detach().numpy()
    return lambda inputs: inputs @ weight + bias


def _preprocessing(preprocessing: Preprocessing) -> Layer:
    if preprocessing.nested:
        raise _Unknown
    (part,) = preprocessing.parts.values()
    return _layer(part)


def _numbers(part: SpaceInput) -> Layer:
    if not part.continuous or part.scale != 1.0:  # choices are one-hot to torch, bytes are divided
        raise _Unknown
    if part.normalizer is None:
        return lambda observations: observations.astype(np.float32, copy=False)
    normalize = _layer(part.normalizer)
    return lambda observations: normalize(observations.astype(np.float32, copy=False))


def _normalizer(normalizer: RunningNormalizer) -> Layer:
    mean, scale = normalizer.mean.numpy(), 1 / np.sqrt(normalizer.variance.numpy() + np.float32(1e-8))
    low, high = np.float32(-normalizer.clip), np.float32(normalizer.clip)
    # np.clip costs three times as much on a handful of numbers
    return lambda inputs: np.minimum(np.maximum((inputs - mean) * scale, low), high)


_LAYERS: dict[type, Callable[[Any], Layer]] = {
    nn.Linear: _linear,
    nn.Tanh: lambda _: np.tanh,
    nn.ReLU: lambda _: lambda inputs: np.maximum(inputs, 0),
    nn.Sequential: _chain,
    FlattenExtractor: lambda _: lambda inputs: inputs.reshape(len(inputs), -1),
    MlpExtractor: lambda extractor: _chain(extractor.policy_net),
    Preprocessing: _preprocessing,
    SpaceInput: _numbers,
    RunningNormalizer: _normalizer,
}


# Distributions.


def _gaussian(distribution: Gaussian, generator: np.random.Generator) -> Sampler:
    std = np.exp(distribution.log_std.detach().numpy())
    return lambda mean, row: mean + std[row] * generator.standard_normal(mean.shape, dtype=np.float32)


def _categorical(_: Categorical, generator: np.random.Generator) -> Sampler:
    # The maximum of logits plus Gumbel noise is a sample of their softmax.
    return lambda logits, row: (logits + generator.gumbel(size=logits.shape)).argmax(axis=-1)


def _multi_categorical(distribution: MultiCategorical, generator: np.random.Generator) -> Sampler:
    edges = np.cumsum(distribution.sizes)[:-1]

    def choose(logits: Array, row: Any) -> Array:
        parts = np.split(logits + generator.gumbel(size=logits.shape), edges, axis=-1)
        return np.stack([part.argmax(axis=-1) for part in parts], axis=-1)

    return choose


def _bernoulli(_: Bernoulli, generator: np.random.Generator) -> Sampler:
    return lambda logits, row: (generator.logistic(size=logits.shape) < logits).astype(np.float32)


_SAMPLERS: dict[type, Callable[[Any, np.random.Generator], Sampler]] = {
    Gaussian: _gaussian,
    Categorical: _categorical,
    MultiCategorical: _multi_categorical,
    Bernoulli: _bernoulli,
}


def numpy_actor(
    policy: Any, generator: np.random.Generator, repeated: Iterable[Callable[..., Any]]
) -> Callable[[Array], Array] | None:
    """A function from observations ``(n_envs, *obs_shape)`` to sampled actions, valid until the weights next change.

    :param policy: read, not copied
    :param generator: source of the exploration noise
    :param repeated: methods that this arithmetic repeats, as the policy must have them
    :return: None where the policy is not a plain MLP, or a mixture of such, on the CPU; act with torch then
    """
    own = any(getattr(type(policy), method.__name__) is not method for method in repeated)
    if own or policy.use_sde or policy.device.type != "cpu":
        return None
    try:
        return _actor(policy, generator)
    except _Unknown:
        return None


def _actor(policy: Any, generator: np.random.Generator) -> Callable[[Array], Array]:
    features = _chain([policy.preprocess, policy.pi_features_extractor])
    hidden, head = _layer(policy.mlp_extractor), _layer(policy.action_net)
    widths = (policy.mlp_extractor.latent_dim_pi, policy.pi_features_extractor.features_dim)
    with torch.no_grad():
        distribution = policy._distribution_at(*(torch.zeros(1, width) for width in widths))
    if not isinstance(distribution, Mixture):
        sample = _made_for(distribution, _SAMPLERS, generator)
        return lambda observations: sample(head(hidden(features(observations))), ...)
    gate = _layer(policy.gate_net)
    sample = _made_for(distribution.experts.each(lambda tensor: tensor.squeeze(0)), _SAMPLERS, generator)
    sees_latent = policy.moe.gate == "latent"

    def act(observations: Array) -> Array:
        inputs = features(observations)
        latent = hidden(inputs)
        logits = gate(latent if sees_latent else inputs)
        expert = (logits + generator.gumbel(size=logits.shape)).argmax(axis=-1)
        heads = head(latent).reshape(*logits.shape, -1)
        return sample(heads[np.arange(len(expert)), expert], expert)

    return act
