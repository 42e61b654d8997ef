"""Stays a member of the group where only the generation is past.

aiokafka forgets its member id whenever a commit, a heartbeat or a sync is refused, also where the broker knows the member
very well. As a new member it would then wait until the group has buried the old one: a session timeout on Kafka, for ever on
a broker that buries nobody. Here the id is kept until the broker says that it does not know it.
"""

from typing import Any, Final

UNKNOWN_MEMBER: Final = 25
"""Kafka's error code UNKNOWN_MEMBER_ID."""


def stay_member(coordinator: Any) -> None:
    """Let this coordinator of aiokafka (which has no public way) keep its member id. Once, before it joins."""
    send, reset = coordinator._send_req, coordinator.reset_generation  # noqa: SLF001
    unknown = False

    async def send_and_look(request: Any) -> Any:
        nonlocal unknown
        # What is done about an answer is done before anything else is awaited: the last answer is the one in hand.
        response = await send(request)
        unknown = UNKNOWN_MEMBER in _codes(response)
        return response

    def reset_and_stay() -> None:
        member = coordinator.member_id
        reset()
        if not unknown:
            coordinator.member_id = member

    coordinator._send_req, coordinator.reset_generation = send_and_look, reset_and_stay  # noqa: SLF001


def _codes(response: Any) -> set[int]:
    """The error codes of a group coordinator's answer; an OffsetCommit's stand by partition."""
    if hasattr(response, "error_code"):
        return {response.error_code}
    topics = getattr(response, "topics", None) or ()
    return {partition[1] for _, partitions in topics for partition in partitions if isinstance(partition[1], int)}
