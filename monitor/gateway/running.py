"""`Running`: the requests that run and the streams that are open, by session; they are cut when their session ends.

A request that was admitted may run for hours. So whenever the view changes, those whom it concerns are looked at again, by
what is known of them:

ended                     those of that session
controls, policy, reload  all of them, in slices
each second               those that tell their `auth_time`: an absolute limit strikes without a command

Whoever would be refused now is told (`Run.ended`), may finish within the drain time, and is then cut. A view that is merely
stale cuts nobody: an outage of the pipeline ends no session.

A request is entered before it is decided about. An end that the decision did not see comes after it, and finds the request
here: so none slips through between the two, and changes that meet nobody here cost the event loop nothing.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from monitor.core.instants import SECOND, Millis
from monitor.gateway.changes import Change, ChangeKind
from monitor.gateway.enforcer import Enforcer
from monitor.gateway.facts import Facts
from monitor.gateway.session import Ending
from monitor.gateway.verdict import Verdict
from monitor.wire.problem import Refusal

log = logging.getLogger(__name__)

DRAIN: Final[Millis] = 200
"""Enough to say goodbye on a stream."""
SWEEP: Final[Millis] = SECOND
_AT_ONCE: Final = 500
"""Requests looked at in one turn of the event loop: about a millisecond of work."""
_ALL: Final = (ChangeKind.CONTROLS, ChangeKind.POLICY)


class Run(Protocol):
    """One request that runs."""

    @property
    def facts(self) -> Facts:
        """What is known of it."""

    @property
    def ended(self) -> Ending:
        """What tells the application."""

    def cut(self, verdict: Verdict) -> bool:
        """End it, for that verdict; whether there was something to end. Called on the event loop: neither raises nor waits."""


class Running:
    """What runs, watched from one event loop. `begin`, `end` and `changed` may be called from any thread."""

    def __init__(
        self, enforcer: Enforcer, loop: asyncio.AbstractEventLoop, *, drain: Millis = DRAIN, sweep: Millis = SWEEP
    ) -> None:  # fmt: skip
        """Watch from now on, as long as the loop runs. `drain`: how long a request may go on when its session has ended; 0: not at all."""
        self._enforcer, self.loop, self._drain, self._sweep_every = enforcer, loop, drain, sweep
        self._runs: dict[str, set[Run]] = {}
        self._changing = threading.Lock()
        loop.call_soon_threadsafe(self._sweep)

    def __len__(self) -> int:
        """How many requests run."""
        return sum(map(len, list(self._runs.values())))

    def begin(self, run: Run) -> None:
        """It runs. To be called before it is decided about. Half a microsecond."""
        with self._changing:
            self._runs.setdefault(run.facts.session_id or "", set()).add(run)

    def end(self, run: Run) -> None:
        """It no longer runs. Idempotent."""
        name = run.facts.session_id or ""
        with self._changing:
            runs = self._runs.get(name)
            if runs is not None:
                runs.discard(run)
                if not runs:
                    del self._runs[name]

    def changed(self, changes: Sequence[Change]) -> None:
        """The view has changed: a listener for `Follower.subscribe`."""
        if any(change.kind in _ALL for change in changes):
            self._call(self._look, list(self._runs))
            return
        ended = dict.fromkeys(change.session_id for change in changes if change.kind is ChangeKind.ENDED)
        if met := [name for name in ended if name in self._runs]:
            self._call(self._look, met)

    # -- on the event loop --------------------------------------------------------------------------------

    def _call(self, function: Callable[[list[str]], None], names: list[str]) -> None:
        # A loop that has been closed has nobody left to cut.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, names)

    def _look(self, names: list[str], dated: bool = False) -> None:
        """Look at all runs of these sessions; `dated`: at those alone that tell when they were authenticated."""
        seen = 0
        while names and seen < _AT_ONCE:
            name = names.pop()
            with self._changing:
                runs = list(self._runs.get(name, ()))
            seen += len(runs)
            refused = [(run, verdict) for run in runs if not (dated and run.facts.auth_time is None) and (verdict := self._refused(run))]
            # Without a session each is one by itself.
            for some in [refused] if name else [[one] for one in refused]:
                if some:
                    self._end(some)
        if names:
            self.loop.call_soon(self._look, names, dated)

    def _refused(self, run: Run) -> Verdict | None:
        if run.ended:
            return None
        verdict = self._enforcer.look(run.facts)
        return None if verdict.admitted or verdict.reason == Refusal.VIEW_STALE else verdict

    def _end(self, refused: list[tuple[Run, Verdict]]) -> None:
        for run, verdict in refused:
            try:
                run.ended.end(verdict.reason)
            except ExceptionGroup:
                log.exception("session_end_callback_failed")
        if self._drain:
            self.loop.call_later(self._drain / SECOND, self._cut, refused)
        else:
            self._cut(refused)

    def _cut(self, refused: list[tuple[Run, Verdict]]) -> None:
        """Cut those who have not finished, and say how many they were."""
        cut = 0
        for run, verdict in refused:
            if run in self._runs.get(run.facts.session_id or "", ()):
                cut += run.cut(verdict)
        if cut:
            run, verdict = refused[0]
            self._enforcer.cut(run.facts, verdict, cut)

    def _sweep(self) -> None:
        self._look(list(self._runs), dated=True)
        self.loop.call_later(self._sweep_every / SECOND, self._sweep)
