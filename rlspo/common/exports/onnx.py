"""The acting policy as an ONNX file, for programs without Python or PyTorch: raw observations in, actions out."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from rlspo.common.errors import NotExportableError
from rlspo.common.files import whole
from rlspo.common.spaces import start_of

Tensor = torch.Tensor
OBSERVATION, STATE, START = "observation", "state", "episode_start"
ACTION, NEXT_STATE = "action", "next_state"
#: Packages that write the file.
NEEDED = ("onnx", "onnxscript")


def export_onnx(model: Any, path: str | Path) -> Path:
    """Write what ``predict(observation, deterministic=True)`` computes to an ONNX file.

    The file holds the whole way from the environment's observation to its action: a ``VecNormalize``, the policy's own
    normaliser, the networks (of a mixture the gate and all experts), and the clipping or scaling of a Box action or the first
    number of discrete ones. The batch may be of any size.

    - Inputs: ``observation``, ``(B, *shape)``, of the type of the space; of a Dict space one input for each key, by its name.
      Images have the channel first. A policy with memory also takes ``state``, ``(B, state_size)``, zeros at first, and
      ``episode_start``, ``(B,)``, 1 where an episode begins.
    - Outputs: ``action``, ``(B, *action_shape)``; with memory ``next_state``, to be handed back.

    :param model: an agent of rlspo
    :param path: of the file; an existing one is replaced in one step
    :return: the file
    :raises rlspo.common.errors.NotExportableError: for a policy that computes its actions in a way of its own
    :raises ImportError: where ``onnx`` and ``onnxscript`` are not installed
    """
    check_installed()
    file = Path(path)
    module = Acting(model)
    batch = torch.export.Dim("batch")
    model.policy.set_training_mode(False)
    names, inputs = zip(*module.example_inputs().items(), strict=True)
    before = model.policy.convolution_dtype
    model.policy.convolution_dtype = None
    try:
        with whole(file) as partial, _quiet(), torch.no_grad():
            torch.onnx.export(
                module,
                inputs,
                partial,
                dynamo=True,
                external_data=False,
                verbose=False,
                input_names=list(names),
                output_names=[ACTION, NEXT_STATE] if module.remembers else [ACTION],
                dynamic_shapes={"inputs": tuple({0: batch} for _ in names)},
            )
            _check_batches(partial, model)
    finally:
        model.policy.convolution_dtype = before
    return file


def check_installed() -> None:
    """
    :raises ImportError: where a package that writes the file is missing
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"Writing ONNX needs {' and '.join(missing)}: pip install 'rlspo[onnx]'.")


