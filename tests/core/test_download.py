"""Downloads against a server that behaves well, badly or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

import pytest
from servers import DATA, ETAG, SIZE, Handler

from cnnjax.core import storage, web
from cnnjax.core.download import download
from cnnjax.core.download_job import DownloadError, Job

module = sys.modules[download.__module__]
OTHER = DATA[::-1]
MD5 = hashlib.md5(DATA).hexdigest()
SHA256 = hashlib.sha256(DATA).hexdigest()
CHILD = """
import pathlib, sys
from cnnjax.core.download import download
print("ready", flush=True)
sys.stdin.readline()
print(download(sys.argv[1], pathlib.Path(sys.argv[2]), sha256=sys.argv[3]))
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """No pauses, and no proxy of the machine that runs the tests."""
    monkeypatch.setattr(module, "_PAUSES", (0, 0, 0))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def failure(url, folder, **settings):
    """The one line with which a download fails, in time."""
    start = time.monotonic()
    with pytest.raises(DownloadError) as caught:
        download(url, folder, **settings)
    assert time.monotonic() - start < 2
    line = str(caught.value)
    assert line.startswith(f"cannot download {url}: ")
    assert line.endswith(f"; put the file by hand at {folder / 'file.bin'}")
    assert "\n" not in line
    return line


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def leave(folder, data, url, *, validator=ETAG, total=SIZE):
    """What an interrupted process leaves."""
    note = {"url": url, "validator": validator, "total": total}
    (folder / ".file.bin.part").write_bytes(data)
    (folder / ".file.bin.part.json").write_text(json.dumps(note))


def cut(count, **settings):
    return lambda handler: handler.serve(cut=count, **settings)


def test_a_file_comes_whole_and_alone(server, tmp_path):
    folder = tmp_path / "new" / "folder"
    path = download(server.url, folder, md5=MD5, sha256=SHA256.upper(), size=SIZE)
    assert path == folder / "file.bin"
    assert path.read_bytes() == DATA
    assert names(folder) == ["file.bin"]
    assert server.asked == [(None, None)]


def test_a_file_without_checksum_comes_too(server, tmp_path):
    assert download(server.url, tmp_path).read_bytes() == DATA


def test_an_empty_file_is_a_file(server, tmp_path):
    server.answer = lambda handler: handler.serve(data=b"")
    assert download(server.url, tmp_path, size=0).read_bytes() == b""


def test_the_name_comes_from_the_path_or_is_given(server, tmp_path):
    address = f"{server.base}/a/two%20words ä.bin?x=/y.txt#z"
    assert download(address, tmp_path).name == "two words ä.bin"
    assert download(server.url, tmp_path, name="mine.bin").name == "mine.bin"
    assert names(tmp_path) == ["mine.bin", "two words ä.bin"]


def test_a_file_put_by_hand_is_used_without_network(nowhere, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "alone", None)  # without a lock: the folder may be read-only
    (tmp_path / "file.bin").write_bytes(DATA)
    for settings in ({}, {"md5": MD5}, {"sha256": SHA256}, {"size": SIZE}):
        assert download(nowhere, tmp_path, **settings) == tmp_path / "file.bin"
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize(
    ("settings", "expected", "found"),
    [
        ({"md5": MD5}, MD5, hashlib.md5(OTHER).hexdigest()),
        ({"sha256": SHA256}, SHA256, hashlib.sha256(OTHER).hexdigest()),
        ({"size": 7}, "7", str(len(OTHER))),
    ],
)
def test_a_wrong_file_put_by_hand_is_named(nowhere, tmp_path, settings, expected, found):
    file = tmp_path / "file.bin"
    file.write_bytes(OTHER)
    with pytest.raises(DownloadError, match=rf"{found}.*expected {expected}; delete it") as caught:
        download(nowhere, tmp_path, **settings)
    assert str(caught.value).startswith(f"{file} has ")
    assert file.read_bytes() == OTHER


