"""Networks, action distributions and observation statistics."""

from rlspo.policies.actor_critic import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
)
from rlspo.policies.actor_critic import functional_policy_class as functional_policy_class
from rlspo.policies.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
)
from rlspo.policies.mixtures import (
    BernoulliMixture,
    CategoricalMixture,
    GaussianMixture,
    Mixture,
    SquashedGaussianMixture,
)

__all__ = [
    "ActorCriticCnnPolicy",
    "ActorCriticPolicy",
    "Bernoulli",
    "BernoulliMixture",
    "Categorical",
    "CategoricalMixture",
    "Distribution",
    "Gaussian",
    "GaussianMixture",
    "Mixture",
    "MultiCategorical",
    "MultiInputActorCriticPolicy",
    "SquashedGaussian",
    "SquashedGaussianMixture",
]
