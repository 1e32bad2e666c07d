"""What TensorBoard shows of a run, read back from its files as TensorBoard reads them."""

import json
import signal
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

from rlspo.zoo.errors import UserError
from rlspo.zoo.runs.folder import RunFolder
from rlspo.zoo.train import summary
from rlspo.zoo.train.tensorboard import animated_gif, claim_folder, flat, release_folder
from rlspo.zoo.video import render

RUN = "ppo/Ledger-v0_1/tensorboard/ppo_1"
SUCCESS, FAILURE, UNKNOWN = api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_UNKNOWN


class Board:
    """TensorBoard's own view of a folder."""

    def __init__(self, folder: Path) -> None:
        self.events = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(folder))
        self.events.Reload()
        provider = data_provider.MultiplexerDataProvider(self.events, str(folder))
        self.context = backend_context.Context(TBContext(data_provider=provider))

    def runs(self) -> list[str]:
        return sorted(self.events.Runs())

    def scalars(self, run: str) -> dict[str, list[tuple[int, float]]]:
        tags = [tag for tag in self.events.Runs()[run]["tensors"] if not tag.startswith(("_hparams_", "clip"))]
        return {tag: [(e.step, float(e.tensor_proto.float_val[0])) for e in self.events.Tensors(run, tag)] for tag in tags}

    def columns(self) -> tuple[dict[str, bool], list[str]]:
        """Settings, with whether they differ between runs, and metrics, in the order of the table."""
        found = get_experiment.Handler(RequestContext(), self.context, "", api_pb2.GetExperimentRequest()).run()
        return {info.name: info.differs for info in found.hparam_infos}, [info.name.tag for info in found.metric_infos]

    def rows(self) -> dict[str, tuple[dict, dict, int]]:
        """Run to settings, metrics and status."""
        request = api_pb2.ListSessionGroupsRequest(slice_size=100, allowed_statuses=[SUCCESS, FAILURE, UNKNOWN])
        answer = list_session_groups.Handler(RequestContext(), self.context, "", request).run()
        return {
            group.sessions[0].name: (
                {name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()},
                {metric.name.tag: metric.value for metric in group.metric_values},
                group.sessions[0].status,
            )
            for group in answer.session_groups
        }


@pytest.fixture
def video(monkeypatch):
    """A video of 40 pictures that turn from black to white, instead of one of the agent."""

    def fake(folder: RunFolder) -> None:
        frames = [np.full((300, 420, 3), round(255 * k / 39), np.uint8) for k in range(40)]
        imageio.mimwrite(folder.video, frames, fps=20, macro_block_size=2)

    monkeypatch.setattr(render, "record_run", fake)


@pytest.fixture
def no_film(monkeypatch):
    monkeypatch.setattr(render, "record_run", lambda folder: "not in this test")


def test_table_of_one_run_has_its_settings_and_its_results(train, no_film):
    changes = ["policy_kwargs:{net_arch: [8, 8], activation_fn: relu}", "learning_rate:lin_1e-3"]
    assert train("--eval-freq", "32", "--env-kwargs", "pay:2.0", "-params", *changes)[0] == 0
    board = Board(Path("logs"))
    settings, metrics, status = board.rows()[RUN]
    expected = {
        "algo": "ppo",
        "env": "Ledger-v0",
        "seed": 0,
        "n_timesteps": 64,
        "gamma": 0.99,
        "learning_rate": "lin_1e-3",
        "policy_kwargs.net_arch": "[8, 8]",
        "policy_kwargs.activation_fn": "relu",
        "env_kwargs.pay": 2.0,
        "normalize_advantage": True,
    }
    assert {name: settings[name] for name in expected} == expected
    assert isinstance(settings["normalize_advantage"], bool)
    assert "target_kl" not in settings  # off
    assert status == SUCCESS
    for name in ("eval_return", "best_eval_return", "train_return", "natural_return", "attacked_return"):
        assert metrics[f"Result/{name}"] == 20
    assert metrics["Result/under_mad_attack"] == 20
    assert metrics["Result/steps_per_second"] > 0
    assert board.scalars(RUN)["eval/mean_reward"] == [(32, 20), (64, 20)]
    assert board.scalars(RUN)["Result/natural_return"] == [(64, 20)]


def test_results_come_first_in_the_table(train, no_film):
    assert train(algo="barpo")[0] == 0
    _, metrics = Board(Path("logs")).columns()
    assert metrics[:5] == [
        f"Result/{name}"
        for name in ("attacked_return", "best_eval_return", "eval_return", "natural_return", "steps_per_second")
    ]


