"""Finding exported agents: a folder, or ``AGENT/ENV`` among those of the user and those that come with rlspo."""

from __future__ import annotations

import os
from pathlib import Path

from rlspo.common.data import data_folders
from rlspo.common.errors import nearest
from rlspo.common.exports.folder import is_export
from rlspo.common.files import is_partial

#: Environment variable with folders of a user's own, separated as in ``PATH``.
VARIABLE = "RLSPO_AGENTS"


def agent_folders() -> list[Path]:
    """Where ``AGENT/ENV`` is looked for: the folders of ``RLSPO_AGENTS``, then those that come with rlspo."""
    own = [Path(each) for each in os.environ.get(VARIABLE, "").split(os.pathsep) if each]
    return [*(each for each in own if each.is_dir()), *data_folders("zoo/agents")]


def trained_agents() -> dict[str, Path]:
    """Folders of all trained agents by their names, such as ``"barpo/Hopper-v5"``; a user's own before rlspo's.

    >>> all((folder / "agent.json").is_file() for folder in trained_agents().values())
    True
    """
    found: dict[str, Path] = {}
    for place in agent_folders():
        for folder in sorted(place.glob("*/*")):
            if is_export(folder) and not is_partial(folder):
                found.setdefault(f"{folder.parent.name}/{folder.name}", folder)
    return found


def find_export(path: str | Path) -> Path:
    """The folder of an exported agent.

    :param path: the folder, or ``AGENT/ENV`` as in :func:`trained_agents`; slashes in the name of an environment may be
        written (``ppo/ALE/Pong-v5``). A folder of that path comes before the name
    :raises FileNotFoundError: if there is neither, with the nearest name
    """
    if is_export(Path(path)):
        return Path(path)
    known = trained_agents()
    agent, _, env = str(path).replace(os.sep, "/").partition("/")
    name = f"{agent}/{env.replace('/', '-')}"
    if name in known:
        return known[name]
    if Path(path).exists():
        raise FileNotFoundError(
            f"{path} is not the folder of an exported agent: it has no agent.json and weights.safetensors."
        )
    guess = nearest(name, known)
    hint = f" Did you mean {guess!r}?" if guess else ""
    names = f" Trained agents: {', '.join(sorted(known))}." if known else ""
    raise FileNotFoundError(f"There is no exported agent {str(path)!r}, neither a folder nor a trained agent.{hint}{names}")
