"""Adversarially robust policy optimisation (arXiv 2512.01228)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from stable_baselines3.common.utils import LinearSchedule

from rlspo.adversary import NORMS, Objective, Perturbation, RandomCorner, Solver, make_solver, negative, ramped_radius
from rlspo.adversary.solvers import check_solver
from rlspo.arpo.attacked_rollouts import attacked_actor
from rlspo.common.collector import Actor
from rlspo.common.compilation import compile_whole
from rlspo.common.errors import check_choice, check_count, check_fraction, check_number
from rlspo.common.settings import check_flag, fixed_setting, setting
from rlspo.common.trees import detach, to_tensor, tree_map
from rlspo.common.update import Minibatch, Parameters, Update, gather
from rlspo.common.withheld import Withheld
from rlspo.policies import ActorCriticPolicy, Distribution
from rlspo.ppo import PPO, losses
from rlspo.ppo.settings import PPOSettings

Tensor = torch.Tensor
#: Published relatives let the learning rate fall to zero over training.
FALLING_LEARNING_RATE = LinearSchedule(3e-4, 0.0, 1.0)


class ARPO(PPO):
    """Adversarially robust policy optimisation.

    ::

        max_theta min_nu V(pi_theta o nu),   |nu(s) - s| <= epsilon                                 (arXiv 2512.01228)

    on PPO: in each minibatch the inner problem finds the observation s' in the ball around s that minimises the clipped
    surrogate; the outer step follows the surrogate at s', held fixed, mixed with the one at s ("guidance"):

    ::

        L_policy = (L(s') + guidance L(s)) / (1 + guidance)
        L(x) = -E[min(r A, clip(r) A)],   r = pi(a|x) / pi_old(a|s)

    The paper names guidance and leaves open how it enters; the common factor keeps the weight of the value loss and of
    gradient clipping what it is in PPO, so that ``epsilon=0`` *is* PPO. The value function is that of the clean observation.

    Arguments are those of :class:`rlspo.PPO` (observation and reward normalisation, and a learning rate that falls to zero,
    are the defaults here), and from ``epsilon`` on:

    :param epsilon: radius of the ball, in units of the network's input: standard deviations where the policy normalises
        (the default), [0, 1] for images, raw units otherwise. More is more robust and costs natural return; published
        for MuJoCo: 0.05 to 0.15
    :param epsilon_ramp: fraction of training over which the radius rises linearly from 0; 0: constant
    :param norm: ``"linf"`` or ``"l2"``
    :param solver: ``"langevin"`` (SGLD, the paper's), ``"pgd"`` (sign gradient), ``"power"`` (restarted jumps to the
        boundary: the strongest) or ``"random"``; or a :class:`rlspo.adversary.Solver`: a class, which gets those of the
        next four settings that its constructor names (``steps`` for the first), or an object, which gets none
    :param adversary_steps: gradients of the inner problem; the cost of the update grows in proportion (5 to 20)
    :param step_size: of ``pgd`` and ``langevin``, in units of the radius; None: ``1 / adversary_steps``
    :param temperature: of the Langevin noise
    :param restarts: of ``power``
    :param guidance: weight of the clean surrogate; 0: the adversary's alone, growing: towards PPO. On Hopper, ARPO needs
        it (1 is good) and BARPO does not
    :param rollouts: ``"clean"``: act on true observations (as the released relatives do); ``"attacked"``: act on
        perturbed ones
    :param clip_to_space: keep perturbed observations within the bounds of the observation space
    :param adversary_keys: the keys of a Dict observation that are perturbed; None: all continuous ones
    :raises TypeError: for an epsilon that is no number, or an observation space with nothing continuous in it
    :raises ValueError: for values out of range
    """

    saved_settings: ClassVar[set[str]] = PPO.saved_settings | {"epsilon", "guidance"}
    coefficients: ClassVar[tuple[str, ...]] = (*PPO.coefficients, "guidance")
    gain_of_compiling: ClassVar[float] = 2.5
    changed_defaults: ClassVar[PPOSettings] = {
        "learning_rate": FALLING_LEARNING_RATE,
        "normalize_observations": True,
        "normalize_rewards": True,
    }
    epsilon = setting(check_number, then="_set_up_search")
    epsilon_ramp = setting(check_fraction)
    guidance = setting(check_number)
    norm = fixed_setting()
    solver = fixed_setting(check_solver)
    adversary_steps = fixed_setting(check_count)
    step_size = fixed_setting()
    temperature = fixed_setting()
    restarts = fixed_setting(check_count)
    rollouts = fixed_setting()
    clip_to_space = fixed_setting(check_flag)
    adversary_keys = fixed_setting()

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: Any,
        *args: Any,
        epsilon: float = 0.075,
        epsilon_ramp: float = 0.75,
        norm: str = "linf",
        solver: str | type[Solver] | Solver = "langevin",
        adversary_steps: int = 10,
        step_size: float | None = None,
        temperature: float = 1e-5,
        restarts: int = 5,
        guidance: float = 0.0,
        rollouts: str = "clean",
        clip_to_space: bool = False,
        adversary_keys: list[str] | None = None,
        **settings: Unpack[PPOSettings],
    ) -> None:
        self.epsilon = check_number("epsilon", epsilon)
        self.epsilon_ramp = check_fraction("epsilon_ramp", epsilon_ramp)
        self.norm = check_choice("norm", norm, tuple(NORMS))
        self.solver = solver
        self.adversary_steps = adversary_steps
        self.step_size = None if step_size is None else check_number("step_size", step_size, positive=True)
        self.temperature = check_number("temperature", temperature)
        self.restarts = restarts
        self.guidance = check_number("guidance", guidance)
        self.rollouts = check_choice("rollouts", rollouts, ("clean", "attacked"))
        if settings.get("use_sde") and rollouts == "attacked":
            raise ValueError("rollouts is 'attacked' and use_sde is True; state-dependent noise needs rollouts='clean'.")
        self.clip_to_space = clip_to_space
        self.adversary_keys = adversary_keys
        super().__init__(policy, env, *args, **settings)

    # The paper.

    def adversary_objective(self, parameters: Parameters, batch: Minibatch | None, clean: Distribution) -> Objective:
        """What the inner problem maximises: minus the surrogate at the perturbed inputs.

        :param parameters: of the policy, held fixed
        :param batch: None while acting: there is no advantage yet, and the adversary lowers the value instead
        :param clean: pi(.|s)
        """
        policy = self.policy
        if batch is None:
            return negative(lambda inputs: policy.values(parameters, inputs))
        return negative(lambda inputs: self.surrogate(policy.action_distribution(parameters, inputs), batch)[0])

    def loss(self, parameters: Parameters, batch: Minibatch) -> tuple[Tensor, dict[str, Tensor]]:
        if self.perturb is None:
            return super().loss(parameters, batch)
        inputs = self.policy.preprocess(batch.observations)
        clean, values = self.evaluate(parameters, batch)
        fixed = detach(parameters)
        objective = self.adversary_objective(fixed, batch, clean)
        perturbed = self.perturb(objective, inputs, batch.scalars["epsilon"], batch.noise)  # held fixed below
        attacked = self.policy.action_distribution(parameters, perturbed)

        clean_surrogate, log_ratio = self.surrogate(clean, batch)
        clean_loss, robust_loss = -clean_surrogate.mean(), -self.surrogate(attacked, batch)[0].mean()
        guidance = batch.scalars.get("guidance", 0.0)  # 0: see scalars
        policy_loss = (robust_loss + guidance * clean_loss) / (1 + guidance)
        stats = {
            "policy_gradient_loss": policy_loss,
            **losses.ratio_statistics(log_ratio, batch.scalars["clip_range"]),
            "adversary/inner_kl": clean.kl(attacked).mean(),
            "adversary/surrogate_gap": robust_loss - clean_loss,
        }
        return self.total_loss(policy_loss, attacked, values, batch, stats)

    # Around it.

    def _new_update(self, compiled: bool = False) -> Update:
        self.compiled_search: Any = None  # it reads the vector of its update
        return super()._new_update(compiled)

    def _setup_model(self) -> None:
        super()._setup_model()
        self.perturb: Perturbation | None = None
        self._set_up_search()

    def _set_up_search(self) -> None:
        """Make what searches the ball, or leave it out where there is no ball."""
        before = self.perturb
        if self.epsilon == 0 or isinstance(self.solver, Withheld):
            self.perturb = None
        elif self.perturb is None:
            given = {"step_size": self.step_size, "temperature": self.temperature, "restarts": self.restarts}
            solver = make_solver(self.solver, steps=self.adversary_steps, **given)
            how = {"norm": self.norm, "clip_to_space": self.clip_to_space, "keys": self.adversary_keys, "device": self.device}
            make = partial(Perturbation, self.policy.preprocess, self.observation_space, **how)
            self.perturb, self.to_random_corner = make(solver=solver), make(solver=RandomCorner())
            example = tree_map(lambda leaf: np.asarray(leaf)[None], self.observation_space.sample())
            with torch.no_grad():
                self._example_input = self.policy.preprocess(to_tensor(example, self.device))
                self.perturb.try_out(self._example_input)
        if (self.perturb is None) != (before is None) and self.update.stat_names:
            self.update = self._new_update(self.update.compiled)  # the loss has other statistics from now on

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "perturb", "to_random_corner", "compiled_search", "_example_input"]

    def schedules(self) -> dict[str, float]:
        radius = ramped_radius(self.epsilon, self.epsilon_ramp, self._current_progress_remaining)
        return {**super().schedules(), "epsilon": radius}

    def scalars(self) -> dict[str, float]:
        """Without guidance the clean surrogate is compiled away; to take it up later is to compile once more."""
        found = super().scalars()
        return found if self.guidance else {name: value for name, value in found.items() if name != "guidance"}

    def draw_noise(self, batch_size: int) -> Any:
        if self.perturb is None:
            return None
        inputs = tree_map(lambda leaf: leaf.expand(batch_size, *leaf.shape[1:]), self._example_input)
        return self.perturb.draw(inputs, self.randomness.torch)

    def make_actor(self) -> Actor:
        if self.rollouts == "clean" or self.perturb is None:
            return super().make_actor()
        radius = torch.tensor(self.schedules()["epsilon"], device=self.device)
        search = self._rollout_search(self.perturb)
        memory = (self._env_memory, lambda: self._last_episode_starts)
        return attacked_actor(self.policy, self.perturb, search, radius, self.randomness.torch, *memory)

    def _rollout_search(self, perturb: Perturbation) -> Callable[[Any, Tensor, Any], Any]:
        """What finds the observations to act on, from inputs, radius and noise; compiled where the update is."""
        vector = self.update.vector

        def search(weights: Tensor, inputs: Any, radius: Tensor, noise: Any) -> Any:
            parameters = vector.named(weights)
            clean = self.policy.action_distribution(parameters, inputs)
            return perturb(self.adversary_objective(parameters, None, clean), inputs, radius, noise)

        if self.update.compiled:
            if self.compiled_search is None:
                self.compiled_search = compile_whole(search, self.device, otherwise=search if self.compile == "auto" else None)
            search = self.compiled_search
        return partial(search, vector.weights)

    def after_update(self, data: dict[str, Any], scalars: dict[str, Tensor]) -> None:
        """Log what the search gains over a random corner of the ball, on one minibatch."""
        if self.perturb is None:
            return
        generator = self.randomness.torch.clone_state()  # so the corner is that of the point from which the search begins
        rows = torch.as_tensor(self.first_rows(self.minibatch_size), device=self.device)
        batch = gather(data, rows, scalars, self.draw_noise(len(rows)))
        parameters, radius = detach(dict(self.policy.named_parameters())), scalars["epsilon"]
        with torch.no_grad():
            inputs = self.policy.preprocess(batch.observations)
            objective = self.adversary_objective(parameters, batch, self.policy.distribution_of(inputs))
            found = objective(self.perturb(objective, inputs, radius, batch.noise))
            direction = self.to_random_corner.draw(inputs, generator)
            corner = objective(self.to_random_corner(objective, inputs, radius, direction))
        self.logger.record("adversary/gain_over_random_corner", float((found - corner).mean()))
