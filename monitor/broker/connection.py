"""`Connection`: how to reach the brokers, said once. Every Kafka client of ours takes its settings from here."""

import ssl
from pathlib import Path
from typing import Any, Final

import msgspec

from monitor.core.errors import AbsenceError, InputError

PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_SECRETS: Final = ("sasl_password", "ssl_key_password")


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """Where the brokers are and who we are to them.

    Raises InputError at once for what can't work: an address without a port, a protocol without its credentials.
    Secrets are in no text made of it.
    """

    bootstrap_servers: str = "localhost:9092"
    """`host:port`, several with commas; IPv6 as `[::1]:9092`."""
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str = ""
    sasl_password: str = ""
    ssl_cafile: str = ""
    """PEM of the authorities to trust; the system's where empty."""
    ssl_certfile: str = ""
    """PEM of our own certificate, where the broker wants one; `ssl_keyfile` and `ssl_key_password` belong to it."""
    ssl_keyfile: str = ""
    ssl_key_password: str = ""
    ssl_check_hostname: bool = True

    def __post_init__(self) -> None:
        """Refuse what can't work."""
        if not self.addresses():
            raise InputError("no broker is named: give --bootstrap-servers host:port")
        if self.security_protocol not in PROTOCOLS:
            raise InputError(
                f"security protocol {self.security_protocol!r} is unknown: one of {', '.join(PROTOCOLS)}"
            )
        if self.sasl and self.sasl_mechanism not in MECHANISMS:
            raise InputError(
                f"SASL mechanism {self.sasl_mechanism!r} is not supported: one of {', '.join(MECHANISMS)}"
            )
        if self.sasl and not (self.sasl_username and self.sasl_password):
            raise InputError(
                f"{self.security_protocol} needs --sasl-username and a password (SESSION_MONITOR_SASL_PASSWORD"
                " or --sasl-password-file)"
            )
        if self.ssl_keyfile and not self.ssl_certfile:
            raise InputError("--ssl-keyfile is given without its certificate: give --ssl-certfile too")

    def __repr__(self) -> str:
        """Without the secrets."""
        said = msgspec.structs.asdict(self) | {name: "***" for name in _SECRETS if getattr(self, name)}
        return f"Connection({', '.join(f'{name}={value!r}' for name, value in said.items())})"

    @property
    def tls(self) -> bool:
        """Whether the way is encrypted."""
        return self.security_protocol.endswith("SSL")

    @property
    def sasl(self) -> bool:
        """Whether we log in."""
        return self.security_protocol.startswith("SASL_")

    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every bootstrap server. Raises InputError for one that is not `host:port`."""
        return [_address(text) for part in self.bootstrap_servers.split(",") if (text := part.strip())]

    def ssl_context(self) -> ssl.SSLContext:
        """A new context. Raises AbsenceError where a file is missing or is not what it should be."""
        try:
            context = ssl.create_default_context(cafile=self.ssl_cafile or None)
            context.check_hostname = self.ssl_check_hostname
            if self.ssl_certfile:
                context.load_cert_chain(
                    self.ssl_certfile, self.ssl_keyfile or None, self.ssl_key_password or None
                )
        except OSError as error:  # ssl.SSLError is one
            files = [name for name in (self.ssl_cafile, self.ssl_certfile, self.ssl_keyfile) if name]
            absent = [name for name in files if not Path(name).is_file()]
            what = f"no such file: {', '.join(absent)}" if absent else f"{error} ({', '.join(files)})"
            raise AbsenceError(f"TLS can't be set up: {what}; check the --ssl-* options") from error
        return context

    def kafka_python(self) -> dict[str, Any]:
        """Keyword arguments for kafka-python's clients."""
        return self._settings()

    def aiokafka(self) -> dict[str, Any]:
        """Keyword arguments for aiokafka's clients."""
        return self._settings()

    def _settings(self) -> dict[str, Any]:
        # Both clients happen to use the same words.
        settings: dict[str, Any] = {
            "bootstrap_servers": [
                f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.addresses()
            ],
            "security_protocol": self.security_protocol,
        }
        if self.tls:
            settings["ssl_context"] = self.ssl_context()
        if self.sasl:
            settings |= {
                "sasl_mechanism": self.sasl_mechanism, "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }  # fmt: skip
        return settings


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    # isdigit() also takes digits of other scripts; int() understands those too.
    if not (colon and host and port.isdigit() and 0 < int(port) < 65536) or "//" in host:
        raise InputError(f"bootstrap server {text!r} is not host:port, such as localhost:9092")
    return host, int(port)