def test_table_of_several_agents_has_the_settings_of_each(train):
    for algo in ("ppo", "barpo"):
        assert train("--no-report", algo=algo)[0] == 0
    board = Board(Path("logs"))
    assert board.runs() == ["barpo/Ledger-v0_1/tensorboard/barpo_1", RUN]
    differs, _ = board.columns()
    assert differs["algo"] is True
    assert differs["gamma"] is False
    rows = board.rows()
    assert rows["barpo/Ledger-v0_1/tensorboard/barpo_1"][0]["epsilon"] == 0.075
    assert "epsilon" not in rows[RUN][0]


def test_best_and_last_evaluation_are_told_apart(train, monkeypatch):
    import zoo_environments

    step = zoo_environments.Ledger.step

    def wearing_out(self, action):
        """Environments of evaluation pay a little less with every step."""
        observation, pay, *rest = step(self, action)
        return observation, pay - 0.01 * self.total if self.pay == 2.0 else pay, *rest

    monkeypatch.setattr(zoo_environments.Ledger, "step", wearing_out)
    assert train("--eval-freq", "32", "--eval-episodes", "1", "--no-report", "--eval-env-kwargs", "pay:2.0")[0] == 0
    _, metrics, _ = Board(Path("logs")).rows()[RUN]
    assert metrics["Result/best_eval_return"] == pytest.approx(20 - 0.55)
    assert metrics["Result/eval_return"] == pytest.approx(20 - 1.55)
    assert metrics["Result/train_return"] == 10
    assert "Result/natural_return" not in metrics


def test_one_run_is_one_event_file_with_every_update(train, video):
    assert train("--eval-freq", "-1", "--tensorboard-video")[0] == 0
    assert len([*Path("logs").rglob("events.*")]) == 1
    scalars = Board(Path("logs")).scalars(RUN)
    # Four rollouts: what SB3 logs after an update is written with the next rollout, and the last one at the end.
    assert [step for step, _ in scalars["train/value_loss"]] == [32, 48, 64, 64]
    for phase in ("collect", "update", "evaluate"):
        seconds = [value for _, value in scalars[f"time/{phase}_seconds"]]
        assert len(seconds) == 5
        assert seconds == sorted(seconds)
    assert scalars["time/evaluate_seconds"][-1][1] == 0


@pytest.mark.parametrize(
    ("flags", "code", "status"), [(["fail_at:40"], 1, FAILURE), (["signal_at:40"], 130, UNKNOWN)], ids=["failed", "stopped"]
)
def test_a_run_cut_short_says_so_and_keeps_what_it_knows(train, flags, code, status):
    assert train("--eval-freq", "16", "--eval-episodes", "1", "--env-kwargs", *flags)[0] == code
    _, metrics, given = Board(Path("logs")).rows()[RUN]
    assert given == status
    assert metrics["Result/eval_return"] == 10
    assert "Result/natural_return" not in metrics


def test_a_second_signal_during_the_report_still_ends_the_log(train, monkeypatch):
    monkeypatch.setattr(summary, "evaluate_attacked", lambda *args: signal.raise_signal(signal.SIGTERM))
    assert train()[0] == 143
    assert Board(Path("logs")).rows()[RUN][2] == UNKNOWN
    assert json.loads(Path("logs/ppo/Ledger-v0_1/status.json").read_text())["state"] == "done"


def test_resumed_run_shows_the_settings_of_its_agent(train):
    assert train("--no-report", "-params", "gamma:0.5")[0] == 0
    assert train("--no-report", "-i", "logs/ppo/Ledger-v0_1/last_model.zip", "-n", "16", params=["n_envs:1"])[0] == 0
    board = Board(Path("logs"))
    assert board.runs() == [RUN, "ppo/Ledger-v0_2/tensorboard/ppo_1"]
    settings = board.rows()["ppo/Ledger-v0_2/tensorboard/ppo_1"][0]
    assert (settings["gamma"], settings["n_steps"], settings["n_epochs"]) == (0.5, 16, 1)
    assert settings["trained_agent"] == "logs/ppo/Ledger-v0_1/last_model.zip"
    assert board.scalars("ppo/Ledger-v0_2/tensorboard/ppo_1")["rollout/ep_rew_mean"] == [(80, 10)]


def test_shared_folder_names_runs_by_their_folders(train):
    for flags in ([], [], ["--run-folder", "mine"], ["--run-folder", "other/mine"]):
        assert train("--no-report", "--eval-freq", "-1", "-tb", "board", *flags)[0] == 0
    assert Board(Path("board")).runs() == ["ppo/Ledger-v0_1", "ppo/Ledger-v0_2", "ppo/mine", "ppo/mine_2"]
    assert not [*Path("logs").rglob("events.*")]


