"""Which names a file may hold. A name in YAML leads to an import and a call, so a file is code unless its names are checked.

Files may name what is made for this purpose: wrappers and callbacks of stable-baselines3, gymnasium and rlspo, and
agents that a package has registered. Anything else must be named on the command line of the same call, as ``--gym-packages
MODULE`` or ``--trust MODULE``. Nothing is imported to find out.
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlspo.common.registry import agent_packages, is_module_name
from rlspo.zoo.config import literals
from rlspo.zoo.config.ownership import owned
from rlspo.zoo.errors import UserError

#: ``--trust`` without a module: everything that the files of this call hold.
ALL = "*"
#: Modules of which a file may name classes.
_CLASSES = (
    "gymnasium.wrappers",
    "rlspo",
    "sb3_contrib",
    "stable_baselines3",
    "torch.nn",
    "torch.optim",
)
#: Modules of environments that come with what rlspo needs.
_ENVIRONMENTS = ("ale_py", "gymnasium", "rlspo")
#: Settings whose values are a task of the environment, not names of classes.
_PLAIN = {"env_kwargs", "eval_env_kwargs", "monitor_kwargs", "normalize"}
#: Settings that are free text.
_PROSE = {"provenance"}
#: Settings that name classes, besides all that end in ``_class``.
_NAMING = {"env_wrapper", "vec_env_wrapper", "callback", "policy"}
#: Arguments of wrappers and callbacks that name what they write.
_WRITES = {
    "best_model_save_path",
    "filename",
    "folder",
    "log_dir",
    "log_path",
    "monitor_dir",
    "name_prefix",
    "save_path",
    "video_folder",
}
_CLASS = re.compile(r"[A-Za-z_][\w.]*\.[A-Z]\w*")
_NUMBER = re.compile(r"-[\d.][\w.+-]*")


@dataclass(frozen=True)
class Allowed:
    """What the user has named on the command line of this call.

    :param modules: by ``--gym-packages`` and ``--trust``; :data:`ALL` among them allows everything
    :param own: run folders that this process has made
    """

    modules: tuple[str, ...] = ()
    own: tuple[Path, ...] = ()

    @classmethod
    def of(cls, args: argparse.Namespace) -> Allowed:
        """From a parsed command line."""
        modules = (*(getattr(args, "trust", None) or ()), *(getattr(args, "gym_packages", None) or ()))
        return cls(modules)

    @property
    def everything(self) -> bool:
        """Whether the user trusts all files of this call."""
        return ALL in self.modules

    def owns(self, folder: Path | None) -> bool:
        """Whether code in a run folder may be run: this user has made it, or everything is trusted.

        :param folder: None for files outside of run folders
        """
        return self.everything or (folder is not None and (folder in self.own or owned(folder)))

    def module(self, name: str) -> bool:
        """Whether the user named a module, or one above it."""
        return self.everything or _within(name, self.modules)


def _within(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def import_trusted(args: argparse.Namespace) -> None:
    """Import the modules of ``--trust``, so that classes in them are found where a file names them.

    :raises UserError: for one that cannot be imported
    """
    for module in getattr(args, "trust", None) or ():
        if module == ALL:
            continue
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(f"--trust: cannot import {module!r}: {error}.") from error


def check_settings(settings: Mapping[str, Any], where: str, allowed: Allowed) -> None:
    """Refuse names in a block of settings, or in any part of one, that may not be imported.

    :param settings: plain data, as in the file
    :param where: the file and block, for the message
    :raises UserError: with the code that would have been run, and how to allow it
    """
    for key, value in settings.items():
        place = f"{where}: {key}"
        if key in _PROSE:
            continue
        if key in _PLAIN:
            for text in _texts(value):
                check_env(text, place, allowed)
            continue
        named = [text for name, part in [(key, value), *_pairs(value)] for text in _class_names(name, part)]
        for text in [*named, *filter(is_module_name, [str(key), *_texts(value)])]:
            if "." in text and not _may_be_named(text, allowed):
                _refuse(place, f"would import {text.rpartition('.')[0]!r} and call {text!r}", text)
        _check_writing(value, place, allowed)


def _class_names(key: str, value: Any) -> list[str]:
    """Texts that are used as names of classes; of wrappers and callbacks without their arguments."""
    if key in _NAMING:
        listed = value if isinstance(value, list) else [value]
        return [str(name) for piece in map(_read, listed) for name in (piece if isinstance(piece, Mapping) else [piece])]
    return list(_texts(value)) if key.endswith("_class") else []


def _may_be_named(path: str, allowed: Allowed) -> bool:
    """Whether a dotted path may stand in a file."""
    module = path.rpartition(".")[0]
    if allowed.module(module):
        return True
    ours = _within(module, (*_CLASSES, *agent_packages())) and not _within(module, ("rlspo.zoo",))
    return ours and _CLASS.fullmatch(path) is not None and "__main__" not in module


def check_kind(path: str, found: Any, where: str, kinds: tuple[type, ...]) -> None:
    """Refuse a function, and a class of another kind: a logger, for example, opens a file when it is made.

    :param path: as written in the file
    :param found: the object that it names
    """
    if not (isinstance(found, type) and issubclass(found, kinds)):
        wanted = " or ".join(f"{kind.__module__.partition('.')[0]}'s {kind.__name__}" for kind in kinds)
        raise UserError(f"{where}: {path} is not a {kinds[0].__name__}: name a class that extends {wanted}.")


def _check_writing(value: Any, where: str, allowed: Allowed) -> None:
    """Refuse arguments that would write files to paths that a file chooses."""
    if allowed.everything:
        return
    for name, argument in _pairs(value):
        if name in _WRITES and argument is not None:
            raise UserError(
                f"{where}: {name}: {argument} would be written because a file asks for it. Leave it out, set it by a flag, "
                "with -params, or give --trust to trust the file."
            )


def check_env(env_id: str, where: str, allowed: Allowed) -> None:
    """Refuse an environment's id that names a module to import, such as ``my_package:MyEnv-v0``."""
    module = env_id.rpartition(":")[0]
    if module:
        check_packages([module], where, allowed)