def _check_batches(file: Path, model: Any) -> None:
    """
    :raises NotExportableError: where the exporter has fixed the number of observations at that of the example
    """
    import onnx

    for given in onnx.load(file).graph.input:
        size = given.type.tensor_type.shape.dim[0].dim_value
        if size:
            raise NotExportableError(
                f"The policy would be exported for batches of {size} only: one of its networks turns the number of rows into "
                "a Python int, by len(x), int(x.shape[0]) or a loop over rows. Use x.shape[0] and operations on whole tensors."
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of its own inside."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


class Acting(nn.Module):
    """From observations to deterministic actions, as ``predict`` goes, in tensors all the way.

    :param model: an agent of rlspo
    """

    start: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        if getattr(model.policy, "acts_as_written", False) or not hasattr(model.policy, "mode_of"):
            raise NotExportableError(
                f"{type(model.policy).__name__} computes its actions in a way of its own, which is not exported to ONNX. "
                "Define _distribution(latent) or distribution_of(inputs) in place of SB3's methods and of predict."
            )
        self.space, self.action_space = model.observation_space, model.action_space
        self.names = list(self.space.spaces) if isinstance(self.space, spaces.Dict) else [OBSERVATION]
        taken = [name for name in self.names if name in (STATE, START, ACTION, NEXT_STATE)]
        if taken:
            raise NotExportableError(
                f"The observation has the key {taken[0]!r}, which the ONNX file keeps for itself. Rename it."
            )
        self.policy = model.policy
        self.device = model.device
        self.remembers = model.policy.memory_size > 0 if hasattr(model.policy, "memory_size") else False
        self.nested = isinstance(self.space, spaces.Dict)
        self.statistics = {name: _Statistics(model, name) for name in self.names if _normalized(model, name)}
        self.register_buffer("start", torch.as_tensor(start_of(self.action_space), device=self.device), persistent=False)
        if isinstance(self.action_space, spaces.Box):
            for side in ("low", "high"):
                bound = torch.as_tensor(getattr(self.action_space, side), device=self.device)
                self.register_buffer(side, bound, persistent=False)

    def example_inputs(self) -> dict[str, Tensor]:
        """Inputs for a batch of two, by name."""
        parts = self.space.spaces if isinstance(self.space, spaces.Dict) else {OBSERVATION: self.space}
        found = {}
        for name, part in parts.items():
            rows = np.stack([np.asarray(part.sample(), part.dtype) for _ in range(2)])
            found[name] = torch.as_tensor(rows, device=self.device)
        if self.remembers:
            found[STATE] = torch.zeros(2, self.policy.state_size, device=self.device)
            found[START] = torch.zeros(2, device=self.device)
        return found

    def forward(self, *inputs: Tensor) -> Any:
        """
        :param inputs: as in :meth:`example_inputs`
        """
        named: Any = dict(zip(self.names, inputs, strict=False))
        for name, statistics in self.statistics.items():
            named[name] = statistics(named[name])
        observations = named if self.nested else named[OBSERVATION]
        if not self.remembers:
            return self._as_element(self.policy.mode_of(self.policy.preprocess(observations)))
        actions, state = self.policy.mode_after(observations, *inputs[len(self.names) :])
        return self._as_element(actions), state

    def _as_element(self, actions: Tensor) -> Tensor:
        """Actions of the policy as elements of the action space."""
        actions = actions.reshape(-1, *(self.action_space.shape or ()))
        if not isinstance(self.action_space, spaces.Box):
            return actions if isinstance(self.action_space, spaces.MultiBinary) else actions + self.start
        if self.policy.squash_output:
            # Of other programs' tanh, a last bit may be beyond 1.
            actions = self.low + 0.5 * (actions + 1.0) * (self.high - self.low)
        return torch.minimum(torch.maximum(actions, self.low), self.high)


def _normalized(model: Any, name: str) -> bool:
    """Whether this part of the observation comes through a ``VecNormalize``."""
    normalize: VecNormalize | None = model.get_vec_normalize_env()
    if normalize is None or not normalize.norm_obs:
        return False
    before, after = normalize.venv.observation_space, model.observation_space
    if isinstance(before, spaces.Dict):
        if name not in (getattr(normalize, "norm_obs_keys", None) or before.spaces):
            return False
        before, after = before[name], after[name]
    if before.shape != after.shape:
        raise NotExportableError(
            "The observations are normalised by a VecNormalize and then stacked or turned by wrappers, which is not exported "
            "to ONNX. Train with normalize_observations=True instead, which is inside the policy."
        )
    return True


class _Statistics:
    """The arithmetic of ``VecNormalize``, in float64 as there."""

    def __init__(self, model: Any, name: str) -> None:
        normalize = model.get_vec_normalize_env()
        found = normalize.obs_rms[name] if isinstance(normalize.obs_rms, dict) else normalize.obs_rms
        self.mean = torch.as_tensor(found.mean, dtype=torch.float64, device=model.device)
        self.spread = torch.as_tensor(np.sqrt(found.var + normalize.epsilon), dtype=torch.float64, device=model.device)
        self.clip = float(normalize.clip_obs)

    def __call__(self, observations: Tensor) -> Tensor:
        return ((observations.double() - self.mean) / self.spread).clamp(-self.clip, self.clip).float()
