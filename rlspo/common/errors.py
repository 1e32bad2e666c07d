"""The errors that rlspo raises on purpose, and the checks that raise them."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rlspo.common.signatures import signature_of
from rlspo.common.trees import ArrayTree, tree_leaves

#: The largest number that float32, in which agents learn, can hold.
_LARGEST = np.finfo(np.float32).max
_SHORT = reprlib.Repr()
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 20
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200


class InvalidRolloutError(RuntimeError):
    """The environment returned NaN or infinite values: training stopped before these could reach the weights."""


class DivergedError(RuntimeError):
    """Learning gave numbers that are NaN, infinite or too large: the agent was restored to the last finite state.

    :param where: which update, in words
    :param found: numbers by name, those that are not finite among them
    :param learning_rate: of that update
    :param restored: whether there was a state to restore
    """

    def __init__(self, where: str, found: Mapping[str, float], learning_rate: float, restored: bool = True) -> None:
        numbers = "".join(f"{name} {value:.3g}, " for name, value in found.items())
        high = " It is far above what is usual (1e-5 to 1e-2)." if learning_rate > 0.1 else ""
        state = (
            "Weights, optimiser state and statistics are those with which all was last finite."
            if restored
            else "There are no earlier weights to restore, so load a saved agent."
        )
        super().__init__(
            f"Learning diverged {where}: {numbers}learning rate {learning_rate:.3g}.{high} Observations and rewards of the "
            f"environment were finite. {state} Lower learning_rate, or max_grad_norm where there is one; if rewards are in "
            "the thousands, scale them (normalize_rewards=True, or VecNormalize)."
        )


class UnsupportedNetworkError(RuntimeError):
    """A policy's network does something that the agent's update cannot differentiate."""


class IncompatibleModelError(ValueError):
    """A model file cannot be read, or belongs to another agent."""


class UntrustedFileError(IncompatibleModelError):
    """A file contains pickled code, which is not run unless the user trusts the file."""


class NotExportableError(ValueError):
    """An agent holds something that a file without code cannot: a function, or a class that no package has declared."""


class MissingPostDecisionError(ValueError):
    """An environment does not report the post-decision state that an agent learns from.

    :param index: of the environment
    :param step: environment steps that each environment had taken
    :param missing: keys that its info lacks
    """

    def __init__(self, index: int, step: int, missing: list[str]) -> None:
        super().__init__(
            f"The info of environment {index} has no {' and no '.join(map(repr, missing))} after step {step}. This agent "
            "learns from the state between a decision and the chance that follows it. Let the environment's step() put "
            "info['post_decision_obs'] and info['post_decision_reward'] there, or give them to it from outside: "
            "rlspo.envs.PostDecision(env, lambda observation, action: (post_decision_observation, reward)). "
            "rlspo.envs.check_post_decision_env(env) says what is missing."
        )


class NotSimulatableError(TypeError):
    """An environment or one of its wrappers cannot be captured, branched and restored.

    :param what: the environment or wrapper, by name
    :param why: the reason, and a specific remedy if there is one
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(
            f"{what} cannot be simulated: {why}. What can: gymnasium's MuJoCo tasks, Atari games, environments with a method "
            "array_form() (rlspo's own have it), and plain Python environments that copy.deepcopy copies truly; inside "
            "gymnasium's and SB3's wrappers, alone, in a DummyVecEnv or a SyncVectorEnv. For an environment of your own: give "
            "it __deepcopy__, or array_form() for speed. For a wrapper: let it be a gymnasium ActionWrapper, "
            "ObservationWrapper or RewardWrapper with a class attribute simulated_state, the names of the attributes that it "
            "remembers, () for none; or give it a method simulated_layer(). rlspo.simulators.check_simulator(env) tests them."
        )


def _finite(array: np.ndarray) -> Any:
    """Which numbers float32, in which agents learn, can hold."""
    if array.dtype.kind != "f":
        return np.True_
    return np.isfinite(array) if array.itemsize <= 4 else np.abs(array) <= _LARGEST


def check_finite(
    observations: ArrayTree,
    rewards: np.ndarray,
    step: int,
    index: int | None = None,
    what: tuple[str, str] = ("an observation", "a reward"),
) -> None:
    """Stop on the first NaN or infinite observation or reward.

    :param observations: ``(n_envs, *obs_shape)``, or a dictionary of such arrays
    :param rewards: ``(n_envs,)``
    :param step: environment steps that each environment has taken so far, for the message
    :param index: the environment of all rows; None: row i is environment i
    :param what: names of both, for the message
    :raises InvalidRolloutError: with the environment's index and step
    """
    if all(_finite(array).all() for array in (rewards, *tree_leaves(observations))):
        return
    named = observations.items() if isinstance(observations, dict) else [("", observations)]
    for name, array in [*((f"{what[0]} {key}".rstrip(), value) for key, value in named), (what[1], rewards)]:
        finite = _finite(array)
        if not finite.all():
            row = int(np.flatnonzero(~finite.reshape(len(array), -1).all(axis=1))[0])
            what_is_wrong = "too large for float32" if np.isfinite(array[row]).all() else "NaN or infinite"
            raise InvalidRolloutError(
                f"Environment {row if index is None else index} returned {name} that is {what_is_wrong} at step {step}: "
                f"{array[row]}. The weights are as they were after the last update. Fix the environment, or clip its "
                "output; if the simulation itself diverged, ending the episode there usually helps."
            )


