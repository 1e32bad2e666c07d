"""Choosing the layer that simulates a wrapper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
from gymnasium import wrappers
from stable_baselines3.common import atari_wrappers
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)

from rlspo.common.errors import NotSimulatableError
from rlspo.simulators.base import Layer
from rlspo.simulators.holding import check_functions
from rlspo.simulators.layers import EpisodeLayer, MonitorLayer, OrderLayer, TimeLimitLayer
from rlspo.simulators.normalizing import ObservationScaleLayer, RewardScaleLayer, VecNormalizeLayer
from rlspo.simulators.rows import ActionBatch, ActionRows, ObservationBatch, ObservationRows, RewardRows, TimeRows
from rlspo.simulators.stacks import FramesLayer, VecFramesLayer
from rlspo.simulators.vectors import VecExtractLayer, VecMonitorLayer, VecTransposeLayer
from rlspo.simulators.whole import UNKNOWN, layers_of, speaks_for, watches

#: By exact class: a subclass may do anything.
LAYERS: dict[type, Callable[[Any], Layer]] = {
    wrappers.PassiveEnvChecker: Layer,
    wrappers.OrderEnforcing: OrderLayer,
    wrappers.TimeLimit: TimeLimitLayer,
    wrappers.RecordEpisodeStatistics: EpisodeLayer,
    Monitor: MonitorLayer,
    atari_wrappers.AtariWrapper: Layer,
    wrappers.FrameStackObservation: FramesLayer,
    wrappers.NormalizeObservation: ObservationScaleLayer,
    wrappers.NormalizeReward: RewardScaleLayer,
    wrappers.TimeAwareObservation: TimeRows,
    wrappers.ClipAction: ActionBatch,
    wrappers.RescaleAction: ActionBatch,
    wrappers.TransformAction: ActionRows,
    wrappers.DiscretizeAction: ActionRows,
    wrappers.RescaleObservation: ObservationBatch,
    wrappers.TransformObservation: ObservationRows,
    wrappers.FlattenObservation: ObservationRows,
    wrappers.FilterObservation: ObservationRows,
    wrappers.GrayscaleObservation: ObservationRows,
    wrappers.ResizeObservation: ObservationRows,
    wrappers.ReshapeObservation: ObservationRows,
    wrappers.DtypeObservation: ObservationRows,
    wrappers.DiscretizeObservation: ObservationRows,
    atari_wrappers.WarpFrame: ObservationRows,
    wrappers.TransformReward: RewardRows,
    wrappers.ClipReward: RewardRows,
    atari_wrappers.ClipRewardEnv: RewardRows,
}
#: SB3's wrappers of a ``VecEnv``.
VEC_LAYERS: dict[type, Callable[[Any], Layer]] = {
    VecNormalize: VecNormalizeLayer,
    VecFrameStack: VecFramesLayer,
    VecTransposeImage: VecTransposeLayer,
    VecExtractDictObs: VecExtractLayer,
    VecMonitor: VecMonitorLayer,
    VecCheckNan: Layer,
    VecVideoRecorder: Layer,
}
#: Base classes of wrappers that can be called row by row, with the methods that must not be overridden.
STYLES: tuple[tuple[type, Callable[..., Layer], tuple[str, ...]], ...] = (
    (gym.ActionWrapper, ActionRows, ("step",)),
    (gym.ObservationWrapper, ObservationRows, ("step",)),
    (gym.RewardWrapper, RewardRows, ("step",)),
)
#: Why some well-known wrappers cannot be simulated around batched environments.
REASONS = {
    wrappers.Autoreset: "a step that resets is none of the task; take it off, whoever steps the environment resets it",
    wrappers.AddRenderObservation: "its observations are drawn, and only the environment itself can be drawn",
}
#: Attributes of every wrapper.
COMMON = {"env", "_action_space", "_observation_space", "_metadata", "_cached_spec", "_saved_kwargs"}


def layer_for(wrapper: gym.Wrapper) -> Layer:
    """The layer for a gymnasium wrapper around an environment that is simulated in batches.

    :raises NotSimulatableError: if there is none
    """
    if watches(wrapper):
        return Layer(wrapper)
    check_functions(wrapper, layers_of(wrapper), copied=False)
    if type(wrapper) in LAYERS:
        return LAYERS[type(wrapper)](wrapper)
    name = f"The wrapper {type(wrapper).__name__}"
    own = getattr(wrapper, "simulated_layer", None)
    if own is not None:
        if not speaks_for(wrapper, "simulated_layer"):
            raise NotSimulatableError(name, UNKNOWN.format("simulated_layer"))
        return own()
    if type(wrapper) in REASONS:
        raise NotSimulatableError(name, REASONS[type(wrapper)])
    for style, layer, methods in STYLES:
        if isinstance(wrapper, style) and all(getattr(type(wrapper), one) is getattr(style, one) for one in methods):
            return layer(wrapper, _names(wrapper, name))
    raise NotSimulatableError(
        name,
        "it is not known here, and its step() may do anything; its work in an ActionWrapper, ObservationWrapper or "
        "RewardWrapper, whose step() stays gymnasium's, can be followed",
    )


def _names(wrapper: gym.Wrapper, name: str) -> tuple[str, ...]:
    """Names of the attributes that are a wrapper's memory: declared in its class, or none where it has no attributes."""
    declared = getattr(type(wrapper), "simulated_state", None)
    if declared is None:
        own = sorted(vars(wrapper).keys() - COMMON)
        if own:
            raise NotSimulatableError(
                name,
                f"its attributes {', '.join(own)} may be memory that changes in a step; declare in its class "
                'simulated_state = ("name", ...), the names of those that do, or () if none does',
            )
        return ()
    if isinstance(declared, str) or not all(isinstance(one, str) for one in declared):
        raise NotSimulatableError(name, f"simulated_state is {declared!r}; it must be a tuple of names of attributes")
    return tuple(declared)


def vec_layer_for(wrapper: Any) -> Layer:
    """The layer for a wrapper of SB3's ``VecEnv``.

    :raises NotSimulatableError: if there is none
    """
    if type(wrapper) in VEC_LAYERS:
        return VEC_LAYERS[type(wrapper)](wrapper)
    if hasattr(wrapper, "simulated_layer"):
        if not speaks_for(wrapper, "simulated_layer"):
            raise NotSimulatableError(f"The wrapper {type(wrapper).__name__}", UNKNOWN.format("simulated_layer"))
        return wrapper.simulated_layer()
    known = ", ".join(one.__name__ for one in VEC_LAYERS)
    raise NotSimulatableError(f"The wrapper {type(wrapper).__name__}", f"of those around a VecEnv only {known} are known")
