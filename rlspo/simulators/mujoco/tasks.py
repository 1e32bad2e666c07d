"""The MuJoCo environments that can be simulated, and their rules."""

from __future__ import annotations

from typing import Any

from rlspo.simulators.mujoco import humanoid, reaching, walking
from rlspo.simulators.mujoco.task import Task

_PACKAGE = "gymnasium.envs.mujoco."
#: Rules by the environment's class.
TASKS: dict[str, type[Task]] = {
    f"{_PACKAGE}ant_v5.AntEnv": walking.Ant,
    f"{_PACKAGE}half_cheetah_v5.HalfCheetahEnv": walking.HalfCheetah,
    f"{_PACKAGE}hopper_v5.HopperEnv": walking.Hopper,
    f"{_PACKAGE}humanoid_v5.HumanoidEnv": humanoid.Humanoid,
    f"{_PACKAGE}humanoidstandup_v5.HumanoidStandupEnv": humanoid.HumanoidStandup,
    f"{_PACKAGE}inverted_double_pendulum_v5.InvertedDoublePendulumEnv": reaching.InvertedDoublePendulum,
    f"{_PACKAGE}inverted_pendulum_v5.InvertedPendulumEnv": reaching.InvertedPendulum,
    f"{_PACKAGE}pusher_v5.PusherEnv": reaching.Pusher,
    f"{_PACKAGE}reacher_v5.ReacherEnv": reaching.Reacher,
    f"{_PACKAGE}swimmer_v5.SwimmerEnv": walking.Swimmer,
    f"{_PACKAGE}walker2d_v5.Walker2dEnv": walking.Walker2d,
}
#: Their ids in gymnasium.
SIMULATED = tuple(f"{task.__name__}-v5" for task in TASKS.values())


def can_simulate(env: Any) -> bool:
    """Whether the rules of ``env``, the innermost environment, are known."""
    return _kind(env) in TASKS


def task_for(env: Any) -> Task:
    """The rules of ``env``.

    :param env: the innermost environment
    :raises TypeError: for one whose rules are not known, including subclasses, which may have other rules
    """
    kind = _kind(env)
    if kind not in TASKS:
        raise TypeError(
            f"The MuJoCo environment {kind} cannot be simulated: its rewards and observations are not known here. Those that "
            f"are, of exactly gymnasium's classes: {', '.join(SIMULATED)}. A change to one of them is followed if it "
            "is made by its arguments, by its model, or by a wrapper."
        )
    return TASKS[kind](env)


def _kind(env: Any) -> str:
    return f"{type(env).__module__}.{type(env).__qualname__}"
