"""`up`: a whole Session Monitor of one's own in one command, and nothing left of it after Ctrl-C."""

import contextlib
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.live import Live

import monitor
from monitor.broker.administration import apply_topics
from monitor.broker.child import Child
from monitor.broker.connection import Connection
from monitor.broker.embedded import EmbeddedBroker
from monitor.broker.port import LOOPBACK, free_port, require_free
from monitor.broker.scratch import Scratch
from monitor.cli.ending import Ending, Interrupted
from monitor.cli.feed import Feed
from monitor.cli.gateway import require_gateway
from monitor.cli.gathered import Gathered
from monitor.cli.settings import PREFIX
from monitor.cli.view import line, render
from monitor.cli.worker import require_worker
from monitor.core.errors import AbsenceError, InputError, MissingExtraError
from monitor.core.instants import Millis
from monitor.demo import POLICY, Player, traffic
from monitor.observe.logs import LogFormat, configure_logs
from monitor.observe.probe import is_ready
from monitor.observe.token import check_token, read_or_create_token, token_path
from monitor.policy import compile_policy
from monitor.publish import DeliveryError, Publisher
from monitor.wire.commands import CommandRecord
from monitor.wire.topics import Topics
from monitor.worker.main import read_policy

STARTER: Final = "version: 1\nextends: [seed]\n"
"""The policy where none is given: the seed guidance."""
TOKEN: Final = f"{PREFIX}_TOKEN"
FRAME_SECONDS: Final = 0.25
READY_SECONDS: Final = 30.0
SESSION_TIMEOUT: Final = "6s"
GRANULARITY: Final[Millis] = 200
"""Of activity: far below the shortest limit of the demo's policy."""
# Together below the 5 s that an end may take.
PUBLISHER_STOP_SECONDS: Final = 0.5
WORKER_STOP_SECONDS: Final = 2.5
SIDECAR_STOP_SECONDS: Final = 0.5
"""After the worker has ended: it is told to end before that."""
SESSION_HEADER: Final = "X-Session"
"""Where the sidecar looks for session ids."""


def register(program: typer.Typer) -> None:
    """Put the verb on the program."""
    program.command()(up)


def up(
    demo: Annotated[bool, typer.Option("--demo", help="Play seeded traffic under limits of seconds.")] = False,
    policy: Annotated[Path | None, typer.Option(help="The policy file; by default the seed guidance, or the demo's.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the sessions API; 0: any free one.")] = 0,
    gateway_port: Annotated[int, typer.Option(min=0, max=65535, help="Of the sidecar; 0: any free one.")] = 0,
    view: Annotated[bool, typer.Option("--view/--no-view", help="The live view; without it, a line for each command.")] = True,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the demo's traffic.")] = 1,
) -> None:
    """Start broker, topics, worker and sidecar, and watch them. Ctrl-C (or SIGTERM, or closing the terminal) ends everything.

    Exit code 0: ended because told to; 1: a part could not start, or ended by itself.
    """
    began = time.monotonic()
    out = Voice()
    require_worker()
    text = read_policy(policy) if policy is not None else POLICY.read_text("utf-8") if demo else STARTER
    compile_policy(text, name=str(policy or "policy.yaml"))
    if port and processes > 1:
        raise InputError(f"up: --port {port} can't serve {processes} processes; leave it out: each takes a free port")
    if port:
        require_free(port, "the sessions API")
    if gateway_port:
        require_free(gateway_port, "the sidecar")
    full = view and out.console.is_terminal and not out.console.is_dumb_terminal
    with contextlib.suppress(Interrupted), Ending() as ending, ExitStack() as stack:
        stage = Stage(stack, out, began, full=full)
        try:
            stage.start(text, port, gateway_port, processes, seed if demo else None)
            ending.patiently()
            stage.watch(ending)
        finally:
            ending.patiently()


