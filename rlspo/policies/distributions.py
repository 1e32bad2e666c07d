"""Action distributions as plain values: tensors in, tensors out, no state, so that they differentiate and compile.

All share ``mode() sample(generator) log_prob(actions) entropy() kl(other) detach()``; a leading ``B`` is the batch, which
may have several dimensions. Every quantity is summed over the action's dimensions, so it has shape ``(B,)``;
``log_probs(actions)`` are the terms of ``log_prob``, one for each independent dimension, ``(B, K)``. All are exact (closed
form), but for the entropy of :class:`SquashedGaussian`, which has none and says so with ``None``.

Inside a loss, chance comes from outside: ``draw_noise(generator)`` draws it, ``from_noise(noise)`` is a pure function. What
mixtures need beyond that: ``bhattacharyya(other)``, the distance between two distributions that overlap by
``exp(-distance)``, and ``each(function)``, the same distribution with ``function`` applied to its tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F

Tensor = torch.Tensor
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
#: The logit of an action that does not exist: its probability is 0, and sums of its logarithms stay finite.
NEVER = -1e9


@dataclass(frozen=True)
class Gaussian:
    """Independent normal distributions.

    :param mean: ``(B, A)``
    :param log_std: ``(A,)`` or ``(B, A)``, natural logarithm of the standard deviation
    """

    mean: Tensor
    log_std: Tensor

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        return self.from_noise(self.draw_noise(generator))

    def draw_noise(self, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(self.mean.shape, generator=generator, device=self.mean.device)

    def from_noise(self, noise: Tensor) -> Tensor:
        return self.squash(self.raw(noise))

    def raw(self, noise: Tensor) -> Tensor:
        """The sample before any squashing; differentiable in mean and standard deviation."""
        return self.mean + self.log_std.exp() * noise

    def squash(self, raw: Tensor) -> Tensor:
        """From a sample of the normal distributions to an action."""
        return raw

    def log_prob(self, actions: Tensor) -> Tensor:
        return self.log_probs(actions).sum(dim=-1)

    def log_probs(self, actions: Tensor) -> Tensor:
        return self.log_probs_of_raw(actions)

    def log_probs_of_raw(self, raw: Tensor) -> Tensor:
        """``log_probs(squash(raw))``, exact also where squashing has lost digits."""
        scaled = (raw - self.mean) * torch.exp(-self.log_std)
        return -0.5 * scaled * scaled - self.log_std - HALF_LOG_TWO_PI

    def entropy(self) -> Tensor | None:
        return (self.log_std + 0.5 + HALF_LOG_TWO_PI).expand_as(self.mean).sum(dim=-1)

    def kl(self, other: Gaussian) -> Tensor:
        """KL(self || other)."""
        variance_ratio = torch.exp(2 * (self.log_std - other.log_std))
        distance = (self.mean - other.mean) * torch.exp(-other.log_std)
        return (0.5 * (variance_ratio + distance * distance - 1.0) + other.log_std - self.log_std).sum(dim=-1)

    def bhattacharyya(self, other: Gaussian) -> Tensor:
        log_sum = torch.logaddexp(2 * self.log_std, 2 * other.log_std)  # of the variances
        distance = (self.mean - other.mean) * torch.exp(-0.5 * log_sum)
        overlap = log_sum - math.log(2.0) - self.log_std - other.log_std
        return (0.25 * distance * distance + 0.5 * overlap).sum(dim=-1)

    def each(self, function: Callable[[Tensor], Tensor]) -> Gaussian:
        return type(self)(function(self.mean), function(self.log_std))

    def detach(self) -> Gaussian:
        return self.each(Tensor.detach)


@dataclass(frozen=True)
class SquashedGaussian(Gaussian):
    """A :class:`Gaussian` pushed through tanh; actions lie in (-1, 1).

    KL and Bhattacharyya distance are invariant under the squashing. Near the edges float32 cannot tell actions apart; there
    :meth:`log_probs_of_raw` stays exact and :meth:`log_probs` finite, as in SB3.
    """

    #: As in SB3: keeps the logarithm of the slope finite for actions at the edges.
    edge: ClassVar[float] = 1e-6

    def mode(self) -> Tensor:
        return torch.tanh(self.mean)

    def squash(self, raw: Tensor) -> Tensor:
        return torch.tanh(raw)

    def log_probs(self, actions: Tensor) -> Tensor:
        inside = torch.finfo(actions.dtype).eps
        raw = torch.atanh(actions.clamp(-1.0 + inside, 1.0 - inside))
        return super().log_probs_of_raw(raw) - torch.log(1.0 - torch.tanh(raw) ** 2 + self.edge)

    def log_probs_of_raw(self, raw: Tensor) -> Tensor:
        return super().log_probs_of_raw(raw) - log_slope_of_tanh(raw)

    def entropy(self) -> Tensor | None:
        return None


def log_slope_of_tanh(raw: Tensor) -> Tensor:
    """log(1 - tanh(raw)^2), exact where tanh rounds to 1."""
    return 2.0 * (math.log(2.0) - raw - F.softplus(-2.0 * raw))


@dataclass(frozen=True)
class Categorical:
    """One of ``n`` actions.

    :param logits: ``(B, n)``, not normalised
    """

    logits: Tensor

    def mode(self) -> Tensor:
        return self.logits.argmax(dim=-1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        probabilities = F.softmax(self.logits, dim=-1)
        return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)

    def draw_noise(self, generator: torch.Generator | None = None) -> Tensor:
        return gumbel(self.logits.shape, generator, self.logits.device)

    def from_noise(self, noise: Tensor) -> Tensor:
        return (self.logits + noise).argmax(dim=-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        return self.log_probs(actions).squeeze(-1)

    def log_probs(self, actions: Tensor) -> Tensor:
        return F.log_softmax(self.logits, dim=-1).gather(-1, actions.long().unsqueeze(-1))

    def entropy(self) -> Tensor | None:
        log_probabilities = F.log_softmax(self.logits, dim=-1)
        return -(log_probabilities.exp() * log_probabilities).sum(dim=-1)

    def kl(self, other: Categorical) -> Tensor:
        """KL(self || other)."""
        mine = F.log_softmax(self.logits, dim=-1)
        return (mine.exp() * (mine - F.log_softmax(other.logits, dim=-1))).sum(dim=-1)

    def bhattacharyya(self, other: Categorical) -> Tensor:
        both = F.log_softmax(self.logits, dim=-1) + F.log_softmax(other.logits, dim=-1)
        return -torch.logsumexp(0.5 * both, dim=-1)

    def each(self, function: Callable[[Tensor], Tensor]) -> Categorical:
        return Categorical(function(self.logits))

    def detach(self) -> Categorical:
        return self.each(Tensor.detach)


@dataclass(frozen=True)
class MultiCategorical:
    """Several independent :class:`Categorical` choices.

    :param logits: ``(B, sum(sizes))``, the choices' logits side by side
    :param sizes: number of actions of each choice
    """

    logits: Tensor
    sizes: tuple[int, ...]

    def _rows(self) -> Tensor:
        """The choices' logits as rows, ``(B, K, max(sizes))``; shorter choices are filled up with what is never taken."""
        if len(set(self.sizes)) == 1:
            return self.logits.unflatten(-1, (len(self.sizes), self.sizes[0]))
        longest, parts = max(self.sizes), self.logits.split(self.sizes, dim=-1)
        return torch.stack([F.pad(part, (0, longest - part.shape[-1]), value=NEVER) for part in parts], dim=-2)

    def mode(self) -> Tensor:
        return self._rows().argmax(dim=-1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        probabilities = F.softmax(self._rows(), dim=-1)
        flat = torch.multinomial(probabilities.flatten(0, -2), 1, generator=generator)
        return flat.reshape(probabilities.shape[:-1])

    def draw_noise(self, generator: torch.Generator | None = None) -> Tensor:
        shape = (*self.logits.shape[:-1], len(self.sizes), max(self.sizes))
        return gumbel(shape, generator, self.logits.device)

    def from_noise(self, noise: Tensor) -> Tensor:
        return (self._rows() + noise).argmax(dim=-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        return self.log_probs(actions).sum(dim=-1)

    def log_probs(self, actions: Tensor) -> Tensor:
        return F.log_softmax(self._rows(), dim=-1).gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor | None:
        log_probabilities = F.log_softmax(self._rows(), dim=-1)
        return -(log_probabilities.exp() * log_probabilities).sum(dim=(-1, -2))

    def kl(self, other: MultiCategorical) -> Tensor:
        """KL(self || other)."""
        mine = F.log_softmax(self._rows(), dim=-1)
        return (mine.exp() * (mine - F.log_softmax(other._rows(), dim=-1))).sum(dim=(-1, -2))

    def bhattacharyya(self, other: MultiCategorical) -> Tensor:
        both = F.log_softmax(self._rows(), dim=-1) + F.log_softmax(other._rows(), dim=-1)
        return -torch.logsumexp(0.5 * both, dim=-1).sum(dim=-1)

    def each(self, function: Callable[[Tensor], Tensor]) -> MultiCategorical:
        return MultiCategorical(function(self.logits), self.sizes)

    def detach(self) -> MultiCategorical:
        return self.each(Tensor.detach)


@dataclass(frozen=True)
class Bernoulli:
    """Independent binary choices.

    :param logits: log odds of one, ``(B, A)``
    """

    logits: Tensor

    def mode(self) -> Tensor:
        return (self.logits > 0).to(self.logits.dtype)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        uniform = torch.rand(self.logits.shape, generator=generator, device=self.logits.device)
        return (uniform < torch.sigmoid(self.logits)).to(self.logits.dtype)

    def draw_noise(self, generator: torch.Generator | None = None) -> Tensor:
        uniform = torch.rand(self.logits.shape, generator=generator, device=self.logits.device)
        return torch.logit(uniform, eps=torch.finfo(uniform.dtype).tiny)

    def from_noise(self, noise: Tensor) -> Tensor:
        return (noise < self.logits).to(self.logits.dtype)

    def log_prob(self, actions: Tensor) -> Tensor:
        return self.log_probs(actions).sum(dim=-1)

    def log_probs(self, actions: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(self.logits, actions.to(self.logits.dtype), reduction="none")

    def entropy(self) -> Tensor | None:
        probability = torch.sigmoid(self.logits)
        return (F.softplus(self.logits) - self.logits * probability).sum(dim=-1)

    def kl(self, other: Bernoulli) -> Tensor:
        """KL(self || other)."""
        probability = torch.sigmoid(self.logits)
        # log p/q = (l - m) + softplus(m) - softplus(l) on ones, and the same without (l - m) on zeros.
        difference = self.logits - other.logits
        per_dimension = probability * difference + F.softplus(other.logits) - F.softplus(self.logits)
        return per_dimension.sum(dim=-1)

    def bhattacharyya(self, other: Bernoulli) -> Tensor:
        ones = F.logsigmoid(self.logits) + F.logsigmoid(other.logits)
        zeros = F.logsigmoid(-self.logits) + F.logsigmoid(-other.logits)
        return -torch.logaddexp(0.5 * ones, 0.5 * zeros).sum(dim=-1)

    def each(self, function: Callable[[Tensor], Tensor]) -> Bernoulli:
        return Bernoulli(function(self.logits))

    def detach(self) -> Bernoulli:
        return self.each(Tensor.detach)


def gumbel(shape: Sequence[int], generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Standard Gumbel noise: the largest of logits plus this noise is a sample of their softmax."""
    return -torch.empty(shape, device=device).exponential_(generator=generator).log()


Distribution = Gaussian | Categorical | MultiCategorical | Bernoulli
