"""All parameters of a module in one vector, with its Adam moments in two more of the same length.

One vector instead of a dozen tensors makes the optimiser one kernel and a compiled call cheap to enter. The module's own
parameters, and the optimiser's state, become views of these vectors: ``state_dict``, ``load_state_dict``, SB3's
``get_parameters`` and a plain forward pass see the same numbers at no cost.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from rlspo.common.adam import Adam
from rlspo.common.compilation import mark_static
from rlspo.common.module_contents import ModuleContents

Tensor = torch.Tensor


def check_float32(module: nn.Module) -> None:
    """Refuse numbers of another type than the update's.

    :raises ValueError: for a parameter that is not float32
    """
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32:
            raise ValueError(
                f"The parameter {name} is {parameter.dtype}; rlspo acts and learns in torch.float32. Call "
                "model.policy.float(). Lower precision inside is what the agent's argument precision is for."
            )


def own_storage(view: Tensor) -> Tensor:
    """The same memory as ``view``, as a tensor that knows of no more: pickled, copied or saved, it is as large as itself and
    not as the vector that it was cut from."""
    return torch.from_dlpack(view)


class FlatVector:
    """Parameters in one vector, which they become views of.

    :param named: name and parameter; all float32 and on one device
    """

    def __init__(self, named: list[tuple[str, nn.Parameter]]) -> None:
        self.names = [name for name, _ in named]
        self.parameters = [parameter for _, parameter in named]
        self.shapes = [parameter.shape for parameter in self.parameters]
        self.sizes = [parameter.numel() for parameter in self.parameters]
        self.values = mark_static(torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters]))
        for parameter, view in zip(self.parameters, self.views(self.values), strict=True):
            parameter.data = own_storage(view)
        self.addresses = [parameter.data_ptr() for parameter in self.parameters]

    def holds_all(self, parameters: list[nn.Parameter]) -> bool:
        """Whether these are the parameters it was made of, and still are views of the vector."""
        if len(parameters) != len(self.parameters):
            return False
        pairs = zip(parameters, self.parameters, self.addresses, strict=True)
        return all(new is old and new.data_ptr() == address for new, old, address in pairs)

    def views(self, vector: Tensor) -> list[Tensor]:
        """``vector`` cut into tensors of the parameters' shapes."""
        return [part.view(shape) for part, shape in zip(vector.split(self.sizes), self.shapes, strict=True)]

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """Read ``vector`` as parameters by name; differentiable."""
        return dict(zip(self.names, self.views(vector), strict=True))

    def flatten(self, named: dict[str, Tensor]) -> Tensor:
        """The inverse of :meth:`named`."""
        return torch.cat([named[name].reshape(-1) for name in self.names])


