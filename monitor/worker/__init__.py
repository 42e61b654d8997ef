"""The monitor itself: a Faust application that owns partitions of access events."""
