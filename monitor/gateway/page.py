"""The page that a person sees whose session has ended: no script, no style, nothing from elsewhere."""

from html import escape
from typing import Final

from monitor.wire.problem import Problem
from monitor.wire.times import format_time

_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<h1>{title}</h1>
<p>{detail}.</p>{since}{login}
</html>
"""


def page(problem: Problem, login: str | None) -> bytes:
    """The problem as a page, with a link to `login` where that helps. Nothing in it can be taken for markup."""
    since = "" if problem.effective_at is None else f"\n<p>Since {format_time(problem.effective_at)}.</p>"
    link = "" if login is None else f'\n<p><a href="{escape(login)}" rel="noreferrer">Log in again</a></p>'
    return _PAGE.format(title=escape(problem.title), detail=escape(problem.detail), since=since, login=link).encode()
