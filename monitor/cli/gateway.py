"""`gateway`: the enforcement sidecar, beside a proxy that asks it about each request."""

import asyncio
import contextlib
import importlib.util
import ipaddress
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

import msgspec
import typer

from monitor.cli.durations import within
from monitor.cli.output import hint
from monitor.cli.settings import Installation, takes_installation
from monitor.core.errors import InputError, MissingExtraError
from monitor.core.instants import HOUR, SECOND, Millis
from monitor.gateway.access import ApiToken
from monitor.gateway.access import api_token as api_token_of
from monitor.gateway.answers import RETURN_TO, Wording
from monitor.gateway.claims import LARGEST_LEEWAY, NO_SESSION, ClaimRules, parse_service_rule
from monitor.gateway.decide import Settings
from monitor.gateway.discovery import check_issuer
from monitor.gateway.facts import WithoutSession
from monitor.gateway.identity import ALLOWED, SessionIdSources, parse_sources
from monitor.gateway.pauses import collect_whole_by_the_clock, switch_quickly
from monitor.gateway.routes import KEYS, Routes, parse_routes
from monitor.gateway.telling import GRANULARITIES, Telling, instance_name
from monitor.wire.events import MAX_TEXT

if TYPE_CHECKING:
    from monitor.gateway.api import Api
    from monitor.gateway.enforcer import Enforcer
    from monitor.gateway.follower import Follower
    from monitor.gateway.tokens import TokenVerifier

PARTS: Final = ("uvicorn", "aiohttp", "joserfc")
"""What the extra brings."""
VIEW_AGES: Final = (SECOND, HOUR)
"""The monitor says once a second how far it is."""
PORT: Final = 8180
TOKENS: Final = "Tokens"
SUBSCRIBERS: Final = 10_000
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class SidecarSettings(msgspec.Struct, frozen=True):
    """What the options say."""

    installation: Installation
    host: str
    port: int
    sources: SessionIdSources
    settings: Settings
    wording: Wording
    tokens: ClaimRules | None
    """None: without an issuer."""
    routes: Routes
    name: str
    """Of this running instance: the `source` of its events, and what receipts call the gateway."""
    receipts: bool
    activity_granularity: Millis | None
    """None: no activity is told."""
    api_token: ApiToken | None
    """Of the sidecar's own API; None: nobody publishes by it."""
    subscribers: int


def register(program: typer.Typer) -> None:
    """Put the verb on the program."""
    program.command()(gateway)