def test_a_cut_download_goes_on_where_it_ended(server, tmp_path):
    server.answers(cut(3000), cut(4000), Handler.serve)
    assert download(server.url, tmp_path, sha256=SHA256).read_bytes() == DATA
    assert server.asked == [(None, None), ("bytes=3000-", ETAG), ("bytes=7000-", ETAG)]
    assert names(tmp_path) == ["file.bin"]


def test_a_connection_that_ends_before_the_answer_is_tried_again(server, tmp_path):
    server.answers(lambda handler: None, Handler.serve)
    assert download(server.url, tmp_path).read_bytes() == DATA
    assert server.ranges == [None, None]


def test_a_connection_that_is_reset_is_tried_again(server, tmp_path):
    def reset(handler):
        handler.serve(cut=3000)
        now = struct.pack("ii", 1, 0)  # linger for no second: what closing sends is a reset
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        handler.connection.close()

    server.answers(reset, Handler.serve)
    assert download(server.url, tmp_path, md5=MD5).read_bytes() == DATA
    assert len(server.asked) == 2


def test_a_connection_that_is_always_cut_is_given_up(server, tmp_path):
    server.answer = cut(100)
    line = failure(server.url, tmp_path)
    assert "cut 4 times (last after 400 of 10240 bytes)" in line
    assert len(server.asked) == 4
    assert names(tmp_path) == [".file.bin.part", ".file.bin.part.json"]
    server.answer = Handler.serve
    assert download(server.url, tmp_path, sha256=SHA256).read_bytes() == DATA
    assert server.ranges[4:] == ["bytes=400-"]
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.thorough
def test_a_killed_process_is_gone_on_with(server, tmp_path):
    def stall(handler):
        handler.serve(cut=5000)
        handler.wfile.flush()
        server.over.wait(5)

    server.answers(stall, Handler.serve)
    child = start_child(server.url, tmp_path)
    go(child)
    part = tmp_path / ".file.bin.part"
    while not (part.exists() and part.stat().st_size == 5000):
        assert child.poll() is None
        time.sleep(0.005)
    child.kill()
    child.communicate()
    assert download(server.url, tmp_path, sha256=SHA256).read_bytes() == DATA
    assert server.asked == [(None, None), ("bytes=5000-", ETAG)]
    assert names(tmp_path) == ["file.bin"]


def test_a_part_that_was_complete_is_placed_without_network(nowhere, tmp_path):
    leave(tmp_path, DATA, nowhere)
    assert download(nowhere, tmp_path, md5=MD5).read_bytes() == DATA
    assert names(tmp_path) == ["file.bin"]
    (tmp_path / "file.bin").unlink()
    leave(tmp_path, DATA, nowhere, total=None)
    assert download(nowhere, tmp_path, size=SIZE).read_bytes() == DATA


@pytest.mark.parametrize("settings", [{"total": SIZE}, {"total": None}])
def test_only_the_rest_is_fetched(server, tmp_path, settings):
    leave(tmp_path, DATA[:9000], server.url, **settings)
    assert download(server.url, tmp_path, sha256=SHA256).read_bytes() == DATA
    assert server.asked == [("bytes=9000-", ETAG)]


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        (OTHER[:5000], {"url": "http://127.0.0.1/other/file.bin"}),
        (OTHER[:5000], {"validator": None}),
        (OTHER[:5000], {"total": "many"}),
        (OTHER[:5000], {"total": 5001}),  # not the size that is asked for
        (OTHER + OTHER, {}),
        (b"", {}),
    ],
)
def test_a_part_of_something_else_is_not_gone_on_with(server, tmp_path, data, settings):
    leave(tmp_path, data, **{"url": server.url, **settings})
    assert download(server.url, tmp_path, size=SIZE).read_bytes() == DATA
    assert server.asked == [(None, None)]


