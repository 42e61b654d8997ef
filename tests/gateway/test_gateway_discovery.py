"""What an issuer may be called and may answer, and which of its keys can be used."""

import asyncio
import json
import warnings
from contextlib import asynccontextmanager

import pytest
from joserfc.errors import SecurityWarning
from joserfc.jwk import OctKey, RSAKey

from monitor.core.errors import AbsenceError, InputError
from monitor.gateway import discovery
from monitor.gateway.discovery import LARGEST, check_issuer, fetch_document, fetch_keys
from monitor.gateway.jwks import MAX_KEYS, parse_jwks
from tests.gateway.signing import ISSUER, ec, jwks, okp, rsa


@pytest.mark.parametrize(
    "url",
    ["https://id.example.com", "https://id.example.com:8443/realms/a/", "http://127.0.0.1:9", "http://localhost", "http://[::1]:80"],
)  # fmt: skip
def test_an_issuer_that_can_be_asked(url):
    assert check_issuer(url) == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "must be https://"),
        ("id.example.com", "must be https://"),
        ("ftp://id.example.com", "must be https://"),
        ("https://", "must be https://"),
        ("https://id.example.com?x=1", "must be https://"),
        ("https://id.example.com#x", "must be https://"),
        ("https://id.example.com:99999", "is no URL"),
        ("https://[id", "is no URL"),
        ("http://id.example.com", "is not https"),
        ("https://me:s3cr3t@id.example.com", "name or password"),
    ],
)
def test_an_issuer_that_can_not_be_asked_says_why(url, said):
    with pytest.raises(InputError, match=said) as refused:
        check_issuer(url)
    assert "s3cr3t" not in str(refused.value)


def test_http_to_other_machines_must_be_allowed():
    assert check_issuer("http://keycloak:8080/realms/a", insecure=True)


def served(configuration, keys=b"{}"):
    async def fetch(url):
        if url.endswith("/.well-known/openid-configuration"):
            return configuration if isinstance(configuration, bytes) else json.dumps(configuration).encode()
        return keys + url.encode()

    return fetch


async def test_the_keys_are_where_the_configuration_says():
    fetch = served({"issuer": ISSUER, "jwks_uri": "https://keys.example.com/?a=b", "more": {}}, b"keys of ")
    assert await fetch_keys(ISSUER, fetch) == b"keys of https://keys.example.com/?a=b"


async def test_an_issuer_with_a_slash_at_its_end_is_asked_without_it():
    asked = []
    answer = served({"issuer": ISSUER + "/", "jwks_uri": "https://keys.example.com"})

    async def fetch(url):
        asked.append(url)
        return await answer(url)

    await fetch_keys(ISSUER + "/", fetch)
    assert asked == [f"{ISSUER}/.well-known/openid-configuration", "https://keys.example.com"]


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        (b"<html>", "is not an OpenID configuration"),
        (b"\xff", "is not an OpenID configuration"),
        (b"[" * 100_000, "is not an OpenID configuration"),
        ({"issuer": ISSUER}, "is not an OpenID configuration"),
        ({"issuer": ISSUER, "jwks_uri": 7}, "is not an OpenID configuration"),
        (
            {"issuer": "https://other.example.com", "jwks_uri": "https://x"},
            "speaks for the issuer 'https://other",
        ),
        ({"issuer": ISSUER + "/", "jwks_uri": "https://x"}, "speaks for the issuer"),
        ({"issuer": ISSUER, "jwks_uri": "http://keys.example.com"}, "jwks_uri that can't be asked"),
        ({"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"}, "jwks_uri that can't be asked"),
        (
            {"issuer": ISSUER, "jwks_uri": "https://me:s3cr3t@keys.example.com"},
            "jwks_uri that can't be asked",
        ),
    ],
)
async def test_a_configuration_that_can_not_be_used_says_why(configuration, said):
    with pytest.raises(AbsenceError, match=said) as refused:
        await fetch_keys(ISSUER, served(configuration))
    assert "s3cr3t" not in str(refused.value)


