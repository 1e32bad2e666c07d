"""The study in Optuna: opening and resuming it, asking for trials, and telling what came of them.

One process does all of this; workers only train. So nothing is asked, told or counted twice.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

import numpy as np
import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from rlspo.common.registry import agent_class
from rlspo.zoo.config.convert import plain
from rlspo.zoo.config.hyperparams import agent_defaults
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs.folder import code_state
from rlspo.zoo.tune.references import Reference
from rlspo.zoo.tune.samplers import make_pruner, make_sampler
from rlspo.zoo.tune.settings import StudyFolder, StudySettings
from rlspo.zoo.tune.space import SearchSpace
from rlspo.zoo.tune.storage import check_name
from rlspo.zoo.tune.training import Outcome

# Names of attributes: of a study,
_SETTINGS, _VERSIONS = "settings", "versions"
# and of a trial.
_OWNER, _CODE, _REFERENCE = "owner", "code", "reference"
_PARAMETERS, _SETTINGS_OF_TRIAL, _OUTCOMES, _REASON = "parameters", "hyperparameters", "outcomes", "reason"
_INTERRUPTED, _RETRY_OF, _ATTEMPT = "interrupted", "retry_of", "attempt"
#: Whose versions a result depends on.
PACKAGES = ("rlspo", "stable-baselines3", "torch", "gymnasium", "optuna")
#: Times that settings are tried when their own process is killed; a study that is stopped as a whole does not count.
MAX_ATTEMPTS = 3


class Study:
    """A study of Optuna, with what rlspo asks of it.

    :param name: of the study
    :param storage: where its trials are kept
    :param folder: of everything else
    :param settings: must be those that the study began with
    :param space: what is searched
    :param references: known settings, which are its first trials
    :param shared: whether programs of other folders may work on the study: its trials are then told apart by folder. A
        journal in the study's own folder is not shared, wherever the folder came from
    :raises UserError: if a study of this name began with other settings
    """

    def __init__(
        self,
        name: str,
        storage: BaseStorage,
        folder: StudyFolder,
        settings: StudySettings,
        space: SearchSpace,
        references: Mapping[str, Reference] | None = None,
        shared: bool = True,
    ) -> None:
        self.name, self.folder, self.settings, self.space = name, folder, settings, space
        self.references = references or {}
        self.shared = shared
        self.owner = folder.identity() if shared else "this folder"
        self.code = code_state()
        if not shared:
            check_name(storage, name, folder)
        protocol = settings.protocol
        pruner = make_pruner(settings.pruner, protocol.checkpoints, settings.n_seeds)
        self.optuna = optuna.create_study(
            study_name=name, storage=storage, pruner=pruner, direction="maximize", load_if_exists=True
        )
        self._check_settings()
        self._recover()

    def _check_settings(self) -> None:
        """A study is resumed as it was begun, or not at all: trials under different settings do not compare."""
        check_settings(self.optuna, self.settings)
        if _SETTINGS not in self.optuna.user_attrs:
            self.optuna.set_user_attr(_SETTINGS, _plain(self.settings))
        self.began: dict[str, Any] = self.optuna.user_attrs[_SETTINGS]

    # ---- asking and telling

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials that count: finished ones, and those under way; an interrupted one lives on in its second attempt."""
        return counted_trials(self.optuna)

    def ask(self) -> tuple[Trial, dict[str, Any], dict[int, Outcome]]:
        """A trial to run: one that was interrupted, or else a new one.

        :return: the trial, its settings, and the seeds that are done already
        """
        settings = self.settings
        self._queue_reference()
        self.optuna.sampler = make_sampler(
            settings.sampler, settings.n_startup_trials, settings.seed, position=len(self.trials)
        )
        self.note_versions()
        trial = self.optuna.ask()
        trial.set_user_attr(_OWNER, self.owner)
        trial.set_user_attr(_CODE, self.code)
        chosen = self.space.sample(trial)
        if reference_of(self.frozen(trial)):
            chosen = {}  # the sampler learns from the nearest point of the space, the training is of the settings themselves
        trial.set_user_attr(_SETTINGS_OF_TRIAL, chosen)
        return trial, chosen, outcomes_of(self.frozen(trial))

    def _queue_reference(self) -> None:
        """Make sure that the next trial is of known settings, as long as some have not been tried."""
        trials = self.optuna.get_trials(deepcopy=False)
        if any(trial.state == TrialState.WAITING for trial in trials):
            return
        known = {reference_of(trial) for trial in trials}
        for name, reference in self.references.items():
            if name not in known:
                self._queue(reference.point, {_REFERENCE: name})
                return

    def _queue(self, parameters: dict[str, Any], more: dict[str, Any]) -> None:
        """Queue a trial, and write its parameters down a second time: while it is drawn, Optuna knows only some of them."""
        self.optuna.enqueue_trial(parameters, user_attrs={_PARAMETERS: parameters, **more})

    def note_versions(self) -> None:
        """Keep in mind what trains, for the record: a study may outlast some versions."""
        known, now = self.optuna.user_attrs.get(_VERSIONS, []), _versions()
        if now not in known:
            self.optuna.set_user_attr(_VERSIONS, [*known, now])

    @property
    def versions(self) -> dict[str, str]:
        """Packages that a result depends on, and their versions."""
        known = self.optuna.user_attrs.get(_VERSIONS) or [_versions()]
        return {name: " and ".join(dict.fromkeys(each[name] for each in known)) for name in PACKAGES}

    @property
    def codes(self) -> list[str]:
        """Commits of rlspo that trained the trials, in order."""
        return list(dict.fromkeys(code for trial in self.trials for code in codes_of(trial)))

    def block_of(self, name: str) -> dict[str, Any] | None:
        """The whole settings of a reference; None for a trial's name, and where they are those that the search began from."""
        return self.references[name].block if name in self.references else None

    def frozen(self, trial: Trial) -> FrozenTrial:
        """The trial as it is stored."""
        return self.optuna.get_trials(deepcopy=False)[trial.number]

    def keep(self, trial: Trial, outcome: Outcome) -> None:
        """Store what came of one seed: an interruption does not lose it."""
        stored = self.frozen(trial).user_attrs.get(_OUTCOMES, {})
        trial.set_user_attr(_OUTCOMES, {**stored, str(outcome.seed): replace(outcome, code=self.code).plain()})

    def tell_complete(self, trial: Trial) -> float:
        """The trial is done: its value is the mean over seeds of each seed's score."""
        value = float(np.mean([outcome.score for outcome in outcomes_of(self.frozen(trial)).values()]))
        self.optuna.tell(trial, value)
        return value

    def tell_pruned(self, trial: Trial) -> None:
        """The trial was pruned."""
        self.optuna.tell(trial, state=TrialState.PRUNED)

    def tell_failed(self, trial: Trial, reason: str) -> None:
        """The trial's training raised something; the same settings are not tried again."""
        trial.set_user_attr(_REASON, reason)
        self.optuna.tell(trial, state=TrialState.FAIL)

    # ---- interruptions

    def stopped(self, number: int) -> None:
        """The study ends while a trial is under way, or has ended so: the trial goes on when the study does."""
        self._again(number, "the study was stopped", blame_settings=False)

    def killed(self, number: int, reason: str) -> bool:
        """A trial's own process is gone, and perhaps because of its settings.

        :return: False if that has happened too often, and it counts as failed
        """
        return self._again(number, reason, blame_settings=True)

    def _again(self, number: int, reason: str, blame_settings: bool) -> bool:
        """Queue the same settings again, with the seeds that were done.

        The second attempt is queued before the first is given up, and only once: whatever happens in between, nothing is
        lost or counted twice.
        """
        trial = self.optuna.get_trials(deepcopy=False)[number]
        attempts = trial.user_attrs.get(_ATTEMPT, 1)
        storage, trial_id = self.optuna._storage, trial._trial_id
        if blame_settings and attempts >= MAX_ATTEMPTS:
            storage.set_trial_user_attr(trial_id, _REASON, f"{reason}, {attempts} times")
            self.optuna.tell(number, state=TrialState.FAIL)
            return False
        known = [other.user_attrs.get(_RETRY_OF) for other in self.optuna.get_trials(deepcopy=False)]
        if number not in known:
            kept = {key: trial.user_attrs[key] for key in (_OUTCOMES, _REFERENCE) if key in trial.user_attrs}
            kept |= {_RETRY_OF: number, _ATTEMPT: attempts + blame_settings}
            self._queue({**trial.user_attrs.get(_PARAMETERS, {}), **trial.params}, kept)
        storage.set_trial_user_attr(trial_id, _INTERRUPTED, reason)
        self.optuna.tell(number, state=TrialState.FAIL)
        return True

    def _recover(self) -> None:
        """Trials of this folder that are still running belong to a program that is gone: we hold its lock."""
        # Before there were names for folders, machine and path named them.
        owners = {self.owner, f"{platform.node()}:{self.folder.path.resolve()}"}
        for trial in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not self.shared or trial.user_attrs.get(_OWNER) in owners or _never_begun(trial):
                self.stopped(trial.number)