@pytest.mark.parametrize("note", [None, "", "{", "[]", "{}"])
def test_a_part_without_a_readable_note_is_not_gone_on_with(server, tmp_path, note):
    leave(tmp_path, OTHER[:5000], server.url)
    if note is None:
        (tmp_path / ".file.bin.part.json").unlink()
    else:
        (tmp_path / ".file.bin.part.json").write_text(note)
    assert download(server.url, tmp_path).read_bytes() == DATA
    assert names(tmp_path) == ["file.bin"]


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.answers(cut(3000), lambda handler: handler.reply(DATA, ETag=ETAG))
    assert download(server.url, tmp_path).read_bytes() == DATA
    assert server.ranges == [None, "bytes=3000-"]


def test_a_file_changed_between_the_attempts_is_not_glued(server, tmp_path):
    server.answers(cut(3000), lambda handler: handler.serve(OTHER, '"two"', cut=4000), changed)
    assert download(server.url, tmp_path).read_bytes() == OTHER
    assert server.asked == [(None, None), ("bytes=3000-", ETAG), ("bytes=4000-", '"two"')]


def changed(handler):
    handler.serve(OTHER, '"two"')


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Range": "bytes 3000-10239/10240", "ETag": '"two"'},  # If-Range was ignored
        {"Content_Range": "bytes 3000-10239/99999"},
        {"Content_Range": "bytes 2999-10239/10240", "ETag": ETAG},
        {"Content_Range": "bytes 3000-10239/10240", "ETag": ETAG, "status": 203},
        {"Content_Range": "nonsense", "ETag": ETAG},
        {"ETag": ETAG},
    ],
)
def test_a_partial_answer_that_does_not_fit_is_not_glued(server, tmp_path, headers):
    def wrong(handler):
        handler.reply(OTHER[3000:], **{"status": 206, **headers})

    server.answers(cut(3000), wrong, changed)
    assert download(server.url, tmp_path).read_bytes() == OTHER
    assert server.ranges == [None, "bytes=3000-", None]


def test_a_range_that_the_server_does_not_have_starts_again(server, tmp_path):
    short = DATA[:2000]
    server.answers(
        cut(3000), lambda handler: handler.reply(b"", status=416), lambda h: h.serve(short, '"b"')
    )
    assert download(server.url, tmp_path).read_bytes() == short
    assert server.ranges == [None, "bytes=3000-", None]
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("status", [204, 206, 416])
def test_an_answer_that_nobody_asked_for_is_refused(server, tmp_path, status):
    server.answer = lambda handler: handler.reply(b"", status=status)
    assert f"answered {status} " in failure(server.url, tmp_path)
    assert names(tmp_path) == []


def test_without_a_validator_nothing_is_gone_on_with(server, tmp_path):
    server.answers(cut(3000, etag=None), cut(3000, etag=None), Handler.serve)
    assert download(server.url, tmp_path).read_bytes() == DATA
    assert server.ranges == [None, None, None]


def test_a_validator_does_not_outlive_its_part(server, tmp_path):
    leave(tmp_path, DATA[:5000], server.url)
    server.answers(cut(3000, data=OTHER, etag=None), Handler.serve)
    assert download(server.url, tmp_path).read_bytes() == DATA
    assert server.ranges == ["bytes=5000-", None]


def test_a_rest_of_unknown_end_is_cut_like_any_other(server, tmp_path):
    def rest(handler):
        span = "bytes 3000-10239/*"
        handler.reply(DATA[3000:], status=206, cut=2000, Content_Range=span, ETag=ETAG)

    leave(tmp_path, DATA[:3000], server.url, total=None)
    server.answers(rest, Handler.serve)
    assert download(server.url, tmp_path).read_bytes() == DATA
    assert server.ranges == ["bytes=3000-", "bytes=5000-"]


