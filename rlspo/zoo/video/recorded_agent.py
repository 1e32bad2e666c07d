"""One agent in its environment, recorded by a camera."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gymnasium.envs.registration import load_env_creator
from stable_baselines3.common.env_util import unwrap_wrapper
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from rlspo.zoo.envs.recipe import find_spec
from rlspo.zoo.evaluate.play import Episode, steps_of
from rlspo.zoo.evaluate.searching import actor_for
from rlspo.zoo.experts.mixture import check_mixture, expert_colours
from rlspo.zoo.runs.saved_agent import SavedAgent
from rlspo.zoo.video.camera import Camera, NoPictures, Snapshot
from rlspo.zoo.video.layout import View
from rlspo.zoo.video.pace import real_time
from rlspo.zoo.video.spec import Recording, VideoSpec

_MOST_STEPS = 1000
_LEAST_SECONDS = 8  # episodes of a young agent are short: show several
_LONGEST_EPISODE = 27_000  # steps, where the environment has no limit of its own; the usual one of Atari games
_PAUSE = 0.6  # seconds that the last picture of an episode stands


class RecordedAgent:
    """One agent in its environment, recorded by a camera.

    :param agent: to load and let act
    :param spec: what to record of it
    """

    def __init__(self, agent: SavedAgent, spec: VideoSpec) -> None:
        self.agent, self.spec = agent, spec
        self.model = agent.load(spec.device)
        self.env: VecEnv = agent.build_env(1, spec.seed, render_mode="rgb_array")
        agent.check_fit(self.model, self.env)
        if spec.experts:
            check_mixture(self.model)
        inner = self.env.unwrapped
        assert isinstance(inner, DummyVecEnv)
        inner.envs[0] = self.camera = Camera(inner.envs[0], spec.seen)
        monitor = unwrap_wrapper(self.camera, Monitor)
        assert isinstance(monitor, Monitor)
        self.monitor = monitor
        _use_tracking_camera(self.env)
        self.actor = actor_for(agent, self.model, self.env, spec.search, spec.deterministic, spec.seed)
        self.steps = 0
        self.episodes: list[Episode] = []
        self.pause = 0  # pictures for which the last one of an episode is still repeated
        self.over = False  # whether it has done all that was asked for
        self._stride, self._fps = 1, 1.0
        self._acting: Iterator[list[Episode]]

    @property
    def agent_name(self) -> str:
        """Name of the agent's class."""
        return type(self.model).__name__

    @property
    def recording(self) -> Recording:
        """The steps and episodes so far."""
        return Recording(str(self.agent.model_file), self.model.num_timesteps, self.steps, tuple(self.episodes))

    def begin(self, stride: int, fps: float) -> None:
        """Reset the environment and take the first picture.

        :param stride: steps between pictures
        :param fps: pictures per second
        """
        self._stride, self._fps = stride, fps
        self._acting = steps_of(self.actor, self.env, self.env.reset())
        self.view = self._look()

    @property
    def real_time(self) -> float:
        """Steps of the agent in a second of the environment's own time."""
        return real_time(self.camera)

    def advance(self) -> None:
        """Act until the next picture is due; repeat the last picture of an episode for a moment."""
        if self.over:
            return
        if self.pause > 0:
            self.pause -= 1
            if self.pause == 0:
                self.view = self._look()
            return
        for _ in range(self._stride):
            self.steps += 1
            ended = next(self._acting)
            self.episodes += ended
            self.over = self._enough(bool(ended))
            if ended:
                self.pause = max(1, round(_PAUSE * self._fps))
                self.view = self._view(self.camera.last, ended[0].total, ended[0].length, "ended at step")
                return
            if self.over:
                break
        self.view = self._look()

    def _enough(self, ended: bool) -> bool:
        """Whether the agent has done what was asked for.

        :param ended: whether an episode has just ended
        """
        if self.steps >= self._most_steps:
            return True
        if self.spec.episodes is not None:
            return len(self.episodes) >= self.spec.episodes
        return self.spec.steps is None and ended and self.steps >= _LEAST_SECONDS * self._fps * self._stride

    @property
    def share(self) -> float:
        """Share of the longest possible recording that is done, from 0 to 1."""
        if self.over:
            return 1.0
        of_episodes = len(self.episodes) / self.spec.episodes if self.spec.episodes else 0.0
        return max(of_episodes, self.steps / self._most_steps)

    @property
    def _most_steps(self) -> int:
        """Steps after which the recording stops in any case."""
        if self.spec.steps is not None:
            return self.spec.steps
        if self.spec.episodes is None:
            return _MOST_STEPS
        limit = self.monitor.spec.max_episode_steps if self.monitor.spec else None
        return self.spec.episodes * (limit or _LONGEST_EPISODE)

    def _look(self) -> View:
        """What the environment shows now."""
        return self._view(self.camera.look(), sum(self.monitor.rewards), len(self.monitor.rewards), "step")

    def _view(self, look: Snapshot | None, total: float, step: int, label: str) -> View:
        """A picture and the text above it."""
        assert look is not None
        steps = f"{self.model.num_timesteps:,} steps" + (", best" if self.agent.which == "best" else "")
        several = len(self.spec.agents) > 1
        how = "" if self.spec.search is None else ", by search"
        name = steps if several else f"{self.agent_name} on {self.agent.env}{how}, {steps}"
        frame, acting = self._expert()
        return View(look.image, name, f"return {_number(total)}", f"{acting}{label} {step:,}", look.lines, frame=frame)

    def _expert(self) -> tuple[str | None, str]:
        """Colour and name of the expert that acted last, if they are to be shown."""
        policy: Any = self.model.policy
        if not self.spec.experts or policy.acting_experts is None:
            return None, ""
        index = int(policy.acting_experts[0])
        return expert_colours(policy.n_experts)[index], f"expert {index}, "


def _number(value: float) -> str:
    """A return for people.

    >>> _number(57.0), _number(-3.14159), _number(12345.6)
    ('57', '-3.1', '12,346')
    """
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:,.1f}"


def render_modes(agent: SavedAgent) -> list[str] | None:
    """The render modes that the agent's environment declares; None where it declares none."""
    creator = find_spec(agent.recipe.env_id, agent.recipe.gym_packages).entry_point
    kind = load_env_creator(creator) if isinstance(creator, str) else creator
    metadata = getattr(kind, "metadata", None)
    return metadata.get("render_modes") if isinstance(metadata, dict) else None


def check_drawable(agent: SavedAgent) -> None:
    """Refuse an environment without the render mode ``rgb_array``.

    :raises NoPictures: if so
    """
    modes = render_modes(agent)
    if modes is not None and "rgb_array" not in modes:
        raise NoPictures(f"{agent.env} has no render mode 'rgb_array'")


def _use_tracking_camera(env: VecEnv) -> None:
    """Use the tracking camera of a MuJoCo model; gymnasium's default camera stays where the body started."""
    renderer = getattr(env.get_attr("unwrapped")[0], "mujoco_renderer", None)
    if renderer is None or renderer.camera_id != -1:
        return
    import mujoco

    renderer.camera_id = mujoco.mj_name2id(renderer.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
