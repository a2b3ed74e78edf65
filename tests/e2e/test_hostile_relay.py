"""Hostile and broken relays (rows G22 to G28, the gRPC negative cases): what `tunn relay` makes of them, in words and deeds."""
import re
import struct
import time

import pytest
from harness import answered
from scripted import (ACK, CANCEL, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, INTERNAL_ERROR, NO_ERROR,
                      PING, PROTOCOL_ERROR, REFUSED_STREAM, RST_STREAM)
from scripted_relay import GRPC, TOKEN, Relay, draining, peer_status, registered, settings, udp

AGAIN = r"reconnecting (now|in [\d.]+ s) because: "


@pytest.fixture
def fake(world):
    return Relay(world)


def retried(fake, end, words):
    """It said so, it comes again, and then all is well."""
    end.wait_for(AGAIN + words)
    fake.accept().admit()
    end.wait_for("connected")


def refused(end, words):
    end.wait_for(r"ended: .*" + words)
    assert end.exit_code() == 3


# -- the request

def test_header_fields_come_in_the_order_of_the_spec(fake):
    fake.end()
    f = fake.accept().request()
    names = [name for name, _ in f.list]
    assert sorted(names[:4]) == [":authority", ":method", ":path", ":scheme"]
    assert names[4:] == ["te", "content-type", "grpc-accept-encoding", "user-agent"]
    assert f.fields["te"] == "trailers" and f.fields["grpc-accept-encoding"] == "identity"
    assert re.match(r"grpc-c-tunn/\d", f.fields["user-agent"])
    assert f.first[5] == 1 << 3 | 2, "register_client is the first message"


# -- an answer that is not gRPC

def test_G22_a_captive_portal_is_told_with_the_start_of_its_page(fake):
    end = fake.end()
    c = fake.accept()
    c.request()
    c.headers(1, [(":status", "200"), ("content-type", "text/html")])
    c.data(b"<html>\x1b[2J<title>Welcome</title> you sent " + TOKEN.encode() + b" to us" + b"x" * 1000, END_STREAM)
    retried(fake, end, "what answered is not a tunn relay: HTTP 200, not a gRPC answer .captive portal or proxy.*Welcome")
    assert TOKEN not in end.text() and "\x1b" not in end.text()


def test_G22_a_page_that_never_ends_is_told_all_the_same(fake):
    end = fake.end()
    c = fake.accept()
    c.request()
    c.headers(1, [(":status", "200"), ("content-type", "text/html")])
    c.data(b"<title>Log in to Hotel</title>")
    retried(fake, end, ".*captive portal or proxy.*Log in to Hotel")