def test_a_weak_etag_gives_way_to_the_date(server, tmp_path):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"

    def weak(handler):
        handler.reply(DATA, cut=3000, ETag='W/"one"', Last_Modified=date)

    def rest(handler):
        handler.reply(
            DATA[3000:], status=206, Content_Range="bytes 3000-10239/*", Last_Modified=date
        )

    server.answers(weak, rest)
    assert download(server.url, tmp_path).read_bytes() == DATA
    assert server.asked == [(None, None), ("bytes=3000-", date)]


@pytest.mark.parametrize(("kind", "right"), [("md5", MD5), ("sha256", SHA256)])
def test_a_wrong_checksum_deletes_what_came(server, tmp_path, kind, right):
    server.answer = changed
    line = failure(server.url, tmp_path, **{kind: right})
    found = hashlib.new(kind, OTHER).hexdigest()
    assert f"has the {kind} {found}, expected {right}, and was deleted" in line
    assert names(tmp_path) == []


def test_an_announced_wrong_size_writes_nothing(server, tmp_path):
    assert "the server's file has 10240 bytes, expected 9" in failure(server.url, tmp_path, size=9)
    assert names(tmp_path) == []


@pytest.mark.parametrize("size", [9, SIZE + 1])
def test_an_unannounced_wrong_size_deletes_what_came(server, tmp_path, size):
    server.answer = lambda handler: handler.reply(DATA, length=False)
    assert f"expected {size}" in failure(server.url, tmp_path, size=size)
    assert names(tmp_path) == []


@pytest.mark.parametrize("size", [None, SIZE])
def test_without_a_length_the_file_ends_with_the_answer(server, tmp_path, size):
    server.answer = lambda handler: handler.reply(DATA, length=False)
    assert download(server.url, tmp_path, size=size).read_bytes() == DATA


def test_a_line_that_stays_open_after_the_last_byte_does_no_harm(server, tmp_path):
    def hang(handler):
        handler.reply(DATA, length=False)
        server.over.wait(5)

    server.answer = hang
    assert download(server.url, tmp_path, size=SIZE, timeout=0.2).read_bytes() == DATA


@pytest.mark.parametrize("announced", [True, False])
def test_an_endless_answer_ends_at_the_length(server, tmp_path, announced):
    def endless(handler):
        handler.reply(DATA, length=announced)
        while not server.over.is_set():
            handler.wfile.write(DATA)

    server.answer = endless
    if announced:
        assert download(server.url, tmp_path).read_bytes() == DATA
    else:
        line = failure(server.url, tmp_path, size=SIZE)
        assert "more than the expected 10240 bytes" in line
        assert names(tmp_path) == []


def test_chunks_are_taken_apart_and_gone_on_with(server, tmp_path):
    def chunked(handler):
        head = {"Transfer_Encoding": "chunked", "ETag": ETAG}
        body = b"1000\r\n" + DATA[:4096] + b"\r\n1800\r\n" + DATA[4096:6000]
        handler.reply(body, length=False, **head)

    server.answers(chunked, Handler.serve)
    assert download(server.url, tmp_path, md5=MD5).read_bytes() == DATA
    assert server.ranges == [None, "bytes=6000-"]


def test_a_web_page_is_refused(server, tmp_path):
    def portal(handler):
        handler.reply(b"<html>log in</html>", Content_Type="text/html; charset=utf-8")

    leave(tmp_path, DATA[:5000], server.url)
    server.answer = portal
    assert "is a web page" in failure(server.url, tmp_path)
    server.answer = Handler.serve
    assert download(server.url, tmp_path, md5=MD5).read_bytes() == DATA
    assert server.ranges[1:] == ["bytes=5000-"]  # the part has outlived the portal
    server.answer = portal
    assert download(f"{server.base}/a.html", tmp_path).read_bytes() == b"<html>log in</html>"


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_refusal_is_not_tried_again(server, tmp_path, status):
    server.answer = lambda handler: handler.send_error(status)
    assert f"answered {status} " in failure(server.url, tmp_path)
    assert len(server.asked) == 1
    assert names(tmp_path) == []


