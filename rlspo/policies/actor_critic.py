"""SB3's actor-critic policies with a pure, functional side: parameters and inputs in, distribution and values out.

The networks, their initialisation and the names in ``state_dict`` are SB3's, so weights move freely between the two. What
is added: observation statistics inside the policy, distributions as values, low precision for convolutions, and methods
that take the parameters as an argument and therefore differentiate and compile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent import policies as contrib
from stable_baselines3.common import policies as sb3
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
    StateDependentNoiseDistribution,
)
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule

from rlspo.common.gradients import stop_gradient
from rlspo.common.settings import check_flag
from rlspo.common.spaces import as_env_numbers, from_env_numbers
from rlspo.common.trees import ArrayTree
from rlspo.policies.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
)
from rlspo.policies.functional import Functional, Parameters
from rlspo.policies.numpy_actor import numpy_actor
from rlspo.policies.preprocessing import Preprocessing
from rlspo.policies.written_for_sb3 import adopted, check_complete, check_consistent, own_methods

Tensor = torch.Tensor

#: SB3's methods that say what a policy computes, and those of the functional side, which losses call.
FOR_USERS = ("forward", "evaluate_actions", "extract_features", "predict_values", "_get_action_dist_from_latent")
FUNCTIONAL = ("distribution_of", "values_of", "evaluation_of", "_distribution_at", "_distribution", "_values", "_features")
DISTRIBUTIONS = (
    DiagGaussianDistribution,
    CategoricalDistribution,
    MultiCategoricalDistribution,
    BernoulliDistribution,
    StateDependentNoiseDistribution,
)


class ActorCriticPolicy(Functional, sb3.ActorCriticPolicy):
    """Actor and critic for vectors ("MlpPolicy").

    All arguments of SB3's ``ActorCriticPolicy``, and:

    :param normalize_observations: keep running mean and variance of Box observations (not images) inside the policy;
        the network then sees ``(observation - mean) / std`` clipped to +-``clip_observations``
    :param clip_observations: in standard deviations; usual range 5 to 10

    *Inputs* below are what :meth:`preprocess` returns: what the network sees, in the units in which an adversary's
    radius is measured.
    """

    preprocessing_class: ClassVar[type[Preprocessing]] = Preprocessing
    #: Numbers that are remembered of an episode from step to step; see :mod:`rlspo.policies.recurrent`.
    memory_size: int = 0

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *args: Any,
        normalize_observations: bool = False,
        clip_observations: float = 10.0,
        **kwargs: Any,
    ) -> None:
        check_flag("normalize_observations", normalize_observations)
        super().__init__(observation_space, action_space, lr_schedule, *args, **kwargs)
        if isinstance(observation_space, spaces.Dict) and type(self.features_extractor) is FlattenExtractor:
            raise ValueError(
                f"The observation space is a Dict, and {type(self).__name__} is for vectors. Take the policy that has "
                "MultiInput in place of Mlp in its name, or a features_extractor_class for Dict observations."
            )
        self.normalize_observations = normalize_observations
        self.clip_observations = clip_observations
        self.preprocess = self.preprocessing_class(
            observation_space, self.normalize_images, normalize_observations, clip_observations
        )
        self._choices = tuple(map(int, action_space.nvec)) if isinstance(action_space, spaces.MultiDiscrete) else ()
        self.make_functional()

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = super()._get_constructor_parameters()
        parameters["share_features_extractor"] = self.share_features_extractor  # SB3 leaves it out
        if self.normalize_observations:  # without, SB3's classes read the file too
            parameters |= {"normalize_observations": True, "clip_observations": self.clip_observations}
        return parameters

    # Construction.

    def make_functional(self) -> None:
        """As :class:`Functional`'s.

        :raises TypeError: for a class whose losses would learn something else than what it computes elsewhere
        """
        super().make_functional()
        self._predicts_as_written = bool(own_methods(type(self), ("get_distribution", "_get_action_dist_from_latent")))
        #: Whether a user's own methods choose actions, which nothing else than ``predict`` repeats.
        self.acts_as_written = self._predicts_as_written or bool(own_methods(type(self), ("predict", "_predict")))
        check_consistent(
            type(self),
            FOR_USERS,
            FUNCTIONAL,
            "Build networks in _build_mlp_extractor, _build or a features extractor, or define distribution_of(inputs), "
            "values_of(inputs) and evaluation_of(inputs), see rlspo.policies.ActorCriticPolicy.",
        )
        check_complete(type(self))
        if type(self.action_dist) not in DISTRIBUTIONS and not own_methods(type(self), FUNCTIONAL):
            raise TypeError(
                f"{type(self).__name__} has actions of a {type(self.action_dist).__name__}, whose density rlspo's losses "
                f"do not know; they know {', '.join(kind.__name__ for kind in DISTRIBUTIONS)}. Define _distribution(latent), "
                "which returns a distribution of rlspo.policies."
            )

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)  # first, so that from one seed actor and V begin as SB3's do
        self._add_parts()
        groups, known = self._parameter_groups(), self.optimizer.param_groups[0]["params"]
        if len(groups) > 1 or [*map(id, groups[0]["params"])] != [*map(id, known)]:
            self.optimizer = self.optimizer_class(groups, lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _add_parts(self) -> None:
        """Networks beyond SB3's."""

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Of the optimiser; see :class:`~rlspo.common.flat_parameters.FlatParameters`."""
        return [{"params": [*self.parameters()]}]

    # What SB3's own methods (forward, predict, evaluate_actions, ...) build on.

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions, elements of the action space, values ``(B, 1)`` and log-probabilities ``(B,)``."""
        actions, values, log_probs = super().forward(obs, deterministic)  # type: ignore[arg-type]
        return as_env_numbers(actions, self.action_space), values, log_probs

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values ``(B, 1)``, log-probabilities ``(B,)`` and entropy ``(B,)``.

        :param actions: elements of the action space, as :meth:`forward` and ``predict`` give them
        :raises ValueError: for choices that are none
        """
        return super().evaluate_actions(obs, from_env_numbers(actions, self.action_space))

    def extract_features(self, obs: PyTorchObs, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """Preprocess, then extract features: one tensor, or one each for actor and critic where they do not share."""
        inputs = self.preprocess(obs)
        if features_extractor is not None:
            return self._features(inputs, features_extractor)
        if self.share_features_extractor:
            return self._features(inputs, self.features_extractor)
        return self._features(inputs, self.pi_features_extractor), self._features(inputs, self.vf_features_extractor)

    def get_distribution(self, obs: PyTorchObs) -> Any:
        """SB3's distribution object at ``obs``, for code written against SB3."""
        features = self.extract_features(obs, self.pi_features_extractor)
        return self._get_action_dist_from_latent(self.mlp_extractor.forward_actor(features))

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        if self._predicts_as_written:
            return super()._predict(observation, deterministic)
        # Not by SB3's distribution object, which is one for all threads.
        inputs = self.preprocess(observation)
        if self.use_sde and not deterministic:
            return self._explored(self.mlp_extractor.forward_actor(self._features(inputs, self.pi_features_extractor)))
        return self._choose(self.distribution_of(inputs), deterministic)

    def _choose(self, distribution: Any, deterministic: bool) -> Tensor:
        return distribution.mode() if deterministic else distribution.sample(self.generator)

    def _explored(self, latent: Tensor) -> Tensor:
        """Actions with gSDE's noise, whose matrices were drawn before, from the actor's last hidden layer."""
        kind: Any = self.action_dist
        actions = self.action_net(latent) + kind.get_noise(latent)
        return actions if kind.bijector is None else kind.bijector.forward(actions)

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """V at ``obs``, ``(B, 1)``."""
        features = self.extract_features(obs, self.vf_features_extractor)
        return self.value_net(self.mlp_extractor.forward_critic(features))

    def update_statistics(self, rows: Callable[[str], ArrayTree]) -> None:
        """Merge a rollout into the running statistics of the inputs.

        :param rows: from the name of a rollout field to its rows, ``(N, *field.shape)``
        """
        if self.preprocess.normalizes:
            self.preprocess.update(rows("observations"))

    def fast_actor(self, generator: np.random.Generator) -> Callable[[np.ndarray], np.ndarray] | None:
        """See :func:`~rlspo.policies.numpy_actor.numpy_actor`."""
        return numpy_actor(self, generator, self._repeated_in_numpy)

    @property
    def n_features(self) -> int:
        """Width of what the actor's hidden layers see."""
        return self.pi_features_extractor.features_dim

    # An auxiliary loss, which agents add to theirs without knowing what it is.

    @property
    def has_auxiliary_loss(self) -> bool:
        """Whether :meth:`auxiliary_loss` is to be asked."""
        return False

    def auxiliary_loss(self, parameters: Parameters, distribution: Any, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """A scalar to be added to the agent's loss, and scalar statistics.

        :param distribution: pi at the minibatch's observations, with ``parameters``
        :param batch: a :class:`~rlspo.common.update.Minibatch`, whose ``policy_noise`` is that of :meth:`draw_noise`
        """
        raise TypeError(f"{type(self).__name__} has no auxiliary loss.")

    def draw_noise(self, batch_size: int, generator: torch.Generator) -> Any:
        """Random numbers for the auxiliary loss of one minibatch."""
        return None

    # The pure side, with the module's own parameters.

    def distribution_of(self, inputs: Any) -> Distribution:
        """pi(. | inputs)."""
        features = self._features(inputs, self.pi_features_extractor)
        return self._distribution_at(self.mlp_extractor.forward_actor(features), features)

    def values_of(self, inputs: Any) -> Tensor:
        """V(inputs), ``(B,)``."""
        return self._values(self.mlp_extractor.forward_critic(self._features(inputs, self.vf_features_extractor)))

    def evaluation_of(self, inputs: Any) -> tuple[Distribution, Tensor]:
        """pi(. | inputs) and V(inputs), sharing the features where actor and critic do."""
        actor_features = self._features(inputs, self.pi_features_extractor)
        if self.share_features_extractor:
            actor_latent, critic_latent = self.mlp_extractor(actor_features)
        else:
            actor_latent = self.mlp_extractor.forward_actor(actor_features)
            critic_latent = self.mlp_extractor.forward_critic(self._features(inputs, self.vf_features_extractor))
        return self._distribution_at(actor_latent, actor_features), self._values(critic_latent)

    # The pure side, with parameters as an argument.

    def action_distribution(self, parameters: Parameters, inputs: Any) -> Distribution:
        """pi(. | inputs) with ``parameters`` (by name, as in ``named_parameters``) instead of the module's own."""
        return self._with(parameters, self.distribution_of, inputs)

    def values(self, parameters: Parameters, inputs: Any) -> Tensor:
        """V(inputs) with ``parameters``, ``(B,)``."""
        return self._with(parameters, self.values_of, inputs)

    def evaluate(self, parameters: Parameters, inputs: Any) -> tuple[Distribution, Tensor]:
        """:meth:`evaluation_of` with ``parameters``."""
        return self._with(parameters, self.evaluation_of, inputs)

    # Parts.

    def _values(self, latent: Tensor) -> Tensor:
        return self.value_net(latent).squeeze(-1)

    def _distribution_at(self, latent: Tensor, features: Tensor) -> Distribution:
        """pi(. | inputs) from the actor's last hidden layer and from its features."""
        return self._distribution(latent)

    def _distribution(self, latent: Tensor) -> Distribution:
        head = self.action_net(latent)
        kind = self.action_dist
        if isinstance(kind, DiagGaussianDistribution):
            return Gaussian(head, self.log_std)
        if isinstance(kind, StateDependentNoiseDistribution):
            # gSDE (arXiv 2005.05719): the noise is linear in the latent, which it must not shape.
            variance = stop_gradient(latent) ** 2 @ kind.get_std(self.log_std) ** 2
            log_std = 0.5 * torch.log(variance + kind.epsilon)
            return Gaussian(head, log_std) if kind.bijector is None else SquashedGaussian(head, log_std)
        if isinstance(kind, MultiCategoricalDistribution):
            return MultiCategorical(head, self._choices)
        return Bernoulli(head) if isinstance(kind, BernoulliDistribution) else Categorical(head)

    #: The methods whose arithmetic :meth:`fast_actor` repeats; one who writes another of them acts in torch.
    _repeated_in_numpy: ClassVar[tuple[Callable[..., Any], ...]] = (
        distribution_of,
        _distribution_at,
        _distribution,
        Functional._features,
    )


class ActorCriticCnnPolicy(ActorCriticPolicy):
    """Actor and critic for images ("CnnPolicy"): Mnih et al.'s convolutions (SB3's ``NatureCNN``)."""

    def __init__(self, *args: Any, features_extractor_class: type[BaseFeaturesExtractor] = NatureCNN, **kwargs: Any) -> None:
        super().__init__(*args, features_extractor_class=features_extractor_class, **kwargs)


class MultiInputActorCriticPolicy(ActorCriticPolicy):
    """Actor and critic for Dict observations ("MultiInputPolicy"): SB3's ``CombinedExtractor``."""

    def __init__(
        self,
        observation_space: spaces.Space,
        *args: Any,
        features_extractor_class: type[BaseFeaturesExtractor] = CombinedExtractor,
        **kwargs: Any,
    ) -> None:
        if features_extractor_class is CombinedExtractor and not isinstance(observation_space, spaces.Dict):
            raise ValueError(
                f"The observation space is {observation_space}, and {type(self).__name__} is for Dict observations. Take the "
                "policy that has Mlp (vectors) or Cnn (images) in place of MultiInput in its name."
            )
        super().__init__(observation_space, *args, features_extractor_class=features_extractor_class, **kwargs)


_STOCK = {
    sb3.ActorCriticPolicy: "MlpPolicy",
    sb3.ActorCriticCnnPolicy: "CnnPolicy",
    sb3.MultiInputActorCriticPolicy: "MultiInputPolicy",
    contrib.RecurrentActorCriticPolicy: "MlpLstmPolicy",
    contrib.RecurrentActorCriticCnnPolicy: "CnnLstmPolicy",
    contrib.RecurrentMultiInputActorCriticPolicy: "MultiInputLstmPolicy",
}
OWN_POLICIES = {
    "MlpPolicy": ActorCriticPolicy,
    "CnnPolicy": ActorCriticCnnPolicy,
    "MultiInputPolicy": MultiInputActorCriticPolicy,
}


def adopted_policy_class(policy_class: Any, aliases: Mapping[str, type] = OWN_POLICIES) -> Any:
    """The class to build for an actor-critic policy of SB3 or sb3-contrib, or for a subclass of SB3's; any other as it is.

    :param aliases: the agent's policies by name
    """
    twins: dict[type, type] = {original: aliases[name] for original, name in _STOCK.items() if name in aliases}
    if policy_class not in twins and isinstance(policy_class, type):
        _refuse_contrib(policy_class)
    return adopted(policy_class, twins)


def _refuse_contrib(policy_class: type) -> None:
    """Refuse sb3-contrib's policies with memory where they have no twin: their base's would leave the memory out."""
    if not issubclass(policy_class, contrib.RecurrentActorCriticPolicy):
        return
    name = policy_class.__name__
    if policy_class in _STOCK:
        raise TypeError(f"policy is sb3-contrib's {name}, and this agent has no memory. PPO, ARPO, BARPO and PDPPO have.")
    raise TypeError(
        f"{name} extends a policy with memory of sb3-contrib, whose memory rlspo's losses do not know. Extend "
        "rlspo.policies.recurrent.RecurrentActorCriticPolicy."
    )


def functional_policy_class(policy_class: Any, aliases: Mapping[str, type] = OWN_POLICIES) -> type[ActorCriticPolicy]:
    """As :func:`adopted_policy_class`.

    :raises TypeError: for a class without the functional side
    """
    policy_class = adopted_policy_class(policy_class, aliases)
    if isinstance(policy_class, type) and issubclass(policy_class, ActorCriticPolicy):
        return policy_class
    raise TypeError(
        f"policy is {policy_class!r}; it must be 'MlpPolicy', 'CnnPolicy', 'MultiInputPolicy' or a subclass of SB3's "
        "ActorCriticPolicy or of rlspo.policies.ActorCriticPolicy."
    )
