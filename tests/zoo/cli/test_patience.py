"""What a run can do without fails, is told once, and catches up."""

import errno
import os
import sys

import pytest
from stable_baselines3.common.logger import Logger, make_output_format

from rlspo.zoo.cli.patience import BestEffort, PatientFile, patient_streams
from rlspo.zoo.evaluate import command as evaluate
from rlspo.zoo.train import command as train
from rlspo.zoo.train.logbook import _Patient


class FullDisk:
    """A raw file that takes so many bytes of each write, while it takes any."""

    def __init__(self, file, room=0):
        self.file, self.room = file, room

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(bytes(data)[: self.room])


def test_what_fails_is_told_once_and_again_after_it_has_worked(capsys):
    effort = BestEffort("a picture")
    for fails in (False, True, True, False, True):
        with effort:
            if fails:
                raise ValueError("no paint")
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[2].strip() for line in said] == [
        "ValueError: no paint. The run goes on, and tries it again.",
        "works again.",
        "ValueError: no paint. The run goes on, and tries it again.",
    ]


def test_a_stop_is_no_failure():
    with pytest.raises(KeyboardInterrupt), BestEffort("a picture"):
        raise KeyboardInterrupt


def test_lines_come_in_order_and_whole_once_there_is_room(tmp_path, capsys):
    file = PatientFile(tmp_path / "0.monitor.csv")
    file.write("first\n")
    disk = file._file = FullDisk(file._file)
    for number in range(5000):  # more than any buffer holds
        file.write(f"{number}\n")
    disk.room = 3
    file.write("last\n")
    file.close()
    lines = (tmp_path / "0.monitor.csv").read_text().split()
    assert lines == ["first", *map(str, range(5000)), "last"]
    said = capsys.readouterr().err
    assert said.count("No space left") == 1 and said.count("works again") == 1


@pytest.mark.parametrize("kind", ["csv", "json", "log"])
def test_logs_survive_a_full_disk(kind, tmp_path, capsys):
    output = make_output_format(kind, str(tmp_path))
    patient = _Patient(output)
    logger = Logger(str(tmp_path), [patient])

    def dump(step, **more):
        for key, value in {"time/steps": step, **more}.items():
            logger.record(key, value)
        logger.dump(step)

    dump(1)
    write = output.write

    def full(*args):
        if kind == "csv":
            output.keys.append("loss")  # as SB3 does before it writes them
        raise OSError(errno.ENOSPC, "No space left on device")

    output.write = full
    dump(2, loss=0.5)
    dump(3, loss=0.4)
    output.write = write
    dump(4, loss=0.3)
    logger.close()
    content = next(tmp_path.iterdir()).read_text()
    assert "0.3" in content
    if kind == "csv":
        assert content.splitlines()[0].split(",") == ["time/steps", "loss"]
    assert capsys.readouterr().err.count("No space left") == 1


def test_a_reader_that_goes_away_ends_nothing(monkeypatch):
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with patient_streams():
            print("read", flush=True)
            os.close(reader)
            for _ in range(3):
                print("not read", flush=True)
        assert sys.stdout is stream
        stream.write("goes nowhere")  # no exit code 120 when Python flushes at its end


def test_a_full_disk_costs_lines_of_output_only(monkeypatch, tmp_path):
    class Full:
        closed, lines = False, []

        def write(self, text):
            if text == "lost":
                raise OSError(errno.ENOSPC, "No space left on device")
            self.lines.append(text)

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stderr", Full())
    with patient_streams():
        for text in ("first", "lost", "last"):
            sys.stderr.write(text)
    assert Full.lines == ["first", "last"]


def test_a_daemon_has_no_streams(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with patient_streams():
        print("goes nowhere", file=sys.stderr, flush=True)
        assert sys.stdout.write("text") == 4
    assert sys.stdout is None and sys.stderr is None
    words = ["--algo", "ppo", "--env", "CartPole-v1", "-n", "32", "--eval-freq", "16", "--eval-episodes", "1", "--no-report"]
    assert train.main([*words, "-params", "n_envs:1", "n_steps:16", "batch_size:16", "n_epochs:1"]) == 0
    assert evaluate.main(["logs/ppo/CartPole-v1_1", "-n", "1"]) == 0
