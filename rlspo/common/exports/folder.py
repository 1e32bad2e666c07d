"""The folder of an exported agent: ``agent.json``, ``weights.safetensors``, and check sums of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from rlspo.common.errors import IncompatibleModelError, NotExportableError, shown

FORMAT, VERSION = "rlspo agent", 1
AGENT, WEIGHTS, ONNX = "agent.json", "weights.safetensors", "policy.onnx"
#: What the folder of an agent may hold: these two, and what :mod:`rlspo.zoo` writes beside them.
FILES = (
    AGENT,
    WEIGHTS,
    ONNX,
    "evaluation.json",
    "attacks.json",
    "curve.csv",
    "episode.json",
    "episode.safetensors",
    "seeds.json",
)
_MOST_BYTES = 2**24  # of JSON
#: What ``agent.json`` says.
_PARTS: dict[str, type | tuple[type, ...]] = {
    "agent": str,
    "policy": str,
    "observation_space": dict,
    "action_space": dict,
    "n_envs": int,
    "num_timesteps": int,
    "settings": dict,
    "state": dict,
    "normalize": (dict, type(None)),
    "environment": (dict, type(None)),
    "provenance": dict,
}


def is_export(path: Path) -> bool:
    """Whether a folder holds an exported agent."""
    return (path / AGENT).is_file() and (path / WEIGHTS).is_file()


def check_place(folder: Path, entry: bool = False) -> None:
    """Check that a folder may be written: it does not exist, is empty, or holds an exported agent and nothing else.

    :param entry: the agent there may have its evaluation beside it, which is written anew
    :raises FileExistsError: for anything else, of which nothing is overwritten
    """
    if not folder.is_dir():
        if folder.exists():
            raise FileExistsError(
                f"{folder} is a file, and is not overwritten. An agent is exported to a folder: name another."
            )
        return
    there = {each.name for each in folder.iterdir()}
    others = sorted(there - {*FILES} | {each.name for each in folder.iterdir() if not each.is_file()})
    if others:
        what = f"holds {', '.join(others[:3])}" + (" and more" if len(others) > 3 else "")
    elif there and not is_export(folder):
        what = f"has no {AGENT} and {WEIGHTS}"
    elif there - {AGENT, WEIGHTS, ONNX} and not entry:
        raise FileExistsError(
            f"{folder} holds an agent with its evaluation, which would be lost. Name another folder, or export with "
            "--evaluate."
        )
    else:
        return
    raise FileExistsError(f"{folder} {what}: it is not an exported agent, and is not overwritten. Name another folder.")


def write_folder(folder: Path, data: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write both files.

    :param folder: exists
    :param data: plain data, what the agent is
    :param tensors: by name
    :raises NotExportableError: for tensors that hold NaN or infinity; nothing is written
    """
    if broken := _broken(tensors):
        raise NotExportableError(f"{broken} holds NaN or infinity: the training diverged, and no action follows from it.")
    weights = save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    whole = {"format": FORMAT, "version": VERSION, **data, "sha256": {WEIGHTS: hashlib.sha256(weights).hexdigest()}}
    whole["sha256"][AGENT] = _sum_of(whole)
    (folder / WEIGHTS).write_bytes(weights)
    (folder / AGENT).write_text(json.dumps(whole, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _sum_of(data: Mapping[str, Any]) -> str:
    """Of everything in ``agent.json`` but this very sum; layout does not count."""
    sums = {name: value for name, value in data["sha256"].items() if name != AGENT}
    text = json.dumps({**data, "sha256": sums}, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_description(folder: Path) -> dict[str, Any]:
    """What ``agent.json`` says, checked to be of this format, and unchanged.

    :raises IncompatibleModelError: for another format, a newer version, or a changed file
    """
    file = folder / AGENT
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
        data = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError(f"it does not begin with the format {FORMAT!r}")
    except FileNotFoundError as error:
        raise IncompatibleModelError(f"{folder} is not an exported agent: it has no {AGENT}.") from error
    except (ValueError, RecursionError) as error:
        raise IncompatibleModelError(f"{file} cannot be read as an exported agent: {error}.") from error
    if data.get("version") != VERSION:
        raise IncompatibleModelError(
            f"{file} is of version {shown(data.get('version'))} of the format; this rlspo reads version {VERSION}. "
            "Install a newer rlspo."
        )
    sums = data.get("sha256")
    try:
        unchanged = isinstance(sums, dict) and sums.get(AGENT) == _sum_of(data)
    except (ValueError, RecursionError):
        unchanged = False
    if not unchanged:
        _changed(file)
    for name, kinds in _PARTS.items():
        if name not in data or not isinstance(data[name], kinds):
            raise IncompatibleModelError(f"{file} has no proper {name!r}. It was not written by model.export().")
    return data


def read_tensors(folder: Path, data: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors, checked to be those that were written with ``agent.json``.

    :param data: from :func:`read_description`
    :raises IncompatibleModelError: for a missing, changed or damaged file
    """
    file = folder / WEIGHTS
    try:
        content = file.read_bytes()
    except OSError as error:
        raise IncompatibleModelError(f"{folder} is not an exported agent: {WEIGHTS} cannot be read ({error}).") from error
    if hashlib.sha256(content).hexdigest() != data["sha256"].get(WEIGHTS):
        _changed(file)
    try:
        tensors = load_tensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise IncompatibleModelError(f"{file} cannot be read: {error}.") from error
    if broken := _broken(tensors):
        raise IncompatibleModelError(f"{file}: {broken} holds NaN or infinity, from which no action follows.")
    return tensors


def _broken(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """The name of a tensor that holds what is no number."""
    return next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)


def _changed(file: Path) -> NoReturn:
    raise IncompatibleModelError(
        f"{file} is not what was exported: its check sum is another. It was changed, damaged or half copied. Copy the folder "
        "again, or export the agent anew."
    )


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
