"""Networks, action distributions and observation statistics."""

from rlspo.policies.actor_critic import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
    functional_policy_class,
)
from rlspo.policies.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
)

__all__ = [
    "ActorCriticCnnPolicy",
    "ActorCriticPolicy",
    "Bernoulli",
    "Categorical",
    "Distribution",
    "Gaussian",
    "MultiCategorical",
    "MultiInputActorCriticPolicy",
    "SquashedGaussian",
    "functional_policy_class",
]
