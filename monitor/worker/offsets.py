"""The owner's hand on the group's offsets and on the flow of single partitions."""

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from monitor.core.errors import InvariantError
from monitor.worker.custody import GroupMovedOnError
from monitor.worker.transport import Consumer


class GroupOffsets:
    """`Offsets` on the consumer of a running app. Call from the main loop; works within `assigned` and `revoked` too."""

    def __init__(self, consumer: Consumer) -> None:
        """`consumer` is started."""
        self._consumer = consumer
        self._topic = consumer.topic

    @property
    def exact(self) -> bool:
        """Whether every record so far had the broker's append time; if not, replays are not exact."""
        return self._consumer.times.exact

    @property
    def halted(self) -> dict[int, str]:
        """Partitions that are held but not delivered any more, and why."""
        return self._consumer.halted

    async def committed(self, partition: int) -> int | None:
        """The committed offset, asked of the broker; None where there is none."""
        thread = self._consumer._thread  # noqa: SLF001
        return await thread.in_thread(thread.committed_in_thread, TopicPartition(self._topic, partition))

    async def commit(self, offsets: dict[int, int]) -> None:
        """Commit; waits for a coordinator that is away.

        Raises GroupMovedOnError (an InvariantError) where the partitions are not ours any more, InvariantError
        where the broker refuses for another reason.
        """
        thread = self._consumer._thread  # noqa: SLF001
        wanted = {TopicPartition(self._topic, partition): offset for partition, offset in offsets.items()}
        try:
            await thread.in_thread(thread.commit_in_thread, wanted)
        except (CommitFailedError, IllegalStateError) as error:
            raise GroupMovedOnError(
                f"offsets {offsets} of {self._topic} were not committed: the group has given the partitions to another "
                f"worker ({error}). That worker repeats what came after the last commit."
            ) from error
        except KafkaError as error:
            raise InvariantError(
                f"offsets {offsets} of {self._topic} were not committed: {error!r}. The worker stops and repeats."
            ) from error

    def pause(self, partition: int) -> None:
        """Deliver nothing more of this partition until `resume`, not even what is fetched already."""
        if self._consumer.delivery.pause(partition):
            self._consumer.cross(self._consumer._thread.pause_in_thread, self._topic, partition)  # noqa: SLF001

    def resume(self, partition: int) -> None:
        """Deliver again, from the record after the last that was handed over."""
        again = self._consumer.delivery.resume(partition)
        if again is not None:
            thread = self._consumer._thread  # noqa: SLF001
            self._consumer.cross(thread.begin_in_thread, self._topic, {partition: again})
