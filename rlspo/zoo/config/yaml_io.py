"""Reading and writing YAML: data only, never code."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import yaml

from rlspo.common.plain_yaml import EXPONENT, parse
from rlspo.zoo.config.atomic import write_text
from rlspo.zoo.errors import UserError

__all__ = ["parse", "read_mapping", "write"]


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, writing equal values twice instead of using anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write no anchors and aliases."""
        return True


# Text that looks like a number is quoted.
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+.0123456789"))


#: One command looks into the same files again and again, and reading a long one takes milliseconds.
_parsed = functools.lru_cache(maxsize=16)(parse)


def read_mapping(file: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    :raises UserError: if the file is missing, is not YAML, or holds something else than a mapping
    """
    try:
        data = copy.deepcopy(_parsed(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"Cannot read {file}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not plain YAML: {_in_one_line(error)}") from error
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise UserError(f"{file} must hold a mapping from names to settings, such as `CartPole-v1: {{n_timesteps: 1e5}}`.")
    return data


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).replace('in "<unicode string>", ', "at ").split())


def write(file: Path, data: Any, comment: str = "") -> None:
    """Write plain data, keys in the order given, whole or not at all.

    :param comment: one line above the data
    """
    head = f"# {comment}\n" if comment else ""
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=120)
    write_text(file, head + text)
