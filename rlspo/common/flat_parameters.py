"""All parameters of a module in one vector, with its Adam moments in two more of the same length.

One vector instead of a dozen tensors makes the optimiser one kernel and a compiled call cheap to enter. The module's own
parameters, and the optimiser's state, become views of these vectors: ``state_dict``, ``load_state_dict``, SB3's
``get_parameters`` and a plain forward pass see the same numbers at no cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from rlspo.common.compilation import stays

Tensor = torch.Tensor


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
        self.values = stays(torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters]))
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

    :param module: its parameters that require a gradient are moved into the vector; all must be float32 and live on one
        device
    :param optimizer: the optimiser of exactly these parameters
    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self._adopt_new_parameters(module)
        super().__init__(self._in_order(module))
        self.adam = Adam.of(optimizer)
        self.first_moment = stays(torch.zeros_like(self.values))
        self.second_moment = stays(torch.zeros_like(self.values))
        # float64: 1 - 0.999**t cancels in float32 while t is small. One dimension: compiled code on the CPU treats tensors
        # without dimensions as numbers, and what it writes to them is lost.
        self.steps = stays(torch.zeros(1, dtype=torch.float64, device=self.values.device))
        self.adopt_optimizer_state()

    def _in_order(self, module: nn.Module) -> list[tuple[str, nn.Parameter]]:
        """The trainable parameters by name, those whose gradients are clipped apart at the end."""
        apart = self._by_parameter("clip_apart", False)
        named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
        return sorted(named, key=lambda pair: apart.get(id(pair[1]), 0))

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
        return stays(torch.cat(parts).to(self.values.device))

    def _adopt_new_parameters(self, module: nn.Module) -> None:
        """Give the optimiser the parameters of layers that came since it was made, and take those that left away."""
        groups = self.optimizer.param_groups
        present, known = list(module.parameters()), {id(p) for group in groups for p in group["params"]}
        kept = {id(p) for p in present}
        for group in groups:
            group["params"] = [p for p in group["params"] if id(p) in kept]
        groups[0]["params"] += [p for p in present if id(p) not in known]
        for parameter in [p for p in self.optimizer.state if id(p) not in kept]:
            del self.optimizer.state[parameter]

    def holds(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the module's trainable parameters still are views of the vector, and the optimiser still is ours.

        Replacing a layer, freezing one, ``deepcopy`` and SB3's ``load_from_vector`` all end that.
        """
        trainable = [parameter for _, parameter in self._in_order(module)]
        return optimizer is self.optimizer and self.holds_all(trainable)

    def adopt_optimizer_state(self) -> None:
        """Take over what the optimiser holds (after a load) and make its Adam moments views of the vectors."""
        if self.adam is None:
            return
        views = ([own_storage(view) for view in self.views(vector)] for vector in (self.first_moment, self.second_moment))
        moments = zip(self.parameters, *views, strict=True)
        for parameter, first, second in moments:
            state = self.optimizer.state[parameter]
            for view, key in ((first, "exp_avg"), (second, "exp_avg_sq")):
                if key in state and state[key].data_ptr() != view.data_ptr():
                    view.copy_(state[key])
                elif key not in state:
                    view.zero_()
                state[key] = view
            state["step"] = torch.tensor(float(state.get("step", 0.0)))
        self.steps.fill_(float(self.optimizer.state[self.parameters[0]]["step"]))

    def publish_steps(self) -> None:
        """Write the number of steps taken to the optimiser's state, where ``state_dict`` looks for it."""
        if self.adam is not None:
            steps = float(self.steps)
            for parameter in self.parameters:
                self.optimizer.state[parameter]["step"] = torch.tensor(steps)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019) as a function without side effects.

    :param betas: decay of the two moments
    :param eps: added to the root of the second moment
    :param weight_decay: of the values; 0 for none
    :param decoupled: decay the values (AdamW) rather than add to the gradient
    """

    betas: tuple[float, float]
    eps: float
    weight_decay: float
    decoupled: bool

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> Adam | None:
        """The function that does what ``optimizer`` does, or None where it is another method."""
        if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW):
            return None
        alike = ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize")
        group, *others = optimizer.param_groups
        if any(other[key] != group[key] for other in others for key in alike):
            return None
        if group["amsgrad"] or group["maximize"] or isinstance(group["lr"], Tensor):
            return None
        decoupled = group.get("decoupled_weight_decay", isinstance(optimizer, torch.optim.AdamW))
        return cls(tuple(group["betas"]), group["eps"], group["weight_decay"], decoupled)

    def step(
        self,
        values: Tensor,
        gradient: Tensor,
        first_moment: Tensor,
        second_moment: Tensor,
        steps: Tensor,
        rate: Tensor,
        scales: Tensor | float = 1.0,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The new values, first moment, second moment and step count, at learning rate ``rate * scales``."""
        beta1, beta2 = self.betas
        if self.weight_decay and self.decoupled:
            values = values * (1 - rate * scales * self.weight_decay)
        elif self.weight_decay:
            gradient = gradient + self.weight_decay * values
        steps = steps + 1
        first_moment = first_moment + (1 - beta1) * (gradient - first_moment)
        second_moment = beta2 * second_moment + (1 - beta2) * gradient * gradient
        step_size = (rate / (1 - beta1**steps)).to(values.dtype)
        correction = torch.sqrt(1 - beta2**steps).to(values.dtype)
        values = values - step_size * scales * first_moment / (second_moment.sqrt() / correction + self.eps)
        return values, first_moment, second_moment, steps