def test_a_server_that_never_answers(server, tmp_path):
    server.answer = lambda handler: server.over.wait(5)
    assert "no answer within 0.2 s" in failure(server.url, tmp_path, timeout=0.2)
    assert len(server.asked) == 1
    assert names(tmp_path) == []


def test_silence_in_the_middle_is_a_cut(server, tmp_path):
    def silent(handler):
        handler.serve(cut=3000)
        server.over.wait(5)

    server.answer = silent  # each time 3,000 bytes of the rest
    assert download(server.url, tmp_path, timeout=0.2).read_bytes() == DATA
    assert server.ranges == [None, "bytes=3000-", "bytes=6000-", "bytes=9000-"]


def test_silence_from_then_on_ends_the_download(server, tmp_path):
    def silent(handler):
        handler.serve(cut=3000 if handler.headers.get("Range") is None else 0)
        server.over.wait(5)

    server.answer = silent
    line = failure(server.url, tmp_path, timeout=0.1)
    assert "the connection was cut 4 times (nothing came for 0.1 s)" in line
    assert (tmp_path / ".file.bin.part").stat().st_size == 3000


def test_cuts_do_not_count_where_much_came_between_them(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_WORTHWHILE", 1000)
    server.answer = cut(1100)
    assert download(server.url, tmp_path).read_bytes() == DATA
    assert len(server.asked) == 10


def test_what_is_no_http_is_refused(server, tmp_path):
    server.answer = lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")
    assert "BadStatusLine" in failure(server.url, tmp_path)


def test_a_port_where_nothing_listens(nowhere, tmp_path):
    assert "not reached (Connection refused)" in failure(nowhere, tmp_path)
    assert names(tmp_path) == []


def test_a_name_that_nobody_knows(tmp_path, monkeypatch):
    def unknown(*arguments, **settings):
        looked_up.append(arguments[0])
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    looked_up = []
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    line = failure("https://files.invalid/file.bin", tmp_path)
    assert "not reached (Name or service not known)" in line
    assert looked_up == ["files.invalid"]  # once


def test_a_name_server_that_does_not_answer(tmp_path, monkeypatch):
    def hang(*arguments, **settings):
        over.wait(5)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")

    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    line = failure("http://files.invalid/file.bin", tmp_path, timeout=0.2)
    over.set()
    assert "no answer within 0.2 s" in line


def test_a_connection_that_comes_too_late_is_closed():
    late, closed = threading.Event(), threading.Event()

    class Answer:
        close = closed.set

    def answer():
        late.wait(5)
        return Answer()

    with pytest.raises(TimeoutError):
        web._within(0.05, answer)
    assert not closed.is_set()
    late.set()
    assert closed.wait(2)


# What somebody else has put there


@pytest.mark.parametrize("which", [".file.bin.part", ".file.bin.part.json"])
@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "folder", "second name"])
def test_what_is_no_part_of_ours_is_neither_read_nor_written(server, tmp_path, which, kind):
    other, place = tmp_path / "other", tmp_path / which
    other.write_bytes(b"precious")
    if kind == "link":
        place.symlink_to(other)
    elif kind == "link to nothing":
        place.symlink_to(tmp_path / "nothing")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.hardlink_to(other)
    line = failure(server.url, tmp_path)
    assert f"{place} is no file of its own, but a link, a pipe, a device or a directory" in line
    assert "delete it" in line
    assert other.read_bytes() == b"precious"
    assert not (tmp_path / "nothing").exists()
    assert server.asked == []


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_put_there_at_the_last_moment_is_not_opened(server, tmp_path, monkeypatch, kind):
    def plant(job):
        if kind == "link":
            job.part.symlink_to(tmp_path / "other")
        else:
            os.mkfifo(job.part)

    monkeypatch.setattr(Job, "check_places", plant)
    with pytest.raises(OSError, match=r"the download stopped"):
        download(server.url, tmp_path)
    assert not (tmp_path / "other").exists()


