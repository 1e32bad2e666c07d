"""The learning half of on-policy agents: minibatches of a rollout, one update for each, and what they report."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np
import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import explained_variance

from rlspo.common.acting import CopyOnCpu
from rlspo.common.agent import Agent
from rlspo.common.env_memory import EnvMemory
from rlspo.common.loss_contract import call_loss, warn_of_untrained
from rlspo.common.processor import tiny_is_zero
from rlspo.common.randomness import Randomness
from rlspo.common.reward_scaling import RewardScaler
from rlspo.common.rollout_buffer import Field, RolloutBuffer
from rlspo.common.sequences import MEMORY, Sequences
from rlspo.common.settings import needs_two_rows, scheduled
from rlspo.common.update import MINIBATCH_FIELDS, Minibatch, Parameters, Update

if TYPE_CHECKING:  # policies stand on this package, not the other way round
    from rlspo.policies import ActorCriticPolicy

Tensor = torch.Tensor


class OnPolicyLearner(Agent, OnPolicyAlgorithm):
    """Minimises :meth:`loss` over the minibatches of a rollout; how rollouts come about is
    :class:`~rlspo.common.on_policy.OnPolicyAgent`'s."""

    rollout_buffer: RolloutBuffer
    policy: ActorCriticPolicy
    update: Update
    reward_scaler: RewardScaler | None
    batch_size: Any
    n_epochs: Any
    target_kl: Any
    #: Rollout fields recorded beyond the usual ones, by name.
    extra_fields: Mapping[str, Field | dict[str, Field]] = {}
    #: Settings that the loss finds in ``batch.scalars``, as tensors: a change needs no compiling.
    coefficients: ClassVar[tuple[str, ...]] = ("ent_coef", "vf_coef")
    #: Statistics of rewards before the rollout, to go back to.
    _scaler_before: RewardScaler | None = None
    #: How rollouts are cut for a policy with memory; None for one without.
    _sequences: Sequences | None = None
    #: What is remembered of each environment while acting.
    _env_memory: EnvMemory | None = None
    #: What it was when the agent was saved, ``(n_envs, memory_size)``, for ``load(force_reset=False)``.
    _last_memory: np.ndarray | None = None
    #: What acts instead of a policy on a GPU.
    _copy_on_cpu: CopyOnCpu | None = None
    acting_device: Any = "policy"
    sequence_length: Any = None
    burn_in: Any = 0
    recompute_states: Any = False

    # What an agent may change.

    def loss(self, parameters: Parameters, batch: Minibatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise and scalar statistics (``approx_kl`` among them): pure, so that it compiles.

        What the policy says at the minibatch's observations it asks of :meth:`evaluate`.

        :param parameters: of the policy, by name
        :param batch: see :class:`~rlspo.common.update.Minibatch`
        """
        raise TypeError(f"{type(self).__name__} defines no loss.")

    def schedules(self) -> dict[str, float]:
        """Numbers that change during training and that the loss needs, as they are now; they are logged too."""
        return {}

    def draw_noise(self, batch_size: int) -> Any:
        """Random numbers for one minibatch's loss, from ``self.randomness.torch``."""
        return None

    def _draw(self, batch_size: int) -> tuple[Any, Any]:
        """Random numbers for one minibatch: of the loss, and of the policy's auxiliary loss."""
        return self.draw_noise(batch_size), self.policy.draw_noise(batch_size, self.randomness.torch)

    def after_update(self, data: dict[str, Any], scalars: dict[str, Tensor]) -> None:
        """Called at the end of :meth:`train`, for diagnostics.

        :param data: flat rollout fields
        :param scalars: what the loss got
        """

    # The update.

    def _new_update(self, compiled: bool = False) -> Update:
        self.policy.make_functional()
        warn_of_untrained(self.policy, self.policy.optimizer, vars(self).items())
        update = Update(
            self._whole_loss if self.policy.has_auxiliary_loss else self.loss,
            self.policy,
            self.policy.optimizer,
            self.max_grad_norm,
            self.target_kl,
            before=getattr(self, "update", None),
        )
        update.use_compiled(compiled, or_eager=self.compile == "auto")
        return update

    def learning_data(self) -> dict[str, Any]:
        """Flat fields on the device, by name: what minibatches are rows of."""
        extra = [name for name, field in self.extra_fields.items() if isinstance(field, dict) or field.for_loss]
        data = self.rollout_buffer.tensors((*MINIBATCH_FIELDS.values(), *extra))
        if self._sequences is not None:
            beside = self.rollout_buffer.tensors((MEMORY, "episode_starts"))
            rows = data["observations"], beside[MEMORY], beside["episode_starts"]
            data["observations"] = self._sequences.seen(*rows, self.burn_in)
        return data

    @property
    def minibatch_size(self) -> int:
        """Rows of a whole minibatch: ``batch_size``, or the whole rollout where that is less."""
        return min(self.batch_size, self.n_steps * self.n_envs)

    @property
    def smallest_minibatch(self) -> int:
        """Rows of the last minibatch of an epoch, where no step only resets."""
        return self.n_steps * self.n_envs % self.minibatch_size or self.minibatch_size

    def minibatches(self) -> np.ndarray | list[np.ndarray]:
        """Row numbers of one epoch's minibatches in random order, ``(n_minibatches, minibatch_size)``; a list where the last
        one is smaller, because ``batch_size`` does not divide the rows, of which steps that only reset are none. With memory
        they are whole sequences."""
        if self._sequences is not None:
            return self._sequences.minibatches(self.minibatch_size, self.randomness.numpy)
        order = self.randomness.numpy.permutation(np.flatnonzero(self.rollout_buffer.flat("valid")))
        size = self.minibatch_size
        if len(order) % size == 1 and self.smallest_minibatch > 1 and needs_two_rows(self.policy):
            order = order[:-1]  # after resets a single row may be left, which such layers cannot take
        return np.split(order, range(size, len(order), size)) if len(order) % size else order.reshape(-1, size)

    def first_rows(self, count: int) -> np.ndarray:
        """Row numbers of a minibatch of ``count`` rows without chance."""
        rows = np.arange(count)
        return rows if self._sequences is None else self._sequences.rows(rows[: count // self._sequences.length])

    def updates_per_rollout(self) -> int:
        """Minibatches that one :meth:`train` takes, unless it stops early."""
        return self.n_epochs * -(-self.n_steps * self.n_envs // self.minibatch_size)

    def scalars(self) -> dict[str, float]:
        """All numbers that the update reads, as they are now."""
        remaining = self._current_progress_remaining
        limit = self.target_kl
        if limit is None and self.update.target_kl is not None:
            limit = float("inf")  # there was one when the agent was made
        return {
            "learning_rate": self.policy.optimizer.param_groups[0]["lr"],
            "max_grad_norm": self.max_grad_norm,
            **({} if limit is None else {"target_kl": limit}),
            **{name: scheduled(name, getattr(self, name), remaining) for name in self.coefficients},
            **self.schedules(),
        }

    def evaluate(self, parameters: Parameters, batch: Minibatch) -> tuple[Any, Tensor]:
        """pi and V at the minibatch's observations, with ``parameters``; for the loss, which shares them with the policy's."""
        return batch.evaluation or self.policy.evaluate(parameters, self.policy.preprocess(batch.observations))

    def _whole_loss(self, parameters: Parameters, batch: Minibatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The agent's loss and the policy's auxiliary one, from one evaluation of the policy."""
        distribution, values = self.evaluate(parameters, batch)
        loss, stats = call_loss(self.loss, parameters, replace(batch, evaluation=(distribution, values)))
        seen = replace(batch, returns=self.action_returns(batch))
        more, more_stats = self.policy.auxiliary_loss(parameters, distribution, seen)
        return loss + more, {**stats, **more_stats}

    def action_returns(self, batch: Minibatch) -> Tensor:
        """All that followed from the actions, ``(B,)``: what a policy learns that asks what an action is worth."""
        return batch.returns

    def _reset_noise(self, n_envs: int) -> None:
        with Randomness.fork(int(self.randomness.numpy.integers(2**31)), self.device):
            try:
                self.policy.reset_noise(n_envs)
            except ValueError:  # of torch, which draws nothing from a spread that is NaN or infinite
                self.check_policy()
                raise

    def hold_parameters(self) -> None:
        """Make a new update where the policy's parameters are others than those that the present one writes to."""
        if not self.update.holds(self.policy, self.policy.optimizer):
            self.update.vector.publish_steps()
            self.update = self._new_update(self.update.compiled)

    def train(self) -> None:
        """Update the policy from the rollout in the buffer.

        :raises DivergedError: where loss, gradient or weights become NaN or infinite
        """
        if not self.rollout_buffer.data["valid"].any():  # the environments only reset
            return
        self._update_learning_rate(self.policy.optimizer)
        self.hold_parameters()
        update = self.update
        scalars = update.tensors_of(self.scalars())
        data = self.learning_data()
        self.policy.set_training_mode(True)
        reports: list[Tensor] = []
        update.use_size(self.minibatch_size)
        update.begin()
        update.last_good.note()
        with tiny_is_zero(), ExitStack() as after_the_first:
            for epoch in range(self.n_epochs):
                if epoch and self._sequences is not None and self.recompute_states:
                    self._sequences.recompute(self.policy, data["observations"])
                minibatches = self.minibatches()
                order = torch.as_tensor(np.concatenate(minibatches), device=self.device)
                rows = order.split([len(some) for some in minibatches])
                reports.append(update.sweep(data, rows, scalars, self._draw, show=epoch == self.n_epochs - 1))
                if epoch == 0:
                    after_the_first.enter_context(update.skip_guards())
                self._n_updates += 1
                if self.target_kl is not None and not update.active:
                    if self.verbose >= 1:
                        print(
                            f"Early stopping at epoch {epoch}: approx_kl exceeded 1.5 * target_kl = {1.5 * self.target_kl:.4f}"
                        )
                    break
        self.policy.set_training_mode(False)
        read = torch.cat(reports).cpu().numpy()
        self._check_update(read, len(rows))
        update.vector.publish_steps()
        self._record(read, len(read) - len(rows))
        self.after_update(data, scalars)
        self.policy.update_statistics(self.rollout_buffer.flat_valid)

    def _check_update(self, reports: np.ndarray, per_epoch: int) -> None:
        """Stop where a loss or a gradient was not finite, or the weights are not; see :meth:`_record` for ``reports``."""
        finite = np.isfinite(reports[:, [0, -2]]).all(axis=1)
        if finite[0]:
            self.update.last_good.trust()
        if finite.all() and bool(self.update.vector.weights.sum().isfinite()):
            return
        row = int(np.argmin(finite)) if not finite.all() else len(reports) - 1
        epoch, number = divmod(row, per_epoch)
        before = self._n_updates - -(-len(reports) // per_epoch)
        found = {"loss": reports[row, 0], "gradient norm": reports[row, -2]}
        found["largest return in the rollout"] = np.abs(self.rollout_buffer.data["returns"]).max()
        where = f"at update {before + epoch + 1}, minibatch {number + 1} of {per_epoch}"
        self._stop(where if not finite.all() else f"{where}, after which weights are NaN or infinite", found)

    def _probe(self, inputs: Any) -> list[Tensor]:
        distribution, values = self.policy.evaluation_of(inputs)
        return [values, distribution.log_prob(distribution.mode())]

    def _stop(self, where: str, found: dict[str, float]) -> NoReturn:
        if self._env_memory is not None:  # what weights that are not finite left there
            self._env_memory.clear()
        if self._scaler_before is not None:
            self.reward_scaler = self._scaler_before
        super()._stop(where, found)

    def _record(self, reports: np.ndarray, last_epoch: int) -> None:
        """Log the statistics of one :meth:`train`, ``(n_minibatches, 1 + n_stats + 2)``, read from the device at once."""
        active = reports[:, -1] > 0
        used, last = reports[active], reports[last_epoch:][active[last_epoch:]]
        for column, name in enumerate(self.update.stat_names, start=1):
            # SB3's approx_kl is that of the last epoch, its other statistics are means over all epochs.
            key = name if "/" in name else f"train/{name}"
            self.logger.record(key, float((last if name == "approx_kl" else used)[:, column].mean()))
        buffer = self.rollout_buffer
        self.logger.record("train/loss", float(used[-1, 0]))
        explained = explained_variance(buffer.flat_valid("values"), buffer.flat_valid("returns"))
        self.logger.record("train/explained_variance", float(explained))
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", torch.exp(self.policy.log_std).mean().item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, value in self.schedules().items():
            self.logger.record(f"train/{name}", value)
