"""One known line of MuJoCo's is dropped, everything else passes on."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mujoco")
ROOT = Path(__file__).parents[2]
CODE = """
import sys
sys.path.insert(0, {root!r})
{first}
import gymnasium
{second}
gymnasium.make("HalfCheetah-v5")
import mujoco
data_of = mujoco.MjModel.from_xml_string('<mujoco><worldbody><body><freejoint/><geom size="1"/></body></worldbody></mujoco>')
data = mujoco.MjData(data_of)
data.qvel[0] = float("nan")
mujoco.mj_step(data_of, data)
"""


@pytest.mark.parametrize(
    "order", [("import rlspo; assert 'mujoco' not in sys.modules", ""), ("import mujoco", "import rlspo")]
)
def test_the_harmless_line_is_dropped_and_others_pass_on(tmp_path: Path, order: tuple[str, str]) -> None:
    code = CODE.format(root=str(ROOT), first=order[0], second=order[1])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "settotalmass" not in done.stdout + done.stderr
    log = (tmp_path / "MUJOCO_LOG.TXT").read_text()
    assert (
        "settotalmass" not in log
        and "Nan, Inf or huge value in QVEL" in log
        and "Nan, Inf or huge value in QVEL" in done.stderr
    )
