"""Timings are a Prometheus histogram: what a scrape gets is what the library's own would give."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from monitor.observe.timings import Timings

BUCKETS = (0.001, 0.25, 1.0, 2.5, 60.0)
SECONDS = st.sampled_from([0.0, 0.001, 0.0010001, 0.2, 1.0, 2.0, 59.0, 60.0, 61.0, 1e6])


@given(st.lists(st.tuples(SECONDS, st.integers(1, 1000))))
def test_a_scrape_gets_what_the_librarys_own_histogram_would_give(seen):
    registry, reference = CollectorRegistry(), CollectorRegistry()
    ours = Timings("session_monitor_wait_seconds", "Waiting.", BUCKETS, registry)
    theirs = Histogram("session_monitor_wait_seconds", "Waiting.", buckets=BUCKETS, registry=reference)
    for seconds, times in seen:
        ours.observe(seconds, times)
        for _ in range(times):
            theirs.observe(seconds)

    def scraped(of):
        (family,) = of.collect()
        samples = {str((s.name, s.labels)): s.value for s in family.samples if not s.name.endswith("_created")}
        return (family.name, family.documentation, family.type), samples

    (about, samples), (expected_about, expected) = scraped(registry), scraped(reference)
    assert about == expected_about
    assert samples == pytest.approx(expected)