def check_packages(modules: Sequence[str], where: str, allowed: Allowed) -> None:
    """Refuse modules that would be imported because a file names them."""
    for module in modules:
        if not allowed.module(module) and not _within(module, (*_ENVIRONMENTS, *agent_packages())):
            _refuse(where, f"would import {module!r}", module)


def check_words(words: Iterable[str], where: str) -> None:
    """Refuse text that would be read as a flag where a file becomes a command line.

    :raises UserError: naming it
    """
    for word in words:
        if word.startswith("-") and not _NUMBER.fullmatch(word):
            raise UserError(f"{where}: {word!r} begins like a flag, where none is allowed.")


def check_agent(name: str, where: str, allowed: Allowed) -> None:
    """Refuse an agent that is neither registered nor of SB3."""
    if "." in name and not _may_be_named(name, allowed):
        _refuse(where, f"would import {name.rpartition('.')[0]!r} for the agent {name!r}", name)


def _refuse(where: str, what: str, path: str) -> None:
    package = path.partition(".")[0]
    if not is_module_name(package):
        raise UserError(f"{where} {what}, and {package!r} is not the name of a module: write it as in Python's import.")
    raise UserError(
        f"{where} {what}, which is neither registered nor named on this command line. If you trust it: --trust {package}"
    )


def _read(value: Any) -> Any:
    """A value, or the data in it where it is text with a Python literal."""
    if not literals.looks_like_literal(value):
        return value
    try:
        return literals.read(value)
    except ValueError:
        return value  # it is refused where it is used


def _texts(value: Any) -> Iterator[str]:
    """All texts in plain data, keys included."""
    value = _read(value)
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """All keys and values in plain data."""
    value = _read(value)
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key), item
            yield from _pairs(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _pairs(item)
