"""Agents are found by name, those of other packages too."""

from pathlib import Path

import pytest

import rlspo
from rlspo.common.registry import agent_class, agent_names

AGENT = "from rlspo import PPO\nclass Cautious(PPO):\n    pass\nnumber = 3\n"


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs a package with the entry points given."""

    def install(*declarations: str, name: str = "other") -> None:
        site = tmp_path / name
        metadata = site / f"{name}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text("[rlspo.agents]\n" + "\n".join(declarations) + "\n")
        (site / f"{name}_agents.py").write_text(AGENT)
        monkeypatch.syspath_prepend(str(site))

    return install


def test_own_agents_are_found_in_any_case():
    assert {"ppo", "arpo", "barpo"} <= set(agent_names())
    assert agent_class("barpo") is rlspo.BARPO
    assert agent_class("BARPO") is rlspo.BARPO


def test_unknown_name_gets_the_nearest_and_all():
    with pytest.raises(ValueError, match=r"no agent 'barpi'. Did you mean 'barpo'\? Agents: .*arpo, barpo, .*ppo"):
        agent_class("barpi")


def test_other_package_adds_an_agent(other_package):
    other_package("cautious=other_agents:Cautious")
    assert "cautious" in agent_names()
    assert issubclass(agent_class("cautious"), rlspo.PPO)


def test_two_different_agents_of_one_name_are_rejected(other_package):
    other_package("ppo=other_agents:Cautious")
    with pytest.raises(ValueError, match=r"Two agents are called 'ppo'.*Uninstall one"):
        agent_names()


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ("other_agents:number", ValueError, "no subclass of stable-baselines3's BaseAlgorithm"),
        ("other_agents:Missing", ImportError, "cannot be imported"),
        ("not_there:Agent", ImportError, "cannot be imported"),
    ],
)
def test_entry_that_is_no_agent_is_explained(other_package, target, error, message):
    other_package(f"odd={target}")
    with pytest.raises(error, match=message):
        agent_class("odd")
