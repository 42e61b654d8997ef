"""What an application vouches for, and the paths that it does not ask about."""

import pytest

from monitor.core.errors import InputError
from monitor.gateway import Facts
from monitor.gateway.question import Question, unusable
from monitor.gateway.vouched import Excluded, vouch


def test_what_is_told_is_known_besides_the_rest() -> None:
    question = vouch(Question(Facts("s-1", subject="alice")), {"classification": "internal", "roles": ("a",)})
    assert question.facts == Facts("s-1", subject="alice", classification="internal", roles=("a",))


def test_a_question_that_was_turned_away_stays_so() -> None:
    question = unusable("odd")
    assert vouch(question, {"subject": "alice"}) is question


@pytest.mark.parametrize("name", ["sesion_id", "session_id", "auth_time", ""])
def test_what_is_no_fact_of_an_application_is_named(name) -> None:
    with pytest.raises(InputError, match=f"facts_of: '{name}' is no fact"):
        vouch(Question(), {name: "x"})


@pytest.mark.parametrize(("path", "excluded"), [
    ("/login", True), ("/login/", False), ("/login/x", False), ("/static/a.css", True), ("/static/a/b", True), ("/static", False),
    ("/static/", True), ("/statics", False), ("/static/../admin", False), ("/static/./a", False), ("/static//a", False), ("/static/a\\..\\b", False),
    ("/admin", False), ("", False),
])  # fmt: skip
def test_paths(path, excluded) -> None:
    assert (path in Excluded(["/login", "/static/..."])) is excluded
    assert path not in Excluded([])
