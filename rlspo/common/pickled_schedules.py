"""Schedules that stable-baselines3 and rl-baselines3-zoo pickle as code: known by name, and built anew from their numbers.

Their files hold a schedule such as ``constant_fn(3e-4)`` as the bytes of a Python function. These bytes are not looked at: the
name of the function says what it computes, and the numbers that it closes over stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

_SB3 = "stable_baselines3.common.utils"
#: By module and name; the arguments are what the function closes over, in the alphabetical order of their names.
_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    (_SB3, "constant_fn.<locals>.func"): ConstantSchedule,
    (_SB3, "get_linear_fn.<locals>.func"): lambda end, end_fraction, start: LinearSchedule(start, end, end_fraction),
    (_SB3, "get_schedule_fn.<locals>.<lambda>"): FloatSchedule,
    **{
        (module, "linear_schedule.<locals>.func"): lambda initial: LinearSchedule(initial, 0.0, 1.0)
        for module in ("rl_zoo3.utils", "utils.utils")
    },
}
#: The functions by which cloudpickle, old and new, tells a function's name and what it closes over.
_TELL = ("._function_setstate", "._fill_function")


class Foreign:
    """Stands for something that may not be read, and for what a pickle does with it.

    :param name: dotted path
    :param args: what it was called with; None where it was not
    """

    def __init__(self, name: str, args: Any = None) -> None:
        self.name = name
        self.args = args
        self.meaning: Any = None
        #: In words, where the pickle tells what it is.
        self.label: str | None = None
        if args is None or not name.startswith("cloudpickle."):
            return
        if name.endswith("._make_skeleton_class") and len(args) > 1:
            self.label = f"the class {args[1]}"
        if name.endswith(_TELL) and len(args) == 2:
            told = _told(args[1])
            self.label = f"the function {told.get('module')}.{told.get('qualname')}"
            self.meaning = _schedule(told)
            if isinstance(args[0], Foreign):
                args[0].meaning = self.meaning


def _told(state: Any) -> dict[str, Any]:
    """What a function's state says, by names without underscores."""
    told = state[1] if isinstance(state, tuple) and len(state) == 2 else state
    return {str(key).strip("_"): value for key, value in told.items()} if isinstance(told, dict) else {}


def _schedule(told: dict[str, Any]) -> Any:
    """The schedule that a function is, by its name, or None."""
    build = _KNOWN.get((str(told.get("module")), str(told.get("qualname"))))
    cells = told.get("closure", told.get("closure_values"))
    if build is None or not isinstance(cells, list | tuple):
        return None
    values = [cell.args[0] if isinstance(cell, Foreign) and cell.args else cell for cell in cells]
    values = [value.meaning if isinstance(value, Foreign) else value for value in values]
    if not all(isinstance(value, int | float | ConstantSchedule | LinearSchedule | FloatSchedule) for value in values):
        return None
    try:
        return build(*values)
    except (TypeError, AssertionError):
        return None


def understood(root: Any) -> Any:
    """What was read, with a schedule in place of its code; None where there is other code in it."""
    if isinstance(root, Foreign):
        return root.meaning
    if isinstance(root, FloatSchedule) and set(vars(root)) == {"value_schedule"} and isinstance(root.value_schedule, Foreign):
        return None if root.value_schedule.meaning is None else FloatSchedule(root.value_schedule.meaning)
    return None
