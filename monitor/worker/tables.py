"""The session table as Faust sees it: a name, a changelog topic, and a recovery that is the owner's.

Faust derives the changelog's name from the table (`<app_id>-sessions-changelog`) and keeps its own assignor
for an app with tables. Nothing else of its tables is used: its per-record recovery would take minutes for a
million sessions, and logs and skips what it cannot apply. `conf.TableManager` is Faust's extension point for
that; ours registers the table, does not subscribe to its changelog (it is read by partition number, outside
of the group), and puts the owner's bulk recovery where Faust's stands.
"""

import asyncio
import logging
from typing import Any

import faust
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP
from mode import Service

from monitor.worker.custody import Custody

log = logging.getLogger(__name__)


class SessionTable(faust.Table[bytes, bytes]):
    """Names the changelog. It is never started and holds nothing: the sessions live with the owner."""


class OwnerRecovery(Recovery):
    """After each rebalance: the owner recovers in bulk, then delivery begins where it says.

    Runs beside the rebalance, not within it: aiokafka sends no heartbeat before the assignment callback has
    returned, so a recovery longer than the session timeout would end in the next rebalance.
    """

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:  # fmt: skip
        """Begin the recovery of an assignment."""
        app: Any = self.app
        topic = app.engine.topic
        self._partitions = frozenset(tp.partition for tp in assigned if tp.topic == topic)
        self._generation_id = generation_id
        self.signal_recovery_start.set()

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Nothing is buffered here; the consumer has ended the recovery before it called us."""

    def flush_buffers(self) -> None:
        """Nothing is buffered here."""

    @Service.task
    async def _restart_recovery(self) -> None:
        """Recover whenever an assignment came; a later one ends the one before."""
        app: Any = self.app
        custody: Custody = app.custody
        while not self.should_stop:
            await self.signal_recovery_start.wait()
            self.signal_recovery_start.clear()
            generation, partitions = self._generation_id, self._partitions
            self.app.in_recovery = self.in_recovery = True
            starts = await custody.take_over(partitions)
            self.app.in_recovery = self.in_recovery = False
            # No await from here to `begin`: what was given up meanwhile must not be opened.
            if starts is None or generation != self.app.consumer_generation_id or partitions != custody.held:
                continue
            await self._resume(starts)

    async def _resume(self, starts: dict[int, int]) -> None:
        app: Any = self.app
        app.flow_control.resume()
        app.consumer.resume_flow()
        await app.consumer.begin(starts)
        await app.on_rebalance_complete.send()
        await app._fetcher.maybe_start()  # noqa: SLF001  (as Faust's own recovery does)
        self.completed.set()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        app.on_rebalance_end()
        log.info(
            "delivery_begun", extra={"starts": {str(key): value for key, value in sorted(starts.items())}}
        )

    # Faust's background tasks that read the changelog, and the statistics about it, have nothing to do.
    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Replaced: the owner reads the changelog."""

    @Service.task
    async def _publish_stats(self) -> None:
        """Replaced: the owner measures its recovery."""


class SessionTables(TableManager):
    """Faust's table manager with the owner's recovery."""

    @property
    def recovery(self) -> OwnerRecovery:
        """The one recovery service."""
        recovery = self._recovery
        if not isinstance(recovery, OwnerRecovery):
            recovery = self._recovery = OwnerRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return recovery

    async def on_start(self) -> None:
        """Start the recovery service; no table and no topic is started or declared."""
        await self._update_channels()
        await self.recovery.start()

    async def _update_channels(self) -> None:
        self._tables_finalized.set()
        self._tables_registered.set()
        await asyncio.sleep(0)

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Pass it on to the recovery."""
        self._recovery_started.set()
        await self.recovery.on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def on_stop(self) -> None:
        """Stop fetching, then the recovery."""
        app: Any = self.app
        await app._fetcher.stop()  # noqa: SLF001  (as Faust's own table manager does)
        await self.recovery.stop()
