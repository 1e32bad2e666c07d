"""Mixtures of experts: a gate chooses among K action distributions (arXiv 2104.09122, section 3).

::

    pi(a|s) = sum_k w_k(s) p_k(a|s),   w = softmax(gate)

They share the interface of :mod:`rlspo.policies.distributions`. Log-probabilities are exact, KL and entropy are so with one
expert; with several

- ``entropy()`` is Kolchinsky and Tracey's lower bound by pairwise Bhattacharyya distances (arXiv 1706.02419): maximising it
  cannot be fooled, its gradient knows that experts overlap, and it costs no samples. ``entropy_bounds()`` has their upper
  bound, too, and ``entropy_monte_carlo`` an estimate.
- ``kl(other)`` is Hershey and Olsen's variational upper bound (ICASSP 2007, doi 10.1109/ICASSP.2007.366913), which pairs the
  experts of both mixtures as cheaply as it can; ``kl_monte_carlo`` is an estimate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch.nn import functional as F

from rlspo.common.gradients import stop_gradient
from rlspo.policies.distributions import (
    Bernoulli,
    Categorical,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
    gumbel,
    log_slope_of_tanh,
)

Tensor = torch.Tensor
#: Rounds in which kl() improves its pairing of experts. Of unrelated mixtures whose means spread as far as one expert does,
#: the bound would fall by another 1 % (median) in endless rounds; where they spread 0.3 times as far, by 11 %.
PAIRING_ROUNDS = 4
_nodes, _weights = np.polynomial.hermite_e.hermegauss(80)
#: Nodes and weights of the mean over a standard normal distribution.
HERMITE = [*zip(_nodes.tolist(), (_weights / _weights.sum()).tolist(), strict=True)]


def of_expert(tensor: Tensor, index: Tensor) -> Tensor:
    """Row by row, the part of one expert: ``(B, K, ...)`` and ``(B,)`` to ``(B, ...)``."""
    where = index.reshape(-1, 1, *[1] * (tensor.dim() - 2)).expand(-1, 1, *tensor.shape[2:])
    return tensor.gather(1, where).squeeze(1)


@dataclass(frozen=True)
class Mixture:
    """What all mixtures do, whatever their experts are.

    :param gate: logits of the experts' weights, ``(B, K)``, not normalised
    :param experts: their distributions as one with a batch of ``(B, K)``
    :param one_learns: in log-probabilities, let gradients reach only the expert that most likely gave the action
    :param features: what it was made of, ``(B, n_features)``, for a critic of the experts' actions
    """

    gate: Tensor
    experts: Any
    one_learns: bool = False
    features: Tensor | None = None

    @property
    def n_experts(self) -> int:
        return self.gate.shape[-1]

    @property
    def log_weights(self) -> Tensor:
        """log w, ``(B, K)``."""
        return F.log_softmax(self.gate, dim=-1)

    @property
    def weights(self) -> Tensor:
        """w, ``(B, K)``."""
        return F.softmax(self.gate, dim=-1)

    def each(self, function: Callable[[Tensor], Tensor]) -> Mixture:
        """The same mixture with ``function`` applied to gate and experts' parameters."""
        return replace(self, gate=function(self.gate), experts=self.experts.each(function), features=None)

    def detach(self) -> Mixture:
        return self.each(Tensor.detach)

    def expert(self, index: Tensor) -> Any:
        """The distribution of one expert for each row.

        :param index: which, ``(B,)``
        """
        return self.experts.each(lambda tensor: of_expert(tensor, index))

    def best_expert(self) -> Tensor:
        """The one that the gate likes best, ``(B,)``."""
        return self.gate.argmax(dim=-1)

    def mode(self) -> Tensor:
        """The mode of the gate's best expert."""
        return self.expert(self.best_expert()).mode()

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        return self.sample_with_expert(generator)[0]

    def sample_with_expert(self, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """An action for each row, and which expert gave it, ``(B,)``."""
        index = self.sample_expert(gumbel(self.gate.shape, generator, self.gate.device))
        return self.expert(index).sample(generator), index

    def sample_expert(self, noise: Tensor) -> Tensor:
        """One expert for each row, drawn with the gate's weights, ``(B,)``.

        :param noise: standard Gumbel, ``(B, K)``
        """
        return (self.gate + noise).argmax(dim=-1)

    def _for_each_expert(self, actions: Tensor) -> Tensor:
        return actions.unsqueeze(1).expand(-1, self.n_experts, *actions.shape[1:])

    def log_prob(self, actions: Tensor) -> Tensor:
        terms = self.experts.log_prob(self._for_each_expert(actions))
        return torch.logsumexp(self.log_weights + self._learning(terms, terms), dim=-1)

    def _learning(self, terms: Tensor, log_prob: Tensor) -> Tensor:
        """``terms`` of log-probabilities ``(B, K, ...)``, without gradient where another expert is more likely."""
        if not self.one_learns:
            return terms
        likely = (self.log_weights + log_prob).detach()
        chosen = (likely == likely.amax(dim=-1, keepdim=True)).reshape(likely.shape + (1,) * (terms.dim() - 2))
        return torch.where(chosen, terms, stop_gradient(terms))

    def log_probs(self, actions: Tensor) -> Tensor:
        """log p(a_d | a_1, ..., a_{d-1}) for each dimension d in turn; experts make the dimensions depend on each other."""
        terms = self.experts.log_probs(self._for_each_expert(actions))
        terms = self._learning(terms, terms.sum(dim=-1))
        so_far = torch.logsumexp(self.log_weights.unsqueeze(-1) + terms.cumsum(dim=-1), dim=1)
        return torch.diff(so_far, dim=-1, prepend=torch.zeros_like(so_far[:, :1]))

    # Entropy.

    def entropy(self) -> Tensor | None:
        return self.entropy_bounds()[0]

    def entropy_bounds(self) -> tuple[Tensor, Tensor]:
        """A lower and an upper bound, ``(B,)`` each, which meet where there is one expert or experts are far apart."""
        one, other = self._pairs(self)
        return self._pairwise_entropy(one.bhattacharyya(other)), self._pairwise_entropy(one.kl(other))

    def _pairwise_entropy(self, distances: Tensor) -> Tensor:
        overlaps = torch.logsumexp(self.log_weights.unsqueeze(1) - distances, dim=-1)
        return (self.weights * (self._expert_entropy() - overlaps)).sum(dim=-1)

    def _expert_entropy(self) -> Tensor:
        return self.experts.entropy()

    def entropy_monte_carlo(self, n_samples: int = 100, generator: torch.Generator | None = None) -> Tensor:
        """Mean of -log pi over samples, ``n_samples`` from each expert, ``(B,)``; an estimate, without gradient."""
        return -self._mean_over_samples(lambda wide, drawn: wide(self)._log_prob_of(drawn), n_samples, generator)

    # Distance to another mixture.

    def _pairs(self, other: Mixture) -> tuple[Any, Any]:
        """Experts of both, for all pairs: ``(B, K, 1)`` and ``(B, 1, K')``."""
        return self.experts.each(lambda tensor: tensor.unsqueeze(2)), other.experts.each(lambda tensor: tensor.unsqueeze(1))

    def pairwise_kl(self) -> Tensor:
        """KL(expert i || expert j), ``(B, K, K)``; squashing changes nothing in it."""
        one, other = self._pairs(self)
        return one.kl(other)

    def kl(self, other: Mixture) -> Tensor:
        """An upper bound of KL(self || other), ``(B,)``; exact where both have one expert, and 0 for equal mixtures.

        How near it is depends on how far experts lie apart. With four experts in three dimensions whose means spread, in each
        dimension, 3, 1 and 0.3 times as far as an expert does, it is 1.1, 1.7 and 3 times the divergence. Its gradient, that
        of the bound with the pairing of experts held still, is off that of the best pairing by 0, 9 and 36 % for unrelated
        mixtures, and by 0 for nearly equal ones (medians of ``benchmarks/kl_bound.py``).

        Of expert i's weight, the share ``share[i, j]`` is paired with expert j of ``other``, and of j's weight the share
        ``back[i, j]`` with i. Any shares give a bound, so they carry no gradient. Of the cheapest shares found and of each
        expert paired with its namesake, which is best for two policies that are nearly the same, the lower bound counts.
        """
        one, another = self._pairs(other)
        distances = one.kl(another)
        mine, theirs = self.log_weights.unsqueeze(2), other.log_weights.unsqueeze(1)
        log_share, log_back = self._pairing(mine.detach(), theirs.detach(), distances.detach())
        cost = mine + log_share - theirs - log_back + distances
        paired = ((mine + log_share).exp() * cost).sum(dim=(-1, -2))
        if self.n_experts != other.n_experts:
            return paired
        same = self.log_weights - other.log_weights + torch.diagonal(distances, dim1=-2, dim2=-1)
        return torch.minimum(paired, (self.weights * same).sum(dim=-1))

    @staticmethod
    def _pairing(mine: Tensor, theirs: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        log_share = F.log_softmax(theirs - distances, dim=2)
        for _ in range(PAIRING_ROUNDS):
            log_back = F.log_softmax(mine + log_share, dim=1)
            log_share = F.log_softmax(theirs + log_back - distances, dim=2)
        return log_share, F.log_softmax(mine + log_share, dim=1)

    def kl_monte_carlo(self, other: Mixture, n_samples: int = 100, generator: torch.Generator | None = None) -> Tensor:
        """Mean of log pi - log pi' over samples, ``n_samples`` from each expert, ``(B,)``; an estimate, without gradient."""

        def difference(wide: Callable[[Mixture], Mixture], drawn: Tensor) -> Tensor:
            return wide(self)._log_prob_of(drawn) - wide(other)._log_prob_of(drawn)

        return self._mean_over_samples(difference, n_samples, generator)

    @torch.no_grad()
    def _mean_over_samples(
        self, function: Callable[[Any, Tensor], Tensor], n_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        def wide(mixture: Mixture) -> Mixture:
            return mixture.each(lambda tensor: tensor.repeat_interleave(n_samples, dim=0))

        drawn = wide(self)._draw(generator)
        values = torch.stack([function(wide, drawn[:, k]) for k in range(self.n_experts)], dim=-1)
        return (self.weights * values.unflatten(0, (-1, n_samples)).mean(dim=1)).sum(dim=-1)

    def _draw(self, generator: torch.Generator | None) -> Tensor:
        """A draw of each expert, ``(B, K, ...)``, in the form in which :meth:`_log_prob_of` is exact."""
        return self.experts.from_noise(self.experts.draw_noise(generator))

    def _log_prob_of(self, drawn: Tensor) -> Tensor:
        return self.log_prob(drawn)


@dataclass(frozen=True)
class GaussianMixture(Mixture):
    """K :class:`Gaussian` experts.

    >>> mixture = GaussianMixture.of(gate=torch.zeros(1, 2), mean=torch.tensor([[[-1.0], [1.0]]]), log_std=torch.zeros(1))
    >>> round(float(mixture.log_prob(torch.zeros(1, 1)).exp()), 4)
    0.242
    """

    @classmethod
    def of(cls, gate: Tensor, mean: Tensor, log_std: Tensor) -> Self:
        """
        :param gate: ``(B, K)``
        :param mean: ``(B, K, A)``
        :param log_std: ``(B, K, A)`` or what broadcasts to it
        """
        return cls(gate, cls.expert_class(mean, log_std.expand_as(mean)))

    expert_class: ClassVar[type[Gaussian]] = Gaussian

    def log_prob_of_raw(self, raw: Tensor) -> Tensor:
        """``log_prob(squash(raw))``, exact also where squashing has lost digits.

        :param raw: ``(B, A)``, or several for each row, ``(B, n, A)``
        :return: ``(B,)``, or ``(B, n)``
        """
        experts, log_weights = self.experts, self.log_weights
        if raw.dim() == 3:
            experts, log_weights = experts.each(lambda tensor: tensor.unsqueeze(1)), log_weights.unsqueeze(1)
        return torch.logsumexp(log_weights + experts.log_probs_of_raw(raw.unsqueeze(-2)).sum(dim=-1), dim=-1)

    def _draw(self, generator: torch.Generator | None) -> Tensor:
        return self.experts.raw(self.experts.draw_noise(generator))

    def _log_prob_of(self, drawn: Tensor) -> Tensor:
        return self.log_prob_of_raw(drawn)


@dataclass(frozen=True)
class SquashedExperts(SquashedGaussian):
    """Squashed Gaussians without what SB3 adds under the logarithm of the slope, so that densities integrate to one."""

    def log_probs(self, actions: Tensor) -> Tensor:
        inside = torch.finfo(actions.dtype).eps
        return self.log_probs_of_raw(torch.atanh(actions.clamp(-1.0 + inside, 1.0 - inside)))


@dataclass(frozen=True)
class SquashedGaussianMixture(GaussianMixture):
    """K :class:`SquashedGaussian` experts, or a :class:`GaussianMixture` pushed through tanh, which is the same.

    ``log_prob`` is exact for the action given, but float32 cannot tell actions apart where tanh is near 1: there
    ``log_prob_of_raw`` is exact. The part of the entropy that tanh takes away is an integral over each dimension, done by
    Gauss-Hermite quadrature: to 1e-4 for standard deviations up to e, to 0.02 nats for each dimension up to e^2 (its gradient
    to 0.15).
    """

    expert_class: ClassVar[type[Gaussian]] = SquashedExperts

    def _expert_entropy(self) -> Tensor:
        experts = self.experts
        inside = Gaussian(experts.mean, experts.log_std).entropy()
        lost = torch.zeros_like(self.gate)
        for node, weight in HERMITE:
            lost = lost + weight * log_slope_of_tanh(experts.mean + experts.log_std.exp() * node).sum(dim=-1)
        assert inside is not None
        return inside + lost


@dataclass(frozen=True)
class CategoricalMixture(Mixture):
    """K experts for one choice or several.

    For one choice (:meth:`of` without sizes, actions ``(B,)``, or with one, actions ``(B, 1)``) a mixture is a categorical
    distribution itself, and entropy and KL are exact. With several choices (actions ``(B, n_choices)``) experts make the
    choices depend on each other.
    """

    @classmethod
    def of(cls, gate: Tensor, logits: Tensor, sizes: tuple[int, ...] = ()) -> CategoricalMixture:
        """
        :param gate: ``(B, K)``
        :param logits: ``(B, K, n)``; of several choices side by side, ``n = sum(sizes)``
        :param sizes: number of actions of each choice; empty for one choice
        """
        return cls(gate, MultiCategorical(logits, sizes) if sizes else Categorical(logits))

    @property
    def marginal(self) -> Categorical | None:
        """The one categorical distribution that a mixture for one choice is; None for several choices."""
        if isinstance(self.experts, MultiCategorical) and len(self.experts.sizes) > 1:
            return None
        return Categorical(torch.logsumexp(self.log_weights.unsqueeze(-1) + F.log_softmax(self.experts.logits, dim=-1), dim=1))

    def entropy(self) -> Tensor | None:
        return self.marginal.entropy() if self.marginal is not None else super().entropy()

    def kl(self, other: Mixture) -> Tensor:
        mine, theirs = self.marginal, other.marginal if isinstance(other, CategoricalMixture) else None
        return mine.kl(theirs) if mine is not None and theirs is not None else super().kl(other)


@dataclass(frozen=True)
class BernoulliMixture(Mixture):
    """K experts for several binary choices."""

    @classmethod
    def of(cls, gate: Tensor, logits: Tensor) -> BernoulliMixture:
        """
        :param gate: ``(B, K)``
        :param logits: log odds of one, ``(B, K, A)``
        """
        return cls(gate, Bernoulli(logits))
