"""A display counts only if somebody answers there."""

import socket

import pytest

from rlspo.zoo.video import screen


@pytest.fixture(autouse=True)
def linux(monkeypatch):
    monkeypatch.setattr(screen.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_no_display_is_named():
    assert screen.no_screen() == "there is no display (DISPLAY and WAYLAND_DISPLAY are not set)"


def test_a_display_without_a_server(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":6543")
    assert screen.no_screen() == "the display :6543 does not answer"
    monkeypatch.setenv("DISPLAY", "nonsense")
    assert screen.no_screen() == "the display nonsense does not answer"


def test_wayland_answers(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", ".")  # paths of sockets must be short
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-9")
    assert screen.no_screen() == "the display wayland-9 does not answer"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("wayland-9")
        server.listen()
        assert screen.no_screen() is None


def test_x11_over_the_network_answers(monkeypatch):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        monkeypatch.setenv("DISPLAY", f"127.0.0.1:{server.getsockname()[1] - 6000}.0")
        assert screen.no_screen() is None


def test_other_systems_have_a_screen(monkeypatch):
    monkeypatch.setattr(screen.sys, "platform", "darwin")
    assert screen.no_screen() is None
