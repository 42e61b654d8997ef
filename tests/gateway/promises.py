"""What `source.alive` promises, held against the log it stands on."""

import json


def broken_promises(records) -> list[tuple[int, int]]:
    """Partition and offset of each event that came after a promise that all up to its time was there. `records` in the order of offsets."""
    promised: dict[tuple[int, str], str] = {}
    broken = []
    promises = 0
    for record in records:
        said = json.loads(record.value)
        place = (record.partition, said.get("source", ""))
        if said["type"] == "source.alive":
            promised[place] = max(promised.get(place, ""), said["time"])
            promises += 1
        elif said["type"].startswith("session.") and said["time"] <= promised.get(place, ""):
            broken.append((record.partition, record.offset))
    assert promises, "nothing was promised at all"
    return broken
