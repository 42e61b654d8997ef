"""Every record of the corpus is refused, with the reason that helps its sender."""

import pytest

from monitor.wire.bad_record import BadRecord, DeadLetterReason
from monitor.wire.events import decode_access_event, decode_record, to_event
from tests.data.bad_records import BadCase, bad_records

APPENDED = 1_795_500_000_000
CASES = bad_records()


@pytest.mark.parametrize("case", CASES, ids=[case.name.replace(" ", "-") for case in CASES])
def test_it_is_refused_with_its_reason(case: BadCase) -> None:
    with pytest.raises(BadRecord) as refused:
        decode_record(case.value, case.headers, case.key, APPENDED)
    assert refused.value.reason is case.reason, refused.value
    assert len(refused.value.detail) < 300


@pytest.mark.parametrize("case", [case for case in CASES if not case.headers and case.key is None], ids=lambda case: case.name.replace(" ", "-"))
def test_the_hot_way_comes_to_the_same_end(case: BadCase) -> None:
    with pytest.raises(BadRecord) as refused:
        to_event(decode_access_event(case.value), appended=APPENDED)
    if not case.name.startswith("alive"):
        assert refused.value.reason is case.reason


def test_the_corpus_is_large_and_names_every_reason_of_decoding() -> None:
    assert len(CASES) >= 60
    assert {case.reason for case in CASES} == set(DeadLetterReason) - {DeadLetterReason.SUBJECT_MISMATCH}


def test_a_detail_never_repeats_what_stood_there() -> None:
    secret = "tok-1234567890"
    for name in ("type", "time", "principal", "auth_time", "expires"):
        said = f'{{"type":"session.opened","session_id":"s","{name}":"{secret}"}}'.encode()
        with pytest.raises(BadRecord) as refused:
            decode_record(said, (), None, APPENDED)
        assert secret not in str(refused.value)