def test_G22_a_token_cut_by_the_end_of_the_snippet_is_not_shown(fake):
    end = fake.end()
    c = fake.accept()
    c.request()
    c.headers(1, [(":status", "200"), ("content-type", "text/html")])
    c.data(b"y" * (256 - len(TOKEN) // 2) + TOKEN.encode(), END_STREAM)
    end.wait_for(AGAIN)
    assert TOKEN[:14] + "***" in end.text() and TOKEN[14:20] not in end.text()


@pytest.mark.parametrize("status", [302, 400, 404, 407, 429, 431, 502, 503, 504, 500, 999])
def test_G23_other_http_statuses_mean_again_later(fake, status):
    end = fake.end()
    fake.accept().only((":status", str(status)), ("content-type", "text/html"), ("location", "http://x/?secret"))
    words = {404: "no such service", 400: "broke the protocol", 431: "broke the protocol"}
    words |= dict.fromkeys([429, 502, 503, 504], "the relay cannot serve now")
    retried(fake, end, words.get(status, "what answered is not a tunn relay") + f".*HTTP {status}")
    assert "secret" not in end.text()


@pytest.mark.parametrize("status, words", [(401, "the token is not valid here"), (403, "the account may not do this")])
def test_G23_401_and_403_are_verdicts(fake, status, words):
    end = fake.end()
    fake.accept().only((":status", str(status)), ("content-type", "text/html"))
    refused(end, f"{words}.*HTTP {status}")


def test_G23_a_grpc_status_counts_more_than_that_of_http(fake):
    end = fake.end()
    fake.accept().only((":status", "503"), ("content-type", "application/grpc"), ("grpc-status", "16"), ("grpc-message", "no"))
    refused(end, "the token is not valid here: no")


# -- statuses and messages

@pytest.mark.parametrize("status", ["abc", "017", "99", "-1", "", "1" * 300])
def test_G24_a_malformed_status_is_unknown(fake, status):
    end = fake.end()
    fake.accept().only(*GRPC, ("grpc-status", status), ("grpc-message", "hm"))
    retried(fake, end, "what answered is not a tunn relay: hm")


def test_G24_a_missing_status_is_unknown(fake):
    end = fake.end()
    c = fake.accept()
    c.request()
    c.headers(1, GRPC)
    c.headers(1, [("x-more", "y")], END_HEADERS | END_STREAM)
    retried(fake, end, "what answered is not a tunn relay: the stream ended without a grpc-status")


@pytest.mark.parametrize("message, shown", [("100%", "100%"), ("%zz", "%zz"), ("%4", "%4"), ("a%20b", "a b"), ("%00", "%00"),
                                            ("%ff%fe!", r"\?\?!"), ("%0a%1b[2J", r"\?\?\[2J"), ("raw\xff", r"raw\?+")])
def test_G24_a_message_that_cannot_be_decoded_is_kept(fake, message, shown):
    end = fake.end()
    fake.accept().only(*GRPC, ("grpc-status", "14"), ("grpc-message", message))
    end.wait_for(AGAIN + "the relay cannot serve now: " + shown + "$")


@pytest.mark.parametrize("where", ["before", "after"])
def test_G24_a_message_of_64_kb_does_not_hide_the_verdict(fake, where):
    end = fake.end()
    c = fake.accept()
    c.request()
    c.headers(1, GRPC)
    fields = [("grpc-status", "16"), ("grpc-message", "m" * 64000)]
    block = c.encoder.encode(fields if where == "after" else fields[::-1], huffman=False)
    c.frame(HEADERS, END_STREAM, 1, block[:16000])
    for at in range(16000, len(block), 16000):
        c.frame(9, END_HEADERS if at + 16000 >= len(block) else 0, 1, block[at:at + 16000])
    refused(end, "the token is not valid here")


def test_G25_informational_answers_are_skipped(fake):
    end = fake.end()
    c = fake.accept()
    c.request()
    for status in ("100", "103", "103"):
        c.headers(1, [(":status", status), ("link", "</x>")])
    c.headers(1, GRPC)
    c.data(registered())
    end.wait_for("connected as me")


def test_G26_ok_without_a_tunnel_means_again_with_growing_waits(fake):
    end, times = fake.end(), []
    for _ in range(6):
        fake.accept().only(*GRPC, ("grpc-status", "0"))
        times.append(time.monotonic())
    end.wait_for(AGAIN + "ended by the other side")
    waits = [b - a for a, b in zip(times, times[1:])]
    assert waits[-1] > 2 * waits[0] and waits[-1] > 0.8, "SETTINGS alone must not make it hammer"


# -- verdicts and the others (product.md section 3)

@pytest.mark.parametrize("status, text", [(16, "x"), (7, "x"), (3, "x"), (10, "superseded by another")])
@pytest.mark.parametrize("ready", [False, True])
def test_verdicts_end_it_with_exit_3(fake, status, text, ready):
    end = fake.end()
    c = fake.accept()
    if ready:
        c.admit()
        end.wait_for("connected")
    else:
        c.request()
        c.headers(1, GRPC)
    c.finish(status, text)
    refused(end, text)


@pytest.mark.parametrize("status", [1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15])
def test_every_other_status_means_again(fake, status):
    end = fake.end()
    c = fake.accept().admit()
    end.wait_for("connected as me")
    c.finish(status, "because")
    retried(fake, end, ".*because")


@pytest.mark.parametrize("code", [*range(14), 99, 0xffffffff])
def test_no_reset_is_a_verdict(fake, code):
    end = fake.end()
    c = fake.accept().admit()
    end.wait_for("connected as me")
    c.frame(RST_STREAM, 0, 1, struct.pack(">I", code))
    retried(fake, end, r"the connection was reset: the stream was reset \(HTTP/2 code " + str(code))


# -- gRPC's negative cases

def test_rst_after_header(fake):
    end = fake.end()
    c = fake.accept()
    c.request()
    c.headers(1, GRPC)
    c.frame(RST_STREAM, 0, 1, struct.pack(">I", INTERNAL_ERROR))
    retried(fake, end, "the connection was reset")


def test_rst_during_data(fake, world):
    end = fake.end()
    c = fake.accept().admit()
    end.wait_for("connected as me")
    c.data(udp(b"x" * 500)[:200])
    c.frame(RST_STREAM, 0, 1, struct.pack(">I", PROTOCOL_ERROR))
    retried(fake, end, "the connection was reset")


def test_rst_after_data_loses_nothing_that_was_whole(fake, world):
    s = world.socket()
    end = fake.end(port=s.getsockname()[1], mode="--forward")
    c = fake.accept().admit()
    c.data(udp(b"the last word"))
    c.frame(RST_STREAM, 0, 1, struct.pack(">I", CANCEL))
    assert answered(s, b"the last word", 10)
    retried(fake, end, "the connection was reset")


def test_pings_are_answered_at_any_time(fake):
    fake.end()
    c = fake.accept()
    for n, step in enumerate((c.request, lambda: c.headers(1, GRPC), lambda: c.data(registered()), lambda: None)):
        payload = b"ping %03d" % n
        step()
        c.frame(PING, 0, 0, payload)
        assert c.read_until(lambda f, p=payload: f.type == PING and f.flags & ACK and f.payload == p)


def test_one_stream_is_enough(fake):
    end = fake.end()
    fake.accept(settings=settings(max_concurrent_streams=1)).admit()
    end.wait_for("connected as me")


def test_goaway_lets_the_stream_go_on_and_the_next_connection_is_a_new_one(fake, world):
    s = world.socket()
    end = fake.end(port=s.getsockname()[1], mode="--forward")
    c = fake.accept().admit()
    c.frame(GOAWAY, 0, 0, struct.pack(">II", 1, NO_ERROR))
    c.data(udp(b"still here"))
    assert answered(s, b"still here", 10)
    fake.accept().admit().data(udp(b"and here"))
    assert answered(s, b"and here", 10)
    assert "ended" not in end.text()


def test_goaway_that_excludes_our_stream_means_again_at_once(fake):
    end = fake.end()
    c = fake.accept()
    c.request()
    c.frame(GOAWAY, 0, 0, struct.pack(">II", 0, NO_ERROR))
    retried(fake, end, ".*")


def test_words_of_a_goaway_are_told_when_the_connection_ends(fake):
    end = fake.end()
    c = fake.accept().admit()
    end.wait_for("connected as me")
    c.frame(GOAWAY, 0, 0, struct.pack(">II", 1, 2) + b"backend on fire")
    c.s.close()
    retried(fake, end, ".*backend on fire")


def test_G27_too_many_pings_doubles_the_time_between_signs_of_life(fake):
    end = fake.end()
    c = fake.accept().admit()
    end.wait_for("connected as me")
    c.frame(GOAWAY, 0, 0, struct.pack(">II", 1, ENHANCE_YOUR_CALM) + b"too_many_pings")
    c.s.close()
    end.wait_for("the relay finds our signs of life too many: every 30 s from now on")
    fake.accept().admit()  # that it beats half as often is a unit test
    end.wait_for("connected again")


def test_G28_no_stream_allowed_means_the_next_attempt_within_20_s(fake):
    end, start = fake.end(), time.monotonic()
    fake.accept(settings=settings(max_concurrent_streams=0))
    retried(fake, end, "no answer in time")
    assert time.monotonic() - start < 20


def test_a_drain_that_is_told_moves_the_end_in_time(fake, world):
    s = world.socket()
    fake.end(port=s.getsockname()[1], mode="--forward")
    c = fake.accept().admit()
    c.data(draining(1000, b"elsewhere.example") + peer_status(1))
    fake.accept().admit().data(udp(b"moved"))
    assert answered(s, b"moved", 10)