def test_a_pipe_in_the_place_of_the_file_is_not_replaced(server, tmp_path):
    os.mkfifo(tmp_path / "file.bin")
    assert "is no file of its own" in failure(server.url, tmp_path)
    assert not (tmp_path / "file.bin").is_file()


@pytest.mark.parametrize(
    "validator",
    [
        '"a"\r\nX-Evil: 1',
        "Mon\nHost: evil",
        '"' + "a" * 5000 + '"',
        '"\x1b[2J"',
        '"é"',
        'W/"a"',
        "",
    ],
)
def test_a_note_cannot_put_headers_into_the_question(server, tmp_path, validator):
    leave(tmp_path, DATA[:3000], server.url, validator=validator)
    assert download(server.url, tmp_path).read_bytes() == DATA
    assert server.asked == [(None, None)]


@pytest.mark.parametrize("total", [True, -1, 1.5, "9", [], {}, 2999])
def test_a_note_of_another_form_is_no_note(server, tmp_path, total):
    leave(tmp_path, DATA[:3000], server.url, total=total)
    assert download(server.url, tmp_path).read_bytes() == DATA
    assert server.asked == [(None, None)]


@pytest.mark.parametrize("etag", ['"a\x1bb"', '"' + "b" * 500 + '"', '"unended'])
def test_a_version_that_cannot_be_sent_back_is_not_kept(server, tmp_path, etag):
    server.answers(cut(3000, etag=etag), Handler.serve)
    assert download(server.url, tmp_path).read_bytes() == DATA
    assert server.ranges == [None, None]


# Servers that never end


def test_a_server_that_drips_is_given_up(server, tmp_path, monkeypatch):
    def drip(handler):
        handler.serve(cut=0)
        while not server.over.wait(0.02):
            handler.wfile.write(b"x")

    monkeypatch.setattr(module, "_PATIENCE", 0.3)
    server.answer = drip
    line = failure(server.url, tmp_path, timeout=1.0)
    assert re.search(r"the server sent \d+ bytes in \d+ s, less than 1024 a second", line)
    assert len(server.asked) == 1


def test_a_server_whose_head_drips_is_given_up(server, tmp_path):
    def drip(handler):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
        while not server.over.wait(0.02):
            handler.wfile.write(b"x")

    server.answer = drip
    assert "no answer within 0.3 s" in failure(server.url, tmp_path, timeout=0.3)


def test_a_file_larger_than_the_disk_is_refused_before(server, tmp_path):
    def huge(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**18))
        handler.end_headers()
        handler.wfile.write(DATA)

    server.answer = huge
    with pytest.raises(OSError, match="no space for 1000000000000000000 bytes") as caught:
        download(server.url, tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / ".file.bin.part").stat().st_size == 0


@pytest.mark.parametrize("text", ["\x1b[2J\x07", "a" * 3000])
def test_what_a_server_says_is_shown_and_short(server, tmp_path, text):
    def refuse(handler):
        handler.send_response_only(404, text)
        handler.end_headers()

    server.answer = refuse
    line = failure(server.url, tmp_path)
    assert line.isprintable()
    assert len(line) < 1000
    server.answer = redirection(f"ftp://x/{text[:2000]}")
    line = failure(server.url, tmp_path)
    assert line.isprintable()


def redirection(place):
    return lambda handler: handler.reply(b"", status=302, Location=place)


def test_a_redirection_is_followed(server, tmp_path):
    server.answers(redirection("/elsewhere"), cut(3000), redirection("/there"), Handler.serve)
    assert download(server.url, tmp_path, md5=MD5) == tmp_path / "file.bin"
    assert server.asked[2:] == [("bytes=3000-", ETAG)] * 2


@pytest.mark.parametrize("scheme", ["file", "ftp", "data"])
def test_a_redirection_to_another_scheme_is_not_followed(server, tmp_path, scheme):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    server.answer = redirection(f"{scheme}://{secret}")
    line = failure(server.url, tmp_path)
    assert "answered 302 Found" in line
    assert "not allowed" in line
    assert names(tmp_path) == ["secret"]


