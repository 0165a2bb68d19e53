"""Which names are this machine's, and which requests come from another site."""

import logging

import pytest

from tools.serve import refusals
from tools.serve.__main__ import address_of
from tools.serve.limits import LOG_LINES
from tools.serve.origin import is_foreign, is_loopback, is_this_machine


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"])
def test_every_spelling_of_loopback_is_one(address):
    assert is_loopback(address)
    name = f"[{address}]" if ":" in address else address
    assert is_this_machine(f"{name}:7860", "x")
    assert not is_this_machine("evil.example", address)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.2", "fe80::1%eth0", "localhost.x"])
def test_what_others_reach_is_not(address):
    assert not is_loopback(address)


def test_names_of_this_machine():
    assert is_this_machine("LocalHost:1", "x")
    assert is_this_machine("box:1", "Box")
    for host in ("", "localhost.evil.example", "127.0.0.1.evil.example", "[::1", "a@b:c"):
        assert not is_this_machine(host, "box")


def test_the_printed_address_has_brackets_where_it_must():
    assert address_of("::1", 7860) == "http://[::1]:7860"
    assert address_of("localhost", 7860) == "http://localhost:7860"


def test_an_origin_is_the_servers_or_a_proxys():
    own = {b"host": b"a:1"}
    assert not is_foreign(own)
    assert not is_foreign(own | {b"origin": b"http://a:1"})
    assert not is_foreign(own | {b"origin": b"https://b", b"x-forwarded-host": b"b"})
    assert is_foreign(own | {b"origin": b"http://a:2"})
    assert is_foreign(own | {b"origin": b"http://a:1", b"sec-fetch-site": b"same-site"})


def test_refusals_that_repeat_are_left_out_and_counted(monkeypatch, caplog):
    ration = refusals.Ration()
    allowed = [ration.allows("kind") for _ in range(LOG_LINES + 7)]
    assert sum(allowed) == LOG_LINES
    assert ration.allows("other")
    monkeypatch.setattr(refusals, "WINDOW_SECONDS", 0)
    with caplog.at_level(logging.WARNING):
        assert ration.allows("kind")
    assert "7 more lines" in caplog.text