def test_clip_is_a_small_video_among_the_images(train, video):
    code, _, errors = train("--no-report", "--tensorboard-video")
    assert (code, "skipped" in errors) == (0, False)
    board = Board(Path("logs"))
    (event,) = board.events.Tensors(RUN, "clip/last_model")
    width, height, gif = event.tensor_proto.string_val
    assert (event.step, width, height) == (64, b"336", b"240")
    Path("clip.gif").write_bytes(gif)
    with Image.open("clip.gif") as clip:
        assert (clip.format, clip.n_frames, clip.info["duration"]) == ("GIF", 20, 100)
        brightness = []
        for index in range(clip.n_frames):
            clip.seek(index)
            brightness.append(float(np.asarray(clip.convert("L")).mean()))
    assert brightness == sorted(brightness)
    assert brightness[0] < 10 < 240 < brightness[-1]


def test_a_video_that_fails_is_one_line(train, monkeypatch):
    monkeypatch.setattr(render, "record_run", lambda folder: "no camera")
    code, _, errors = train("--no-report", "--tensorboard-video")
    assert (code, "video skipped: no camera" in errors) == (0, True)
    monkeypatch.setattr(render, "record_run", lambda folder: folder.video.write_bytes(b"no video") and None)
    code, _, errors = train("--no-report", "--tensorboard-video")
    assert (code, "clip skipped: " in errors) == (0, True)
    assert Board(Path("logs")).rows()[RUN][2] == SUCCESS


def test_all_logs_side_by_side(train, no_film):
    assert train("--eval-freq", "32", "--log-format", "csv", "json", "tensorboard", "log", "--verbose", "1")[0] == 0
    run = Path("logs/ppo/Ledger-v0_1")
    rows = [json.loads(line) for line in (run / "progress.json").read_text().splitlines()]
    assert [row["eval/mean_reward"] for row in rows if "eval/mean_reward" in row] == [10, 10]
    assert (rows[-1]["Result/natural_return"], rows[-1]["time/total_timesteps"]) == (10, 64)
    table = np.genfromtxt(run / "progress.csv", delimiter=",", names=True, deletechars="")
    assert len(table) == len(rows)
    assert table["Result/natural_return"][-1] == 10
    assert table["time/total_timesteps"][-1] == 64
    assert "natural_return" in (run / "log.txt").read_text()
    assert Board(Path("logs")).rows()[RUN][1]["Result/natural_return"] == 10


def test_tables_end_with_training(train, no_film):
    _, output, _ = train("--verbose", "1", "--eval-freq", "-1")
    assert output.count("collect_seconds") == 4
    assert "Result/" not in output


def test_without_tensorboard(train):
    code, output, _ = train("--no-report", "--log-format", "csv")
    run = Path("logs/ppo/Ledger-v0_1")
    assert (code, "TensorBoard" in output) == (0, False)
    assert (run / "progress.csv").is_file()
    assert not (run / "tensorboard").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--log-format", "xml"], "invalid choice: 'xml'"),
        (["--log-format", "csv", "-tb", "board"], "--tensorboard-log: --log-format leaves tensorboard out"),
        (["--log-format", "csv", "--tensorboard-video"], "--tensorboard-video: --log-format leaves tensorboard out"),
        (["-tb", "taken"], "--tensorboard-log: cannot make taken/ppo/Ledger-v0_1: Not a directory"),
    ],
)
def test_mistakes_are_one_message_and_leave_nothing(train, flags, message):
    Path("taken").write_text("a file")
    code, _, errors = train(*flags)
    assert (code, message in errors) == (2, True)
    assert {path.name for path in Path().iterdir()} == {"taken"}


def test_a_folder_of_events_is_claimed_once(workplace):
    folder = RunFolder.at(workplace / "runs" / "a", workplace / "board")
    assert claim_folder(folder, "ppo") == workplace / "board" / "ppo" / "a"
    second = claim_folder(folder, "ppo")
    assert second == workplace / "board" / "ppo" / "a_2"
    release_folder(second)
    assert [path.name for path in (workplace / "board" / "ppo").iterdir()] == ["a"]
    (workplace / "board" / "ppo" / "a_2").write_text("in the way")
    with pytest.raises(UserError, match="a_2 exists and is not a folder"):
        claim_folder(folder, "ppo")


def test_settings_that_json_cannot_hold_are_text():
    assert flat({"clip": float("inf"), "kinds": ["a"], "empty": [], "inner": {"off": None}}) == {
        "clip": "inf",
        "kinds": '["a"]',
    }


def test_a_long_film_is_cut_and_a_small_one_not_enlarged(workplace):
    imageio.mimwrite("long.mp4", [np.zeros((64, 96, 3), np.uint8)] * 400, fps=25, macro_block_size=2)
    gif, height, width = animated_gif(Path("long.mp4"))
    assert (height, width) == (64, 96)
    Path("clip.gif").write_bytes(gif)
    with Image.open("clip.gif") as clip:
        seconds = 0
        for index in range(clip.n_frames):
            clip.seek(index)
            seconds += clip.info["duration"] / 1000
    assert seconds == pytest.approx(10, rel=0.05)
