"""Finding an agent's YAML file of hyperparameters, choosing the block for an environment, and checking every key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from rlspo.common.data import data_folders
from rlspo.common.errors import did_you_mean, policies_that_take
from rlspo.common.signatures import signature_of
from rlspo.zoo.config import yaml_io
from rlspo.zoo.config.action_noise import check_noise
from rlspo.zoo.config.allowed import Allowed, check_settings
from rlspo.zoo.config.convert import arguments, imported, literal, merged
from rlspo.zoo.config.schema import Settings
from rlspo.zoo.config.signatures import check_names, check_value
from rlspo.zoo.errors import UserError

#: Arguments of every agent that flags set, and the flag.
BY_FLAG = {"device": "--device", "seed": "--seed", "tensorboard_log": "--tensorboard-log", "verbose": "--verbose"}
#: Source of settings where there is no file.
COMMAND_LINE = "the command line"
_NOT_SETTINGS = ("policy", "env", "_init_setup_model", *BY_FLAG)
#: Lists of classes, which the command line replaces whole.
_PIECES = ("env_wrapper", "vec_env_wrapper", "callback")
_GIVEN_BY_AGENT = ("observation_space", "action_space", "lr_schedule", "use_sde")


@dataclass(frozen=True)
class Hyperparameters:
    """The hyperparameters of a run.

    :param file: the YAML file they came from; None for a class without one, where all comes from the command line
    :param block: the block in it
    :param settings: the keys that the zoo reads
    :param policy: the policy, by short name or as a class
    :param agent: arguments of the agent as written, plain data
    :param agent_arguments: the same, ready for the call: schedules and classes built
    :param where: from a key to its source, for messages
    """

    file: Path | None
    block: str
    settings: Settings
    policy: str | type[BasePolicy]
    agent: dict[str, Any]
    agent_arguments: dict[str, Any]
    where: Callable[[str], str]


def find_file(algo: str, cls: type[BaseAlgorithm], conf_file: Path | None = None) -> Path | None:
    """The YAML file of an agent.

    A file named by the user comes first: a path, or the name of one that comes with the agent's package (``ppo_lstm.yml``).
    Otherwise it is ``hyperparams/<algo>.yml`` inside the package (an installed wheel) or beside it (a checkout), or beside a
    module alone. An agent named by the dotted path of its class needs none.

    :param algo: the agent's name
    :param cls: the agent
    :param conf_file: the user's file
    :raises UserError: if there is none
    """
    if conf_file is not None and conf_file.is_file():
        return conf_file
    name = f"{algo}.yml" if conf_file is None else conf_file.name
    if conf_file is None or conf_file == Path(name):
        for folder in data_folders("hyperparams", cls.__module__):
            if (folder / name).is_file():
                return _relative(folder / name)
    if conf_file is not None:
        raise UserError(f"--conf-file: there is no file {conf_file}.")
    if "." in algo:
        return None
    package = cls.__module__.partition(".")[0]
    raise UserError(
        f"Agent {algo!r} has no hyperparameters of its own (no hyperparams/{algo}.yml in or beside {package!r}). "
        "Give a file: --conf-file my.yml"
    )


def choose_block(file: Path, blocks: Mapping[str, Any], env_id: str, families: Sequence[str]) -> str:
    """The block for an environment: its own, else that of its family, else ``default``.

    :param families: names of such blocks, see :func:`rlspo.zoo.envs.recipe.families`

    :raises UserError: if there is none of these
    """
    for name in [env_id, *families, "default"]:
        if name in blocks:
            block = blocks[name]
            if not isinstance(block, dict) or not all(isinstance(key, str) for key in block):
                raise UserError(f"{file}, block {name!r} must be a mapping from names to values, not {block!r:.200}.")
            return name
    raise UserError(f"{file} has neither a block {env_id!r} nor a block 'default'; its blocks: {', '.join(blocks)}.")


def other_versions(blocks: Mapping[str, Any], env_id: str) -> list[str]:
    """Blocks for other versions of the same environment, such as ``Hopper-v5`` for ``Hopper-v4``."""
    stem = env_id.rpartition("-v")[0]
    return [name for name in blocks if stem and name != env_id and name.rpartition("-v")[0] == stem]


def resolve(
    cls: type[BaseAlgorithm],
    file: Path | None,
    env_id: str,
    families: Sequence[str],
    overrides: Mapping[str, tuple[Any, str]],
    needs_policy: bool = True,
    allowed: Allowed | None = None,
) -> Hyperparameters:
    """Read, override and check the hyperparameters of a run.

    :param cls: the agent
    :param file: its YAML file; None for an empty block
    :param families: blocks for an environment without its own
    :param overrides: key to the value that replaces it and its flag; mappings are merged key by key
    :param needs_policy: False for a saved agent, whose policy is saved with it: the block may leave it out
    :param allowed: what the file may name; None for classes of rlspo and SB3 only
    :raises UserError: for a key that does not exist, a value of the wrong type or a name that may not be imported, naming
        file, block and key
    """
    blocks = {env_id: {}} if file is None else yaml_io.read_mapping(file)
    block = choose_block(file or Path(), blocks, env_id, families)
    place = COMMAND_LINE if file is None else f"{file}, block {block!r}"

    def where(key: str) -> str:
        return overrides[key][1] if key in overrides else place

    agent_signature = signature_of(cls).without(_NOT_SETTINGS)
    setting_types = Settings.annotations()
    changes = plain_block(cls, {key: value for key, (value, _) in overrides.items()}, where)
    in_file = plain_block(cls, blocks[block], lambda _: place)
    check_settings(in_file, place, allowed or Allowed())
    values = {**merged(in_file, changes), **{key: changes[key] for key in _PIECES if key in changes}}
    _check_keys(values, [*setting_types, *agent_signature.parameters], agent_signature.open_ended, cls.policy_aliases, where)
    settings = {
        key: check_value(key, values[key], annotation, where(key))
        for key, annotation in setting_types.items()
        if key in values
    }
    if not needs_policy:
        settings.setdefault("policy", next(iter(cls.policy_aliases)))
    for required, flag in (("n_timesteps", "-n"), ("policy", "-params policy:MlpPolicy")):
        if required not in settings:
            no_file = " No file of settings for this agent was found." if file is None else ""
            raise UserError(f"{place}: the key {required!r} is missing; add it, or give {flag}.{no_file}")
    agent = {key: value for key, value in values.items() if key not in setting_types}
    settings["normalize"] = _with_gamma(settings.get("normalize", False), agent.get("gamma"))
    agent_arguments = arguments(agent, agent_signature, where)
    policy = policy_class(cls, settings["policy"], where("policy"))
    if agent_arguments.get("policy_kwargs"):
        signature = signature_of(policy).without(_GIVEN_BY_AGENT)
        inside = f"{where('policy_kwargs')}: policy_kwargs"
        _check_policy(agent_arguments["policy_kwargs"], policy, cls.policy_aliases, inside)
        agent_arguments["policy_kwargs"] = arguments(agent_arguments["policy_kwargs"], signature, lambda _: inside)
    of_zoo = Settings(**settings)
    check_noise(of_zoo, cls, where("noise_type"))
    return Hyperparameters(
        file=file,
        block=block,
        settings=of_zoo,
        policy=policy if "." in settings["policy"] else settings["policy"],
        agent=agent,
        agent_arguments=agent_arguments,
        where=where,
    )


def plain_block(cls: type[BaseAlgorithm], block: Mapping[str, Any], where: Callable[[str], str] = str) -> dict[str, Any]:
    """A block with its Python literals read (:func:`rlspo.zoo.config.convert.literal`), so that it can be merged with another.

    :param where: source of a key, for messages
    :raises UserError: for Python that is not a literal
    """
    types = {name: parameter.annotation for name, parameter in signature_of(cls).parameters.items()} | Settings.annotations()
    return {key: literal(key, value, types.get(key, Any), where(key)) for key, value in block.items()}


def _check_policy(
    given: Mapping[str, Any], policy: type[BasePolicy], policies: Mapping[str, type[BasePolicy]], where: str
) -> None:
    """Refuse arguments that the chosen policy does not accept, but others do.

    :raises UserError: with the policies that accept them
    """
    takers = policies_that_take(given, policies)
    if takers and not policies_that_take(given, {"this": policy}):
        raise UserError(f"{where}: {policy.__name__} does not take all of it. Give policy: {' or '.join(takers)}.")


def _with_gamma(normalize: bool | dict[str, Any], gamma: Any) -> bool | dict[str, Any]:
    """``VecNormalize`` scales rewards by discounted returns: it gets the agent's discount unless it has its own."""
    if not normalize or gamma is None:
        return normalize
    return {"gamma": gamma, **(normalize if isinstance(normalize, dict) else {})}


