"""Whether a policy meets a standard, clause by clause, and why.

Judged on the loosest plan that any session of the clause's population can have, exceptions in force
included and rules on trial left out. A clause that a policy alone can't meet is marked `needs people`, with
what they have to do; a clause that the product keeps whatever the policy says is met by that.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

import msgspec

from monitor.core.events import ActivityKind
from monitor.core.instants import NEVER, LogMillis, Millis
from monitor.core.plan import Limit
from monitor.policy.compiled import CompiledPolicy
from monitor.policy.durations import format_duration
from monitor.policy.loosest import (
    CONSOLES,
    EVERYONE,
    PRIVILEGED,
    USERS,
    Loosest,
    Population,
    loosest,
    privileged,
)


class Verdict(StrEnum):
    """What can be said of a clause."""

    MET = "met"
    NOT_MET = "not met"
    NEEDS_PEOPLE = "needs people"


class Ruling(msgspec.Struct, frozen=True):
    """One clause, what it asks for, and how this policy stands to it."""

    standard: str
    clause: str
    asks: str
    verdict: Verdict
    why: str


class Question(msgspec.Struct, frozen=True):
    """What is judged: a policy at an instant, and the roles that count as privileged.

    Where none are named: those of the usual names that the policy itself speaks of, or all of them.
    """

    policy: CompiledPolicy
    at: LogMillis
    roles: tuple[str, ...] = ()

    def of(self, population: Population) -> Loosest:
        """The loosest plan of a population."""
        return loosest(self.policy, population, self.at)

    def privileged(self) -> Population:
        """The population of privileged sessions."""
        spoken = {role for rule in self.policy.rules for role in rule.when.roles or ()}
        return privileged(self.roles or tuple(r for r in PRIVILEGED if r in spoken) or PRIVILEGED)


Judgement: TypeAlias = tuple[Verdict, str]
Judge: TypeAlias = Callable[[Question], Judgement]
Whom: TypeAlias = Callable[[Question], Population]


class Clause(msgspec.Struct, frozen=True):
    """A clause of a standard that bears on sessions."""

    number: str
    asks: str
    judge: Judge


def judge(clauses: tuple[Clause, ...], standard: str, question: Question) -> tuple[Ruling, ...]:
    """Each clause in turn."""
    return tuple(Ruling(standard, clause.number, clause.asks, *clause.judge(question)) for clause in clauses)


def everyone(_: Question) -> Population:
    """All sessions, of people and of services."""
    return EVERYONE


def users(_: Question) -> Population:
    """The sessions of people."""
    return USERS


def the_privileged(question: Question) -> Population:
    """The sessions of people in privileged roles."""
    return question.privileged()


def idle_within(most: Millis, whom: Whom = users) -> Judge:
    """No session of these may be idle for longer than `most`."""
    return lambda question: _within(question, whom(question), "idle", question.of(whom(question)).idle, most)


def absolute_within(most: Millis, whom: Whom = users) -> Judge:
    """No session of these may last longer than `most`."""
    return lambda question: _within(
        question, whom(question), "absolute", question.of(whom(question)).absolute, most
    )


def limited(kind: str, whom: Whom = everyone) -> Judge:
    """Every session of these has a limit of this kind, of whatever length."""
    return lambda question: _within(
        question, whom(question), kind, getattr(question.of(whom(question)), kind), NEVER - 1
    )


def _within(question: Question, population: Population, kind: str, limit: Limit, most: Millis) -> Judgement:
    excepted = next((entry for entry in question.policy.exceptions if entry.name == limit.rule), None)
    source = f"exception {limit.rule}" if excepted is not None else limit.rule
    if limit.ms >= NEVER:
        return Verdict.NOT_MET, f"{population.name} can be without {kind} limit (by {source})"
    told = f"the longest {kind} limit of {population.name} is {format_duration(limit.ms)} (by {source})"
    if limit.ms <= most:
        return Verdict.MET, told
    return Verdict.NOT_MET, f"{told}, more than {format_duration(most)}"


def concurrent_within(most: int, whom: Whom = users) -> Judge:
    """No principal of these has more sessions at once than `most`, and what is more is ended."""

    def check(question: Question) -> Judgement:
        population = whom(question)
        found = question.of(population)
        if found.concurrent is None:
            return Verdict.NOT_MET, f"{population.name} can be without a limit on concurrent sessions"
        told = f"{population.name} have at most {found.concurrent} at once"
        if found.concurrent > most:
            return Verdict.NOT_MET, f"{told}, more than {most}"
        if not found.ends_excess:
            return (
                Verdict.NOT_MET,
                f"{told}, but more only raise an alert: set on_exceed to end_oldest or end_newest",
            )
        return Verdict.MET, told

    return check


def tighter_for_privileged(question: Question) -> Judgement:
    """Privileged roles have limits of their own."""
    speaking = [
        rule.name
        for rule in question.policy.rules
        if not rule.observe
        and set(rule.when.roles or ()) & set(question.privileged().roles)
        and (rule.idle, rule.absolute, rule.concurrent) != (None, None, None)
    ]
    if speaking:
        return Verdict.MET, f"privileged roles have limits of their own (by {', '.join(speaking)})"
    return (
        Verdict.NOT_MET,
        f"no rule gives a limit to any of the roles {', '.join(question.privileged().roles)}",
    )


def tighter_for_sensitive_data(question: Question) -> Judgement:
    """Limits depend on the sensitivity of the data."""
    speaking = [
        rule.name
        for rule in question.policy.rules
        if not rule.observe
        and (rule.when.at_least is not None or rule.when.classification is not None)
        and (rule.idle is not None or rule.absolute is not None)
    ]
    if speaking:
        return Verdict.MET, f"limits depend on the classification (by {', '.join(speaking)})"
    return Verdict.NOT_MET, "no rule gives a limit by classification"


def presence_is_human(question: Question) -> Judgement:
    """What an agent does with a token keeps no console session open."""
    if question.of(CONSOLES).counts & ActivityKind.AGENT:
        return (
            Verdict.NEEDS_PEOPLE,
            "agent activity keeps console sessions open: give idle_counts without agent, or see that none acts alone",
        )
    return Verdict.MET, "neither keep-alives nor agents keep a console session open"


def acr_asked(level: str) -> Judge:
    """A re-authentication of a user must bring an acr; that it stands for this level only people can tell."""

    def check(question: Question) -> Judgement:
        if not question.of(USERS).acr_always:
            return (
                Verdict.NOT_MET,
                "some re-authentication of a user needs no acr: set reauth.acr_values for all users",
            )
        return (
            Verdict.NEEDS_PEOPLE,
            f"every re-authentication must bring an acr: confirm that its words stand for {level}",
        )

    return check


def by_design(why: str) -> Judge:
    """The product keeps it whatever the policy says."""
    return lambda _: (Verdict.MET, why)


def needs_people(what: str) -> Judge:
    """Only people can meet it."""
    return lambda _: (Verdict.NEEDS_PEOPLE, what)


def both(first: Judge, second: Judge) -> Judge:
    """Met where both are; the worse of the two verdicts otherwise."""
    order = (Verdict.MET, Verdict.NEEDS_PEOPLE, Verdict.NOT_MET)

    def check(question: Question) -> Judgement:
        one, other = first(question), second(question)
        return max(one[0], other[0], key=order.index), f"{one[1]}; {other[1]}"

    return check
