"""Actor, critic V(s) and post-decision critic V^x(s^x) in one policy, trained by one optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
    create_mlp,
)
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from rlspo.common.errors import check_layers, check_number
from rlspo.common.trees import ArrayTree
from rlspo.policies import ActorCriticCnnPolicy, ActorCriticPolicy, MultiInputActorCriticPolicy
from rlspo.policies.preprocessing import Preprocessing

Tensor = torch.Tensor
Parameters = dict[str, Tensor]


class PostDecisionPolicy(ActorCriticPolicy):
    """:class:`~rlspo.policies.ActorCriticPolicy` with a second critic, for states between a decision and the chance after it.

    All arguments of :class:`~rlspo.policies.ActorCriticPolicy`, and:

    :param post_decision_space: of post-decision observations; None: the observation space
    :param single_critic: V judges post-decision states too, in place of a network of their own; both spaces must be alike
    :param post_net_arch: hidden layers of V^x; None: those of V
    :param post_features_extractor_class: of V^x; None: that of the observations where both spaces are of one kind, else SB3's
        for its kind of space
    :param vf_lr_scale: learning rate of V, in units of the actor's (0.3 to 10)
    :param post_vf_lr_scale: learning rate of V^x, in the same units
    :raises ValueError: for a single critic over two different spaces
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *args: Any,
        post_decision_space: spaces.Space | None = None,
        single_critic: bool = False,
        post_net_arch: list[int] | None = None,
        post_features_extractor_class: type[BaseFeaturesExtractor] | None = None,
        vf_lr_scale: float = 1.0,
        post_vf_lr_scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        self.post_decision_space = observation_space if post_decision_space is None else post_decision_space
        self.single_critic = single_critic
        self.post_net_arch = None if post_net_arch is None else check_layers("post_net_arch", post_net_arch)
        self.post_features_extractor_class = post_features_extractor_class
        self.vf_lr_scale = check_number("vf_lr_scale", vf_lr_scale, positive=True)
        self.post_vf_lr_scale = check_number("post_vf_lr_scale", post_vf_lr_scale, positive=True)
        if single_critic and not _alike(observation_space, self.post_decision_space):
            raise ValueError(
                f"A single critic needs post-decision observations like observations, but their spaces are "
                f"{self.post_decision_space} and {observation_space}. Use two critics."
            )
        super().__init__(observation_space, action_space, lr_schedule, *args, **kwargs)
        # V^x sees its own statistics: stock before demand is spread differently from stock after it.
        if not single_critic:
            settings = (self.normalize_images, self.normalize_observations, self.clip_observations)
            self.post_preprocessing = Preprocessing(self.post_decision_space, *settings)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            "post_decision_space": self.post_decision_space,
            "single_critic": self.single_critic,
            "post_net_arch": self.post_net_arch,
            "post_features_extractor_class": self.post_features_extractor_class,
            "vf_lr_scale": self.vf_lr_scale,
            "post_vf_lr_scale": self.post_vf_lr_scale,
        }

    def _add_parts(self) -> None:
        super()._add_parts()
        if not self.single_critic:
            self._build_post_critic()

    def _build_post_critic(self) -> None:
        space = self.post_decision_space
        cls = self.post_features_extractor_class or self._extractor_for(space)
        kwargs = self.features_extractor_kwargs if cls is self.features_extractor_class else {}
        self.post_features_extractor = cls(space, **kwargs)
        hidden = self.post_net_arch
        if hidden is None:
            hidden = self.net_arch.get("vf", []) if isinstance(self.net_arch, dict) else list(self.net_arch)
        layers = create_mlp(self.post_features_extractor.features_dim + self.n_remembered, 1, hidden, self.activation_fn)
        self.post_value_net = nn.Sequential(*layers)
        if self.ortho_init:
            for module in (self.post_features_extractor, self.post_value_net):
                module.apply(lambda layer: self.init_weights(layer, gain=2**0.5))
            self.init_weights(self.post_value_net[-1], gain=1)

    def _extractor_for(self, space: spaces.Space) -> type[BaseFeaturesExtractor]:
        kinds = [(isinstance(s, spaces.Dict), is_image_space(s)) for s in (space, self.observation_space)]
        if kinds[0] == kinds[1]:
            return self.features_extractor_class
        return CombinedExtractor if kinds[0][0] else NatureCNN if kinds[0][1] else FlattenExtractor

    def _critic_parts(self) -> list[nn.Module]:
        """The layers of V that the actor has no part in."""
        own = [] if self.share_features_extractor else [self.vf_features_extractor]
        hidden = getattr(self.mlp_extractor, "value_net", None)  # a user's own may name its layers otherwise
        return [self.value_net, *([hidden] if isinstance(hidden, nn.Module) else []), *own]

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Actor, V and V^x, each with its learning rate; V^x, which PPO has not, does not shrink the others' gradients (but
        that of a memory that both critics shape)."""
        critic = [parameter for part in self._critic_parts() for parameter in part.parameters()]
        post = [] if self.single_critic else [*self.post_features_extractor.parameters(), *self.post_value_net.parameters()]
        own = {id(parameter) for parameter in [*critic, *post]}
        first, *others = super()._parameter_groups()
        groups: list[dict[str, Any]] = [
            {"params": [p for p in first["params"] if id(p) not in own]},
            *others,
            {"params": critic, "lr_scale": self.vf_lr_scale},
            {"params": post, "lr_scale": self.post_vf_lr_scale, "clip_apart": True},
        ]
        return [group for group in groups if group["params"]]

    def preprocess_post(self, observations: Any) -> Any:
        """Post-decision observations as the environment gives them, to inputs of V^x."""
        return (self.preprocess if self.single_critic else self.post_preprocessing)(observations)

    def post_values_of(self, inputs: Any, remembered: Tensor | None = None) -> Tensor:
        """V^x(inputs), ``(B,)``; inputs are what :meth:`preprocess_post` returns.

        :param remembered: of a policy with memory: what V^x sees of it, ``(B, n_remembered)``
        """
        if self.single_critic:
            return self.values_of(inputs)
        features = self._features(inputs, self.post_features_extractor)
        if self.n_remembered:
            assert remembered is not None
            features = torch.cat([features, remembered], dim=-1)
        return self.post_value_net(features).squeeze(-1)

    def post_values(self, parameters: Parameters, inputs: Any, before: Any = None) -> Tensor:
        """V^x(inputs) with ``parameters``, ``(B,)``.

        :param before: of a policy with memory: inputs of V before the decisions
        """
        return self._with(parameters, self._post_values_after, (inputs, before))

    def _post_values_after(self, inputs_and_before: tuple[Any, Any]) -> Tensor:
        inputs, before = inputs_and_before
        return self.post_values_of(inputs, self.remembered_at(before) if self.n_remembered else None)

    # Of a policy with memory.

    @property
    def n_remembered(self) -> int:
        """Numbers that V^x sees of what is remembered."""
        return 0

    def remembered_at(self, inputs: Any) -> Tensor:
        """What V^x sees of the memory at each step of inputs of V, ``(B, n_remembered)``."""
        raise TypeError(f"{type(self).__name__} has no memory.")

    def remembered_in(self, memory: Tensor) -> Tensor:
        """The same, from what is kept after these steps, ``(B, memory_size)``."""
        raise TypeError(f"{type(self).__name__} has no memory.")

    def update_statistics(self, rows: Callable[[str], ArrayTree]) -> None:
        super().update_statistics(rows)
        if not self.single_critic:
            self.post_preprocessing.update(rows("post_observations"))


class PostDecisionCnnPolicy(PostDecisionPolicy, ActorCriticCnnPolicy):
    """:class:`PostDecisionPolicy` for images ("CnnPolicy")."""


class PostDecisionMultiInputPolicy(PostDecisionPolicy, MultiInputActorCriticPolicy):
    """:class:`PostDecisionPolicy` for Dict observations ("MultiInputPolicy")."""


def _alike(one: spaces.Space, other: spaces.Space) -> bool:
    """Whether elements of both have the same shape; bounds may differ."""
    if isinstance(one, spaces.Dict) and isinstance(other, spaces.Dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, spaces.Box) and isinstance(other, spaces.Box):
        return one.shape == other.shape
    return one == other
