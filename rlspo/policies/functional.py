"""The pure side of a policy: its methods with other parameters than its own, so that losses differentiate and compile."""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from rlspo.common.running_statistics import Recording, statistic_names
from rlspo.common.spaces import as_env_numbers
from rlspo.common.trees import tree_map

Tensor = torch.Tensor
Parameters = dict[str, Tensor]
Result = TypeVar("Result")


def _channels_last(inputs: Tensor) -> Tensor:
    """Images with the channel innermost in memory: the same numbers, and convolutions are faster."""
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs


def switch_mode(module: nn.Module, training: bool) -> None:
    """``module.train(training)``, ten times as fast: for what is switched at each step of an environment.

    Layers with a ``train`` of their own are asked by it.
    """
    kind: Any = type(module)
    if _switches_itself(kind):
        module.train(training)
        return
    state = module.__dict__
    state["training"] = training
    for child in state["_modules"].values():
        if child is not None:
            switch_mode(child, training)


@functools.cache
def _switches_itself(kind: Any) -> bool:
    return kind.train is not nn.Module.train or kind.__setattr__ is not nn.Module.__setattr__


class _Methods(nn.Module):
    """Lets ``torch.func.functional_call``, which calls ``forward`` only, call any method of a policy."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, method: Callable[[Any], Any], inputs: Any) -> Any:
        return method(inputs)


class Functional(nn.Module):
    """Stands before one of SB3's policy classes, whose constructor calls :meth:`make_functional` when all layers are there."""

    _methods: nn.Module
    device: Any
    action_space: Any
    distribution_of: Callable[[Any], Any]
    #: Buffers that layers write to in training mode (batch normalisation), by name.
    statistic_names: list[str]
    #: Source of the samples of ``predict(deterministic=False)``; None: torch's global generator. Set by the agent.
    generator: torch.Generator | None = None
    #: Run the features extractor under autocast to this type; None for float32. Set by the agent (``precision``).
    convolution_dtype: torch.dtype | None = None

    def predict(self, *args: Any, **kwargs: Any) -> tuple[np.ndarray, Any]:
        """As SB3's; choices are elements of the action space, also where that starts elsewhere than at 0."""
        actions, state = super().predict(*args, **kwargs)  # type: ignore[misc]
        return as_env_numbers(actions, self.action_space), state

    def mode_of(self, inputs: Any) -> Tensor:
        """The action that ``predict`` takes with ``deterministic=True``, before it is clipped or scaled; a pure function.

        :param inputs: what ``preprocess`` returns
        """
        return self.distribution_of(inputs).mode()

    def fast_actor(self, generator: np.random.Generator) -> Callable[[np.ndarray], np.ndarray] | None:
        """A function from observations to sampled actions that is faster than this module, valid until it is changed; None
        where there is none."""
        return None

    def set_training_mode(self, mode: bool) -> None:
        """As SB3's: batch normalisation and dropout behave differently while learning."""
        switch_mode(self, mode)

    def make_functional(self) -> None:
        """Look at the layers that were built, or changed since."""
        self._ties = self._other_names()
        self.statistic_names = self._statistic_names()
        self._holders: dict[str, dict[str, Any]] = {}
        self._children: list[dict[str, Any]] = []
        self._layers: list[Any] = [None]
        # Not a submodule (it would contain its own parent), hence past nn.Module's registration.
        self.__dict__["_methods"] = _Methods(self)

    def _other_names(self) -> dict[str, str]:
        """Of a parameter that several layers have: its other names, and the one in ``named_parameters``.

        Not those of one module under two names (a shared features extractor), whose parameters are swapped once for both.
        """
        first: dict[int, str] = {}
        others = {}
        for path, module in self.named_modules():
            for name, parameter in module.named_parameters(path, recurse=False, remove_duplicate=False):
                if first.setdefault(id(parameter), name) != name:
                    others[name] = first[id(parameter)]
        return others

    def _statistic_names(self) -> list[str]:
        return statistic_names(self)

    def _with(self, parameters: Parameters, method: Callable[[Any], Result], inputs: Any) -> Result:
        """``method(inputs)`` with ``parameters`` (by name, as in ``named_parameters``) instead of the module's own.

        In training mode layers write their running statistics to copies, which a :class:`Recording` is given back.

        :param method: one of this policy
        """
        tensors = dict(parameters)
        for other, name in self._ties.items():
            if name in parameters:
                tensors[other] = parameters[name]
        written = self.statistic_names if self.training else []
        for name in written:
            before = parameters[name] if name in parameters else self.get_buffer(name)
            tensors[name] = before.clone()
        if torch.compiler.is_compiling():
            # Not by functional_call's own tie_weights: it leaves its tensor in a layer whose parameter is another layer's,
            # too, and breaks compilation of a shared features extractor.
            renamed = {f"policy.{name}": tensor for name, tensor in tensors.items()}
            result = torch.func.functional_call(self._methods, renamed, (method, inputs), tie_weights=False)
        else:
            result = self._call_with(tensors, method, inputs)
        if isinstance(parameters, Recording):
            parameters.update({name: tensors[name] for name in written})
        return result

    def _call_with(self, tensors: Parameters, method: Callable[[Any], Result], inputs: Any) -> Result:
        """``functional_call`` without looking for the layers again, which takes as long as the layers of a small network."""
        self._look_again()
        places = [(self._holder(name), name.rpartition(".")[2], tensor) for name, tensor in tensors.items()]
        before = [holder[key] for holder, key, _ in places]
        try:
            for holder, key, tensor in places:
                holder[key] = tensor
            return method(inputs)
        finally:
            for (holder, key, _), own in zip(places, before, strict=True):
                holder[key] = own

    def _look_again(self) -> None:
        """Forget where layers keep their parameters, if a layer was replaced."""
        if self._layers != [*chain.from_iterable(map(dict.values, self._children))]:
            self._children = [layer._modules for layer in self.modules()]
            self._layers = [*chain.from_iterable(map(dict.values, self._children))]
            self._holders = {}

    def _holder(self, name: str) -> dict[str, Any]:
        """Where a layer keeps the parameter or the buffer of this name."""
        if name not in self._holders:
            path, _, key = name.rpartition(".")
            layer = self.get_submodule(path)
            holder = layer._parameters if key in layer._parameters else layer._buffers
            if key not in holder:
                raise KeyError(f"The policy has no parameter {name!r}.")
            self._holders[name] = holder
        return self._holders[name]

    def _features(self, inputs: Any, extractor: nn.Module) -> Tensor:
        inputs = tree_map(_channels_last, inputs)
        if self.convolution_dtype is None:
            return extractor(inputs)
        # The cache of casted weights must stay off: functional calls swap the weights under it.
        with torch.autocast(self.device.type, self.convolution_dtype, cache_enabled=False):
            return extractor(inputs).float()
