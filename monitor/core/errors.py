"""The two sides of every error: theirs (bad input, absent parts) and ours (a broken promise: stop)."""


class MonitorError(Exception):
    """Base of all errors of this product. The message says what happened, where, and what to do about it."""


class InputError(MonitorError):
    """Theirs: something that was given can't be used. CLI: exit 2; HTTP: 4xx; records: dead letter."""


class AbsenceError(MonitorError):
    """Theirs: something that is needed is not there (a broker, a topic, a port, an extra). CLI: exit 1."""


class MissingExtraError(AbsenceError):
    """An optional part is not installed."""

    def __init__(self, extra: str, what: str) -> None:
        """`extra` names the extra to install, `what` the thing that needs it."""
        super().__init__(f"{what} needs the extra '{extra}': pip install 'session-monitor[{extra}]'")
        self.extra = extra


class InvariantError(MonitorError):
    """Ours: a promise would be broken by going on. The partition or the process stops; nothing is committed."""
