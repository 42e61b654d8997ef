"""The `gateway` verb: what it says when it can't work, before it begins."""

import importlib.util
import re
import socket
import sys
from contextlib import closing

import pytest

from monitor.cli import gateway as verb
from monitor.core.errors import MissingExtraError
from monitor.gateway.claims import ClaimRules
from monitor.gateway.routes import parse_routes

ISSUER = ("--issuer", "https://id.example.com", "--audience", "a")
COOKIE = ("--session-id", "cookie:session")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), ("give --session-id (claim:NAME, cookie:NAME", "or --issuer")),
        (("--session-id", "cooky:session"), ("'cooky:session'", "allowed are claim:NAME, cookie:NAME, header:NAME and path:/PREFIX/{id}/...")),
        (("--session-id", "claim:sid"), ("--session-id claim:sid takes a claim", "give --issuer and --audience")),
        (("--session-id", "header:authorization"), ("read with claim:NAME",)),
        (("--issuer", "https://id.example.com"), ("without --audience", "'aud'")),
        (("--audience", "a", *COOKIE), ("without --issuer",)),
        (("--issuer", "http://id.example.com", "--audience", "a"), ("'http://id.example.com' is not https",)),
        (("--issuer", "id.example.com", "--audience", "a"), ("https://HOST[:PORT][/PATH]",)),
        ((*COOKIE, "--without-session", "allow"), ("'allow'", "'admit'", "'refuse'", "'challenge'")),
        ((*COOKIE, "--max-view-age", "0s"), ("--max-view-age is 0s; allowed are 1s to 1h",)),
        ((*COOKIE, "--max-view-age", "60"), ("--max-view-age: '60' has no unit",)),
        ((*COOKIE, "--redirect-browsers"), ("give --reauth-url",)),
        ((*COOKIE, "--reauth-url", "login.example/x"), ("'login.example/x' must be https://HOST/PATH, or a /PATH",)),
        ((*COOKIE, "--reauth-url", "javascript:alert(1)"), ("must be https://HOST/PATH",)),
        ((*COOKIE, "--reauth-url", "//evil.example/"), ("must be https://HOST/PATH",)),
        ((*COOKIE, "--reauth-url", "https://login.example/a b"), ("percent-encoded",)),
        ((*COOKIE, "--reauth-url", "https://[::1/"), ("must be https://HOST/PATH",)),
        ((*COOKIE, "--api-token", "short"), ("the API token of --api-token must be 16 to 1024",)),
        ((*COOKIE, "--api-token", "x" * 20, "--api-token-file", "f"), ("--api-token and --api-token-file are both given",)),
        ((*COOKIE, "--api-token-file", "/nowhere/token"), ("--api-token-file /nowhere/token is not there",)),
        ((*COOKIE, "--subscribers", "0"), ("'--subscribers'",)),
        ((*COOKIE, "--resource-metadata", "/.well-known/x"), ("--resource-metadata '/.well-known/x' must be https://HOST/PATH",)),
        ((*COOKIE, "--roles-claim", "roles"), ("--roles-claim is given without --issuer",)),
        ((*COOKIE, "--posture-claim", "p"), ("--posture-claim is given without --issuer",)),
        ((*ISSUER, "--service-claim", "idtyp=app"), ("'idtyp=app' is no rule; allowed are no-session, claim:NAME and claim:NAME=VALUE",)),
        ((*ISSUER, "--clock-leeway", "6m"), ("--clock-leeway is 6m; allowed are 0s to 5m",)),
        ((*ISSUER, "--subject-claim", ""), ("--subject-claim is empty",)),
        ((*COOKIE, "--route", "v1"), ("'v1' is no pattern of a path",)),
        ((*COOKIE, "--route", "/v1 posture=lax"), ("route /v1: posture=lax is not known",)),
        ((*COOKIE, "--name", "x" * 1025), ("--name must have at most 1024 characters",)),
        ((*COOKIE, "--activity-granularity", "2m"), ("--activity-granularity is 2m; allowed are 100ms to 1m",)),
        ((*COOKIE, "--name", "a\nb"), ("all printable",)),
        ((*COOKIE, "--port", "65536"), ("'--port'", "65535")),
        ((*COOKIE, "--bootstrap-servers", "localhost"), ("'localhost' is not host:port",)),
    ],
)
def test_options_that_can_not_be(cli, options, said):
    ended = cli("gateway", *options)
    assert ended.code == 2, ended
    assert [one for one in said if one not in ended.err] == [], ended.err
    assert "Traceback" not in ended.err