def shown(value: Any) -> str:
    """A value for a message: shortened, and without characters that control a terminal.

    >>> shown([64, 64]), shown("\\x1b[31m"), len(shown([[0] * 10**5] * 10**5)) < 2000
    ('[64, 64]', "'\\\\x1b[31m'", True)
    """
    return _SHORT.repr(value)


def printable(text: str) -> str:
    """Text of a file for a message: control characters of a terminal are shown as Python's escapes.

    >>> print(printable("\\x1b[31mred"))
    \\x1b[31mred
    """
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)


def check_number(name: str, value: Any, minimum: float = 0.0, maximum: float = float("inf"), positive: bool = False) -> float:
    """Check that ``value`` is a finite real number between ``minimum`` and ``maximum``.

    :param positive: zero is not allowed either
    :raises TypeError: for anything that is not a number, strings and booleans included
    :raises ValueError: for NaN, infinity or a number out of range
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} is {shown(value)} of type {type(value).__name__}; it must be a number, such as {name}=0.1.")
    if not np.isfinite(value) or not minimum <= value <= maximum or (positive and value == 0):
        allowed = f"between {minimum:g} and {maximum:g}" if np.isfinite(maximum) else f"of at least {minimum:g}"
        raise ValueError(f"{name} is {shown(value)}; it must be a finite number {'above 0' if positive else allowed}.")
    return float(value)


def check_fraction(name: str, value: Any) -> float:
    """Check that ``value`` is a number in [0, 1]."""
    return check_number(name, value, maximum=1.0)


def check_count(name: str, value: Any) -> int:
    """Check that ``value`` is a whole number of at least 1.

    :raises TypeError: for anything that is not an integer, ``64.0`` and ``"64"`` included
    :raises ValueError: for zero or less
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(
            f"{name} is {shown(value)} of type {type(value).__name__}; it must be a whole number, such as {name}=4."
        )
    if value < 1:
        raise ValueError(f"{name} is {shown(value)}; it must be a whole number of at least 1.")
    return int(value)


def check_layers(name: str, value: Any) -> list[int]:
    """Check that ``value`` is a list of widths of hidden layers, whole numbers.

    :raises TypeError: for anything else
    :raises ValueError: for a width below 1
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(
            f"{name} is {shown(value)}; it must be a list of widths, such as {name}=[64, 64], or [] for no hidden layer."
        )
    for width in value:
        if isinstance(width, bool) or not isinstance(width, int | np.integer) or width < 1:
            raise ValueError(
                f"{name} is {shown(value)}; its widths must be whole numbers of at least 1, such as {name}=[64, 64]."
            )
    return [int(width) for width in value]


def check_policy_kwargs(policy_class: type, given: Collection[str], aliases: Mapping[str, type]) -> None:
    """Check that a policy's constructor accepts these names.

    :param policy_class: to be built
    :param given: names in ``policy_kwargs``
    :param aliases: the agent's policies by name; the error names those that accept all arguments
    :raises TypeError: naming the unknown ones, the nearest valid ones, and all valid ones
    """
    names = constructor_arguments(policy_class)
    unknown = sorted(set(given) - names) if names is not None else []
    if names is None or not unknown:
        return
    names.discard("use_sde")  # the agent passes it on
    guesses = [guess for name in unknown if (guess := nearest(name, names))]
    hint = f" Did you mean {' and '.join(map(repr, guesses))}?" if guesses else ""
    others = policies_that_take(given, aliases)
    if others:
        hint = f" Policies that do: {', '.join(others)}."
    raise TypeError(
        f"policy_kwargs has {' and '.join(map(repr, unknown))}, which {policy_class.__name__} does not take.{hint} "
        f"It takes: {', '.join(sorted(names))}."
    )


def policies_that_take(given: Collection[str], aliases: Mapping[str, type]) -> list[str]:
    """Names of an agent's policies that accept all of these arguments."""
    return [alias for alias, cls in aliases.items() if set(given) <= (constructor_arguments(cls) or set())]


def constructor_arguments(policy_class: type) -> set[str] | None:
    """Names that its constructor takes, whose ``**kwargs`` are for the next class in line; None where it takes anything."""
    signature = signature_of(policy_class).without(["observation_space", "action_space", "lr_schedule"])
    return None if signature.open_ended else set(signature.parameters)


def check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Check that ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name} is {shown(value)}; it must be one of {', '.join(map(repr, allowed))}.")
    return str(value)


def nearest(given: str, allowed: Iterable[str]) -> str | None:
    """The allowed name most like the given one, ignoring case, or None where none is similar.

    >>> nearest("lerning_rate", ["learning_rate", "n_steps"])
    'learning_rate'
    """
    by_lower_case = {name.lower(): name for name in allowed}
    found = difflib.get_close_matches(str(given).lower(), by_lower_case, n=1)
    return by_lower_case[found[0]] if found else None


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """A sentence with the nearest allowed name, or else with all of them.

    >>> did_you_mean("lerning_rate", ["learning_rate", "n_steps"])
    "Did you mean 'learning_rate'?"
    >>> did_you_mean("qqq", ["learning_rate", "n_steps"])
    'Allowed: learning_rate, n_steps.'
    """
    names = sorted(set(allowed))
    guess = nearest(given, names)
    if guess is not None:
        return f"Did you mean {guess!r}?"
    return f"Allowed: {', '.join(names)}." if names else "None is allowed here."
