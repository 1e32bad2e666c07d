"""What the docs say can be done: Python examples run as they stand, and the flags that they name exist."""

import ast
import inspect
import pkgutil
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from rlspo.envs.profiles import read_profile
from rlspo.envs.stori.tables import effects_of
from rlspo.zoo.cli import commands

ROOT = Path(__file__).parent.parent
#: What makes an example short: nothing else in it is changed.
SHORTER = {
    ".learn(1e6)": ".learn(1)",
    ".learn(2e5)": ".learn(1)",
    ".learn(1e4)": ".learn(1)",
    "epsilon=0.075).learn": "epsilon=0.075, n_steps=64).learn",
    "n_eval_episodes=50": "n_eval_episodes=1",
}
#: Pages whose examples are run.
PAGES = [
    "README.md",
    "docs/agents.md",
    "docs/arpo_barpo.md",
    "docs/quickstart.md",
    "docs/spo.md",
    "docs/coming_from_sb3.md",
    "docs/installing.md",
    "docs/moe.md",
    "docs/own_agent.md",
    "docs/own_environment.md",
    "docs/own_policy.md",
    "docs/pdppo.md",
    "docs/post_decision.md",
    "docs/puzzles.md",
    "docs/sac.md",
    "docs/simulators.md",
    "docs/stochastic.md",
    "docs/stori.md",
    "docs/trust.md",
    "docs/zoo_plot.md",
]
#: Dotted names on the pages that are no names of Python.
NO_NAMES = {"rlspo.agents", "rlspo.parts"}


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("mujoco", "ale_py"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks(ROOT / page)
    assert blocks
    names: dict[str, Any] = {}
    for block in blocks:
        for long, short in SHORTER.items():
            block = block.replace(long, short)
        exec(compile(block, page, "exec"), names)


def is_known(name: str) -> bool:
    """Whether a dotted name is that of a module, or of something in one."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))]
)
def test_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    names = {*re.findall(r"`(rlspo(?:\.\w+)+)", text)} - NO_NAMES
    for module, imported in re.findall(r"^from (rlspo[\w.]*) import ([\w, ]+)", text, flags=re.MULTILINE):
        names |= {f"{module}.{name.strip()}" for name in imported.split(",")}
    assert [name for name in sorted(names) if not is_known(name)] == []


def flags_in(words: str) -> list[str]:
    """Words that begin as flags do."""
    return [word for word in shlex.split(words) if re.match(r"--?[a-zA-Z]", word)]


def flags_after_commands(text: str) -> set[tuple[str, str]]:
    """Command and flag for each `rlspo COMMAND --flag` in inline code or at the start of a line, as in a code block."""
    calls = re.findall(r"`rlspo ([a-z]+)([^`\n]*)`", text) + re.findall(r"^rlspo ([a-z]+)(.*)$", text, flags=re.MULTILINE)
    # All have --help: so a command that is named alone is among them, too.
    return {(command, flag) for command, words in calls for flag in ["--help", *flags_in(words)]}


def flags_in_columns(text: str) -> set[tuple[str, str]]:
    """Command and flag for each flag in a column of a table that a command heads; "same" means those of the first cell."""
    found: set[tuple[str, str]] = set()
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        header, _, *rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
        for place, head in enumerate(header):
            if command := re.fullmatch(r"`rlspo ([a-z]+)`", head):
                cells = [row[1] if row[place] == "same" else row[place] for row in rows]
                codes = re.findall(r"`(-[^`]+)`", " ".join(cells))
                found |= {(command[1], flag) for code in codes for flag in flags_in(code)}
    return found


def flags_of(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """All flags that the help of a command lists."""
    with pytest.raises(SystemExit):
        commands.main([command, "--help"])
    listed = re.findall(r"^  (-.+?)(?:  |$)", capsys.readouterr().out, flags=re.MULTILINE)
    return {flag for line in listed for flag in flags_in(line.replace(",", " "))}


@pytest.mark.parametrize("page", ["coming_from_rl_zoo3.md"])
def test_flags_exist(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = flags_after_commands(text) | flags_in_columns(text)
    mentioned = {command for command, _ in named}
    assert mentioned <= commands.COMMANDS.keys()
    existing = {(command, flag) for command in mentioned for flag in flags_of(command, capsys)}
    assert sorted(named - existing) == []


def test_flags_are_found_in_a_page() -> None:
    page = """
Text with `rlspo plot logs --kind bars` in it.

| theirs | `rlspo train` | difference |
|---|---|---|
| `-n`, `--steps` | same | `--max` is theirs |
| `--gif` | `-o NAME.gif` | or `rlspo record -x` |

| one | `--two` |
|---|---|

```bash
rlspo tune --algo ppo -params gamma:-1
```
"""
    assert flags_in_columns(page) == {("train", "-n"), ("train", "--steps"), ("train", "-o")}
    expected = {("plot", "--kind"), ("record", "-x"), ("tune", "--algo"), ("tune", "-params")}
    assert flags_after_commands(page) - {(command, "--help") for command in commands.COMMANDS} == expected


def rows_of_games(text: str) -> dict[tuple[str, str], str]:
    """The column of modes by game and effect, of the table that has these three columns."""
    table = text.partition("| game | effect | modes |\n|---|---|---|\n")[2].partition("\n\n")[0]
    found: dict[tuple[str, str], str] = {}
    game = ""
    for line in table.splitlines():
        first, effect, modes = (cell.strip() for cell in line.strip("|").split("|"))
        game = first or game
        found[game, effect.split("`")[1]] = modes
    return found


def test_the_page_of_stori_lists_every_effect_and_mode() -> None:
    text = (ROOT / "docs" / "stori.md").read_text(encoding="utf-8")
    rows = rows_of_games(text)
    titles = {"breakout": "Breakout", "boxing": "Boxing", "gopher": "Gopher", "bank_heist": "BankHeist"}
    for kind in ("1", "2.1", "2.2", "3.2"):
        generic = effects_of(kind, "pong")
        assert [name for name in generic if f"`{name}`" not in text] == []
        for game, title in titles.items():
            for name, effect in effects_of(kind, game).items():
                if name not in generic:
                    listed = ", ".join(f"{number} `{mode}`" for number, mode in vars(effect)["modes"].items())
                    assert rows[title, name] == listed


def test_the_page_of_stochastic_control_lists_every_effect_and_setting() -> None:
    from rlspo.envs.stochastic.tables import EFFECTS

    text = (ROOT / "docs" / "stochastic.md").read_text(encoding="utf-8")
    rows = {
        cells[2]: cells
        for cells in ([cell.strip() for cell in line.split("|")] for line in text.splitlines())
        if len(cells) == 6
    }
    for kind, table in EFFECTS.items():
        for name, effect in table.items():
            row = next(cells for head, cells in rows.items() if f"`{name}`" in head)
            settings = [each for each in inspect.signature(effect).parameters if each != "task"]
            assert [each for each in settings if f"`{each}`" not in row[4]] == [], (kind, name)


def test_the_page_of_stochastic_control_says_what_the_profiles_do() -> None:
    text = (ROOT / "docs" / "stochastic.md").read_text(encoding="utf-8")
    for kind in ("1", "2.1", "2.2", "3.1", "3.2"):
        assert f"| {kind} | {read_profile(f'continuous-{kind}')['description']} |" in text


def said_in_code() -> str:
    """All texts of the package, one to a line; what is filled in is an ellipsis."""
    found: list[str] = []
    for file in (ROOT / "rlspo").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.ClassDef):
                found.append(node.name)
    return "\n".join(text.replace("\n", " ") for text in found)


def test_messages_in_troubleshooting_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    terms = re.findall(r"^(`.*)\n: ", page, flags=re.MULTILINE)
    assert len(terms) > 25
    said = said_in_code()
    for term in terms:
        for message in re.findall(r"(`+)(.+?)\1(?=, `|$)", term):
            if "No module named" not in message[1] and "has no attribute" not in message[1]:  # Python's own
                pattern = ".*".join(re.escape(part) for part in message[1].strip("… ").split("…"))
                assert re.search(pattern, said), message[1]


def test_pages_need_no_network(tmp_path: Path) -> None:
    """A page as the site's settings make it: equations are MathML, and nothing is loaded from elsewhere."""
    sphinx = pytest.importorskip("sphinx.application")
    pytest.importorskip("furo")
    pytest.importorskip("myst_parser")
    (tmp_path / "index.md").write_text("# Page\n\n$s'_i$ and\n\n$$\n\\max_a \\hat A_i\n$$\n", encoding="utf-8")
    folders = (tmp_path, ROOT / "docs", tmp_path / "html", tmp_path / "doctrees")
    app = sphinx.Sphinx(*folders, "html", status=None, warning=None, freshenv=True)
    app.build()
    page = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    assert page.count("<math") == 2 and "\u2032" in page
    assert "<msub>" in page, "the index of an accented letter stands beside it"
    loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]+)"|<link[^>]* href="([^"]+)"', page)
    assert [link for links in loaded for link in links if re.match(r"(https?:)?//", link)] == []