def test_a_token_file_that_others_can_read_is_refused_without_its_token(cli, tmp_path):
    file = tmp_path / "token"
    file.write_text("the-token-of-the-api-0123456789")
    file.chmod(0o644)
    ended = cli("gateway", *COOKIE, "--api-token-file", str(file))
    assert (ended.code, "chmod 600" in ended.err, "the-token-of" in ended.err) == (2, True, False)
    file.chmod(0o600)
    assert verb._api_token(None, file).matches("the-token-of-the-api-0123456789")


def test_a_port_that_is_taken_is_said_before_anything_else(cli):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        ended = cli("gateway", *COOKIE, "--port", str(port), "--bootstrap-servers", "127.0.0.1:1")
    assert ended.code == 1
    assert f"can't listen on 127.0.0.1:{port}" in ended.err
    assert "127.0.0.1:1 refuses" not in ended.err
    assert "Choose another --host or --port" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("part", verb.PARTS)
def test_a_part_that_is_not_installed_names_the_extra(monkeypatch, part):
    real = importlib.util.find_spec
    monkeypatch.delitem(sys.modules, part, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == part else real(name))
    with pytest.raises(MissingExtraError, match=rf"{part} can't be found.*pip install 'session-monitor\[gateway\]'"):
        verb.require_gateway()


def test_an_instance_without_a_name_gets_one_of_its_own():
    assert verb._name("gateway/eu-1") == "gateway/eu-1"
    assert re.fullmatch(r"gateway/.+/[0-9a-f]{8}", verb._name(""))
    assert verb._name("") != verb._name("")


def test_what_the_options_say():
    rules = verb._tokens("https://id.example.com", ["a", "b"], "claim:act.sid,cookie:session")
    assert (rules.issuer, rules.audiences, rules.session_ids) == ("https://id.example.com", ("a", "b"), ("act.sid",))
    assert [source.text for source in verb._sources("", verb._tokens("https://id.example.com", ["a"], "")).sources] == ["claim:sid"]
    assert verb._wording("/login?to={return_to}", redirect_browsers=True).redirect_browsers
    assert [verb._loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "sidecar")] == [True] * 3 + [False] * 3


def test_what_the_options_say_of_claims():
    rules = verb._tokens(
        "https://id.example.com", ["a"], "", subject="oid", roles="realm_access.roles", tenant="tid", service="claim:idtyp=app", posture="p", leeway="0s"
    )
    assert (rules.subject, rules.roles, rules.tenant, rules.posture, rules.leeway) == ("oid", "realm_access.roles", "tid", "p", 0)
    assert (rules.service.claim, rules.service.value) == ("idtyp", "app")
    assert verb._tokens("https://id.example.com", ["a"], "") == ClaimRules("https://id.example.com", ("a",))
    assert verb._wording("", "https://app.example/.well-known/oauth-protected-resource", redirect_browsers=False).resource_metadata


@pytest.mark.parametrize("origin", ["options", "environment", "file"])
def test_routes_come_from_options_environment_and_file(monkeypatch, tmp_path, cli, origin):
    taken = []
    monkeypatch.setattr(verb, "require_gateway", lambda: None)

    async def serve(settings):
        taken.append(settings.routes.routes)

    monkeypatch.setattr(verb, "_serve", serve)
    monkeypatch.chdir(tmp_path)
    routes = ["/open/* posture=best-effort", "/* classification=restricted"]
    options = []
    if origin == "options":
        options = [word for one in routes for word in ("--route", one)]
    elif origin == "environment":
        monkeypatch.setenv("SESSION_MONITOR_GATEWAY_ROUTE", " ".join(routes))
    else:
        (tmp_path / "session-monitor.toml").write_text(f"[gateway]\nroute = {routes!r}\n")
    ended = cli("gateway", *COOKIE, *options)
    assert ended.code == 0, ended
    assert taken == [parse_routes(routes).routes]


def test_each_instance_has_a_name_of_its_own_unless_it_is_given():
    assert verb._name("gateway/eu-1") == "gateway/eu-1"
    assert verb._name("") != verb._name("")
    assert verb._name("").startswith(f"gateway/{socket.gethostname()}/")
