"""What the docs say can be done: Python examples run as they stand, and the flags that they name exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from rlspo.zoo import cli

ROOT = Path(__file__).parent.parent
#: What makes an example short: nothing else in it is changed.
SHORTER = {".learn(1e6)": ".learn(1)", "n_eval_episodes=50": "n_eval_episodes=1"}


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md", "docs/coming_from_sb3.md"])
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


def flags_in(words: str) -> list[str]:
    """Words that begin as flags do."""
    return [word for word in shlex.split(words) if re.match(r"--?[a-zA-Z]", word)]


def flags_named(text: str) -> set[tuple[str, str]]:
    """Command and flag, wherever a page names both: in inline code, in a line of a code block, and in a column of a table
    that is headed by a command. There, "same" stands for the flags of the row's first cell."""
    named = set()
    calls = re.findall(r"`rlspo ([a-z]+)([^`\n]*)`", text) + re.findall(r"^rlspo ([a-z]+)(.*)$", text, flags=re.MULTILINE)
    for command, rest in calls:
        named |= {(command, flag) for flag in flags_in(rest)} | {(command, "--help")}
    place, command = -1, ""
    for line in text.splitlines():
        cells = line.split("|")
        heads = [
            (number, found[1]) for number, cell in enumerate(cells) if (found := re.fullmatch(r" `rlspo ([a-z]+)` ", cell))
        ]
        if len(cells) < 3:
            place = -1
        elif place < 0:
            place, command = heads[0] if heads else (len(cells), "")
        elif place < len(cells):
            source = cells[1] if cells[place].strip() == "same" else cells[place]
            named |= {(command, flag) for code in re.findall(r"`(-[^`]+)`", source) for flag in flags_in(code)}
    return named


def flags_of(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """All flags that the help of a command lists."""
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    listed = re.findall(r"^  (-.+?)(?:  |$)", capsys.readouterr().out, flags=re.MULTILINE)
    return {flag for line in listed for flag in flags_in(line.replace(",", " "))}


@pytest.mark.parametrize("page", ["coming_from_rl_zoo3.md"])
def test_flags_exist(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    named = flags_named((ROOT / "docs" / page).read_text(encoding="utf-8"))
    commands = {command for command, _ in named}
    assert commands <= cli.COMMANDS.keys()
    existing = {(command, flag) for command in commands for flag in flags_of(command, capsys)}
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
    assert {pair for pair in flags_named(page) if pair[1] != "--help"} == {
        *(("plot", "--kind"), ("train", "-n"), ("train", "--steps"), ("train", "-o"), ("record", "-x")),
        *(("tune", "--algo"), ("tune", "-params")),
    }
