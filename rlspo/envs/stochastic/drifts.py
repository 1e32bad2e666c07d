"""Type 2.2: physics that changes within an episode."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np

from rlspo.envs.arguments import number
from rlspo.envs.stochastic.task import Task

#: Largest number of cached models for simulations; beyond it the cache is emptied.
KEPT = 64


class ModelDrift:
    """A parameter of MuJoCo's model is multiplied by 1 + (scale - 1) * level, where the schedule gives the level.

    ``perturb_spec`` of realworldrl_suite, whose ``param`` is the effect here and whose ``scheduler`` the schedule; its
    ``period`` counts episodes, the schedule's here decision steps.

    The task's own model is changed only by :meth:`set_level`, and level 0 restores it exactly.

    :param scale: the factor at level 1, at least 0
    """

    #: Paths of the parameters in the model.
    parameters: ClassVar[tuple[str, ...]] = ()
    #: Whether MuJoCo derives constants from them when it compiles a model.
    derives: ClassVar[bool] = False

    def __init__(self, task: Task, scale: float = 1.5) -> None:
        self.scale = number("scale", scale, 0)
        model = task.physics()
        self._plain = copy.deepcopy(model)
        self._models: dict[float, Any] = {}
        self._scratch: Any = None
        self._fields = self.parameters
        if self.derives:
            self._fields = (*self.parameters, *_changed_by_derivation(self._plain))

    def factor(self, level: float) -> float:
        """The factor of the parameter."""
        return 1.0 + (self.scale - 1.0) * level

    def set_level(self, model: Any, level: float) -> None:
        """Set a model to a level, whatever its current level."""
        for field in self._fields:
            _write(model, field, _read(self._plain, field))
        factor = self.factor(level)
        if factor == 1.0:
            return
        for field in self.parameters:
            _write(model, field, _read(self._plain, field) * factor)
        if self.derives:
            if self._scratch is None:
                self._scratch = _data_of(model)
            _derive(model, self._scratch)

    def model_at(self, level: float) -> Any:
        """A separate model, the same object for the same level."""
        if level not in self._models:
            if len(self._models) >= KEPT:
                self._models.clear()
            self._models[level] = copy.deepcopy(self._plain)
            self.set_level(self._models[level], level)
        return self._models[level]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_models": {}, "_scratch": None}


class Gravity(ModelDrift):
    """Gravity (``opt.gravity``)."""

    parameters = ("opt.gravity",)


class Mass(ModelDrift):
    """Mass and inertia of all bodies, as if their density changed (``body_mass``, ``body_inertia``).

    ``robust_shape`` of Robust-Gymnasium changes masses too.
    """

    parameters = ("body_mass", "body_inertia")
    derives = True

    def __init__(self, task: Task, scale: float = 1.5) -> None:
        super().__init__(task, scale)
        if self.scale == 0:
            raise ValueError("scale is 0; bodies need a mass: it must be above 0.")


class Friction(ModelDrift):
    """Sliding, torsional and rolling friction of all bodies (``geom_friction``)."""

    parameters = ("geom_friction",)


class Damping(ModelDrift):
    """Damping of all joints (``dof_damping``)."""

    parameters = ("dof_damping",)


class Gear(ModelDrift):
    """Strength of all actuators (``actuator_gear``)."""

    parameters = ("actuator_gear",)


DRIFT_EFFECTS: dict[str, type[Any]] = {
    "gravity": Gravity,
    "mass": Mass,
    "friction": Friction,
    "damping": Damping,
    "gear": Gear,
}


def _data_of(model: Any) -> Any:
    # MuJoCo need not be installed.
    import mujoco

    return mujoco.MjData(model)


def _derive(model: Any, scratch: Any) -> None:
    """Compute the constants that are derived from masses.

    :param scratch: data that is overwritten, so not the environment's
    """
    import mujoco

    mujoco.mj_setConst(model, scratch)


def _changed_by_derivation(plain: Any) -> tuple[str, ...]:
    """The fields that :func:`_derive` changes for other masses: found by trial, as they depend on MuJoCo's version."""
    other = copy.deepcopy(plain)
    # A different factor for each body: fields that do not change under a common factor may still round differently.
    factors = np.linspace(1.1, 1.9, len(other.body_mass))
    other.body_mass[:] *= factors
    other.body_inertia[:] *= factors[:, None]
    _derive(other, _data_of(other))
    found = []
    for prefix, one, two in (("", plain, other), ("stat.", plain.stat, other.stat)):
        for name in dir(one):
            if name.startswith("_") or name in ("body_mass", "body_inertia"):
                continue
            value = getattr(one, name)
            if isinstance(value, np.ndarray | float) and not np.array_equal(value, getattr(two, name), equal_nan=True):
                found.append(prefix + name)
    return tuple(found)


def _read(model: Any, field: str) -> Any:
    for name in field.split("."):
        model = getattr(model, name)
    return model


def _write(model: Any, field: str, value: Any) -> None:
    *path, name = field.split(".")
    for part in path:
        model = getattr(model, part)
    if isinstance(value, np.ndarray):
        getattr(model, name)[...] = value
    else:
        setattr(model, name, value)
