"""All parameters of a module in one vector, with its Adam moments in two more of the same length.

One vector instead of a dozen tensors makes the optimiser one kernel and a compiled call cheap to enter. The module's own
parameters, and the optimiser's state, become views of these vectors: ``state_dict``, ``load_state_dict``, SB3's
``get_parameters`` and a plain forward pass see the same numbers at no cost.
"""

from __future__ import annotations

import itertools
import operator
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from rlspo.common.adam import Adam
from rlspo.common.compilation import mark_static
from rlspo.common.module_contents import ModuleContents

Tensor = torch.Tensor


def check_float32(module: nn.Module) -> None:
    """Check that all parameters are float32, as the update is.

    :raises ValueError: for a parameter that is not float32
    """
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32:
            raise ValueError(
                f"The parameter {name} is {parameter.dtype}; rlspo acts and learns in torch.float32. Call "
                "model.policy.float(). Lower precision inside is what the agent's argument precision is for."
            )


def own_storage(view: Tensor) -> Tensor:
    """The same memory as ``view``, with a storage of its own size. Pickled, copied or saved, it does not take the whole vector
    with it."""
    return torch.from_dlpack(view)


class FlatVector:
    """Parameters laid out in one vector; they become views of it.

    :param named: name and parameter; all float32 and on one device
    """

    def __init__(self, named: list[tuple[str, nn.Parameter]]) -> None:
        self.names = [name for name, _ in named]
        self.parameters = [parameter for _, parameter in named]
        self.shapes = [parameter.shape for parameter in self.parameters]
        self.sizes = [parameter.numel() for parameter in self.parameters]
        self.weights = mark_static(torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters]))
        for parameter, view in zip(self.parameters, self.views(self.weights), strict=True):
            parameter.data = own_storage(view)
        self.addresses = [parameter.data_ptr() for parameter in self.parameters]

    def holds_all(self, parameters: list[nn.Parameter]) -> bool:
        """Whether these are its parameters, and all still views of the vector."""
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
    """Lay out the trainable parameters of ``module`` in one vector that the module and its optimiser use.

    A parameter group of the optimiser may have two further keys: ``lr_scale`` multiplies the learning rate;
    ``clip_apart=True`` clips its gradient by its own norm instead of the common one.

    :param module: its parameters that require a gradient and are in the optimiser are moved into the vector; all must be on
        one device
    :param optimizer: may have only some of the module's parameters, and others besides
    :param before: the previous layout of this module: if layers were replaced since, the optimiser gets the new ones
    :raises ValueError: for parameters that are not float32, and if there is nothing to train
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
        self.first_moment = mark_static(torch.zeros_like(self.weights))
        self.second_moment = mark_static(torch.zeros_like(self.weights))
        vectors = (self.first_moment, self.second_moment)
        self._moments = [*zip(*([own_storage(view) for view in self.views(vector)] for vector in vectors), strict=True)]
        # float64: 1 - 0.999**t cancels in float32 while t is small. One dimension: compiled code on the CPU treats tensors
        # without dimensions as numbers, and what it writes to them is lost.
        self.steps = mark_static(torch.zeros(1, dtype=torch.float64, device=self.weights.device))
        #: The step counts last written to the optimiser's state: a tensor for each parameter, and its value.
        self._published: list[tuple[Tensor, float]] = []
        #: The optimiser's state at that time, and the entry of each parameter in it.
        self._entries: list[Any] = []
        self._places: list[int] = []
        self._gradients: list[Tensor] = []
        #: Whether parameters have hooks on their gradients, as of the last check.
        self.hooked = False
        if self.adam is None:  # it steps outside of the update and creates its own state at its first step
            for parameter in [p for p, state in optimizer.state.items() if float(state.get("step", 1.0)) == 0.0]:
                del optimizer.state[parameter]
        elif any(parameter in optimizer.state for parameter in self.parameters):
            self.adopt_optimizer_state()

    def _in_order(self, module: nn.Module) -> list[tuple[str, nn.Parameter]]:
        """The parameters to train, by name; groups with ``clip_apart`` at the end, one after the other."""
        apart = self._apart()
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad and id(p) in apart]
        return sorted(named, key=lambda pair: apart[id(pair[1])])

    def _by_parameter(self, key: str, default: float) -> dict[int, float]:
        """The value of ``key`` in the optimiser's groups, by the id of each parameter."""
        return {id(p): float(group.get(key, default)) for group in self.optimizer.param_groups for p in group["params"]}

    def clip_sizes(self) -> list[int]:
        """Lengths of the parts of the vector whose gradients are clipped separately."""
        apart, sizes = self._apart(), Counter[int]()
        for parameter, size in zip(self.parameters, self.sizes, strict=True):
            sizes[apart.get(id(parameter), 0)] += size
        return [sizes[group] for group in sorted(sizes)]

    def _apart(self) -> dict[int, int]:
        """By the id of each parameter: the number of its group if that has ``clip_apart``, else 0."""
        groups = enumerate(self.optimizer.param_groups, start=1)
        return {id(p): number * bool(group.get("clip_apart")) for number, group in groups for p in group["params"]}

    def rates(self) -> Tensor | float:
        """Factors of the learning rate for each entry of the vector; 1.0 if all are 1."""
        scales = self._by_parameter("lr_scale", 1.0)
        if set(scales.values()) == {1.0}:
            return 1.0
        parts = [torch.full((size,), scales[id(p)]) for p, size in zip(self.parameters, self.sizes, strict=True)]
        return mark_static(torch.cat(parts).to(self.weights.device))

    def _adopt_new_parameters(self, module: nn.Module, seen: list[nn.Parameter]) -> None:
        """If trained layers were replaced, replace their parameters in the optimiser too.

        Parameters that it never had remain untrained, and parameters of other modules remain in it.

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
        """Whether the module's trained parameters are still views of the vector, and the optimiser is the same and of the same
        kind.

        Replacing or freezing a layer, ``deepcopy`` and SB3's ``load_from_vector`` change that.
        """
        if optimizer is not self.optimizer or self._kind() != self.kind:
            return False
        if module is self.module and self._is_untouched():
            return True
        return self.holds_all([parameter for _, parameter in self._in_order(module)])

    def _grouped(self) -> list[nn.Parameter]:
        """All parameters in the optimiser's groups."""
        return [*itertools.chain(*(group["params"] for group in self.optimizer.param_groups))]

    def _is_untouched(self) -> bool:
        """Whether nothing was changed: a quick check, since it precedes every update."""
        grouped = self._grouped()
        return (
            self._contents.are_same()
            and len(grouped) == len(self._groups)
            and all(map(operator.is_, grouped, self._groups))
            and [p.requires_grad for p in self.seen] == self._trainable
        )

    def _kind(self) -> Any:
        """The properties of the optimiser and its groups that an update is built for."""
        groups = [(group.get("lr_scale", 1.0), group.get("clip_apart", False)) for group in self.optimizer.param_groups]
        return Adam.kind(self.optimizer), groups

    # The optimiser's own settings and state, which other code may read, load, clear or step.

    def refresh(self) -> bool:
        """Read changes made to the optimiser since: settings of its groups, moments and step counts.

        :return: whether moments or step counts were changed
        :raises ValueError: for backward hooks of layers, which would not be called
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
        """Whether the optimiser's state is unchanged since it was last written."""
        # Checked before every update: looking up parameters by their hash would be slow.
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
        """Read the optimiser's state (after a load) and make its Adam moments views of the vectors."""
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
        # Layers that were frozen for a while have fewer steps than others.
        each = (
            taken[:1] if len(set(taken)) == 1 else [n for n, size in zip(taken, self.sizes, strict=True) for _ in range(size)]
        )
        if len(each) == len(self.steps):
            self.steps.copy_(torch.tensor(each))
        else:
            self.steps = mark_static(torch.tensor(each, dtype=torch.float64, device=self.weights.device))
        self._publish()

    def _counts(self) -> list[float]:
        """The number of steps of each parameter."""
        counts = self.steps.tolist()
        if len(counts) == 1:
            return counts * len(self.parameters)
        return [counts[end - 1] for end in itertools.accumulate(self.sizes)]

    def publish_steps(self) -> None:
        """Write moments and step counts to the optimiser's state, where ``state_dict`` reads them."""
        if self.adam is None or not (self._published or self.steps.any()):  # no steps yet: no state, as in torch
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

    # Gradients, for code that reads them.

    def before_step(self) -> tuple[Tensor, Tensor | None] | None:
        """What :meth:`gradient_since` needs from before a step; None where the optimiser's own step sets ``grad``."""
        if self.adam is None:
            return None
        return self.first_moment.clone(), self.weights.clone() if self.adam.adds_decay else None

    def gradient_since(self, before: tuple[Tensor, Tensor | None]) -> Tensor:
        """The gradient of one step, from the change of the first moment: steps do not store it."""
        assert self.adam is not None
        moment, weights = before
        return self.adam.gradient(moment, self.first_moment, weights)

    def show_gradients(self, gradient: Tensor) -> None:
        """Set ``grad`` of the parameters, for example for gradient histograms."""
        if not self._gradients:
            self._gradients = [own_storage(view) for view in self.views(torch.zeros_like(self.weights))]
        for parameter, there, found in zip(self.parameters, self._gradients, self.views(gradient), strict=True):
            there.copy_(found)
            parameter.grad = there

    def through_hooks(self, gradient: dict[str, Tensor]) -> dict[str, Tensor]:
        """The gradients after the parameters' hooks, as in a backward pass. Cannot be compiled.

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