class FlatParameters(FlatVector):
    """Lay the trainable parameters of ``module`` out in one vector and point the module and its optimiser at it.

    A parameter group of the optimiser may have two keys of ours: ``lr_scale``, by which the learning rate is multiplied, and
    ``clip_apart``, True where its gradient is clipped by its own norm and not together with the others'.

    :param module: those of its parameters that require a gradient and that the optimiser has are moved into the vector; all
        must live on one device
    :param optimizer: it may have a part of the module's parameters, and others that are not the module's
    :param before: what these were laid out in until now: where layers were replaced since, the optimiser gets the new ones
    :raises ValueError: for parameters that are not float32, and where there is none to train
    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, before: FlatParameters | None = None) -> None:
        self.module, self.optimizer = module, optimizer
        if before is not None and before.optimizer is optimizer:
            self._adopt_new_parameters(module, before.seen)
        #: All parameters of the module, trained or not.
        self.seen: list[nn.Parameter] = [*module.parameters()]
        check_float32(module)
        trained = self._in_order(module)
        if not trained:
            raise ValueError(
                f"There is nothing to train: of the parameters that {type(optimizer).__name__} was given none is both the "
                "policy's and unfrozen. Make it of parameters of the policy, and leave requires_grad of some of them True."
            )
        super().__init__(trained)
        self._contents, self._groups = ModuleContents(module), self._grouped()
        self._trainable = [p.requires_grad for p in self.seen]
        self.adam = Adam.of(optimizer)
        self.kind = self._kind()
        self.first_moment = mark_static(torch.zeros_like(self.values))
        self.second_moment = mark_static(torch.zeros_like(self.values))
        vectors = (self.first_moment, self.second_moment)
        self._moments = [*zip(*([own_storage(view) for view in self.views(vector)] for vector in vectors), strict=True)]
        # float64: 1 - 0.999**t cancels in float32 while t is small. One dimension: compiled code on the CPU treats tensors
        # without dimensions as numbers, and what it writes to them is lost.
        self.steps = mark_static(torch.zeros(1, dtype=torch.float64, device=self.values.device))
        #: What was last written to the optimiser's state: a tensor for each parameter, and its value.
        self._published: list[tuple[Tensor, float]] = []
        #: The optimiser's state as it was then, and where in it each parameter's is.
        self._entries: list[Any] = []
        self._places: list[int] = []
        self._gradients: list[Tensor] = []
        #: Whether somebody's hooks are to see, and may change, the gradient of each parameter; as of the last look.
        self.hooked = False
        if self.adam is None:  # it steps outside and makes a state of its own, if it has taken no step yet
            for parameter in [p for p, state in optimizer.state.items() if float(state.get("step", 1.0)) == 0.0]:
                del optimizer.state[parameter]
        elif any(parameter in optimizer.state for parameter in self.parameters):
            self.adopt_optimizer_state()

    def _in_order(self, module: nn.Module) -> list[tuple[str, nn.Parameter]]:
        """The parameters to train, by name; those whose gradients are clipped apart at the end."""
        apart = self._by_parameter("clip_apart", False)
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad and id(p) in apart]
        return sorted(named, key=lambda pair: apart[id(pair[1])])

    def _by_parameter(self, key: str, default: float) -> dict[int, float]:
        """What the groups of the optimiser say under ``key``, by the identity of each parameter."""
        return {id(p): float(group.get(key, default)) for group in self.optimizer.param_groups for p in group["params"]}

    def clip_sizes(self) -> list[int]:
        """Lengths of the parts of the vector whose gradients are clipped by a norm of their own."""
        apart = self._by_parameter("clip_apart", False)
        last = sum(size for p, size in zip(self.parameters, self.sizes, strict=True) if apart.get(id(p)))
        return [size for size in (sum(self.sizes) - last, last) if size]

    def rates(self) -> Tensor | float:
        """What the learning rate of each number is multiplied by: 1.0 where it is 1 for all."""
        scales = self._by_parameter("lr_scale", 1.0)
        if set(scales.values()) == {1.0}:
            return 1.0
        parts = [torch.full((size,), scales[id(p)]) for p, size in zip(self.parameters, self.sizes, strict=True)]
        return mark_static(torch.cat(parts).to(self.values.device))

    def _adopt_new_parameters(self, module: nn.Module, seen: list[nn.Parameter]) -> None:
        """Where trained layers were replaced, give the optimiser the parameters of the new ones for theirs.

        What it was never given stays untrained, and what is not the module's stays in it.

        :param seen: parameters of the module when it was last laid out
        """
        present, had = [*module.parameters()], {id(p) for p in seen}
        gone = had - {id(p) for p in present}
        losing = [group for group in self.optimizer.param_groups if any(id(p) in gone for p in group["params"])]
        if not losing:
            return
        for group in losing:
            group["params"] = [p for p in group["params"] if id(p) not in gone]
        known = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        losing[0]["params"] += [p for p in present if id(p) not in had | known]
        for parameter in [p for p in self.optimizer.state if id(p) in gone]:
            del self.optimizer.state[parameter]

    def holds(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the module's parameters to train are views of the vector, and the optimiser is ours and of the same kind.

        Replacing a layer, freezing one, ``deepcopy`` and SB3's ``load_from_vector`` all end that.
        """
        if optimizer is not self.optimizer or self._kind() != self.kind:
            return False
        if module is self.module and self._is_untouched():
            return True
        return self.holds_all([parameter for _, parameter in self._in_order(module)])

    def _grouped(self) -> list[nn.Parameter]:
        """What the optimiser's groups have."""
        return [*itertools.chain(*(group["params"] for group in self.optimizer.param_groups))]

    def _is_untouched(self) -> bool:
        """Whether nothing at all was changed: a quick look, since this is asked before every update."""
        grouped = self._grouped()
        return (
            self._contents.are_same()
            and len(grouped) == len(self._groups)
            and all(map(operator.is_, grouped, self._groups))
            and [p.requires_grad for p in self.seen] == self._trainable
        )

    def _kind(self) -> Any:
        """What an update is built for, of the optimiser and its groups."""
        groups = [(group.get("lr_scale", 1.0), group.get("clip_apart", False)) for group in self.optimizer.param_groups]
        return Adam.kind(self.optimizer), groups

    # The optimiser's own settings and state, which others may read, load, clear or step.

    def refresh(self) -> bool:
        """Take over what was changed on the optimiser since: its groups' numbers, its moments and step counts.

        :return: whether moments or step counts were
        :raises ValueError: for hooks that would not be called
        """
        self.hooked = any(p._backward_hooks or p._post_accumulate_grad_hooks for p in self.parameters)
        for name, layer in self._contents.layers:
            if layer._backward_hooks or layer._backward_pre_hooks:
                raise ValueError(
                    f"The layer {name} has hooks on its backward pass, which a functional gradient does not call. Remove them "
                    "(handle.remove()), and register them on its parameters, whose hooks are called."
                )
        if self.adam is None:
            return False
        self.adam.read(self.optimizer)
        changed = not self._state_is_known()
        if changed:
            self.adopt_optimizer_state()
        return changed

    def _state_is_known(self) -> bool:
        """Whether the optimiser's state is what was last written there."""
        # This is asked before every update: no parameter is looked up by its slow hash.
        entries = [*self.optimizer.state.values()]
        if not self._published or len(entries) != len(self._entries) or not all(map(operator.is_, entries, self._entries)):
            return False
        for place, (first, second), (step, _) in zip(self._places, self._moments, self._published, strict=True):
            entry = entries[place]
            if entry.get("exp_avg") is not first or entry.get("exp_avg_sq") is not second or entry.get("step") is not step:
                return False
        step, count = self._published[0]
        return float(step) == count

    def adopt_optimizer_state(self) -> None:
        """Take over what the optimiser holds (after a load) and make its Adam moments views of the vectors."""
        if self.adam is None:
            return
        known: Sequence[tuple[Tensor | None, float]] = self._published or [(None, 0.0)] * len(self.parameters)
        taken = []
        for parameter, (first, second), (step, count), now in zip(
            self.parameters, self._moments, known, self._counts(), strict=True
        ):
            state = self.optimizer.state[parameter]
            for view, key in ((first, "exp_avg"), (second, "exp_avg_sq")):
                if key not in state:
                    view.zero_()
                elif state[key].data_ptr() != view.data_ptr():
                    view.copy_(state[key])
                state[key] = view
            found = state.get("step", 0.0)
            taken.append(now if step is not None and found is step and float(found) == count else float(found))
        # Layers that were frozen for a while have taken fewer steps than others.
        each = (
            taken[:1] if len(set(taken)) == 1 else [n for n, size in zip(taken, self.sizes, strict=True) for _ in range(size)]
        )
        if len(each) == len(self.steps):
            self.steps.copy_(torch.tensor(each))
        else:
            self.steps = mark_static(torch.tensor(each, dtype=torch.float64, device=self.values.device))
        self._publish()

    def _counts(self) -> list[float]:
        """Steps that each parameter has taken."""
        counts = self.steps.tolist()
        if len(counts) == 1:
            return counts * len(self.parameters)
        return [counts[end - 1] for end in itertools.accumulate(self.sizes)]

    def publish_steps(self) -> None:
        """Write moments and the number of steps taken to the optimiser's state, where ``state_dict`` looks for them."""
        if self.adam is None or not (self._published or self.steps.any()):  # no step was taken: no state, as in torch
            return
        self._publish()

    def _publish(self) -> None:
        self._published = []
        for parameter, (first, second), count in zip(self.parameters, self._moments, self._counts(), strict=True):
            step = torch.tensor(count)
            self.optimizer.state[parameter].update(step=step, exp_avg=first, exp_avg_sq=second)
            self._published.append((step, count))
        self._entries = [*self.optimizer.state.values()]
        numbers = {id(entry): number for number, entry in enumerate(self._entries)}
        self._places = [numbers[id(self.optimizer.state[parameter])] for parameter in self.parameters]

    # Gradients, for those who look at them.

    def before_step(self) -> tuple[Tensor, Tensor | None] | None:
        """What :meth:`show_gradients` needs from before a step."""
        if self.adam is None:
            return None
        return self.first_moment.clone(), self.values.clone() if self.adam.adds_decay else None

    def show_gradients(self, before: tuple[Tensor, Tensor | None] | None) -> None:
        """Let ``grad`` of the parameters be the gradient of the last step: what gradient histograms read.

        No step has to keep it: it is what the step has added to the first moment.

        :param before: what :meth:`before_step` gave before that step; None where an optimiser has stepped that needs ``grad``
        """
        if before is not None and self.adam is not None:
            moment, values = before
            gradient = self.adam.gradient(moment, self.first_moment, values)
            if not self._gradients:
                self._gradients = [own_storage(view) for view in self.views(torch.zeros_like(self.values))]
            for parameter, there, found in zip(self.parameters, self._gradients, self.views(gradient), strict=True):
                there.copy_(found)
                parameter.grad = there

    def through_hooks(self, gradient: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the hooks of the parameters make of their gradients, as in a backward pass: not for compiling.

        :param gradient: by name, not yet clipped
        """
        made = dict(gradient)
        for name, parameter in zip(self.names, self.parameters, strict=True):
            for hook in [*(parameter._backward_hooks or {}).values()]:
                changed = hook(made[name])
                made[name] = made[name] if changed is None else changed
            late: Any = parameter._post_accumulate_grad_hooks or {}
            if late:
                parameter.grad = made[name].detach().clone()
                for hook in [*late.values()]:
                    hook(parameter)
                made[name] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        return made
