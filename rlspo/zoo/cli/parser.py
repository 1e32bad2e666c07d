"""The parser of all command lines of the zoo, the types of their values, and their error messages."""

from __future__ import annotations

import argparse
import contextlib
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from rlspo.common.errors import nearest
from rlspo.zoo.cli.rl_zoo3_flags import instead_of
from rlspo.zoo.config import literals, yaml_io
from rlspo.zoo.config.allowed import ALL
from rlspo.zoo.errors import UserError

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class Parser(argparse.ArgumentParser):
    """Keeps the layout of help texts, allows no abbreviated flags, and raises :class:`UserError` with the nearest flag.

    :param command: such as ``"train"``
    :param description: what the command does
    :param examples: shown below the flags
    :param usage: the line that begins the help, without ``rlspo``
    """

    def __init__(self, command: str, description: str, examples: str, usage: str) -> None:
        super().__init__(
            prog=f"rlspo {command}",
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            usage=f"rlspo {usage}",
        )

    def error(self, message: str) -> NoReturn:
        """Raise a :class:`UserError` with a hint at ``--help``."""
        raise UserError(f"{message}\nAll flags, with examples: {self.prog} --help")

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Read a command line.

        :raises UserError: for flags that do not exist or have values of the wrong form
        :raises SystemExit: after ``--help``
        """
        args, unknown = self.parse_known_args(_with_plain_trust(arguments))
        if not unknown:
            return args
        if not unknown[0].startswith("-"):
            hint = " Hyperparameters go after -params." if re.match(r"\w+:", unknown[0]) else ""
            self.error(f"{unknown[0]!r} belongs to no flag.{hint}")
        given = unknown[0].partition("=")[0]
        instead = instead_of(self.prog.removeprefix("rlspo "), given)
        if instead is not None:
            self.error(f"there is no flag {given}, which rl-baselines3-zoo has: {instead}.")
        flags = [flag for action in self._actions for flag in action.option_strings]
        guess = nearest(given, flags)
        self.error(f"there is no flag {unknown[0]!r}." + (f" Did you mean {guess}?" if guess else ""))


def add_trust(group: Any) -> None:
    """Add the flag ``--trust``."""
    group.add_argument(
        "--trust",
        nargs="?",
        action="append",
        default=[],
        const=ALL,
        metavar="MODULE",
        help="let files name classes of this module; without one: run whatever code the files of this call hold",
    )


def _with_plain_trust(arguments: Sequence[str]) -> list[str]:
    """The arguments with ``--trust`` as ``--trust=*`` where a flag or a path follows, and no module."""
    words = list(arguments)
    for place, word in enumerate(words):
        following = words[place + 1] if place + 1 < len(words) else ""
        package = (Path(following) / "__init__.py").is_file()  # beside the caller, as a module of its own often is
        if word == "--trust" and (not _MODULE.fullmatch(following) or (Path(following).exists() and not package)):
            words[place] = f"--trust={ALL}"
    return words


class Pairs(argparse.Action):
    """Collects ``key:value`` words into a mapping; values are YAML, or Python literals such as ``None`` and ``(1, 2)``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        pairs = dict(getattr(namespace, self.dest))
        for word in values or ():
            key, colon, text = str(word).partition(":")
            if not colon or not key.strip():
                raise UserError(f"{option_string}: {word!r} is not of the form key:value, such as learning_rate:3e-4.")
            try:
                pairs[key.strip()] = _value(text)
            except yaml.YAMLError as error:
                raise UserError(f"{option_string}: the value of {key!r} is not YAML: {text!r}.") from error
        setattr(namespace, self.dest, pairs)


def _value(text: str) -> Any:
    """A value as YAML; text that is a Python literal is read as such, as in rl-baselines3-zoo."""
    value = yaml_io.parse(text)
    if text.strip() == "None":
        return None
    if isinstance(value, str) and literals.looks_like_literal(text):
        with contextlib.suppress(ValueError):  # else it stays text, which the setting may accept
            return literals.read(value)
    return value


def whole_number(text: str) -> int:
    """A whole number, also written as ``1e6``."""
    try:
        number = float(text.replace("_", ""))
        if number.is_integer():
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, such as 100000 or 1e5")


def positive(text: str) -> int:
    """A whole number above 0."""
    number = whole_number(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be at least 1")
    return number


def seed(text: str) -> int:
    """A whole number from 0 to 2^31 - 1."""
    number = whole_number(text)
    if not 0 <= number < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} must be from 0 to {2**31 - 1}")
    return number


def drawn_seed(text: str) -> int | None:
    """As :func:`seed`, and -1 (None) for a random one."""
    try:
        return None if text.strip() == "-1" else seed(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; leave --seed out for a random one") from error


def threads(text: str) -> int | None:
    """As :func:`positive`, and -1 (None) for PyTorch's default."""
    return None if text.strip() == "-1" else positive(text)


def radius(text: str) -> float:
    """A finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, such as 0.075")
    return number


_MANY_HOURS = 100_000


def hours(text: str) -> float:
    """A number of hours, above 0 and at most 100,000."""
    try:
        number = radius(text)
        if number <= _MANY_HOURS:
            return number
    except argparse.ArgumentTypeError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours above 0, such as 8 or 0.5")


def draw_seed() -> int:
    """A random seed, for a run without a given one."""
    return secrets.randbelow(2**31)
