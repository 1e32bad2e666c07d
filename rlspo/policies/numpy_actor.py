"""Acting with a small network on the CPU: the same arithmetic in numpy, where a batch of one costs microseconds.

Dispatching a torch operator costs more than multiplying 64 by 64 numbers, and a rollout acts on one to a few observations
at a time. The arrays used here share memory with the policy's parameters, so nothing is copied or goes stale. Values and
log-probabilities are not computed here: the collector evaluates the whole rollout in one batch afterwards.

Known are the modules of :func:`_layers` and the distributions of :func:`_sampler`; a policy with any other, or with a method
of its own in place of one that this arithmetic repeats, acts in torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import nn
from torch.nn.modules.module import _has_any_global_hook

from rlspo.policies.distributions import Bernoulli, Categorical, Gaussian, MultiCategorical
from rlspo.policies.mixtures import Mixture
from rlspo.policies.preprocessing import Preprocessing, RunningNormalizer, SpaceInput

Array = np.ndarray
Layer = Callable[[Array], Array]
#: Distribution heads ``(B, ...)``, and which row of a state-independent scale is theirs, to sampled actions.
Sampler = Callable[[Array, Any], Array]


class _Unknown(Exception):
    """A module or a distribution has no equal in numpy."""


def _layers(module: Any) -> list[Layer]:
    """What a module does, one function after the other."""
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):  # they may change what it does
        raise _Unknown
    kind = type(module)  # the very class: a subclass may do something else
    if kind is nn.Sequential:
        return [layer for part in module for layer in _layers(part)]
    if kind is MlpExtractor:
        return _layers(module.policy_net)
    if kind is Preprocessing and not module.nested:
        return _layers(module.parts["observation"])
    if kind is SpaceInput and module.continuous and module.scale == 1.0:  # choices are one-hot, bytes are divided
        normalize = [] if module.normalizer is None else _layers(module.normalizer)
        return [lambda observations: observations.astype(np.float32, copy=False), *normalize]
    if kind is RunningNormalizer:
        mean, scale = module.mean.numpy(), 1 / np.sqrt(module.variance.numpy() + np.float32(1e-8))
        low, high = np.float32(-module.clip), np.float32(module.clip)
        # np.clip costs three times as much on a handful of numbers
        return [lambda inputs: np.minimum(np.maximum((inputs - mean) * scale, low), high)]
    if kind is FlattenExtractor:
        return [lambda inputs: inputs.reshape(len(inputs), -1)]
    if kind is nn.Linear:
        weight = module.weight.detach().numpy().T
        if module.bias is None:
            return [lambda inputs: inputs @ weight]
        bias = module.bias.detach().numpy()
        return [lambda inputs: inputs @ weight + bias]
    if kind is nn.Tanh:
        return [np.tanh]
    if kind is nn.ReLU:
        return [lambda inputs: np.maximum(inputs, 0)]
    raise _Unknown


def _sampler(distribution: Any, generator: np.random.Generator) -> Sampler:
    kind = type(distribution)
    if kind is Gaussian:
        std = np.exp(distribution.log_std.detach().numpy())
        return lambda mean, row: mean + std[row] * generator.standard_normal(mean.shape, dtype=np.float32)
    if kind is Categorical:  # the maximum of logits plus Gumbel noise is a sample of their softmax
        return lambda logits, row: (logits + generator.gumbel(size=logits.shape)).argmax(axis=-1)
    if kind is MultiCategorical:
        edges = np.cumsum(distribution.sizes)[:-1]

        def choose(logits: Array, row: Any) -> Array:
            parts = np.split(logits + generator.gumbel(size=logits.shape), edges, axis=-1)
            return np.stack([part.argmax(axis=-1) for part in parts], axis=-1)

        return choose
    if kind is Bernoulli:
        return lambda logits, row: (generator.logistic(size=logits.shape) < logits).astype(np.float32)
    raise _Unknown


def numpy_actor(
    policy: Any, generator: np.random.Generator, repeated: Iterable[Callable[..., Any]]
) -> Callable[[Array], Array] | None:
    """A function from observations ``(n_envs, *obs_shape)`` to sampled actions, valid until the weights next change.

    :param policy: read, not copied
    :param generator: source of the exploration noise
    :param repeated: methods that this arithmetic repeats, as the policy must have them
    :return: None where the policy is not a plain MLP, or a mixture of such, on the CPU; act with torch then
    """
    if policy.use_sde or not _repeatable(policy, repeated):
        return None
    widths = (policy.mlp_extractor.latent_dim_pi, policy.pi_features_extractor.features_dim)
    with torch.no_grad():
        distribution = policy._distribution_at(*(torch.zeros(1, width) for width in widths))
    try:
        features = [*_layers(policy.preprocess), *_layers(policy.pi_features_extractor)]
        hidden, head = _layers(policy.mlp_extractor), _layers(policy.action_net)
        if isinstance(distribution, Mixture):
            return _mixture_actor(policy, generator, distribution, features, hidden, head)
        layers, sample = [*features, *hidden, *head], _sampler(distribution, generator)
    except _Unknown:
        return None

    def act(values: Array) -> Array:
        for layer in layers:
            values = layer(values)
        return sample(values, ...)

    return act


def _repeatable(policy: Any, repeated: Iterable[Callable[..., Any]]) -> bool:
    """Whether nobody has put methods of their own, or hooks for all modules, in place of what is repeated here."""
    own = any(getattr(getattr(policy, method.__name__), "__func__", None) is not method for method in repeated)
    return not own and policy.device.type == "cpu" and not _has_any_global_hook()


def squashed_numpy_actor(
    policy: Any, generator: np.random.Generator, repeated: Iterable[Callable[..., Any]], log_std_range: tuple[float, float]
) -> Callable[[Array], Array] | None:
    """As :func:`numpy_actor`, for the actors of SAC: a Gaussian whose standard deviation is an output of the network, too,
    through tanh.

    :param log_std_range: to which the logarithm of the standard deviation is clipped
    :return: a function to actions in (-1, 1)
    """
    actor = policy.actor
    if actor.use_sde or not _repeatable(policy, repeated):
        return None
    try:
        hidden = [*_layers(policy.preprocess), *_layers(actor.features_extractor), *_layers(actor.latent_pi)]
        mean_layers, log_std_layers = _layers(actor.mu), _layers(actor.log_std)
    except _Unknown:
        return None
    lowest, highest = map(np.float32, log_std_range)

    @np.errstate(all="ignore")  # what is not finite the agent looks for in the actions
    def act(values: Array) -> Array:
        for layer in hidden:
            values = layer(values)
        mean = log_std = values
        for layer in mean_layers:
            mean = layer(mean)
        for layer in log_std_layers:
            log_std = layer(log_std)
        std = np.exp(np.minimum(np.maximum(log_std, lowest), highest))
        return np.tanh(mean + std * generator.standard_normal(mean.shape, dtype=np.float32))

    return act


def _mixture_actor(
    policy: Any,
    generator: np.random.Generator,
    distribution: Mixture,
    features: list[Layer],
    hidden: list[Layer],
    head: list[Layer],
) -> Callable[[Array], Array]:
    gate = _layers(policy.gate_net)
    sample = _sampler(distribution.experts.each(lambda tensor: tensor.squeeze(0)), generator)
    sees_latent = policy.moe.gate == "latent"

    def apply(layers: list[Layer], values: Array) -> Array:
        for layer in layers:
            values = layer(values)
        return values

    def act(observations: Array) -> Array:
        inputs = apply(features, observations)
        latent = apply(hidden, inputs)
        logits = apply(gate, latent if sees_latent else inputs)
        expert = (logits + generator.gumbel(size=logits.shape)).argmax(axis=-1)
        heads = apply(head, latent).reshape(*logits.shape, -1)
        return sample(heads[np.arange(len(expert)), expert], expert)

    return act