@takes_installation
def gateway(
    installation: Installation,
    host: Annotated[str, typer.Option(help="Where it listens; only the proxy may be able to reach it.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = PORT,
    session_id: Annotated[
        str, typer.Option("--session-id", help=f"Where session ids stand, in order: {ALLOWED}. With --issuer: claim:sid.")
    ] = "",
    without_session: Annotated[
        WithoutSession, typer.Option(help="What becomes of a request that names no session: 200, 400 or 401.")
    ] = WithoutSession.CHALLENGE,
    issuer: Annotated[str, typer.Option(help="The OIDC issuer whose bearer tokens are verified, as in their 'iss'.", rich_help_panel=TOKENS)] = "",
    audience: Annotated[
        list[str] | None, typer.Option(help="Which tokens are for us, as in their 'aud'; may be given again.", rich_help_panel=TOKENS)
    ] = None,
    subject_claim: Annotated[str, typer.Option(help="The token's claim that names the subject.", rich_help_panel=TOKENS)] = "sub",
    roles_claim: Annotated[str, typer.Option(help="Its claim with the roles, like realm_access.roles.", rich_help_panel=TOKENS)] = "",
    tenant_claim: Annotated[str, typer.Option(help="Its claim that names the tenant.", rich_help_panel=TOKENS)] = "",
    service_claim: Annotated[
        str, typer.Option(help="What marks a service's token: no-session, claim:NAME or claim:NAME=VALUE.", rich_help_panel=TOKENS)
    ] = NO_SESSION,
    posture_claim: Annotated[
        str, typer.Option(help="Its claim that says strict or best_effort, for while the view is stale.", rich_help_panel=TOKENS)
    ] = "",
    clock_leeway: Annotated[str, typer.Option(help="How far the issuer's clock may be from ours.", rich_help_panel=TOKENS)] = "30s",
    route: Annotated[
        list[str] | None,
        typer.Option(help=f"What is behind a path: 'PATTERN key=value ...', keys {', '.join(KEYS)}; may be given again, the first match decides."),
    ] = None,
    max_view_age: Annotated[str, typer.Option(help="What is known may be so old; beyond it a request is refused with 503.")] = "60s",
    reauth_url: Annotated[
        str, typer.Option(help=f"Where people log in again; {RETURN_TO} in it becomes the URL that was asked for.")
    ] = "",
    redirect_browsers: Annotated[bool, typer.Option(help="Send browsers there, instead of showing a page.")] = False,
    resource_metadata: Annotated[
        str, typer.Option(help="URL of the protected resource's metadata (RFC 9728), told in challenges: MCP clients log in by it.")
    ] = "",
    name: Annotated[
        str, typer.Option(help="Of this running instance, another for each; by default gateway/HOST/ and something random.")
    ] = "",
    receipts: Annotated[bool, typer.Option(help="Prove on enforcement-receipts what is in force here, and who was refused.")] = True,
    activity: Annotated[bool, typer.Option(help="Tell the monitor on access-events which sessions are used here.")] = True,
    activity_granularity: Annotated[
        str, typer.Option(help="Activities of a session within so long are told as one; keep it far below the shortest idle limit.")
    ] = "1s",
    api_token: Annotated[
        str | None, typer.Option(help="Of the sidecar's own API (/v1/...); better given by file: options are seen by others on the machine.")
    ] = None,
    api_token_file: Annotated[Path | None, typer.Option(help="Holds that token; nobody else may be able to read it.")] = None,
    subscribers: Annotated[int, typer.Option(min=1, max=1_000_000, help="Clients that may follow their session by the API at once.")] = SUBSCRIBERS,
) -> None:
    """Tell a proxy which requests may pass, until SIGTERM or Ctrl-C. Exit code 0: ended because told to."""
    rules = _tokens(
        issuer, audience or [], session_id, subject=subject_claim, roles=roles_claim, tenant=tenant_claim, service=service_claim,
        posture=posture_claim, leeway=clock_leeway,
    )  # fmt: skip
    settings = SidecarSettings(
        installation, host, port, _sources(session_id, rules),
        Settings(max_view_age=within("--max-view-age", max_view_age, VIEW_AGES), without_session=without_session),
        _wording(reauth_url, resource_metadata, redirect_browsers=redirect_browsers), rules, parse_routes(route or ()),
        _name(name), receipts,
        within("--activity-granularity", activity_granularity, GRANULARITIES) if activity else None,
        _api_token(api_token, api_token_file), subscribers,
    )  # fmt: skip
    require_gateway()
    if not _loopback(host):
        hint(f"listening on {host}: whoever can reach it can ask about any session, so only the proxy may")
    from monitor.gateway.server import new_loop

    switch_quickly()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_serve(settings))


def require_gateway() -> None:
    """Raise MissingExtraError unless all that the sidecar is made of is installed."""
    if absent := [part for part in PARTS if part not in sys.modules and importlib.util.find_spec(part) is None]:
        raise MissingExtraError("gateway", f"the sidecar ({', '.join(absent)} can't be found)")


def _tokens(
    issuer: str, audiences: list[str], session_id: str, *, subject: str = "sub", roles: str = "", tenant: str = "",
    service: str = NO_SESSION, posture: str = "", leeway: str = "30s",
) -> ClaimRules | None:  # fmt: skip
    if not issuer:
        given = {"--audience": audiences, "--roles-claim": roles, "--tenant-claim": tenant, "--posture-claim": posture}
        if useless := next((option for option, value in given.items() if value), None):
            raise InputError(f"gateway: {useless} is given without --issuer, so no token would be verified; give --issuer too")
        return None
    if not audiences:
        raise InputError("gateway: --issuer is given without --audience; give the one that stands in the tokens' 'aud'")
    if not subject:
        raise InputError("gateway: --subject-claim is empty, so nobody would be known; leave it out for 'sub'")
    claims = parse_sources(session_id).claims if session_id else ("sid",)
    return ClaimRules(
        check_issuer(issuer), tuple(audiences), claims, subject, roles or None, tenant or None, posture or None,
        parse_service_rule(service), within("--clock-leeway", leeway, (0, LARGEST_LEEWAY)),
    )  # fmt: skip


def _sources(session_id: str, tokens: ClaimRules | None) -> SessionIdSources:
    if not session_id and tokens is None:
        raise InputError(f"gateway: nothing says where session ids stand; give --session-id ({ALLOWED}), or --issuer")
    sources = parse_sources(session_id or "claim:sid")
    if sources.claims and tokens is None:
        raise InputError(f"gateway: --session-id {session_id} takes a claim, which only a verified token has; give --issuer and --audience")
    return sources


def _wording(reauth_url: str, resource_metadata: str = "", *, redirect_browsers: bool) -> Wording:
    if resource_metadata and not _is_url(resource_metadata):
        raise InputError(f"gateway: --resource-metadata {resource_metadata!r} must be https://HOST/PATH; in ASCII, percent-encoded")
    if redirect_browsers and not reauth_url:
        raise InputError("gateway: --redirect-browsers needs to know where to; give --reauth-url")
    if reauth_url and not _is_url(reauth_url, local=True):
        raise InputError(f"gateway: --reauth-url {reauth_url!r} must be https://HOST/PATH, or a /PATH of the site itself; in ASCII, percent-encoded")
    return Wording(reauth_url or None, redirect_browsers=redirect_browsers, resource_metadata=resource_metadata or None)


def _is_url(text: str, *, local: bool = False) -> bool:
    """Whether it is one that can stand in a header; `local`: or a path of the site itself."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(text)
        absolute = parts.scheme in ("http", "https") and bool(parts.hostname)
        within_site = local and not parts.scheme and not parts.netloc and text.startswith("/")
        return (absolute or within_site) and text.isascii() and text.isprintable() and " " not in text
    return False


def _name(given: str) -> str:
    if len(given) > MAX_TEXT or not given.isprintable():
        raise InputError(f"--name must have at most {MAX_TEXT} characters, all printable")
    return given or instance_name("gateway")


def _api_token(given: str | None, file: Path | None) -> ApiToken | None:
    if given is not None and file is not None:
        raise InputError("gateway: --api-token and --api-token-file are both given: give one")
    if file is None:
        return None if given is None else ApiToken(given, "--api-token")
    token = api_token_of(None, file, "--api-token-file")
    if token is None:
        raise InputError(f"gateway: --api-token-file {file} is not there")
    return token


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _serve(settings: SidecarSettings) -> None:
    # Here, because uvicorn and the cryptography of tokens take their time to import.
    from monitor.gateway.enforcer import Enforcer
    from monitor.gateway.follower import Follower, present
    from monitor.gateway.issuer import IssuerKeys
    from monitor.gateway.metrics import GatewayMetrics
    from monitor.gateway.server import Server
    from monitor.gateway.sidecar import Sidecar
    from monitor.gateway.tokens import TokenVerifier

    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, told.set)
    connection, topics, metrics = settings.installation.connection, settings.installation.topics, GatewayMetrics()
    follower = Follower(connection, topics)
    follower.when_in_force(metrics.in_force)
    telling = Telling(
        connection, topics, settings.name, follower, present, metrics, receipts=settings.receipts, granularity=settings.activity_granularity
    )
    tokens = settings.tokens
    keys = None if tokens is None else IssuerKeys(tokens.issuer)
    verifier = None if tokens is None or keys is None else TokenVerifier(tokens, keys)
    enforcer = Enforcer(follower, present, settings=settings.settings, metrics=metrics, witnesses=telling.witnesses)
    async with contextlib.AsyncExitStack() as stack:
        api = _api(settings, enforcer, follower, verifier, stack)
        sidecar = Sidecar(enforcer, settings.sources, verifier=verifier, wording=settings.wording, routes=settings.routes, api=api)
        server = Server(sidecar, settings.host, settings.port)
        # Last of all: what it says is in force as long as somebody may ask, and what the last requests say is delivered too.
        stack.push_async_callback(asyncio.to_thread, telling.stop)
        stack.push_async_callback(asyncio.to_thread, follower.stop)
        # A port that can't be had is said before anything else happens.
        await server.start()
        stack.push_async_callback(server.stop)
        collecting = asyncio.create_task(collect_whole_by_the_clock(), name="collecting")
        stack.callback(collecting.cancel)
        if api is not None:
            # Before the server: feeds have no end of their own, and it would wait for them.
            api.start()
            stack.push_async_callback(api.stop)
        follower.start()
        telling.start()
        if keys is not None:
            stack.push_async_callback(keys.stop)
            starting = asyncio.create_task(keys.start(), name="issuer-keys-start")
            stack.callback(starting.cancel)
        hint(f"{server.url}/check answers 503 until the view is loaded: see {server.url}/readyz")
        await told.wait()


def _api(
    settings: SidecarSettings, enforcer: "Enforcer", follower: "Follower", verifier: "TokenVerifier | None", stack: contextlib.AsyncExitStack
) -> "Api | None":  # fmt: skip
    """The sidecar's own API; none where nobody could use it."""
    from monitor.gateway.access import Access
    from monitor.gateway.api import Api, Hub, Intake
    from monitor.gateway.api.delivery import Delivery

    if settings.api_token is None and verifier is None:
        return None
    hub = Hub(enforcer.metrics, subscribers=settings.subscribers)
    follower.subscribe(hub.told)
    intake = None
    if settings.api_token is not None:
        delivery = Delivery(settings.installation.connection, settings.installation.topics.access_events.name)
        stack.push_async_callback(delivery.stop)
        intake = Intake(delivery, enforcer.metrics)
    return Api(enforcer, Access(settings.api_token, verifier), hub, intake)