@asynccontextmanager
async def answering(answer):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        try:
            await answer(writer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except ConnectionError:
            pass

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/doc?secret=s3cr3t"
    finally:
        server.close()
        await server.wait_closed()


def writes(head: bytes, body: bytes = b""):
    async def answer(writer):
        writer.write(head + b"\r\nConnection: close\r\n\r\n" + body)

    return answer


async def test_a_document_is_fetched():
    async with answering(writes(b"HTTP/1.1 200 OK", b"x" * 200_000)) as url:
        assert await fetch_document(url) == b"x" * 200_000


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (writes(b"HTTP/1.1 404 Not Found"), "answers 404"),
        (writes(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/"), "answers 302"),
        (writes(b"HTTP/1.1 200 OK", b"x" * (LARGEST + 1)), f"more than {LARGEST} bytes"),
        (writes(b"HTTP/1.1 200 OK\r\nContent-Length: 10", b"x"), "can't be had"),
        (writes(b"nonsense"), "can't be had"),
        (writes(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip", b"nonsense"), "can't be had"),
    ],
)
async def test_a_document_that_can_not_be_had_says_why_without_the_query(answer, said):
    async with answering(answer) as url:
        with pytest.raises(AbsenceError, match=said) as refused:
            await fetch_document(url)
    assert url.partition("?")[0] in str(refused.value)
    assert "s3cr3t" not in str(refused.value)


async def test_an_issuer_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(discovery, "SECONDS", 0.1)
    hung = asyncio.Event()

    async def hang(writer):
        await hung.wait()

    async with answering(hang) as url:
        with pytest.raises(AbsenceError, match="does not answer within"):
            await fetch_document(url)
        hung.set()


async def test_an_issuer_that_is_not_there_says_so():
    async with answering(writes(b"")) as url:
        pass
    with pytest.raises(AbsenceError, match=r"can't be had: .*[Cc]onnect"):
        await fetch_document(url)


def test_keys_that_can_not_verify_are_left_out():
    with warnings.catch_warnings(action="ignore", category=SecurityWarning):
        weak = RSAKey.generate_key(1024, {"kid": "weak"})
    secret = OctKey.generate_key(256, {"kid": "secret"})
    said = json.loads(jwks(rsa("good"), weak, ec(), okp()))["keys"]
    said += [
        secret.as_dict(),
        {},
        {"kty": "RSA"},
        {"kty": "RSA", "n": 7, "e": "AQAB"},
        {"kty": "RSA", "n": "!", "e": "!"},
    ]
    said += [
        {"kty": ["RSA"]},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "X25519", "x": "AA"},
    ]
    said += [rsa("for encryption").as_dict(private=False) | {"use": "enc"}]
    said += [rsa("to sign").as_dict(private=False) | {"key_ops": ["sign"]}]
    said += [rsa("of an algorithm not allowed").as_dict(private=False) | {"alg": "RSA-OAEP"}]
    said += [rsa("with a number").as_dict(private=False) | {"kid": 7}]
    assert len(parse_jwks(json.dumps({"keys": said}).encode())) == 3


def test_private_members_are_left_behind():
    keys = parse_jwks(json.dumps({"keys": [rsa().as_dict(private=True)]}).encode())
    assert keys == parse_jwks(jwks(rsa()))
    assert rsa().as_dict(private=True)["d"] not in repr(vars(keys))


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"{}", b'{"keys":7}', b'{"keys":[7]}', b'{"keys":[]}', b"\xff", b'{"keys":' + b"[" * 99_999]
)  # fmt: skip
def test_what_holds_no_usable_key_says_so(document):
    with pytest.raises(AbsenceError, match="issuer's"):
        parse_jwks(document)


def test_of_very_many_keys_the_first_count():
    keys = json.dumps({"keys": [ec().as_dict(private=False) | {"kid": f"k{n}"} for n in range(MAX_KEYS + 9)]})
    assert len(parse_jwks(keys.encode())) == MAX_KEYS
