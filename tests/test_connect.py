"""Sockets with real paths and real peers."""

from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from plait.connect import bind, connect, peer_uid
from tests.support.processes import fork


def deep(directory: Path, length: int) -> Path:
    while len(os.fsencode(directory)) < length:
        directory = directory / ("d" * 50)
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.mark.parametrize("length", [10, 300, 1500])
def test_a_path_of_any_length_carries_bytes_both_ways(tmp_path: Path, length: int) -> None:
    path = deep(tmp_path, length) / "control"
    with bind(path) as listener:
        listener.listen()
        with connect(path) as client:
            server, _ = listener.accept()
            with server:
                client.sendall(b"ping")
                assert server.recv(4) == b"ping"
                server.sendall(b"pong")
                assert client.recv(4) == b"pong"


@pytest.mark.parametrize("length", [10, 300])
def test_the_socket_is_closed_to_others_whatever_the_umask(tmp_path: Path, length: int) -> None:
    path = deep(tmp_path, length) / "control"
    before = os.umask(0)
    try:
        with bind(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_an_existing_name_is_neither_taken_nor_removed(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with bind(path) as first:
        first.listen()
        with pytest.raises(OSError, match="in use"):
            bind(path)
        connect(path).close()


def test_nobody_there_and_a_dead_owner_are_told_apart(tmp_path: Path) -> None:
    path = deep(tmp_path, 300) / "control"
    with pytest.raises(FileNotFoundError):
        connect(path)
    bind(path).close()
    with pytest.raises(ConnectionRefusedError):
        connect(path)


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    path = deep(tmp_path, 300) / "control"
    before = len(list(Path("/dev/fd").iterdir()))
    with bind(path) as listener:
        listener.listen()
        connect(path).close()
        with pytest.raises(OSError, match="in use"):
            bind(path)
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_the_peer_is_known_by_its_user(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with bind(path) as listener:
        listener.listen()
        with connect(path) as client:
            server, _ = listener.accept()
            with server:
                assert peer_uid(server) == os.getuid()
                assert peer_uid(client) == os.getuid()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_seen_as_such_by_the_listener(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with bind(path) as listener:
        listener.listen()
        name = os.open(path, os.O_PATH)
        path.chmod(0o666)
        reading, writing = os.pipe()
        child = fork()
        if child == 0:
            os.setuid(65534)
            peer = socket.socket(socket.AF_UNIX)
            peer.connect(f"/proc/self/fd/{name}")
            os.read(reading, 1)
            os._exit(0)
        server, _ = listener.accept()
        with server:
            assert peer_uid(server) == 65534
        os.write(writing, b"x")
        os.waitpid(child, 0)
        for descriptor in (name, reading, writing):
            os.close(descriptor)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses at once")
def test_a_listener_that_accepts_nothing_ends_in_a_timeout(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with bind(path) as listener:
        listener.listen(0)
        with connect(path, timeout=0.1), pytest.raises(TimeoutError, match="accepts no connection"):
            connect(path, timeout=0.1)


def test_the_timeout_is_about_connecting_only(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with bind(path) as listener:
        listener.listen()
        with connect(path, timeout=5) as client:
            assert client.gettimeout() is None
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16) == bytes(16)
