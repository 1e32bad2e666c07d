"""Schedules that stable-baselines3 and rl-baselines3-zoo pickle as code: recognised by name and rebuilt from their numbers.

Their files hold a schedule such as ``constant_fn(3e-4)`` as the bytes of a Python function. These bytes are not read: the name
of the function identifies it, and its closure contains the numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

_SB3 = "stable_baselines3.common.utils"
#: By module and name; the arguments are the variables of the closure, in alphabetical order.
_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    (_SB3, "constant_fn.<locals>.func"): ConstantSchedule,
    (_SB3, "get_linear_fn.<locals>.func"): lambda end, end_fraction, start: LinearSchedule(start, end, end_fraction),
    (_SB3, "get_schedule_fn.<locals>.<lambda>"): FloatSchedule,
    **{
        (module, "linear_schedule.<locals>.func"): lambda initial: LinearSchedule(initial, 0.0, 1.0)
        for module in ("rl_zoo3.utils", "utils.utils")
    },
}
#: Functions of cloudpickle, old and new, that carry a function's name and closure.
_TELL = ("._function_setstate", "._fill_function")


class Foreign:
    """Placeholder for an object that may not be read, recording how the pickle uses it.

    :param name: dotted path
    :param args: what it was called with; None where it was not
    """

    def __init__(self, name: str, args: Any = None) -> None:
        self.name = name
        self.args = args
        self.meaning: Any = None
        #: Its description, if the pickle contains one.
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
    """The contents of a function's state, with names without underscores."""
    told = state[1] if isinstance(state, tuple) and len(state) == 2 else state
    return {str(key).strip("_"): value for key, value in told.items()} if isinstance(told, dict) else {}


def _schedule(told: dict[str, Any]) -> Any:
    """The schedule of this function's name, or None."""
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
    """The object that was read, with schedules instead of their code; None if it contains other code."""
    if isinstance(root, Foreign):
        return root.meaning
    if isinstance(root, FloatSchedule) and set(vars(root)) == {"value_schedule"} and isinstance(root.value_schedule, Foreign):
        return None if root.value_schedule.meaning is None else FloatSchedule(root.value_schedule.meaning)
    return None