def check_settings(study: optuna.Study, settings: StudySettings) -> None:
    """Refuse to go on with a study that began with other settings: trials under different settings do not compare.

    :raises UserError: saying what differs
    """
    began = study.user_attrs.get(_SETTINGS)
    if began is None:
        if study.get_trials(deepcopy=False):
            raise UserError(
                f"--study-name: the storage has a study {study.study_name!r} that rlspo tune did not make. Choose another."
            )
        return
    changed = list(_differences(began, _without_new_defaults(began, _plain(settings))))
    if changed:
        lines = "\n".join(f"  {line}" for line in changed)
        raise UserError(
            f"The study {study.study_name!r} began with other settings:\n{lines}\n"
            "Give those again to go on with it, or another --study-name to begin a new one."
        )


def _plain(settings: StudySettings) -> dict[str, Any]:
    """As a storage gives it back."""
    data: dict[str, Any] = json.loads(json.dumps(settings.plain()))
    return data


def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


def counted_trials(study: optuna.Study) -> list[FrozenTrial]:
    """All trials of a study that count, see :attr:`Study.trials`."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state != TrialState.WAITING and _INTERRUPTED not in trial.user_attrs
    ]


def outcomes_of(trial: FrozenTrial) -> dict[int, Outcome]:
    """Seeds of a trial that are done."""
    return {int(seed): Outcome.from_plain(data) for seed, data in trial.user_attrs.get(_OUTCOMES, {}).items()}


def settings_of(trial: FrozenTrial) -> dict[str, Any]:
    """The hyperparameters that a trial was given."""
    found: dict[str, Any] = trial.user_attrs.get(_SETTINGS_OF_TRIAL, {})
    return found


def reference_of(trial: FrozenTrial) -> str:
    """The name of the known settings that a trial was of, or empty."""
    return str(trial.user_attrs.get(_REFERENCE, ""))


def codes_of(trial: FrozenTrial) -> list[str]:
    """Commits of rlspo that trained a trial: of its finished seeds, and of the one that it was in when it ended."""
    codes = [outcome.code for outcome in outcomes_of(trial).values()]
    return [code for code in dict.fromkeys([*codes, trial.user_attrs.get(_CODE, "")]) if code]


def reason_of(trial: FrozenTrial) -> str:
    """Why a trial failed, or empty."""
    return str(trial.user_attrs.get(_REASON, ""))


def duration_of(trial: FrozenTrial) -> timedelta:
    """How long a finished trial took, seeds that an attempt before an interruption had finished included."""
    seeds = timedelta(seconds=sum(outcome.seconds for outcome in outcomes_of(trial).values()))
    return max(trial.duration or timedelta(), seeds)


def _never_begun(trial: FrozenTrial) -> bool:
    """Whether a trial was asked for by a program that ended before it could put its name to it."""
    asked = trial.datetime_start
    return _OWNER not in trial.user_attrs and asked is not None and datetime.now() - asked > timedelta(minutes=1)


def _without_new_defaults(began: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Settings without arguments that the agent did not have when the study began and that stand at their defaults.

    Arguments are added while a study lasts; one that nobody sets changes nothing.
    """
    before, after = began.get("block", {}).get("agent"), now.get("block", {}).get("agent")
    if before is None or after is None:
        return now
    defaults = plain(agent_defaults(agent_class(now["algo"])))
    kept = {key: value for key, value in after.items() if key in before or value != defaults.get(key)}
    return {**now, "block": {**now["block"], "agent": kept}}


def _differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    """What differs in two pieces of plain data, path by path."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            yield from _differences(before.get(key), now.get(key), f"{where}.{key}" if where else key)
    elif before != now:
        yield f"{where}: was {json.dumps(before)}, is {json.dumps(now)}"