def test_a_redirection_in_a_circle_ends(server, tmp_path):
    server.answer = redirection("/file.bin")
    assert "answered 302" in failure(server.url, tmp_path)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate for 127.0.0.1 that nobody has signed."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    command += f" -subj /CN=test -addext subjectAltName=IP:127.0.0.1 -keyout {file} -out {file}.c"
    try:
        subprocess.run(command.split(), check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs the openssl command: {error}")
    own = file.with_name("both.pem.c")
    file.write_text(file.read_text() + own.read_text())
    return file, own


@pytest.fixture
def secure(server, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[0])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.base = server.base.replace("http:", "https:")
    return server


def test_an_unknown_certificate_is_refused(secure, tmp_path):
    line = failure(f"{secure.base}/file.bin", tmp_path)
    assert "certificate verify failed" in line
    assert secure.asked == []


def test_a_trusted_certificate_is_taken_and_not_left(secure, tmp_path, monkeypatch, certificate):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[1]))
    url = f"{secure.base}/file.bin"
    secure.answers(redirection("http://127.0.0.1/file.bin"), redirection("/there"), Handler.serve)
    assert "not allowed" in failure(url, tmp_path)
    assert download(url, tmp_path).read_bytes() == DATA


def test_the_proxy_of_the_environment_is_used(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.base)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    paths = []

    def proxy(handler):
        paths.append(handler.path)
        handler.serve()

    server.answer = proxy
    assert download("http://files.invalid/file.bin", tmp_path).read_bytes() == DATA
    assert paths == ["http://files.invalid/file.bin"]


