"""Where an exported agent comes from: what its run says, without the places of one machine."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from rlspo.zoo.config.convert import plain
from rlspo.zoo.runs.folder import RunFolder
from rlspo.zoo.runs.saved_agent import SavedAgent

#: Flags of ``rlspo train`` that name places.
_PLACES = {"-f", "--log-folder", "--run-folder", "--tensorboard-log", "-tb"}


def environment_of(agent: SavedAgent) -> dict[str, Any] | None:
    """How the agent's environment is made, as :meth:`rlspo.common.exports.agents.Exportable.export` takes it."""
    if agent.export is not None:
        found: dict[str, Any] | None = agent.export.data["environment"]
        return found
    return {
        "id": agent.env,
        "env_kwargs": plain(agent.recipe.env_kwargs),
        "gym_packages": list(agent.recipe.gym_packages),
        "wrapping": {key: plain(value) for key, value in agent.wrapping.items() if value},
    }


def provenance_of(agent: SavedAgent) -> dict[str, Any]:
    """The run of an agent as plain data: command, seed, hyperparameters, versions; empty for a file alone."""
    if agent.export is not None:
        return {key: value for key, value in agent.export.data["provenance"].items() if key != "versions"}
    if agent.config is None or agent.folder is None:
        return {}
    config = agent.config
    said = {
        "command": command_in(agent.folder),
        "seed": config.seeds.seed,
        "model": agent.which,
        "hyperparameters": {
            "file": Path(config.source.file).name,
            "block": config.source.block,
            "overridden": config.source.overridden,
            "provenance": config.settings.provenance,
        },
        "trained_with": _versions_in(agent.folder),
    }
    return {key: value for key, value in said.items() if value is not None}


def command_in(folder: Path) -> str | None:
    """The command that trained a run, ``rlspo train ...``, without the folders that it named; None where it is not known."""
    file = RunFolder.existing(folder).path / "command.txt"
    if not file.is_file():
        return None
    words = shlex.split(file.read_text(encoding="utf-8"))
    start = next((at for at, word in enumerate(words) if word == "rlspo.zoo.train" or word == "train"), None)
    if start is None:
        return None
    kept, skip = [], False
    for word in words[start + 1 :]:
        if skip:
            skip = False
        elif word.partition("=")[0] in _PLACES:
            skip = "=" not in word
        else:
            kept.append(word)
    return shlex.join(["rlspo", "train", *kept])


def _versions_in(folder: Path) -> dict[str, Any] | None:
    file = folder / "versions.json"
    if not file.is_file():
        return None
    found = json.loads(file.read_text(encoding="utf-8"))
    packages = {name: version for name, version in found.get("packages", {}).items() if version is not None}
    state = (found.get("git") or {}).get("rlspo")
    commit = None if state is None else state["commit"] + ("-dirty" if state["dirty"] else "")
    return {"python": found.get("python"), **packages, **({} if commit is None else {"commit": commit})}
