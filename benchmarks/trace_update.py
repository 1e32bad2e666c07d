"""How many Python functions lie between an observation and a gradient: what a reader of an agent has to follow.

    python benchmarks/trace_update.py            # a table
    python benchmarks/trace_update.py --list PPO # the functions of one agent, by file

Counted are the distinct functions that run while an agent chooses one action, and then takes one eager gradient step:
rlspo's own, SB3's, and those of all other packages and of Python. A function that runs often counts once, lambdas count,
comprehensions do not. What the environment does is not counted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import stable_baselines3
import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

import rlspo

Function = tuple[str, str, int]
FOLDERS = [str(Path(package.__file__ or "").parent) for package in (rlspo, stable_baselines3)]
POST_DECISION = "rlspo/FrozenLakePostDecision-v0"


def on_policy(agent: type, policy: str = "MlpPolicy", env: str = "Pendulum-v1", **kwargs: Any) -> Callable[[], Any]:
    return lambda: agent(policy, env, n_steps=64, batch_size=64, n_epochs=1, device="cpu", seed=0, **kwargs)


def off_policy(agent: type, policy: str = "MlpPolicy", **kwargs: Any) -> Callable[[], Any]:
    return lambda: agent(policy, "Pendulum-v1", learning_starts=10, batch_size=16, device="cpu", seed=0, **kwargs)


AGENTS: dict[str, Callable[[], Any]] = {
    "SB3 PPO": on_policy(stable_baselines3.PPO),
    "PPO": on_policy(rlspo.PPO, compile=False),
    "PPO, mixture": on_policy(rlspo.PPO, "MoeMlpPolicy", compile=False),
    "ARPO": on_policy(rlspo.ARPO, compile=False),
    "BARPO": on_policy(rlspo.BARPO, compile=False),
    "PDPPO": on_policy(rlspo.PDPPO, env=POST_DECISION, compile=False),
    "SB3 SAC": off_policy(stable_baselines3.SAC),
    "SAC": off_policy(rlspo.SAC, compile=False),
    "SAC, mixture": off_policy(rlspo.SAC, "MoeMlpPolicy", compile=False),
}


class Trace:
    """Notes the functions that run within it."""

    def __init__(self) -> None:
        self.functions: set[Function] = set()

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and not code.co_name.endswith(("comp>", "genexpr>")):
            self.functions.add((code.co_filename, code.co_qualname, code.co_firstlineno))

    def __enter__(self) -> Trace:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)


def functions(agent: Any) -> set[Function]:
    """The functions of one action and of one gradient step, of an agent that has done both before."""
    agent.learn(64)  # what happens once only is no part of it
    trace = Trace()
    observation = agent.env.reset()
    if isinstance(agent, OffPolicyAlgorithm):
        agent._last_obs = observation
        with trace:
            agent._sample_action(0)
            agent.train(1, 16)
        return trace.functions
    agent.policy.set_training_mode(False)
    with trace, torch.no_grad():
        if isinstance(agent, stable_baselines3.PPO):
            agent.policy(torch.as_tensor(observation))
        else:
            agent.make_actor()(observation)
    with trace:
        agent.train()
    return {one for one in trace.functions if one[0] != __file__}


def counts(found: set[Function]) -> list[int]:
    """Functions and files: all, and those of rlspo and of SB3."""
    own, base = ({one for one in found if one[0].startswith(folder)} for folder in FOLDERS)
    return [number for some in (found, own, base) for number in (len(some), len({file for file, *_ in some}))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", metavar="AGENT", choices=AGENTS, help="print the functions of one agent")
    chosen = parser.parse_args().list
    if chosen:
        for file, name, line in sorted(functions(AGENTS[chosen]())):
            print(f"{file}:{line} {name}")
        return
    print("| agent | functions | files | of these rlspo's | files | SB3's | files |\n|---|---|---|---|---|---|---|")
    for name, make in AGENTS.items():
        print("| " + " | ".join([name, *map(str, counts(functions(make())))]) + " |")


if __name__ == "__main__":
    main()