class Voice:
    """What is said to the person in front. A terminal or a pipe that has gone away ends the program, quietly."""

    def __init__(self) -> None:
        """Nothing that the terminal's character set lacks is an error."""
        if reconfigure := getattr(sys.stdout, "reconfigure", None):
            reconfigure(errors="replace")
        self.console = Console(highlight=False)

    def say(self, text: str = "") -> None:
        """A line of plain text, at once. Raises Interrupted where nobody is there to read it."""
        with self.heard():
            typer.echo(text)
            sys.stdout.flush()

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Around whatever writes to the terminal: one that has gone away raises Interrupted."""
        try:
            yield
        except OSError as error:
            # What is still buffered goes nowhere, or the interpreter would complain of it at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Interrupted from error


class Stage:
    """What `up` has started. Everything that needs an end has it on the stack before it begins."""

    def __init__(self, stack: ExitStack, out: Voice, began: float, *, full: bool) -> None:
        """`began` is the monotonic instant from which times are told; `full` means the live view, not lines."""
        self._full = full
        self._stack = stack
        self._out = out
        self._began = began
        self._lines: SimpleQueue[CommandRecord] = SimpleQueue()
        self._player: Player | None = None
        self._sidecar: Child | None = None
        self._sidecar_url = ""
        """Empty: there is none."""

    def start(self, policy: str, port: int, gateway_port: int, processes: int, seed: int | None) -> None:
        """Bring everything up; `seed` None: without traffic."""
        stack, topics = self._stack, Topics()
        scratch = Scratch("up")
        stack.callback(scratch.remove)
        stack.enter_context(logs_in(scratch.path / "up.log"))
        broker = self._broker = EmbeddedBroker()
        stack.callback(broker.stop)
        broker.start()
        self._step(f"broker    {broker.bootstrap_servers}")
        apply_topics(broker.connection, topics)
        self._step(f"topics    {len(topics.all())}, {topics.partitions} partitions")
        token = self._token()
        self._start_sidecar(scratch.path, broker.bootstrap_servers, gateway_port or free_port())
        self._worker = self._start_worker(scratch.path, broker.bootstrap_servers, policy, port, processes)
        if seed is not None:
            self._start_traffic(broker.connection, seed)
        gathered = Gathered(topics.partitions, _wall())
        self._feed = Feed(broker.connection, topics.session_commands, token, gathered, self._take)
        stack.callback(self._feed.stop)
        self._feed.start()
        apis = self._wait_until_ready(gathered)
        self._step(f"worker    owns {topics.partitions} partitions")
        if self._sidecar_url:
            self._step(f"sidecar   {self._sidecar_url}")
        sidecar = [("sidecar", self._sidecar_url)] if self._sidecar_url else []
        gathered.links = (("broker", broker.bootstrap_servers), *(("API", api) for api in apis), *sidecar)
        gathered.hints = hints(broker.bootstrap_servers, self._sidecar_url)
        self._tell(broker.bootstrap_servers, apis, scratch.path / "worker.log")

    def watch(self, ending: Ending) -> None:
        """Show what happens until the end is wanted. Raises AbsenceError where a part has ended by itself."""
        (self._show if self._full else self._tell_commands)(ending)
        picture, seconds = self._feed.picture(), time.monotonic() - self._began
        self._out.say(f"Ending after {seconds:.0f} s and {picture.counted} commands; {picture.live} sessions were live.")

    def _tell_commands(self, ending: Ending) -> None:
        while not ending.wanted.is_set():
            self._check()
            with contextlib.suppress(Empty):
                self._out.say(line(self._lines.get(timeout=FRAME_SECONDS)))

    def _show(self, ending: Ending) -> None:
        console = self._out.console
        plain = not (console.encoding or "").lower().startswith("utf")
        with self._out.heard(), Live(console=console, screen=True, auto_refresh=False) as live:
            while not ending.wanted.wait(FRAME_SECONDS):
                self._check()
                frame = render(self._feed.picture(), console.width, console.height, plain_bars=plain)
                live.update(frame, refresh=True)

    def _take(self, command: CommandRecord) -> None:
        if not self._full:
            self._lines.put(command)

    def _start_worker(self, directory: Path, servers: str, policy: str, port: int, processes: int) -> Child:
        file = directory / "policy.yaml"
        file.write_text(policy, encoding="utf-8")
        arguments = {
            "--bootstrap-servers": servers, "--policy": file, "--from": "earliest", "--api-port": port,
            "--session-timeout": SESSION_TIMEOUT, "--processes": processes,
        }  # fmt: skip
        options = [str(part) for pair in arguments.items() for part in pair]
        worker = Child([sys.executable, "-m", "monitor", "--log-format", "human", "worker", *options], directory / "worker.log")
        self._stack.callback(worker.stop, WORKER_STOP_SECONDS)
        with sheltered():
            worker.start()
        return worker

    def _start_sidecar(self, directory: Path, servers: str, port: int) -> None:
        try:
            require_gateway()
        except MissingExtraError as error:
            self._step(f"sidecar   none: {error}")
            return
        arguments = {
            "--bootstrap-servers": servers, "--port": port, "--session-id": f"header:{SESSION_HEADER.lower()}",
            "--activity-granularity": f"{GRANULARITY}ms",
        }  # fmt: skip
        options = [str(part) for pair in arguments.items() for part in pair]
        sidecar = Child([sys.executable, "-m", "monitor", "--log-format", "human", "gateway", *options], directory / "sidecar.log")
        self._stack.callback(sidecar.stop, SIDECAR_STOP_SECONDS)
        with sheltered():
            sidecar.start()
        # Comes before the end of the worker, so that both end at the same time.
        self._stack.callback(sidecar.signal, signal.SIGTERM)
        self._sidecar, self._sidecar_url = sidecar, f"http://{LOOPBACK}:{port}"

    def _start_traffic(self, connection: Connection, seed: int) -> None:
        publisher = Publisher(connection, source="demo", granularity=GRANULARITY)

        def close() -> None:
            with contextlib.suppress(DeliveryError):
                publisher.close(PUBLISHER_STOP_SECONDS)

        self._stack.callback(close)
        self._player = Player(traffic(seed), publisher)
        self._stack.callback(self._player.stop)
        self._player.start()
        self._step(f"traffic   seed {seed}")

    def _token(self) -> str:
        if given := os.environ.get(TOKEN):
            return check_token(given, TOKEN)
        path = token_path()
        if not path.exists():
            # Whoever had none before has none after.
            self._stack.callback(forget, path)
        return read_or_create_token(path)

    def _wait_until_ready(self, gathered: Gathered) -> list[str]:
        deadline = time.monotonic() + READY_SECONDS
        while not self._feed.ready:
            self._check()
            if time.monotonic() > deadline:
                raise AbsenceError(f"the worker did not get ready within {READY_SECONDS:.0f} s; its log ends with:\n{self._worker.said()}")
            time.sleep(0.02)
        while self._sidecar is not None and not is_ready(self._sidecar_url):
            self._check()
            if time.monotonic() > deadline:
                raise AbsenceError(f"the sidecar did not get ready within {READY_SECONDS:.0f} s; its log ends with:\n{self._sidecar.said()}")
            time.sleep(0.02)
        return gathered.apis

    def _check(self) -> None:
        # First the broker: without it nothing else lasts.
        if not self._broker.alive:
            raise AbsenceError(f"the broker has ended by itself; it said last:\n{self._broker.said() or '(nothing)'}")
        if not self._worker.alive:
            raise AbsenceError(f"the worker has ended by itself; its log ends with:\n{self._worker.said()}")
        if self._sidecar is not None and not self._sidecar.alive:
            raise AbsenceError(f"the sidecar has ended by itself; its log ends with:\n{self._sidecar.said()}")
        if self._player is not None and self._player.failure is not None:
            raise AbsenceError(f"the demo's traffic has ended by itself: {self._player.failure}")

    def _step(self, text: str) -> None:
        self._out.say(f"  {time.monotonic() - self._began:4.1f} s  {text}")

    def _tell(self, servers: str, apis: list[str], log: Path) -> None:
        say = self._out.say
        whence = TOKEN if os.environ.get(TOKEN) else token_path()
        say(f"\nSession Monitor is up after {time.monotonic() - self._began:.1f} s. Ctrl-C ends everything.\n")
        say(f"  broker    {servers}")
        for api in apis:
            say(f"  sessions  {api}/v1/sessions   (Authorization: Bearer, the token of {whence})")
            say(f"  health    {api}/readyz")
            say(f"  metrics   {api}/metrics")
        if self._sidecar_url:
            say(f"  sidecar   {self._sidecar_url}/check   (its metrics: {self._sidecar_url}/metrics)")
        say(f"  log       {log}\n")
        for hint in hints(servers, self._sidecar_url):
            say(f"  {hint}")
        say()


def hints(servers: str, sidecar: str = "") -> tuple[str, ...]:
    """What to try next, in another terminal; `sidecar` is its URL, where there is one. They fit into 100 columns."""
    program = program_name()
    return (
        f"elsewhere:  export SESSION_MONITOR_BOOTSTRAP_SERVERS={servers}",
        f"publish:    {program} publish --type opened --session-id mine --subject me",
        f"look:       {program} sessions list",
        f"act:        {program} revoke --subject me --by me --reason 'trying it out'",
        # The request itself opens the session: 200, and 401 once its idle limit has passed.
        *([f"ask:        curl -i -H '{SESSION_HEADER}: mine' {sidecar}/check  # 200; after its limit: 401"] if sidecar else []),
    )


def program_name() -> str:
    """How this program is called from a shell, as far as one can tell."""
    if shutil.which("session-monitor"):
        return "session-monitor"
    called = Path(sys.argv[0])
    return str(called) if called.name == "session-monitor" else "python -m monitor"


def forget(file: Path) -> None:
    """Remove a file, and the directory it was made with."""
    file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        file.parent.rmdir()


@contextlib.contextmanager
def logs_in(file: Path) -> Iterator[None]:
    """Send the logs of this process to a file: on the terminal they would tear the view."""
    root = logging.getLogger()
    before = root.handlers[:]
    with file.open("a", encoding="utf-8") as stream:
        configure_logs(LogFormat.HUMAN, stream=stream)
        try:
            yield
        finally:
            root.handlers[:] = before


@contextlib.contextmanager
def sheltered() -> Iterator[None]:
    """Let child processes find this package from any directory, and none of the settings meant for other installations."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(f"{PREFIX}_") and name != TOKEN:
            del os.environ[name]
    root = str(Path(monitor.__file__).resolve().parent.parent)
    if "site-packages" not in root:
        # It runs from a checkout.
        os.environ["PYTHONPATH"] = os.pathsep.join(part for part in (root, before.get("PYTHONPATH")) if part)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _wall() -> int:
    return time.time_ns() // 1_000_000
