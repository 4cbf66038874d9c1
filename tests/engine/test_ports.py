"""Blocks of ports: free now, not given twice, and an honest answer when there are none."""

from __future__ import annotations

import socket

import pytest

from plait.engine import ports
from plait.errors import PlaitError


def test_blocks_are_given_in_order_and_not_twice() -> None:
    first = ports.assign([])
    second = ports.assign([first])
    third = ports.assign({first, second})
    assert first < second < third
    assert all(start % 10 == 0 for start in (first, second, third))


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_block_with_one_port_in_use_is_passed_over(address: str) -> None:
    start = ports.assign([])
    with socket.socket() as other:
        other.bind((address, start + 7))
        other.listen()
        assert ports.assign([]) > start


def test_a_block_that_overlaps_a_taken_one_is_passed_over() -> None:
    start = ports.assign([], first=21000)
    assert ports.assign([start + 3], first=21000) >= start + 20


def test_no_free_block_is_said_in_a_sentence() -> None:
    with pytest.raises(PlaitError, match="10 free ports") as raised:
        ports.assign([ports.LAST - 9], first=ports.LAST - 9)
    assert raised.value.hint


def test_all_ports_of_the_block_can_be_listened_on() -> None:
    start = ports.assign([], block=10)
    servers = [socket.socket() for _ in range(10)]
    try:
        for offset, server in enumerate(servers):
            server.bind(("127.0.0.1", start + offset))
    finally:
        for server in servers:
            server.close()
