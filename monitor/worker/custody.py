"""Calls the owner, one call at a time, in the only order that keeps its promises.

take over -> records ... -> give up, whatever the group coordinator, the fetcher and the operator do in
between. The first error of the owner is the failure of the worker: nothing is delivered after it.
Everything here runs in the main event loop; no Faust, so that it is tested without a broker.
"""

import asyncio
import contextlib
import logging
from collections.abc import Collection

from monitor.core.errors import AbsenceError, InvariantError
from monitor.worker.delivery import Batch, Delivery
from monitor.worker.ports import Owner

log = logging.getLogger(__name__)


class GroupMovedOnError(InvariantError):
    """The group has given our partitions to others: what was not committed will be done again, by them."""


class Custody:
    """Who owns what, between the consumer and the owner."""

    def __init__(self, owner: Owner, delivery: Delivery) -> None:
        """Nothing is held yet. Create inside the event loop."""
        self.owner = owner
        self.delivery = delivery
        self.held: frozenset[int] = frozenset()
        """Partitions that the owner has taken over."""
        self.taking: frozenset[int] = frozenset()
        """Partitions that the owner is recovering now."""
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Holds the first error; never a result."""
        self.failure.add_done_callback(_retrieve)
        self._turn = asyncio.Lock()
        self._takeover: asyncio.Task[dict[int, int]] | None = None
        self._closing = False

    @property
    def failed(self) -> bool:
        """Whether the worker must stop."""
        return self.failure.done()

    def fail(self, error: BaseException) -> None:
        """Keep the first error and deliver nothing more."""
        self.delivery.close_all()
        if not self.failure.done():
            # What the operator has left out needs no stack to be understood.
            log.critical("worker_failed", exc_info=None if isinstance(error, AbsenceError) else error)
            self.failure.set_exception(error)

    async def take_over(self, partitions: Collection[int]) -> dict[int, int] | None:
        """Let the owner recover; the answer says where each partition begins. None: given up meanwhile, or failed.

        A partition that the owner leaves out of its answer is held, but not delivered.
        """
        async with self._turn:
            if self._closing or self.failed:
                return None
            self.taking = frozenset(partitions)
            self._takeover = asyncio.ensure_future(self.owner.assigned(sorted(partitions)))
            try:
                starts = await self._takeover
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():  # not the recovery alone, but who waits for it
                    raise
                return None
            except Exception as error:  # noqa: BLE001 - the owner's first error ends the worker
                self.fail(error)
                return None
            finally:
                self._takeover = None
            self.held, self.taking = self.taking, frozenset()
            return starts

    async def hand_over(self, batch: Batch) -> None:
        """Give the owner what is new to it in a batch; stale batches vanish here."""
        try:
            async with self._turn:
                records = self.delivery.admit(batch)
                if records:
                    await self.owner.records(batch.partition, records, batch.end_offset)
        except asyncio.CancelledError:
            raise
        except GroupMovedOnError as error:
            self._moved_on(error)
        except Exception as error:  # noqa: BLE001 - the owner's first error ends the worker
            self.fail(error)
        finally:
            batch.done.set()

    async def give_up(self, *, lost: bool) -> None:
        """End everything that is held or being taken over; returns when the partitions may go.

        With `lost` they are gone already, and the owner writes nothing.
        """
        self.delivery.close_all()
        if self._takeover is not None:
            self._takeover.cancel()
        async with self._turn:
            unfinished, self.taking = self.taking, frozenset()
            held, self.held = self.held, frozenset()
            try:
                if unfinished:  # never owned whole: there is nothing to write
                    await self.owner.lost(sorted(unfinished))
                if held and not lost and not self.failed:
                    try:
                        await self.owner.revoked(sorted(held))
                    except GroupMovedOnError as error:
                        self._moved_on(error)
                        await self.owner.lost(sorted(held))
                elif held:
                    await self.owner.lost(sorted(held))
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - the owner's first error ends the worker
                self.fail(error)

    async def close(self) -> None:
        """The owner's last checkpoint, while the group still holds the partitions. Idempotent."""
        if self._closing:
            return
        self._closing = True
        self.delivery.close_all()
        if self._takeover is not None:
            self._takeover.cancel()
        async with self._turn:
            unfinished, self.taking = self.taking, frozenset()
            self.held = frozenset()
            try:
                if unfinished:
                    await self.owner.lost(sorted(unfinished))
                await self.owner.stop()
            except asyncio.CancelledError:
                raise
            except GroupMovedOnError as error:
                self._moved_on(error)
            except Exception as error:  # noqa: BLE001 - the owner's first error ends the worker
                self.fail(error)

    def _moved_on(self, error: GroupMovedOnError) -> None:
        # The coordinator is about to say so itself: `give_up(lost=True)` follows.
        self.delivery.close_all()
        log.warning("group_moved_on", extra={"error": str(error)})


def _retrieve(failure: "asyncio.Future[None]") -> None:
    """Mark the error as seen: who watches `failure` raises it, and a stop on another ground may not."""
    with contextlib.suppress(asyncio.CancelledError):
        failure.exception()
