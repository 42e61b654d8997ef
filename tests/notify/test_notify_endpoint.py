"""One POST, and what its answer means."""

import shutil
import ssl
import subprocess
import threading
import time
from datetime import UTC, datetime

import pytest

from monitor.broker.port import LOOPBACK, free_port
from monitor.core.errors import AbsenceError, InputError
from monitor.notify.answer import Verdict
from monitor.notify.endpoint import LARGEST_DETAIL, Endpoint, readable, waiting_time
from tests.notify.listening import Listening


def post(listening, **settings):
    return Endpoint(listening.url, **{"timeout": 500, **settings}).post(b"{}", {})


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.TAKEN), (202, Verdict.TAKEN), (204, Verdict.TAKEN), (301, Verdict.REFUSED), (307, Verdict.REFUSED), (400, Verdict.REFUSED),
        (401, Verdict.REFUSED), (404, Verdict.REFUSED), (408, Verdict.AGAIN), (409, Verdict.REFUSED), (410, Verdict.REFUSED), (425, Verdict.REFUSED),
        (428, Verdict.REFUSED), (429, Verdict.AGAIN), (499, Verdict.REFUSED), (500, Verdict.AGAIN), (502, Verdict.AGAIN), (503, Verdict.AGAIN),
        (599, Verdict.AGAIN),
    ],
)  # fmt: skip
def test_a_status_means(listening, status, verdict):
    listening.status = status
    answer = post(listening)
    assert answer.verdict is verdict
    assert verdict is Verdict.TAKEN or answer.detail == f"HTTP {status}"


def test_a_redirect_is_not_followed(listening):
    elsewhere = Listening()
    elsewhere.start()
    try:
        listening.status, listening.headers = 307, {"Location": elsewhere.url}
        assert post(listening).verdict is Verdict.REFUSED
        assert elsewhere.posts == []
    finally:
        elsewhere.stop()


def test_a_proxy_of_the_environment_is_not_heeded(listening, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://{LOOPBACK}:{free_port()}")
    assert post(listening).verdict is Verdict.TAKEN


def test_what_was_asked_for_with_retry_after_is_known(listening):
    listening.status, listening.headers = 429, {"Retry-After": "7"}
    assert post(listening).retry_after == 7_000


NOW = datetime(2026, 11, 24, 6, 40, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "time"),
    [
        (None, None), ("0", 0), (" 120 ", 120_000), ("Tue, 24 Nov 2026 06:40:30 GMT", 30_000), ("Tue, 24 Nov 2026 06:39:00 GMT", 0),
        ("Tue, 24 Nov 2026 07:40:30 +0100", 30_000), ("-5", None), ("1.5", None), ("soon", None), ("", None), ("1" * 40, None), ("٣", None),
        ("Tue, 24 Nov 99999 06:40:30 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_read(said, time):
    assert waiting_time(said, NOW) == time


def test_nobody_there_is_worth_another_attempt():
    answer = Endpoint(f"http://{LOOPBACK}:{free_port()}").post(b"{}", {})
    assert (answer.verdict, answer.detail) == (Verdict.AGAIN, "Connection refused")


def test_a_host_that_is_none_is_worth_another_attempt():
    assert Endpoint("http://absent.invalid").post(b"{}", {}).verdict is Verdict.AGAIN
    assert Endpoint(f"http://{'a' * 64}.invalid").post(b"{}", {}).verdict is Verdict.AGAIN


def test_one_that_never_answers_is_given_its_time(listening):
    listening.hold.clear()
    began = time.monotonic()
    answer = post(listening, timeout=200)
    assert (answer.verdict, answer.detail) == (Verdict.AGAIN, "it did not answer in time")
    assert 0.15 < time.monotonic() - began < 3


def test_one_that_answers_a_byte_at_a_time_is_given_no_more(listening):
    listening.drip = True
    began = time.monotonic()
    answer = post(listening, timeout=300)
    assert (answer.verdict, answer.detail) == (Verdict.AGAIN, "it did not answer in time")
    assert time.monotonic() - began < 3
    assert not [one for one in threading.enumerate() if isinstance(one, threading.Timer) and not one.finished.is_set()]


def test_of_an_answer_the_beginning_is_kept_on_one_line(listening):
    listening.status, listening.body = 400, b"no\r\n such\x1b[31m  field " + b"x" * 100_000
    answer = post(listening)
    assert answer.detail.startswith("HTTP 400: no such\N{REPLACEMENT CHARACTER}[31m field xxx")
    assert len(answer.detail) <= LARGEST_DETAIL + len("HTTP 400: ")


def test_what_is_not_text_is_readable():
    assert readable(b"\xff\x00\xe4") == "\N{REPLACEMENT CHARACTER}" * 3


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost:80", "ftp://a", "http://", "http://a:0", "http://a:99999", "http://a:b", "http://a/#x", "http://[::1", "http://a /", "http://a/\r\nX: y",
        "http://ä/", "http://u:secret@a/", "http://u@a/",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(url):
    with pytest.raises(InputError) as refused:
        Endpoint(url)
    assert "secret" not in str(refused.value)


def test_its_path_is_in_no_text_and_below_it_are_others():
    endpoint = Endpoint("https://[::1]:9093/prefix/?token=t0ken")
    assert repr(endpoint) == "Endpoint(https://[::1]:9093)"
    assert repr(endpoint.below("/api/v2/alerts")) == repr(endpoint)


def test_below_a_prefix(listening):
    Endpoint(listening.url + "/prefix/").below("/api/v2/alerts").post(b"{}", {})
    Endpoint(listening.url).below("/api/v2/alerts").post(b"{}", {})
    assert [one.path for one in listening.posts] == ["/prefix/api/v2/alerts", "/api/v2/alerts"]


def test_authorities_that_are_not_there_are_named(tmp_path):
    with pytest.raises(AbsenceError, match=r"absent\.pem"):
        Endpoint("https://localhost", cafile=str(tmp_path / "absent.pem"))


@pytest.fixture
def certificate(tmp_path):
    """A certificate of localhost that signs itself, and its key, in one file."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    path, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-keyout", key, "-out", path,
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    return path, key


def test_over_tls_it_goes_only_to_whom_we_trust(certificate):
    path, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    listening = Listening(context)
    listening.start()
    try:
        url = f"https://localhost:{listening.port}"
        answer = Endpoint(url).post(b"{}", {})
        assert (answer.verdict, listening.posts) == (Verdict.AGAIN, [])
        assert "certificate is not trusted" in answer.detail
        assert Endpoint(url, cafile=str(path)).post(b"{}", {}).verdict is Verdict.TAKEN
        listening.drip = True
        assert Endpoint(url, cafile=str(path), timeout=300).post(b"{}", {}).detail == "it did not answer in time"
    finally:
        listening.stop()
