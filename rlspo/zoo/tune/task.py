"""A study as a command line describes it, checked before anything is made."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from rlspo.zoo.config import yaml_io
from rlspo.zoo.config.allowed import Allowed, check_settings
from rlspo.zoo.config.hyperparams import choose_block, find_file
from rlspo.zoo.envs.recipe import families, find_spec
from rlspo.zoo.errors import UserError
from rlspo.zoo.train.attackable import check_attack
from rlspo.zoo.train.plan import Plan, make_plan
from rlspo.zoo.tune.budget import warning_of
from rlspo.zoo.tune.references import Reference, find_references, place, read_references
from rlspo.zoo.tune.settings import StudyFolder, StudySettings
from rlspo.zoo.tune.space import SearchSpace, find_space
from rlspo.zoo.tune.storage import only_one, open_storage
from rlspo.zoo.tune.study import Study
from rlspo.zoo.tune.training import EvaluationProtocol

_OF_TRAINING = (
    "algo",
    "env",
    "n_timesteps",
    "hyperparams",
    "env_kwargs",
    "eval_env_kwargs",
    "conf_file",
    "gym_packages",
    "trust",
    "vec_env",
    "device",
)


@dataclass(frozen=True)
class Task:
    """A study that can begin or go on.

    :param name: of the study
    :param args: the parsed command line
    :param folder: of what the study leaves
    :param stored: the block that the search begins from, as it stands or stood in the agent's file
    :param base: what ``rlspo train`` would have parsed
    :param plan: of one training
    :param space_file: where the search space was read
    :param space_name: the file that it was written in, for the record
    :param space: what is searched
    :param references: known settings that are trials, too; empty for none
    :param blocks: these as they stand in their file
    :param queued: whether it is one of a queue
    """

    name: str
    args: argparse.Namespace
    folder: StudyFolder
    stored: dict[str, Any]
    base: dict[str, Any]
    plan: Plan
    space_file: Path
    space_name: str
    space: SearchSpace
    references: dict[str, Reference]
    blocks: dict[str, dict[str, Any]] | None
    queued: bool = False
    warnings: tuple[tuple[str, str], ...] = ()

    @property
    def env_id(self) -> str:
        """The full id of the environment."""
        return find_spec(self.args.env, self.args.gym_packages).id

    @property
    def families(self) -> list[str]:
        """Blocks that serve the environment where it has none of its own."""
        return families(find_spec(self.args.env, self.args.gym_packages))

    @contextmanager
    def opened(self) -> Iterator[Study]:
        """The study in Optuna, for this program alone.

        :raises UserError: if another program is at work on it, or it began with other settings
        """
        folder, args = self.folder, self.args
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--log-folder: cannot make {folder.path} ({error.strerror}). Choose another folder.") from error
        with only_one(folder):
            storage = open_storage(args.storage, folder)
            shared = args.storage is not None
            study = Study(self.name, storage, folder, self.settings(), self.space, self.references, shared)
            if not folder.base.is_file():
                comment = "The settings that the study began from; they do not change."
                yaml_io.write(folder.base, {self.env_id: self.stored}, comment)
            if self.blocks is not None and not folder.references.is_file():
                yaml_io.write(folder.references, {self.env_id: self.blocks}, "Known settings that are trials of the study.")
            if not folder.space.is_file():  # last: what has a space has begun
                block = yaml_io.read_mapping(self.space_file)[self.space.block]
                yaml_io.write(folder.space, {self.env_id: block}, "What the study searches.")
            yield study

    def settings(self) -> StudySettings:
        """What must not change while the study lasts."""
        args, config = self.args, self.plan.config
        block: dict[str, Any] = {
            "settings": config.settings.model_dump(mode="json"),
            "agent": config.agent,
            "eval": config.eval_env_kwargs,
        }
        del block["settings"]["provenance"]
        by_itself = replace(self.plan.recipe, vec_env="auto").decided(config.settings.n_envs).vec_env
        if args.vec_env != "auto" and {args.vec_env, by_itself} != {"dummy"}:
            block["vec_env"] = config.vec_env
        return StudySettings(
            algo=config.algo,
            env=config.env,
            n_timesteps=config.settings.n_timesteps,
            seed=args.seed,
            n_seeds=args.n_seeds,
            sampler=args.sampler,
            pruner=args.pruner,
            n_startup_trials=args.n_startup_trials,
            space=self.space.fingerprint(),
            block=block,
            protocol=EvaluationProtocol(
                args.n_evaluations, args.eval_episodes, args.final_episodes, args.attack, args.attack_epsilon
            ),
            references=self.blocks,
        )


def make_task(args: argparse.Namespace, folder: Path | None = None) -> Task:
    """Check a study.

    :param args: the parsed command line
    :param folder: of a study of a queue, which goes on with the space and the known settings that it began with; None for
        any other, whose files must say the same as they did then
    :raises UserError: for anything that could not be used
    """
    algo = args.algo if "." in args.algo else args.algo.lower()
    name = args.study_name or f"{algo}_{args.env.rpartition(':')[2].replace('/', '-')}"
    left = StudyFolder(folder or args.log_folder / "tune" / name)
    base = {key: getattr(args, key) for key in _OF_TRAINING}
    base |= {"seed": args.seed, "trained_agent": None}
    warnings: tuple[tuple[str, str], ...] = ()
    if left.base.is_file():
        if folder is None and args.conf_file is not None:
            warnings = _of_another_beginning(base, left.base)
        base["conf_file"] = left.base
    plan = make_plan(argparse.Namespace(**base))
    if args.attack is not None:
        try:
            check_attack(args.attack, plan)
        except UserError as error:
            raise UserError(f"--attack: {error}") from error
    stored = _stored_block(plan, base["conf_file"])
    env = find_spec(args.env, args.gym_packages)
    begun = folder is not None and left.space.is_file()
    if begun and not (left.journal.is_file() and left.journal.stat().st_size):
        raise UserError(
            f"{left.path}: the study has begun, but its trials are gone: {left.journal.name} is missing or empty. Restore "
            "it, such as from a commit (does git ignore *.log?), or remove the folder to begin anew."
        )
    kind = _kind(algo, plan.cls, args.conf_file)
    space_name = f"{kind}.space.yml" if args.space is None else args.space.name
    space_file = left.space if begun else find_space(kind, plan.cls, args.space)
    in_file = yaml_io.read_mapping(space_file)
    check_settings(in_file, str(space_file), Allowed.of(args))
    space = SearchSpace.read(space_file, choose_block(space_file, in_file, env.id, families(env))).pinned(args.hyperparams)
    space.check(plan.cls, plan.config.settings.policy)
    references, blocks = {}, None
    if args.references is not None:
        given = args.references if isinstance(args.references, Path) else None
        file = left.references if begun and left.references.is_file() else find_references(algo, plan.cls, given)
        blocks = read_references(file, env.id, families(env))
        references = place(blocks, file, base, plan, space)
    base["conf_file"] = left.base  # written before anything is trained
    whole = {**plan.config.agent, "n_envs": plan.config.settings.n_envs}
    warnings += warning_of(space, whole, plan.config.settings.n_timesteps)
    if args.pruner == "wilcoxon" and args.n_seeds == 1:
        warnings += (("pruner", "wilcoxon gives trials up between their seeds. With --n-seeds 1 it gives up none."),)
    queued = folder is not None
    return Task(name, args, left, stored, base, plan, space_file, space_name, space, references, blocks, queued, warnings)


def _of_another_beginning(base: dict[str, Any], began: Path) -> tuple[tuple[str, str], ...]:
    """A warning where ``--conf-file`` does not say what the study began from, which it goes on with."""
    given = make_plan(argparse.Namespace(**base))
    stored = _stored_block(given, base["conf_file"])
    before = _stored_block(make_plan(argparse.Namespace(**{**base, "conf_file": began})), began)
    keys = [key for key in {**stored, **before} if key != "provenance" and stored.get(key) != before.get(key)]
    if not keys:
        return ()
    differ = ", ".join(f"{key} {stored.get(key)!r} (in the study {before.get(key)!r})" for key in keys[:5])
    text = (
        f"The study goes on with the settings that it began from, {began}, and not with those of {base['conf_file']}: "
        f"{differ}. For a search that begins from these give another --study-name."
    )
    return (("settings", text),)


def _kind(algo: str, cls: type[BaseAlgorithm], conf_file: Path | None) -> str:
    """Whose search space it is: the agent's, or that of ``ppo_lstm`` after ``--conf-file ppo_lstm.yml`` if there is one."""
    name = "" if conf_file is None else conf_file.stem
    return name if name.startswith(f"{algo}_") and find_file(f"{name}.space", cls) is not None else algo


def _stored_block(plan: Plan, conf_file: Path | None) -> dict[str, Any]:
    """The block that a plan was made from, as it stands in its file."""
    file = find_file(plan.config.algo, plan.cls, conf_file)
    return {} if file is None else dict(yaml_io.read_mapping(file)[plan.config.source.block])
