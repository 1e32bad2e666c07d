"""The first signal asks, the second insists."""

import contextlib
import signal
import threading
import time

import pytest

from rlspo.zoo.cli.signals import Stopped, StopSignal, TimeIsUp, time_limit


@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_first_signal_is_noted_and_second_raises(number, code, name):
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert stop.exit_code == 0
        signal.raise_signal(number)
        assert (stop.received, stop.exit_code, stop.name) == (number, code, name)
        with pytest.raises(Stopped):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_first_signal_raises_where_nothing_is_to_be_finished():
    with StopSignal() as stop:
        stop.patient = False
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)


def test_a_key_held_down_stops_once_and_a_later_press_again(monkeypatch):
    with StopSignal() as stop:
        stop.patient = False
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGINT)
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)  # would interrupt the ending of workers
        monkeypatch.setattr("rlspo.zoo.cli.signals._ENDING", 0.0)
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGINT)  # what hangs as it ends can be stopped


def test_nothing_interrupts_saving():
    with StopSignal() as stop:
        stop.deaf = True
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        assert stop.exit_code == 130


def test_code_that_catches_exceptions_does_not_catch_it():
    assert not issubclass(Stopped, Exception)


def test_other_threads_are_left_alone():
    before = signal.getsignal(signal.SIGINT)

    def enter() -> None:
        with StopSignal():
            assert signal.getsignal(signal.SIGINT) is before

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()


def test_time_that_is_up_is_told_once_and_leaves_no_alarm_behind():
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeIsUp), time_limit(0.05):
        time.sleep(5)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before
    with time_limit(60):
        pass
    with time_limit(None):
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_limit_inside_of_another_leaves_the_other_one_its_time():
    with time_limit(1000):
        for inner in (60, None):
            with time_limit(inner):
                assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= (inner or 1000)
            assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1000
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_outer_limit_holds_inside_and_is_not_lost_there():
    with pytest.raises(TimeIsUp), time_limit(0.05):
        with contextlib.suppress(TimeIsUp), time_limit(1000):
            time.sleep(20)
        time.sleep(20)
