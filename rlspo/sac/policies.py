"""SB3's SAC policies with a pure, functional side: parameters and inputs in, actions and values out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.sac import policies as sb3
from torch import nn

from rlspo.policies.distributions import SquashedGaussian
from rlspo.policies.functional import Functional, Parameters, switch_mode
from rlspo.policies.numpy_actor import squashed_numpy_actor
from rlspo.policies.preprocessing import Preprocessing
from rlspo.policies.written_for_sb3 import adopted, check_consistent, own_methods
from rlspo.sac import losses

Tensor = torch.Tensor
LOG_STD_MIN, LOG_STD_MAX = sb3.LOG_STD_MIN, sb3.LOG_STD_MAX


class SACPolicy(Functional, sb3.SACPolicy):
    """Actor, critics and target critics for vectors ("MlpPolicy"): SB3's networks, initialisation and ``state_dict``.

    All arguments of SB3's ``SACPolicy``. *Inputs* below are what :meth:`preprocess` returns; actions lie in [-1, 1].
    """

    def __init__(
        self, observation_space: spaces.Space, action_space: spaces.Box, lr_schedule: Schedule, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(observation_space, action_space, lr_schedule, *args, **kwargs)
        self.preprocess = Preprocessing(observation_space, self.normalize_images, normalize=False, clip=10.0)
        #: Run hidden layers under autocast to this type in training mode; None for float32. Set by the agent (``precision``).
        self.matmul_dtype: torch.dtype | None = None
        self.make_functional()

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        inputs = self.preprocess(observation)
        if self.actor.use_sde and not deterministic:  # not by SB3's distribution object, which is one for all threads
            kind: Any = self.actor.action_dist
            latent, mean, _ = self._heads(inputs)
            return torch.tanh(mean + kind.get_noise(latent))
        distribution = self.distribution_of(inputs)
        return distribution.mode() if deterministic else distribution.sample(self.generator)

    def set_training_mode(self, mode: bool) -> None:
        """As SB3's, of actor and critics; target critics stay in evaluation mode."""
        for part in (self.actor, self.critic):
            if type(part).set_training_mode is BaseModel.set_training_mode:
                switch_mode(part, mode)
            else:
                part.set_training_mode(mode)
        self.training = mode

    def make_functional(self) -> None:
        """As :class:`~rlspo.policies.functional.Functional`'s.

        :raises TypeError: for an actor or a critic whose losses would learn something else than what it computes elsewhere
        """
        super().make_functional()
        functional = ("distribution_of", "sample_of", "_heads", "q_values_of", "_critics", "_features")
        remedy = (
            "Build networks in make_actor, make_critic or a features extractor, or define distribution_of(inputs), "
            "sample_of((inputs, noise)) and q_values_of((inputs, actions)), see rlspo.sac.policies.SACPolicy."
        )
        #: Whether a user's own methods choose actions, which nothing else than ``predict`` repeats.
        self.acts_as_written = bool(own_methods(type(self), ("predict", "_predict")))
        if not own_methods(type(self), functional):
            of_actor = ("forward", "action_log_prob", "get_action_dist_params", "extract_features")
            check_consistent(type(self.actor), of_actor, (), remedy)
            check_consistent(type(self.critic), ("forward", "q1_forward", "extract_features"), (), remedy)

    def _statistic_names(self) -> list[str]:
        # The target critics stay in evaluation mode and follow the critics.
        return [name for name in super()._statistic_names() if not name.startswith("critic_target.")]

    # The pure side, with the module's own parameters.

    def _heads(self, inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Last hidden layer, mean and logarithm of the standard deviation."""
        actor: Any = self.actor
        with self._low_precision():
            latent = actor.latent_pi(self._features(inputs, actor.features_extractor))
        latent = latent.float()
        mean = actor.mu(latent)
        if not actor.use_sde:
            return latent, mean, actor.log_std(latent).clamp(LOG_STD_MIN, LOG_STD_MAX)
        # gSDE (arXiv 2005.05719): the noise is linear in the latent.
        variance = latent**2 @ actor.get_std() ** 2
        return latent, mean, 0.5 * torch.log(variance + actor.action_dist.epsilon)

    def distribution_of(self, inputs: Any) -> Any:
        """pi(. | inputs)."""
        _, mean, log_std = self._heads(inputs)
        return SquashedGaussian(mean, log_std)

    def fast_actor(self, generator: np.random.Generator) -> Callable[[np.ndarray], np.ndarray] | None:
        """See :func:`~rlspo.policies.numpy_actor.squashed_numpy_actor`."""
        return squashed_numpy_actor(self, generator, self._repeated_in_numpy, (LOG_STD_MIN, LOG_STD_MAX))

    def sample_of(self, seen: tuple[Any, Any]) -> tuple[Tensor, Tensor]:
        """Actions, ``(B, A)``, and their log-probabilities, ``(B,)``; differentiable.

        :param seen: inputs and noise (:meth:`draw_noise`)
        """
        inputs, noise = seen
        latent, mean, log_std = self._heads(inputs)
        distribution = SquashedGaussian(mean, log_std)
        raw = mean + latent @ (noise * self.actor.get_std()) if self.actor.use_sde else distribution.raw(noise)
        return distribution.squash(raw), distribution.log_probs_of_raw(raw).sum(dim=-1)

    def q_values_of(self, pair: tuple[Any, Tensor]) -> Tensor:
        """Q_i(inputs, actions) of all critics, ``(n_critics, B, ...)`` for actions ``(B, ..., A)``."""
        return self._critics(self.critic, *pair)

    def target_q_values_of(self, pair: tuple[Any, Tensor]) -> Tensor:
        """As :meth:`q_values_of`, of the target critics."""
        return self._critics(self.critic_target, *pair)

    def _critics(self, critic: Any, inputs: Any, actions: Tensor) -> Tensor:
        with self._low_precision():
            features = self._features(inputs, critic.features_extractor)
            if critic.share_features_extractor:  # then it learns from the actor's loss alone, as in SB3
                features = features.detach()
            if actions.dim() == 3:  # several actions in each state
                features = features.unsqueeze(1).expand(-1, actions.shape[1], -1)
            pairs = torch.cat([features, actions], dim=-1)
            # Networks of another kind, a user's own, have no output layer that is known.
            parts = [(net[:-1], net[-1]) if type(net) is nn.Sequential else (net, nn.Identity()) for net in critic.q_networks]
            latents = [hidden(pairs) for hidden, _ in parts]
        return torch.stack([output(latent.float()).squeeze(-1) for (_, output), latent in zip(parts, latents, strict=True)])

    def _low_precision(self) -> Any:
        """Hidden layers in fewer bits. Output layers are not: eight bits of a Q of 500 are steps of 4."""
        # The cache of casted weights must stay off: functional calls swap the weights under it.
        dtype = self.matmul_dtype if self.training else None
        return torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=False)

    # The pure side, with parameters as an argument.

    def sample(self, parameters: Parameters, inputs: Any, noise: Any) -> tuple[Tensor, Tensor]:
        """:meth:`sample_of` with ``parameters`` (by name, as in ``named_parameters``) instead of the module's own."""
        return self._with(parameters, self.sample_of, (inputs, noise))

    def q_values(self, parameters: Parameters, inputs: Any, actions: Tensor) -> Tensor:
        """:meth:`q_values_of` with ``parameters``."""
        return self._with(parameters, self.q_values_of, (inputs, actions))

    def target_q_values(self, parameters: Parameters, inputs: Any, actions: Tensor) -> Tensor:
        """:meth:`target_q_values_of` with ``parameters``."""
        return self._with(parameters, self.target_q_values_of, (inputs, actions))

    def actor_loss(
        self, parameters: Parameters, inputs: Any, noise: Any, ent_coef: Tensor, soft_q: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """E[ent_coef log pi(a|s) - Q(s, a)] (arXiv 1812.05905, eq. 7).

        :param noise: of :meth:`draw_noise`
        :param soft_q: the smallest Q of all critics, from actions ``(B, ..., A)`` to ``(B, ...)``
        :return: the loss, log pi of its actions, ``(B,)``, and scalar statistics
        """
        actions, log_prob = self.sample(parameters, inputs, noise)
        return losses.actor_loss(log_prob, soft_q(actions), ent_coef), log_prob, {}

    def draw_noise(self, batch_size: int, generator: torch.Generator) -> Any:
        """Standard normal noise for one sample of each row, ``(B, A)``; with gSDE one exploration matrix for all rows."""
        log_std: Any = self.actor.log_std  # with gSDE a parameter, a row for each feature
        rows = len(log_std) if self.actor.use_sde else batch_size
        return torch.randn(rows, get_action_dim(self.action_space), generator=generator, device=self.device)

    #: The methods whose arithmetic :meth:`fast_actor` repeats; one who writes another of them acts in torch.
    _repeated_in_numpy: ClassVar[tuple[Callable[..., Any], ...]] = (distribution_of, _heads, Functional._features)


class SACCnnPolicy(SACPolicy):
    """:class:`SACPolicy` for images ("CnnPolicy"): Mnih et al.'s convolutions (SB3's ``NatureCNN``)."""

    def __init__(self, *args: Any, features_extractor_class: type[BaseFeaturesExtractor] = NatureCNN, **kwargs: Any) -> None:
        super().__init__(*args, features_extractor_class=features_extractor_class, **kwargs)


class SACMultiInputPolicy(SACPolicy):
    """:class:`SACPolicy` for Dict observations ("MultiInputPolicy"): SB3's ``CombinedExtractor``."""

    def __init__(
        self, *args: Any, features_extractor_class: type[BaseFeaturesExtractor] = CombinedExtractor, **kwargs: Any
    ) -> None:
        super().__init__(*args, features_extractor_class=features_extractor_class, **kwargs)


_STOCK = {sb3.SACPolicy: "MlpPolicy", sb3.CnnPolicy: "CnnPolicy", sb3.MultiInputPolicy: "MultiInputPolicy"}


def functional_sac_policy_class(policy_class: Any, aliases: Mapping[str, type]) -> type[SACPolicy]:
    """The class to build for ``policy_class``: itself, or a twin of SB3's policy, or of a subclass of it.

    :param aliases: the agent's policies by name
    :raises TypeError: for a class without the functional side
    """
    policy_class = adopted(policy_class, {original: aliases[name] for original, name in _STOCK.items()})
    if isinstance(policy_class, type) and issubclass(policy_class, SACPolicy):
        return policy_class
    raise TypeError(
        f"policy is {policy_class!r}; it must be 'MlpPolicy', 'CnnPolicy', 'MultiInputPolicy' or a subclass of SB3's "
        "SACPolicy or of rlspo.sac.policies.SACPolicy."
    )
