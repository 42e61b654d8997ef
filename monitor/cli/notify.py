"""`alerts notify`: alerts to webhooks and Alertmanager, until told to end."""

import signal
import threading
from pathlib import Path
from typing import Annotated, Final

import typer

from monitor.cli.durations import within
from monitor.cli.output import hint
from monitor.cli.settings import Installation, takes_installation
from monitor.core.errors import InputError
from monitor.core.instants import DAY, MINUTE
from monitor.notify import Alertmanager, Endpoint, Notifier, Receiver, Webhook

_GIVING_UP: Final = (MINUTE, 7 * DAY)
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@takes_installation
def notify(
    installation: Installation,
    webhook: Annotated[list[str] | None, typer.Option(metavar="NAME=URL", help="Tell this receiver by signed POSTs; repeat it for several.")] = None,
    secret_file: Annotated[Path | None, typer.Option(help="What webhooks are signed with: 16 bytes or more, readable by its owner alone.")] = None,
    alertmanager: Annotated[list[str] | None, typer.Option(metavar="NAME=URL", help="Tell this Alertmanager; repeat it for several.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Put on every alert for Alertmanager, such as cluster=eu.")] = None,
    generator_url: Annotated[str, typer.Option(help="Where people look at an alert; {fingerprint} in it becomes the alert's.")] = "",
    give_up_after: Annotated[str, typer.Option(help="What a receiver does not take for so long becomes a dead letter.")] = "24h",
) -> None:  # fmt: skip
    """Tell receivers of each alert that fires and that is over, in order, until SIGTERM or Ctrl-C. Run one: two would tell everything twice.

    How far each receiver has got is kept under its name. Silenced alerts are not told.
    """
    if webhook and secret_file is None:
        raise InputError("alerts notify: --webhook is given without --secret-file, so that nobody could tell who calls; give one")
    receivers: list[Receiver] = [
        *(Webhook(name, Endpoint(url), secret_file) for name, url in _pairs("--webhook", webhook) if secret_file is not None),
        *(
            Alertmanager(name, Endpoint(url), generator_url=generator_url, labels=dict(_pairs("--label", label)))
            for name, url in _pairs("--alertmanager", alertmanager)
        ),
    ]
    notifier = Notifier(installation.connection, installation.topics, receivers, give_up_after=within("--give-up-after", give_up_after, _GIVING_UP))
    told = threading.Event()
    for number in _SIGNALS:
        signal.signal(number, lambda *_: told.set())
    notifier.start()
    hint(f"telling {', '.join(receiver.name for receiver in receivers)}; Ctrl-C ends")
    try:
        told.wait()
    finally:
        notifier.stop()


def _pairs(option: str, given: list[str] | None) -> list[tuple[str, str]]:
    """Raises InputError for what is no NAME=VALUE."""
    found = []
    for one in given or ():
        name, equals, value = one.partition("=")
        if not (name and equals and value):
            raise InputError(f"{option} {one!r} must be NAME=VALUE, such as pager=https://example.com/hook")
        found.append((name, value))
    return found
