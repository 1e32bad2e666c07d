"""Policies written for SB3, taken as they stand: their networks with this package's functional methods."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from rlspo.policies.functional import Functional

#: Where methods are defined that agree with each other.
_KNOWN = ("rlspo.", "stable_baselines3.")


def adopted(policy_class: Any, twins: Mapping[type, type]) -> Any:
    """The class to build for a policy class of SB3 or a subclass of one; any other class as it is.

    :param twins: from SB3's classes to those of rlspo that take their place; the first is the base of the others
    """
    if not isinstance(policy_class, type) or issubclass(policy_class, Functional):
        return policy_class
    if policy_class in twins:
        return twins[policy_class]
    base, twin = next(iter(twins.items()))
    # What SB3's variants add to their base (which features extractor) a subclass has from them.
    return _with_functional_side(policy_class, twin) if issubclass(policy_class, base) else policy_class  # type: ignore[arg-type]


@functools.cache
def _with_functional_side(policy_class: type, twin: type) -> type:
    # The user's class first: it builds the networks, and what its constructor passes on reaches the twin.
    about = {"__module__": policy_class.__module__, "__doc__": policy_class.__doc__, "written_for_sb3": policy_class}
    return type(policy_class.__name__, (policy_class, twin), about)


def own_methods(cls: type, names: Sequence[str]) -> list[str]:
    """Which of these methods are a user's own."""
    return [name for name in names if not getattr(getattr(cls, name, None), "__module__", "rlspo.").startswith(_KNOWN)]


def check_consistent(cls: type, for_users: Sequence[str], functional: Sequence[str], remedy: str) -> None:
    """Refuse a class that says anew what it computes in methods that losses do not call: they would learn something else.

    :param for_users: methods of SB3's that say it
    :param functional: methods that losses call, any of which the class may define instead
    :param remedy: what to do, a sentence
    :raises TypeError: naming the methods
    """
    own = own_methods(cls, for_users)
    if own and not own_methods(cls, functional):
        raise TypeError(
            f"{cls.__name__} defines its own {' and '.join(own)}, which rlspo's losses do not call: training would use "
            f"another network than acting. {remedy}"
        )


def check_complete(cls: type) -> None:
    """Refuse a class that says anew what policy or value are, and not what both are at once, or the reverse: acting would use
    another network than training.

    :raises TypeError: naming what is missing
    """
    apart, both = own_methods(cls, ("distribution_of", "values_of")), own_methods(cls, ("evaluation_of",))
    if bool(apart) != bool(both):
        raise TypeError(
            f"{cls.__name__} defines {' and '.join(apart or both)} without "
            f"{'evaluation_of' if apart else 'distribution_of or values_of'}, which losses use"
            f"{'' if apart else ' no less than acting uses these'}: training would learn another network than acts. Define "
            "evaluation_of(inputs), which returns both, beside distribution_of(inputs) and values_of(inputs); or override "
            "_distribution_at and _values, which all three build on."
        )
