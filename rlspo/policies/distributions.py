"""Action distributions as plain values: tensors in, tensors out, no state, so that they differentiate and compile.

All share ``mode() sample(generator) log_prob(actions) entropy() kl(other) detach()``; a leading ``B`` is the batch. Every
quantity is summed over the action's dimensions, so it has shape ``(B,)``; ``log_probs(actions)`` are the terms of
``log_prob``, one for each independent dimension, ``(B, K)``. All are exact (closed form), but for the entropy of
:class:`SquashedGaussian`, which has none and says so with ``None``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        return self.mean + self.log_std.exp() * noise

    def log_prob(self, actions: Tensor) -> Tensor:
        return self.log_probs(actions).sum(dim=-1)

    def log_probs(self, actions: Tensor) -> Tensor:
        scaled = (actions - self.mean) * torch.exp(-self.log_std)
        return -0.5 * scaled * scaled - self.log_std - HALF_LOG_TWO_PI

    def entropy(self) -> Tensor | None:
        return (self.log_std + 0.5 + HALF_LOG_TWO_PI).expand_as(self.mean).sum(dim=-1)

    def kl(self, other: Gaussian) -> Tensor:
        """KL(self || other)."""
        variance_ratio = torch.exp(2 * (self.log_std - other.log_std))
        distance = (self.mean - other.mean) * torch.exp(-other.log_std)
        per_dimension = 0.5 * (variance_ratio + distance * distance - 1.0) + other.log_std - self.log_std
        return per_dimension.expand_as(self.mean).sum(dim=-1)

    def detach(self) -> Gaussian:
        return type(self)(self.mean.detach(), self.log_std.detach())


@dataclass(frozen=True)
class SquashedGaussian(Gaussian):
    """A :class:`Gaussian` pushed through tanh; actions lie in (-1, 1). KL is invariant under the squashing."""

    #: As in SB3: keeps the logarithm of the Jacobian and the inverse of tanh finite at the edges.
    edge: float = 1e-6

    def mode(self) -> Tensor:
        return torch.tanh(self.mean)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        return torch.tanh(super().sample(generator))

    def log_probs(self, actions: Tensor) -> Tensor:
        inside = torch.finfo(actions.dtype).eps
        raw = torch.atanh(actions.clamp(-1.0 + inside, 1.0 - inside))
        return super().log_probs(raw) - torch.log(1.0 - torch.tanh(raw) ** 2 + self.edge)

    def entropy(self) -> Tensor | None:
        return None


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

    def detach(self) -> Categorical:
        return Categorical(self.logits.detach())


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

    def detach(self) -> MultiCategorical:
        return MultiCategorical(self.logits.detach(), self.sizes)


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

    def detach(self) -> Bernoulli:
        return Bernoulli(self.logits.detach())


Distribution = Gaussian | Categorical | MultiCategorical | Bernoulli