def policy_class(cls: type[BaseAlgorithm], name: str, where: str) -> type[BasePolicy]:
    """The policy of an agent by its short name or dotted path.

    :raises UserError: for a name that the agent does not have
    """
    found = imported(name, f"{where}: policy") if "." in name else cls.policy_aliases.get(name)
    if found is None:
        raise UserError(f"{where}: {cls.__name__} has no policy {name!r}. {did_you_mean(name, cls.policy_aliases)}")
    if not (isinstance(found, type) and issubclass(found, BasePolicy)):
        raise UserError(f"{where}: policy {name!r} is not a policy class.")
    return found


def agent_defaults(cls: type[BaseAlgorithm]) -> dict[str, Any]:
    """Defaults of the arguments of an agent that a block may set."""
    parameters = signature_of(cls).without(_NOT_SETTINGS).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


def _check_keys(
    values: Mapping[str, Any],
    allowed: list[str],
    open_ended: bool,
    policies: Mapping[str, type[BasePolicy]],
    where: Callable[[str], str],
) -> None:
    """Refuse unknown keys, and keys that belong to a flag or to the policy."""
    for key in values:
        if key in BY_FLAG:
            raise UserError(f"{where(key)}: {key!r} is not a hyperparameter; give {BY_FLAG[key]} on the command line.")
        if key not in allowed and (takers := policies_that_take([key], policies)):
            raise UserError(
                f"{where(key)}: {key!r} is a setting of the policy, and belongs in policy_kwargs: -params "
                f"'policy_kwargs:{{{key}: ...}}'. Policies that take it: {', '.join(takers)}."
            )
    if not open_ended:
        check_names(values, allowed, where)


def _relative(path: Path) -> Path:
    """A path relative to the current folder, where it lies inside."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
