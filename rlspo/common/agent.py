"""What on- and off-policy agents share: random generators, the choice to compile, and model files."""

from __future__ import annotations

import contextlib
import functools
import io
import operator
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, NoReturn, Self

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm, maybe_make_env
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.logger import HParam, TensorBoardOutputFormat
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import open_path
from stable_baselines3.common.utils import update_learning_rate
from stable_baselines3.common.vec_env import VecEnv

from rlspo.common.arguments import complete
from rlspo.common.checked_env import CheckedDummyVecEnv, look_into
from rlspo.common.checked_steps import CheckedSteps
from rlspo.common.checkpoints import check_owner, data_of, load_checked, read_settings, seal
from rlspo.common.compilation import should_compile
from rlspo.common.env_failures import check_last_step, note_env_failure
from rlspo.common.errors import DivergedError, check_policy_kwargs, nearest
from rlspo.common.exports.agents import Exportable
from rlspo.common.files import place_for, whole
from rlspo.common.flat_parameters import check_float32
from rlspo.common.given import apply_given, check_given
from rlspo.common.gradients import refuse_network
from rlspo.common.normalizers import bound
from rlspo.common.randomness import Randomness
from rlspo.common.settings import check_compile, check_schedule, check_steps, fixed_setting, scheduled, setting, shown_settings
from rlspo.common.spaces import check_action_space, check_image_sizes, check_observation_space
from rlspo.common.trees import to_tensor
from rlspo.common.trust import is_own, note_own, safe_objects
from rlspo.common.vector_env import GymnasiumVecEnv, check_around_resets
from rlspo.common.withheld import building, check_may_learn, keep_withheld, still_withheld
from rlspo.common.workers import watched

#: The squares of larger numbers are infinite in float32, and so are losses.
TOO_LARGE = 1e19
_NOT_SAVED = ("update", "randomness", "_first_step", "_scaler_before", "_kept_statistics", "_foreign")