def start_child(url, folder):
    """A process that is ready to download once `go` tells it to."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, url, str(folder), SHA256],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "ready\n"
    return child


def go(child):
    child.stdin.write("\n")
    child.stdin.flush()


@pytest.mark.thorough
def test_two_processes_download_once(server, tmp_path):
    def slow(handler):
        server.over.wait(0.3)  # long enough for the other process to come
        handler.serve()

    server.answer = slow
    children = [start_child(server.url, tmp_path) for _ in range(2)]
    for child in children:
        go(child)
    for child in children:
        out, err = child.communicate(timeout=10)
        assert (child.returncode, out, err) == (0, f"{tmp_path / 'file.bin'}\n", "")
    assert (tmp_path / "file.bin").read_bytes() == DATA
    assert server.asked == [(None, None)]
    assert names(tmp_path) == ["file.bin"]


def test_many_threads_keep_out_of_each_others_way(server, tmp_path):
    def work():
        for number in range(5):
            results.append(download(server.url, tmp_path, name=f"{number}.bin", md5=MD5))

    results = []
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20
    assert len(server.asked) == 5
    assert names(tmp_path) == [f"{number}.bin" for number in range(5)]


def test_who_waited_for_a_failure_tries_himself(server, tmp_path):
    def fail(handler):
        server.over.wait(0.1)
        handler.send_error(404)

    server.answers(fail, Handler.serve)
    first = threading.Thread(target=lambda: failure(server.url, tmp_path))
    first.start()
    while not server.asked:
        time.sleep(0.002)
    assert download(server.url, tmp_path).read_bytes() == DATA
    first.join()
    assert len(server.asked) == 2


def test_a_lock_file_left_by_a_killed_process_does_not_lock(server, tmp_path):
    (tmp_path / ".file.bin.lock").touch()
    assert download(server.url, tmp_path).read_bytes() == DATA
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("replaced", [False, True])
def test_the_lock_of_a_file_that_is_gone_locks_nothing(tmp_path, replaced):
    def lock(handle):
        handles.append(handle)
        if len(handles) == 1:  # who held it has removed it, and perhaps somebody made a new one
            file.unlink()
            if replaced:
                file.touch()

    handles, file = [], tmp_path / "lock"
    handle = storage._locked(file, lock)
    assert len(handles) == 2
    assert os.path.samestat(os.fstat(handle), file.stat())
    os.close(handle)


def test_a_system_without_locks_downloads_as_well(server, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert download(server.url, tmp_path).read_bytes() == DATA
    assert names(tmp_path) == ["file.bin"]


def write_with(kind, monkeypatch):
    def opened(file, mode, **settings):
        return open(file, mode, **settings) if mode == "rb" else kind(file, mode)

    monkeypatch.setattr(module, "open", opened, raising=False)


def test_a_disk_that_takes_little_at_a_time_gets_all(server, tmp_path, monkeypatch):
    class Little(io.FileIO):
        def write(self, data):
            return super().write(data[:1000])

    write_with(Little, monkeypatch)
    assert download(server.url, tmp_path).read_bytes() == DATA


def test_a_full_disk_is_named_and_what_came_stays(server, tmp_path, monkeypatch):
    class Full(io.FileIO):
        """Takes 5000 bytes, the last of them as a part of a write, as a disk does."""

        def write(self, data):
            room = 5000 - self.seek(0, io.SEEK_END)
            if room <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data[:room])

    write_with(Full, monkeypatch)
    with pytest.raises(OSError, match="No space left on device: the download stopped") as caught:
        download(server.url, tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert not isinstance(caught.value, DownloadError)
    assert caught.value.filename == str(tmp_path / ".file.bin.part")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert download(server.url, tmp_path, md5=MD5).read_bytes() == DATA
    assert server.ranges == [None, "bytes=5000-"]


class Screen(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize(
    ("terminal", "progress", "shown"),
    [(True, True, True), (True, False, False), (False, True, False)],
)
def test_a_bar_is_shown_to_a_terminal_only(
    server, tmp_path, monkeypatch, capsys, terminal, progress, shown
):
    screen = Screen(terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    server.answers(cut(3000), Handler.serve)
    download(server.url, tmp_path, progress=progress, name="[red]x.bin")
    assert ("[red]x.bin" in screen.getvalue()) == shown
    assert bool(screen.getvalue()) == shown
    assert capsys.readouterr().out == ""


def test_no_stderr_no_bar(server, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert download(server.url, tmp_path).read_bytes() == DATA


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "ftp://h/x", "data:,x", "/etc/passwd", "h/x", "", "http:///x"),
        *("http://", "http://h:99999/x", "http://h:y/x", "http://h:0/x", "http://[::1/x"),
    ],
)
def test_an_address_that_is_none_is_refused(tmp_path, url):
    with pytest.raises(ValueError, match="is not an address: give http://HOST"):
        download(url, tmp_path, name="x")
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "..\\a", "c:a", "a\nb", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="is not a plain file name: give one as name="):
        download("http://127.0.0.1/x", tmp_path, name=name)


@pytest.mark.parametrize("path", ["", "/", "/a/", "/..", "/%2e%2e", "/a%2Fb"])
def test_an_address_without_a_name_needs_one(tmp_path, path):
    with pytest.raises(ValueError, match="give one as name="):
        download(f"http://127.0.0.1{path}", tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"md5": "abc"}, "md5='abc' is not 32 hexadecimal digits"),
        ({"sha256": MD5}, "is not 64 hexadecimal digits"),
        ({"size": True}, "size=True is no whole number"),
        ({"size": 1.5}, "size=1.5 is no whole number"),
        ({"timeout": float("inf")}, "timeout=inf is no time to wait"),
        ({"timeout": True}, "timeout=True is no time to wait"),
        ({"size": -1}, "size=-1 is negative"),
        ({"timeout": 0}, "timeout=0 is no time to wait"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tmp_path, settings, words):
    with pytest.raises(ValueError, match=words):
        download("http://127.0.0.1/x", tmp_path, **settings)
