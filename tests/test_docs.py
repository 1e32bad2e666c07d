"""The Python examples of the pages that a newcomer reads first run as they stand, for a few steps."""

import re
from pathlib import Path
from typing import Any

import pytest

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
