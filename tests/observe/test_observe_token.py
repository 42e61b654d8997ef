"""The API's token: one per user, readable by nobody else, never replaced."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from monitor.core.errors import InputError
from monitor.observe.token import check_token, read_or_create_token, read_token, token_path


def test_it_lies_below_the_runtime_directory_where_there_is_one(tmp_path):
    assert token_path({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "session-monitor" / "token"


def test_else_below_the_state_directory(tmp_path):
    missing = {"XDG_RUNTIME_DIR": str(tmp_path / "none"), "HOME": str(tmp_path)}
    assert token_path(missing) == tmp_path / ".local" / "state" / "session-monitor" / "token"
    assert token_path({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "session-monitor" / "token"


def test_it_is_made_once_and_only_its_user_can_read_it(tmp_path):
    path = tmp_path / "deep" / "token"
    token = read_or_create_token(path)
    assert len(token) >= 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert read_or_create_token(path) == token == read_token(path)
    assert [p.name for p in path.parent.iterdir()] == ["token"]


def test_processes_that_start_together_agree(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: read_or_create_token(tmp_path / "token"), range(16)))
    assert len(tokens) == 1


def test_a_file_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "token"
    path.write_text("x" * 40)
    path.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        read_token(path)


@pytest.mark.parametrize(
    "token", ["", "short", "with a space in its middle", "with\nnewline-0123456789", "é" * 20, "x" * 2000]
)
def test_a_bad_token_is_refused_without_being_repeated(token):
    with pytest.raises(InputError) as refused:
        check_token(token, "the option --token")
    assert not token or token not in str(refused.value)


def test_no_file_is_no_token(tmp_path):
    assert read_token(tmp_path / "token") is None
