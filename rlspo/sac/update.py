"""One gradient step of SAC as one pure function of tensors: critics, then actor, then temperature, then target critics."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rlspo.common.adam import step_hooks
from rlspo.common.compilation import Compilable
from rlspo.common.flat_parameters import FlatParameters, FlatVector
from rlspo.common.gradients import grad_and_value, strictly_pure
from rlspo.common.last_good import LastGood
from rlspo.common.module_contents import ModuleContents
from rlspo.common.running_statistics import Recording, RunningStatistics, statistic_names
from rlspo.common.trees import tree_map
from rlspo.sac.losses import temperature_loss

Tensor = torch.Tensor
Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Transitions:
    """What the losses see. ``B`` is the batch size; leaves of Dict observations are dictionaries by key.

    :param observations: as the environment gave them, ``(B, *obs_shape)``
    :param next_observations: the same, one step later
    :param actions: in [-1, 1], ``(B, A)``
    :param rewards: ``(B,)``
    :param dones: 1 where the episode ended, other than by a time limit, ``(B,)``
    :param discounts: of the value of what follows, ``(B,)``
    :param ent_coef: weight of the entropy, a scalar
    :param noise: ``"now"`` and ``"next"``: see ``draw_noise`` of the policy
    """

    observations: Any
    next_observations: Any
    actions: Tensor
    rewards: Tensor
    dones: Tensor
    discounts: Tensor
    ent_coef: Tensor
    noise: dict[str, Any]


#: Moments and weights of one part, as :class:`~rlspo.common.flat_parameters.FlatParameters` has them.
State = tuple[Tensor, Tensor, Tensor, Tensor]
CriticLoss = Callable[[Parameters, Transitions], Tensor]
ActorLoss = Callable[[Parameters, Transitions], tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]]


class Temperature(nn.Module):
    """The logarithm of the entropy coefficient, as a parameter that its optimiser has, too.

    :param log_ent_coef: what SB3 makes, a tensor ``(1,)``, or such a parameter
    """

    def __init__(self, log_ent_coef: Tensor, optimizer: torch.optim.Optimizer) -> None:
        super().__init__()
        if not isinstance(log_ent_coef, nn.Parameter):
            log_ent_coef = nn.Parameter(log_ent_coef.detach().clone())
            optimizer.param_groups[0]["params"] = [log_ent_coef]
        self.log_ent_coef = log_ent_coef


class SACUpdate(Compilable):
    """Steps of all parts of a SAC agent, in SB3's order.

    :param policy: a :class:`~rlspo.sac.policies.SACPolicy`; its parameters move into vectors
    :param temperature: holds the logarithm of the entropy coefficient; None where that is fixed
    :param temperature_optimizer: of it
    :param critic_loss: of all parameters and transitions
    :param actor_loss: returns the loss, and log pi of its actions, ``(B,)``, with scalar statistics
    :param see_observations: called first where layers keep running statistics (batch normalisation)
    :param before: the update of this policy until now, None for the first
    :raises ValueError: for optimisers other than Adam and AdamW
    """

    def __init__(
        self,
        policy: Any,
        temperature: nn.Module | None,
        temperature_optimizer: torch.optim.Optimizer | None,
        critic_loss: CriticLoss,
        actor_loss: ActorLoss,
        see_observations: Callable[[Parameters, Transitions], None],
        before: SACUpdate | None = None,
    ) -> None:
        self.policy = policy
        self.see_observations = see_observations
        self.critic_loss, self.actor_loss = critic_loss, actor_loss
        modules = {"actor": _named("actor", policy.actor), "critic": _named("critic", _own_critic(policy))}
        self.optimizers = {"actor": policy.actor.optimizer, "critic": policy.critic.optimizer}
        if temperature is not None:
            modules["temperature"], self.optimizers["temperature"] = temperature, temperature_optimizer
        self.modules = modules
        until_now = {} if before is None else before.parts
        self.parts: dict[str, FlatParameters] = {
            name: FlatParameters(module, self.optimizers[name], until_now.get(name)) for name, module in modules.items()
        }
        self.rates = {name: part.rates() for name, part in self.parts.items()}
        self.target = FlatVector([*_named("critic_target", policy.critic_target).named_parameters()])
        #: What does not learn, such as a frozen features extractor, by name: the target critics follow it, too.
        learned = {name for part in self.parts.values() for name in part.names}
        self.frozen = {name: each for name, each in policy.named_parameters() if name not in learned and _followed(name)}
        self._target_critics, self._target_contents = policy.critic_target, ModuleContents(policy.critic_target)
        self.statistics = RunningStatistics(policy, policy.statistic_names)
        self.target_statistics = RunningStatistics(
            policy,
            [name for name in statistic_names(policy) if name.startswith("critic_target.") and ".running_" in name],
        )
        for name, part in self.parts.items():
            if step_hooks(self.optimizers[name]):
                raise ValueError(
                    f"The optimizer of the {name} has hooks on its steps, which SAC's update, one function with its "
                    "optimisers inside, does not take. Remove them (handle.remove()); hooks on parameters are called."
                )
            if part.adam is None:
                raise ValueError(
                    f"The optimizer of the {name} is {type(self.optimizers[name]).__name__}; SAC's update, one function with "
                    "its optimisers inside, has Adam and AdamW (policy_kwargs=dict(optimizer_class=torch.optim.AdamW)), "
                    "without amsgrad and maximize, and with the same settings in all groups."
                )
        self.device = self.target.weights.device
        self.stat_names: list[str] = []
        self.last_good = LastGood(self._everything)
        self.use_compiled(False)

    def _everything(self) -> list[Tensor]:
        """All that a step changes, and the statistics of the networks."""
        vectors = [(part.weights, part.first_moment, part.second_moment, part.steps) for part in self.parts.values()]
        return [*itertools.chain(*vectors), self.target.weights, *self.policy.buffers()]

    def pure_function(self) -> Callable[..., Tensor]:
        """A whole step."""
        return self._step

    def held(self) -> list[Tensor]:
        """The policy's parameters, of which :meth:`holds` makes sure."""
        return [*itertools.chain(self.target.parameters, *(part.parameters for part in self.parts.values()))]

    def holds(self) -> bool:
        """Whether the policy's parameters still are where this update writes to."""
        parts = (part.holds(self.modules[name], self.optimizers[name]) for name, part in self.parts.items())
        same = self.optimizers["actor"] is self.policy.actor.optimizer
        same &= self.optimizers["critic"] is self.policy.critic.optimizer
        same &= self.statistics.held_by(self.policy) and self.target_statistics.held_by(self.policy)
        same &= self._target_critics is self.policy.critic_target and self._target_contents.are_same()
        return same and all(parts)

    def refresh(self) -> None:
        """Take over what was changed on the optimisers since the last step."""
        if any([part.refresh() for part in self.parts.values()]):
            self.last_good.forget()

    def before_step(self) -> list[Any]:
        """What :meth:`show_gradients` needs from before a step."""
        return [part.before_step() for part in self.parts.values()]

    def show_gradients(self, before: list[Any]) -> None:
        """See :meth:`~rlspo.common.flat_parameters.FlatParameters.show_gradients`."""
        for part, one in zip(self.parts.values(), before, strict=True):
            if one is not None:
                part.show_gradients(part.gradient_since(one))

    def publish_steps(self) -> None:
        """Write the number of steps taken to the optimisers' states."""
        for part in self.parts.values():
            part.publish_steps()

    def adopt_optimizer_state(self) -> None:
        """Take over what the optimisers hold (after a load)."""
        for part in self.parts.values():
            part.adopt_optimizer_state()

    def __call__(self, data: dict[str, Any], indices: Tensor, scalars: dict[str, Tensor], noise: dict[str, Any]) -> Tensor:
        """Do one gradient step in place.

        :param data: fields on the device
        :param indices: ``(B,)``, which rows
        :param scalars: scalars ``learning_rate of the actor`` and of each other part, ``gamma``, ``tau``, ``follow`` (1, or 0:
            leave the target critics alone) and ``ent_coef`` where that is fixed, ``target_entropy`` (nats) where it is learned
        :param noise: see :class:`Transitions`
        :return: statistics in the order of ``stat_names`` and the sum of all weights, left on the device so that nothing waits
            for them
        """
        states = {name: (part.weights, part.first_moment, part.second_moment, part.steps) for name, part in self.parts.items()}
        with torch.no_grad():
            if not self.stat_names:
                with strictly_pure():
                    self.stat_names = [*self._stats(states, data, indices, scalars, noise)]
            hooked = any(part.hooked for part in self.parts.values())
            function = self.pure_function() if hooked else self.function_for(len(indices))
            return self.clone_output(function(states, self.target.weights, data, indices, scalars, noise))

    def _stats(self, states: dict[str, State], *given: Any) -> dict[str, Tensor]:
        """The statistics of a step that is not taken."""
        return self._new_states(states, self.target.weights, *given)[2]

    def _step(self, states: dict[str, State], target: Tensor, *given: Any) -> Tensor:
        new_states, new_target, stats, statistics = self._new_states(states, target, *given)
        for name, state in states.items():
            for old, new in zip(state, new_states[name], strict=True):
                old.copy_(new)
        target.copy_(new_target)
        if self.statistics.views:
            scalars = given[2]
            self.statistics.write(statistics, where=torch.ones_like(scalars["tau"], dtype=torch.bool))
            still = self.target_statistics.read()
            following = {name: self._online(statistics, name, still[name]) for name in still}
            self.target_statistics.write(following, where=scalars["follow"] > 0)
        # No sum of numbers is finite where one of them is not.
        weights = torch.stack([values.sum() for values, *_ in new_states.values()]).sum()
        return torch.cat([value.detach().reshape(1).to(torch.float32) for value in (*stats.values(), weights)])

    def _new_states(
        self,
        states: dict[str, State],
        target: Tensor,
        data: dict[str, Any],
        indices: Tensor,
        scalars: dict[str, Tensor],
        noise: dict[str, Any],
    ) -> tuple[dict[str, State], Tensor, dict[str, Tensor], Parameters]:
        new, stats = dict(states), {}
        learned = "temperature" in states
        ent_coef = states["temperature"][0].exp().squeeze(0) if learned else scalars["ent_coef"]
        batch = self._gather(data, indices, scalars, noise, ent_coef)
        fixed = {**self.parts["actor"].named(states["actor"][0]), **self.target.named(target)}

        statistics = self.statistics.read()
        if statistics:
            seen = Recording({**fixed, **self.parts["critic"].named(states["critic"][0]), **statistics})
            self.see_observations(seen, batch)
            statistics = {name: seen[name] for name in statistics}

        def critic_loss(parameters: Parameters) -> tuple[Tensor, Parameters]:
            seen = Recording({**fixed, **parameters, **statistics})
            return self.critic_loss(seen, batch), {name: seen[name] for name in statistics}

        gradient, (stats["critic_loss"], statistics) = grad_and_value(
            critic_loss, self.parts["critic"].named(states["critic"][0])
        )
        new["critic"] = self._adam("critic", states, gradient, scalars)

        fixed = self.parts["critic"].named(new["critic"][0])

        def actor_loss(parameters: Parameters) -> tuple[Tensor, Any]:
            seen = Recording({**fixed, **parameters, **statistics})
            loss, more = self.actor_loss(seen, batch)
            return loss, (more, {name: seen[name] for name in statistics})

        gradient, (stats["actor_loss"], ((log_prob, more), statistics)) = grad_and_value(
            actor_loss, self.parts["actor"].named(states["actor"][0])
        )
        new["actor"] = self._adam("actor", states, gradient, scalars)

        stats["ent_coef"] = ent_coef
        if learned:
            loss, slope = temperature_loss(states["temperature"][0], log_prob, scalars["target_entropy"])
            gradient = {self.parts["temperature"].names[0]: slope}
            new["temperature"] = self._adam("temperature", states, gradient, scalars)
            stats["ent_coef_loss"] = loss

        learned_now = {**self.parts["actor"].named(new["actor"][0]), **self.parts["critic"].named(new["critic"][0])}
        online, still = {**self.frozen, **learned_now}, self.target.named(target)
        following = self.target.flatten({name: self._online(online, name, still[name]) for name in self.target.names})
        return new, torch.lerp(target, following, scalars["tau"] * scalars["follow"]), {**stats, **more}, statistics

    def _adam(self, name: str, states: dict[str, State], gradient: Parameters, scalars: dict[str, Tensor]) -> State:
        part, (weights, first, second, steps) = self.parts[name], states[name]
        assert part.adam is not None
        if part.hooked and self.stat_names:  # before that, no step is taken
            gradient = part.through_hooks(gradient)
        rate = scalars[f"learning_rate of the {name}"]
        return part.adam.step(weights, part.flatten(gradient), first, second, steps, rate, self.rates[name])

    @staticmethod
    def _online(parameters: Parameters, target_name: str, otherwise: Tensor) -> Tensor:
        """The parameter that one of the target critics follows; of a shared features extractor, the actor's."""
        tail = target_name.removeprefix("critic_target.")
        return parameters.get(f"critic.{tail}", parameters.get(f"actor.{tail}", otherwise))

    @staticmethod
    def _gather(
        data: dict[str, Any], indices: Tensor, scalars: dict[str, Tensor], noise: dict[str, Any], ent_coef: Tensor
    ) -> Transitions:
        known = Transitions.__dataclass_fields__  # a buffer of one's own may have more
        rows: dict[str, Any] = {name: tree_map(lambda tensor: tensor[indices], data[name]) for name in data if name in known}
        rows.setdefault("discounts", scalars["gamma"].expand_as(rows["rewards"]))
        return Transitions(**rows, ent_coef=ent_coef, noise=noise)


def _followed(name: str) -> bool:
    """Whether target critics follow a parameter of the policy."""
    return name.startswith(("critic.", "actor."))


def _named(name: str, module: nn.Module) -> nn.Module:
    """``module`` under the name that it has in the policy."""
    holder = nn.Module()
    holder.add_module(name, module)
    return holder


def _own_critic(policy: Any) -> nn.Module:
    """What the critics' optimiser trains: all of them, but for a features extractor that they share with the actor."""
    if not policy.share_features_extractor:
        return policy.critic
    own = nn.Module()
    for index, network in enumerate(policy.critic.q_networks):
        own.add_module(f"qf{index}", network)
    return own