class Agent(CheckedSteps, Exportable):
    """Mixin for SB3's algorithm classes: everything that all agents share.

    :param stats_window_size: episodes over which the logged return and length are averaged
    :param tensorboard_log: folder for TensorBoard; None for none
    :param policy_kwargs: for the policy's constructor (``net_arch``, ``activation_fn``, ...)
    :param verbose: 0 silent, 1 information, 2 debug
    :param seed: of everything random in the agent and its environments; None for fresh entropy
    :param device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
    :param compile: compile the update as a whole (see the docs on speed): ``"auto"`` where the run is long enough to pay
    """

    #: Settings by which a model file of this agent is known; SB3's files do not name theirs.
    saved_settings: ClassVar[set[str]] = set()
    #: Besides the return, what TensorBoard's HParams tab shows.
    shown_metric: ClassVar[str] = "train/loss"
    #: See :func:`~rlspo.common.compilation.should_compile`.
    gain_of_compiling: ClassVar[float] = 1.0
    #: What becomes of the steps before one at which an environment raises, for a note on its exception.
    left_by_failure: ClassVar[str] = "The unfinished rollout was dropped"
    #: Whether anything of the agent came from a file that is not trusted.
    _foreign = False
    update: Any
    policy: Any
    learning_rate = setting(check_schedule, then="_setup_lr_schedule")
    sde_sample_freq = setting(check_steps)
    compile = setting(check_compile)
    policy_kwargs = fixed_setting(in_weights=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        complete(cls, root=Agent)

    @staticmethod
    def _wrap_env(env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        if isinstance(env, str):
            env = maybe_make_env(env, verbose)
        if hasattr(env, "observation_space") and hasattr(env, "action_space"):
            check_observation_space(getattr(env, "single_observation_space", env.observation_space))
            check_action_space(getattr(env, "single_action_space", env.action_space))
        if isinstance(env, gym.vector.VectorEnv):
            env = GymnasiumVecEnv(env)
        elif isinstance(env, gym.Env):
            if monitor_wrapper and not is_wrapped(env, Monitor):
                if verbose >= 1:
                    print("Wrapping the env with a `Monitor` wrapper")
                env = Monitor(env)
            env = CheckedDummyVecEnv([lambda: env])
        if isinstance(env, VecEnv):
            look_into(env)
            check_around_resets(env)
        return BaseAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """As SB3's.

        :raises ValueError: for an agent that was loaded without an environment and needs one that is made for it
        """
        normalize: Any = self._vec_normalize_env
        if self.env is None and normalize is not None:
            raise ValueError(
                "This agent learned in a VecNormalize, whose statistics set_env would leave behind. Load it with its "
                "environment: rlspo.load(path, env=env)."
            )
        env = self._wrap_env(env, self.verbose)
        if self.env is None and env.num_envs != self.n_envs:
            raise ValueError(
                f"This agent was trained in {self.n_envs} environments side by side, and these are {env.num_envs}. Load it "
                "with them: rlspo.load(path, env=env) an exported agent, or load(path, env=env) a saved one."
            )
        super().set_env(env, force_reset)

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        if policy_name not in self.policy_aliases:
            guess = nearest(policy_name, self.policy_aliases)
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise ValueError(
                f"{type(self).__name__} has no policy {policy_name!r}.{hint} It has: {', '.join(self.policy_aliases)}."
            )
        return self.policy_aliases[policy_name]

    def _setup_model(self) -> None:
        if torch.get_default_dtype() != torch.float32:
            raise ValueError(
                f"torch's default type is {torch.get_default_dtype()}; rlspo acts and learns in torch.float32. Call "
                "torch.set_default_dtype(torch.float32) before making the agent."
            )
        check_action_space(self.action_space)
        check_observation_space(self.observation_space)
        check_policy_kwargs(self.policy_class, self.policy_kwargs, self.policy_aliases)
        try:
            super()._setup_model()  # type: ignore[safe-super]
        except RuntimeError as error:
            check_image_sizes(self.observation_space, error)
            raise
        # A file names the class that the user wrote.
        self.policy_class = getattr(self.policy_class, "written_for_sb3", self.policy_class)

    def check_minibatches(self) -> None:
        """Check the minibatches that a new ``batch_size`` leads to."""

    # Randomness.

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed the agent's own generators, the action space and the environment; global generators are not changed."""
        self.randomness = Randomness(seed, self.device)
        if getattr(self, "policy", None) is not None:
            self.policy.generator = self.randomness.predict
        if seed is not None:
            seed = operator.index(seed)  # environments take Python's numbers only
            self.action_space.seed(seed)
            if self.env is not None:
                self.env.seed(seed)

    def go_on_from(self, steps: int) -> None:
        """Where the agent has a seed, let all its generators and its environment draw what the first ``steps`` have not
        seen."""
        if self.seed is not None and steps:
            self.set_random_seed(int(np.random.SeedSequence([self.seed, steps]).generate_state(1)[0] >> 1))

    def _go_on_at_random(self, state: dict[str, Any]) -> None:
        """Continue the generators from a saved state. The environments' own are not saved: they begin with numbers that the
        steps before have not seen."""
        self.randomness.restore(state)
        if "actions" in state:  # files of earlier versions have none
            self.action_space.np_random.bit_generator.state = state["actions"]
        if self.seed is not None and self.env is not None and self.num_timesteps:
            self.env.seed(int(np.random.SeedSequence([self.seed, self.num_timesteps]).generate_state(1)[0] >> 1))

    @contextlib.contextmanager
    def learning(self) -> Iterator[None]:
        """Around all of :meth:`learn`: what others draw at random comes from the agent's seed, and an exception of an
        environment says which one it was. What the last update made of the weights shows at the end."""
        with self.randomness.lend_globals():
            try:
                with watched(self.env):
                    yield
                self.check_policy()
            except Exception as error:
                note_env_failure(error, self.num_timesteps // self.n_envs, self.left_by_failure)
                check_last_step(error, self)
                refuse_network(error)
                raise

    # Divergence.

    def _probe(self, inputs: Any) -> list[torch.Tensor]:
        """The policy's outputs for ``inputs`` that a loss would use."""
        raise TypeError(f"{type(self).__name__} asks its policy nothing.")

    def check_policy(self) -> None:
        """Ask the policy about the observations that were acted on last; to be called where something went wrong, because
        nobody is to blame for what comes of actions that are NaN.

        :raises DivergedError: where its answers are NaN, infinite, or so large that no loss of them is finite
        """
        self.policy.set_training_mode(False)
        last: Any = self._last_obs
        try:
            with torch.no_grad():
                answers = self._probe(self.policy.preprocess(to_tensor(last, self.device)))
        except Exception:  # networks and distributions of users may refuse NaN, or be what went wrong
            answers = [*self.policy.parameters()]
        if not all(bool((answer.abs() < TOO_LARGE).all()) for answer in answers):  # NaN is not less either
            self._stop(f"at update {self._n_updates}: the policy's actions or values are NaN, infinite or absurd", {})

    def _stop(self, where: str, found: dict[str, float]) -> NoReturn:
        restored = self.update.last_good.restore()
        raise DivergedError(where, found, self.lr_schedule(self._current_progress_remaining), restored)

    # Schedules.

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        """Not below 0: whole rollouts go beyond the last step, where a schedule that falls to 0 would turn negative."""
        super()._update_current_progress_remaining(min(num_timesteps, total_timesteps), total_timesteps)

    def _update_learning_rate(self, optimizers: Any) -> None:
        """Ask the schedule, set the rate of the optimisers and log it.

        :raises ValueError: for a schedule that returns a negative number or none
        """
        rate = scheduled("learning_rate", self.lr_schedule, self._current_progress_remaining)
        self.logger.record("train/learning_rate", rate)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            update_learning_rate(optimizer, rate)

    # Compilation.

    def set_up_compiling(self, compile: str | bool) -> None:
        """Take the agent's argument. It raises a ValueError for another value than the three."""
        self.compile = compile
        self._planned_updates = 0

    def decide_on_compiling(self, n_updates: int) -> None:
        """Compile the update where that was asked for, or where ``n_updates`` of this run and those of earlier ones pay."""
        self._planned_updates += n_updates
        self.update.plan(n_updates)
        compiled, reason = should_compile(
            self.compile, self._planned_updates, self.device, self.policy, self.gain_of_compiling
        )
        if compiled and not self.update.asked_to_compile:
            if self.verbose >= 1:
                print(f"Compiling the update, which takes 10 to 25 s before the first one: {reason}.", flush=True)
            self.update.use_compiled(True, or_eager=self.compile == "auto")
        elif not compiled and self.verbose >= 1:
            print(f"Running the update eagerly: {reason}.")
        if self.compile is False:
            self.update.use_compiled(False)

    # Learning.

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        if self.env is None:
            raise ValueError(
                "The agent has no environment to learn in. Load it with one: load(path, env=env), or set_env(env)."
            )
        check_may_learn(self)
        check_float32(self.policy)
        if self._vec_normalize_env is not None:
            bound(self._vec_normalize_env)
        self.keep_statistics()
        total_timesteps, callback = super()._setup_learn(*args, **kwargs)
        self._check_before_normalizing()
        self._own_last_obs()
        self._first_step = True
        metrics = {"rollout/ep_rew_mean": 0.0, self.shown_metric: 0.0}
        # Directly to TensorBoard, so that the logger's values remain numbers only.
        for output in getattr(self.logger, "output_formats", []):
            if isinstance(output, TensorBoardOutputFormat):
                output.write({"hparams": HParam(self.hyperparameters(), metrics)}, {"hparams": ()}, self.num_timesteps)
        return total_timesteps, callback

    # Logging.

    def hyperparameters(self) -> dict[str, bool | float | str]:
        """The settings that can be shown in TensorBoard's HParams tab: scalars as they are, the rest as text."""
        return {"algorithm": type(self).__name__, "n_envs": self.n_envs, **shown_settings(vars(self))}

    # Saving and loading.

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *_NOT_SAVED]

    def save(self, path: Any, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None) -> None:
        """As SB3's; the state of the random generators and the agent's name are saved too.

        A file of that name is replaced in one step, once the new one is on the disk: if the process or the machine stops, the
        old file or the new one is complete. An open file is written to as SB3 does.

        :param path: a file, ``.zip`` may be left out; or an open file
        """
        self._random_state = self.randomness.state() | {"actions": self.action_space.np_random.bit_generator.state}
        if getattr(self, "_withheld", None):
            keep_withheld(self, still_withheld(self))
        self._agent = type(self).__name__
        content = io.BytesIO()
        super().save(content, exclude, include)
        if not self._foreign:
            note_own(data_of(content), vars(self))
        if not isinstance(path, str | pathlib.Path):
            open_path(path, "w", suffix="zip").write(content.getbuffer())
            return
        seal(content)
        with whole(place_for(path, "zip")) as partial:
            partial.write_bytes(content.getbuffer())

    @classmethod
    def load(
        cls,
        path: str | pathlib.Path | Any,
        env: Any = None,
        device: Any = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        *,
        trust: bool = False,
        **kwargs: Any,
    ) -> Self:
        """As SB3's, from a file that this agent has saved (for :class:`rlspo.PPO` and :class:`rlspo.SAC` also one of SB3's).

        Keywords replace settings of the file; they are checked as the constructor checks them. With ``seed`` the generators
        begin anew, from it; without, they go on from where they were saved, and the environments are seeded from its number
        of steps as well.

        :param trust: True: run whatever code is pickled in the file, as SB3's ``load`` does; files that this process has saved
            are read so in any case. By default only data is read: an agent acts without the schedules and callbacks that its
            file holds as code, and says so when it is to learn. Classes that the program has imported, such as a features
            extractor of yours, are found without it
        :raises IncompatibleModelError: for a file that is truncated, no model, or another agent's
        :raises UntrustedFileError: for one with code that the agent needs in order to act
        :raises TypeError: for a keyword that is no setting
        :raises ValueError: for a setting out of range, or one that the weights in the file do not fit
        """
        settings = read_settings(path)
        trust = trust or is_own(settings)
        check_owner(cls.__name__, cls.saved_settings, path, settings)
        replaced = {name: value for name, value in (custom_objects or {}).items() if name in settings}
        objects, withheld = safe_objects(settings, path, custom_objects, trust)
        plain = {name: value for name, value in settings.items() if not isinstance(value, dict)}
        attributes = cls._given(kwargs, replaced, {**settings, **objects, **plain}, device)
        load = functools.partial(super().load, path, env, device, objects, print_system_info, force_reset, **attributes)
        model = load_checked(cls.__name__, path, load, sorted(kwargs))
        model._foreign = not trust
        still = {key: kept for key, kept in withheld.items() if key not in kwargs}
        if still or "_withheld" in settings:
            keep_withheld(model, still)
        given = {**replaced, **kwargs}
        model._apply_given(given)
        if "batch_size" in given:
            model.check_minibatches()
        if hasattr(model, "_random_state") and "seed" not in given:
            model._go_on_at_random(model._random_state)
        return model

    @classmethod
    def _given(
        cls, given: Mapping[str, Any], replaced: Mapping[str, Any], stored: Mapping[str, Any], device: Any
    ) -> dict[str, Any]:
        """See :func:`~rlspo.common.given.check_given`."""
        return check_given(cls, given, replaced, stored, device)

    def _apply_given(self, given: Mapping[str, Any]) -> None:
        """See :func:`~rlspo.common.given.apply_given`."""
        apply_given(self, given)


def load_model(cls: type[BaseAlgorithm], path: Any, trust: bool = False, **arguments: Any) -> BaseAlgorithm:
    """An agent of any class that extends SB3's, from its file, which runs no code unless it is trusted.

    :param cls: the agent
    :param path: of the model file
    :param trust: run whatever code is pickled in the file
    :param arguments: of ``load``
    :raises IncompatibleModelError: for a file that is no model, or holds code that the agent needs in order to act
    """
    if issubclass(cls, Agent):
        return cls.load(path, trust=trust, **arguments)
    settings = read_settings(path)
    objects, withheld = safe_objects(settings, path, arguments.pop("custom_objects", None), trust)
    with building():
        model = cls.load(path, custom_objects=objects, **arguments)
    still = {key: kept for key, kept in withheld.items() if key not in arguments}
    if still or "_withheld" in settings:
        keep_withheld(model, still)
    return model
