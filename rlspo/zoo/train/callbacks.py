"""Callbacks of a training run: stopping after a signal, evaluating, and saving."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.vec_env import VecEnv

from rlspo.common.randomness import generators_seeded
from rlspo.zoo.cli import terminal
from rlspo.zoo.cli.patience import BestEffort
from rlspo.zoo.cli.signals import StopSignal
from rlspo.zoo.config.atomic import whole, write_text
from rlspo.zoo.runs.folder import RunFolder
from rlspo.zoo.runs.model_files import name_statistics
from rlspo.zoo.train.phases import Stopwatch

#: Seconds to wait before each further attempt of the last save.
_PAUSES = (1.0, 3.0, 6.0)


def save_model(model: BaseAlgorithm, file: Path, folder: RunFolder) -> None:
    """Save an agent, with the statistics of ``VecNormalize`` where the run uses it.

    An interruption never leaves half a model. The model file holds a check sum of its statistics, so that reading it with
    other statistics is an error.

    :param file: the model's zip file
    """
    statistics = model.get_vec_normalize_env()
    if statistics is None:
        with whole(file) as partial:
            model.save(partial)
        return
    with whole(folder.statistics_of(file)) as beside, whole(file) as partial:
        statistics.save(str(beside))
        model.save(partial)
        name_statistics(partial, beside)


def save_somewhere(model: BaseAlgorithm, file: Path, folder: RunFolder) -> Path:
    """Save an agent after training: try again for some seconds, then in other folders.

    :return: the file
    :raises OSError: if it cannot be written to any of the folders
    """
    return somewhere(lambda place: save_model(model, place, folder), file)


def somewhere(write: Callable[[Path], None], file: Path) -> Path:
    """Write a file that must not be lost: try again for some seconds, then in other folders.

    :param write: writes it to a path, whole or not at all
    :return: the file
    :raises OSError: if it cannot be written to any of the folders
    """
    for pause in (*_PAUSES, None):
        try:
            write(file)
            return file
        except OSError as error:
            failure = error
            terminal.note(f"cannot save {file}: {error}." + ("" if pause is None else f" Trying again in {pause:g} s."))
        if pause is not None:
            time.sleep(pause)
    for place in (Path.cwd(), Path.home(), Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError, RuntimeError):
            rescued = Path(tempfile.mkdtemp(prefix="rlspo_rescued_", dir=place)) / file.name
            try:
                write(rescued)
                return rescued
            except OSError:
                rescued.parent.rmdir()
    raise failure


class StopWhenAsked(BaseCallback):
    """Ends training at the step after a signal."""

    def __init__(self, stop: StopSignal) -> None:
        super().__init__()
        self.stop = stop

    def _on_step(self) -> bool:
        return self.stop.received is None


class Status(BaseCallback):
    """Keeps ``status.json`` up to date, for other programs: the progress of the run, written at most once a second.

    It holds ``state`` (running, done, failed, stopped), ``num_timesteps``, ``total``, ``mean_return`` (of the last training
    episodes, null before the first), ``seconds``, and the ``host`` and ``pid`` of the process that writes it: by these
    :func:`~rlspo.zoo.runs.folder.read_status` distinguishes a run that was killed from one that is running. With a full disk
    the run goes on and the file is out of date.

    :param folder: of the run
    :param model: the agent; given here, because a run may fail before its first step
    :param total: environment steps at which training ends
    """

    def __init__(self, folder: RunFolder, model: BaseAlgorithm, total: int) -> None:
        super().__init__()
        self.folder = folder
        self.model = model
        self.total = total
        self._effort = BestEffort(str(folder.status))
        self._started = self._written = time.monotonic()

    def _on_training_start(self) -> None:
        self._started = time.monotonic()
        self.write("running")

    def _on_step(self) -> bool:
        if time.monotonic() - self._written > 1.0:
            self.write("running")
        return True

    def write(self, state: str) -> None:
        """Write the file, whole or not at all."""
        self._written = time.monotonic()
        returns = [episode["r"] for episode in self.model.ep_info_buffer or ()]
        status = {
            "state": state,
            "num_timesteps": self.model.num_timesteps,
            "total": self.total,
            "mean_return": sum(returns) / len(returns) if returns else None,
            "seconds": round(self._written - self._started, 1),
            "host": platform.node(),
            "pid": os.getpid(),
        }
        with self._effort:
            write_text(self.folder.status, json.dumps(status) + "\n", durable=state != "running")

    def finish(self, state: str) -> None:
        """Write how the run ended; try again where that fails."""
        for pause in (*_PAUSES, None):
            self.write(state)
            if not self._effort.failing or pause is None:
                return
            time.sleep(pause)


class SaveBetweenRollouts(BaseCallback):
    """Saves the agent every ``save_freq`` steps, as soon as the agent has been updated with all steps that it has counted.

    SB3's ``CheckpointCallback`` saves within a rollout: its files have counted steps that the agent was not updated with.

    :param save_freq: environment steps, over all environments together
    :param folder: of the run; files are ``checkpoints/rl_model_<steps>_steps.zip``
    """

    def __init__(self, save_freq: int, folder: RunFolder) -> None:
        super().__init__()
        self.save_freq = save_freq
        self.folder = folder
        self._saved_at = 0
        self._effort = BestEffort("checkpoint")

    def _on_training_start(self) -> None:
        self._saved_at = self.model.num_timesteps

    def _on_rollout_start(self) -> None:
        steps = self.model.num_timesteps
        if steps - self._saved_at >= self.save_freq:
            with self._effort:
                self.folder.checkpoints.mkdir(exist_ok=True)
                save_model(self.model, self.folder.checkpoints / f"rl_model_{steps}_steps.zip", self.folder)
                self._saved_at = steps

    def _on_step(self) -> bool:
        return True


class _EvaluationCutShort(Exception):
    """An evaluation was stopped: by a signal, or because its episodes do not end."""


class _BestFound(BaseCallback):
    """Records whether an evaluation was better than all before."""

    found = False

    def _on_step(self) -> bool:
        self.found = True
        return True


class Evaluate(EvalCallback):
    """SB3's evaluation during training, with the additions below.

    The agent is evaluated once more at the end, if at least half of ``eval_freq`` has passed since the last evaluation:
    closer points would weigh too much in a learning curve. A signal cuts an evaluation short, and so does a task whose
    episodes do not end. Environments that draw from the global generators of Python, NumPy and torch get them seeded from the
    run's seed and the step; afterwards the generators are restored, so that evaluations do not change training. The best agent
    and the record are saved whole or not at all; after a full disk, saving is tried again at the next evaluation.

    :param eval_env: environments for evaluation only, wrapped like those of training
    :param eval_freq: environment steps between evaluations, over all training environments together
    :param folder: of the run
    :param stopwatch: counts the time of evaluations
    :param most_steps: of an evaluation, over all its environments; an evaluation that takes more is stopped, and no further
        one is made
    :param about: facts of the run, such as its seed; written into the record, so that the record of another run is recognised
    """

    def __init__(
        self,
        eval_env: VecEnv,
        eval_freq: int,
        n_eval_episodes: int,
        folder: RunFolder,
        stop: StopSignal,
        verbose: int,
        stopwatch: Stopwatch | None = None,
        most_steps: int = 1_000_000,
        about: dict[str, Any] | None = None,
    ) -> None:
        self._best, self._best_effort = _BestFound(), BestEffort("best model")
        super().__init__(
            eval_env,
            callback_on_new_best=self._best,
            n_eval_episodes=n_eval_episodes,
            eval_freq=eval_freq,
            deterministic=True,
            verbose=verbose,
        )
        self.folder, self.most_steps, self.about = folder, most_steps, about or {}
        self._effort = BestEffort(str(folder.evaluations))
        self._steps = 0
        self._episodes: tuple[list[float], list[int]] = ([], [])
        self._successes: list[float] = []
        self.stop = stop
        self.stopwatch = stopwatch or Stopwatch()
        self._evaluated_at: int | None = None

    def _init_callback(self) -> None:
        with warnings.catch_warnings():  # how the environments are stepped, in processes or not, does not matter here
            warnings.filterwarnings("ignore", "Training and eval env are not of the same type")
            super()._init_callback()
        # SB3 counts calls, one for each step of all environments at once.
        self.eval_freq = max(self.eval_freq // self.training_env.num_envs, 1)

    def _on_step(self) -> bool:
        if self.n_calls % self.eval_freq != 0:
            return True
        self._evaluated_at, self._steps, self._successes = self.num_timesteps, 0, []
        self._best.found, best_before = False, self.best_mean_reward
        try:
            with self.stopwatch.aside("evaluate"):
                with generators_seeded([self.about.get("seed", 0), self.num_timesteps]):
                    go_on = super()._on_step()
                finite = bool(np.isfinite(self.last_mean_reward))  # nothing could ever beat an infinite return
                if self._best.found and finite:
                    with self._best_effort:
                        save_model(self.model, self.folder.best_model, self.folder)
        except _EvaluationCutShort:
            return self.stop.received is None
        if self._best_effort.failing or not finite:
            self.best_mean_reward = best_before  # so that the next model that beats the saved one is saved
        self._save_record()
        return go_on

    def _log_success_callback(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        if self.stop.received is not None:
            raise _EvaluationCutShort
        self._steps += 1
        if self._steps > self.most_steps:
            self.eval_freq = sys.maxsize
            terminal.note(
                f"The evaluation at step {self.num_timesteps:,} is stopped, and no further one is made: its episodes have "
                f"not ended after {self._steps:,} steps. Give the environment a time limit (gymnasium.wrappers.TimeLimit, or "
                "max_episode_steps), or --eval-freq -1."
            )
            raise _EvaluationCutShort
        self._episodes = locals_["episode_rewards"], locals_["episode_lengths"]
        if locals_["done"] and self._counts(locals_):  # one for each episode, also of environments that tell of successes only
            told = locals_["info"].get("is_success")
            self._successes.append(np.nan if told is None else float(told))
        super()._log_success_callback(locals_, globals_)

    @staticmethod
    def _counts(locals_: dict[str, Any]) -> bool:
        """Whether SB3's evaluation counts the episode that ended."""
        monitored = locals_["is_monitor_wrapped"] and "episode" not in locals_["info"]
        return not monitored

    def _save_record(self) -> None:
        """Add an evaluation to the record, as SB3 does, but write the file whole or not at all."""
        returns, lengths = self._episodes
        self.evaluations_timesteps.append(self.num_timesteps)
        self.evaluations_results.append(returns)
        self.evaluations_length.append(lengths)
        record: dict[str, Any] = {
            "timesteps": self.evaluations_timesteps,
            "results": self.evaluations_results,
            "ep_lengths": self.evaluations_length,
            **self.about,
        }
        successes: Any = self.evaluations_successes
        successes.append([*self._successes[: len(returns)], *[np.nan] * (len(returns) - len(self._successes))])
        if not np.isnan(successes).all():
            record["successes"] = np.nan_to_num(successes).tolist()
        with self._effort, whole(self.folder.evaluations) as partial:
            np.savez(partial, **record)

    def _on_training_end(self) -> None:
        half = self.eval_freq * self.training_env.num_envs / 2
        if self.eval_freq == sys.maxsize:
            return
        if self.stop.received is None and (self._evaluated_at is None or self.num_timesteps - self._evaluated_at >= half):
            self.eval_freq = 1  # due at any call
            self._on_step()
