"""The settings of a mixture of experts, checked where they are given."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from torch import nn

from rlspo.common.errors import check_choice, check_count, check_layers, check_number

ROUTINGS = ("frequency", "gumbel", "score", "marginal")
ROUTING_LOSSES = ("cross_entropy", "squared_error")
GATES = ("observation", "latent")
UPDATES = ("max", "all")


@dataclass(frozen=True)
class MoeSettings:
    """Settings that all mixture-of-experts policies share.

    :param n_experts: K; 1 is the plain policy, exactly (2 to 8)
    :param routing: how the gate learns. ``"frequency"`` (SAC's default): towards how often each expert's action is the best
        of all K (the paper's frequency approximate gradient). ``"marginal"`` (PPO's and its variants'): by the exact gradient
        of the expectation over experts. ``"score"``: by REINFORCE on the expert drawn. ``"gumbel"``: through a relaxed draw
    :param routing_loss: of frequency routing; ``"squared_error"`` as published, ``"cross_entropy"`` has the same minimum and
        does not fade where the gate is sure of the wrong expert
    :param routing_coef: weight of the routing loss (0.1 to 10)
    :param primitive_update: which experts learn from a state: ``"all"``, or ``"max"``: in SAC the best one alone, in PPO the
        one alone that most likely gave the action
    :param gate: what the gate sees: ``"observation"``, a network of its own, or ``"latent"``, the actor's last hidden layer;
        it does not shape what it sees
    :param gate_arch: hidden layers of the gate; none: linear, as published
    :param gumbel_temperature: of the relaxed draw (0.2 to 1)
    :param initial_spread: standard deviation of the experts' first means (before tanh) or logits around each other; 0 as
        published, where all begin alike (0 to 1)
    """

    n_experts: int = 4
    routing: str = "frequency"
    routing_loss: str = "cross_entropy"
    routing_coef: float = 1.0
    primitive_update: str = "all"
    gate: str = "observation"
    gate_arch: Sequence[int] = ()
    gumbel_temperature: float = 0.5
    initial_spread: float = 0.5

    def __post_init__(self) -> None:
        check_count("n_experts", self.n_experts)
        check_choice("routing", self.routing, ROUTINGS)
        check_choice("routing_loss", self.routing_loss, ROUTING_LOSSES)
        check_number("routing_coef", self.routing_coef)
        check_choice("primitive_update", self.primitive_update, UPDATES)
        check_choice("gate", self.gate, GATES)
        check_number("gumbel_temperature", self.gumbel_temperature, positive=True)
        check_number("initial_spread", self.initial_spread)
        check_layers("gate_arch", self.gate_arch)
        self.check_used(routing_loss=("frequency",), gumbel_temperature=("gumbel",))

    def check_used(self, **routings: tuple[str, ...]) -> None:
        """Warn of a setting that was changed and that the routing never looks at; searches and old files may hold such ones.

        :param routings: by a setting's name, those that look at it
        """
        for name, users in routings.items():
            value = getattr(self, name)
            if value != type(self).__dataclass_fields__[name].default and self.routing not in users:
                warnings.warn(
                    f"{name} is {value!r}, which does nothing with routing={self.routing!r}. Leave it out, or use routing="
                    f"{' or '.join(map(repr, users))}.",
                    stacklevel=2,
                )

    def as_arguments(self) -> dict[str, Any]:
        """What a policy's constructor needs to make the same again."""
        return {**vars(self), "gate_arch": list(self.gate_arch)}


def _takes_settings(constructor: Callable[..., None]) -> Callable[..., None]:
    """Show :class:`MoeSettings` in the signature of a constructor whose ``**kwargs`` hold them."""
    signature = inspect.signature(constructor)
    *own, others = signature.parameters.values()
    settings = [one.replace(kind=one.KEYWORD_ONLY) for one in inspect.signature(MoeSettings).parameters.values()]
    constructor.__signature__ = signature.replace(parameters=[*own, *settings, others])  # type: ignore[attr-defined]
    return constructor


class HasExperts(nn.Module):
    """Comes before a policy class and adds all of :class:`MoeSettings` to its arguments.

    :raises ValueError: for several experts with gSDE, whose noise is that of one, and for a policy for other observations
    """

    #: The class that policies for Dict observations extend.
    multi_input: ClassVar[type]
    #: By a setting's name, the routings that look at it, beyond what is said in :class:`MoeSettings`.
    used_by: ClassVar[dict[str, tuple[str, ...]]]
    #: Which experts gave the actions of the last ``predict``, ``(n_envs,)``.
    acting_experts: np.ndarray | None = None

    @_takes_settings
    def __init__(self, observation_space: spaces.Space, *args: Any, **kwargs: Any) -> None:
        names = MoeSettings.__dataclass_fields__
        self.moe = MoeSettings(**{name: kwargs.pop(name) for name in names if name in kwargs})
        self.moe.check_used(**self.used_by)
        if kwargs.get("use_sde") and self.n_experts > 1:
            raise ValueError("use_sde is True with several experts; gSDE's noise is that of one. Use n_experts=1 or no gSDE.")
        is_dict = isinstance(observation_space, spaces.Dict)
        if isinstance(self, self.multi_input) != is_dict:
            name = "MoeMultiInputPolicy" if is_dict else "MoeMlpPolicy or, for images, MoeCnnPolicy"
            raise ValueError(f"{type(self).__name__} does not take observations of {observation_space}. Use {name}.")
        super().__init__(observation_space, *args, **kwargs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self.moe.as_arguments()}  # type: ignore[misc]

    @property
    def n_experts(self) -> int:
        return self.moe.n_experts


def experts_in(policy_class: type, policy_kwargs: Mapping[str, Any]) -> int:
    """How many experts a policy of this class and these arguments has; 1 for a plain one."""
    return policy_kwargs.get("n_experts", MoeSettings.n_experts) if issubclass(policy_class, HasExperts) else 1
