"""What is doubtful in a policy that can be used: the warnings of `policy check`."""

from collections.abc import Iterator
from itertools import combinations
from typing import Final

from monitor.core.instants import DAY, NEVER, Millis
from monitor.core.plan import LimitKind
from monitor.policy.combine import asked
from monitor.policy.compiled import CompiledPolicy
from monitor.policy.covering import covers
from monitor.policy.durations import format_duration
from monitor.policy.findings import Finding, Severity
from monitor.policy.rules import Origin, Rule

SOON: Final[Millis] = 30 * DAY
"""An exception that ends within this time is told of."""


def check(policy: CompiledPolicy, now: Millis) -> tuple[Finding, ...]:
    """The warnings, in order of place. What a preset says is never warned of."""
    own = [policy.defaults, *(rule for rule in policy.rules if rule.origin is not Origin.PRESET)]
    found = [warning for rule in own for warning in _of_rule(policy, rule)]
    for exception in policy.exceptions:
        found += _of_exception(policy, exception, now)
    found += _of_pairs([rule for rule in own if not rule.observe])
    concurrent = any(rule.concurrent is not None for rule in (policy.defaults, *policy.rules))
    found += [
        _warn(rule, f"{rule.name}: on_exceed has no effect, because no rule gives 'concurrent'")
        for rule in own
        if rule.on_exceed is not None and not concurrent
    ]
    return tuple(sorted(found, key=lambda finding: (finding.line, finding.column)))


def _warn(rule: Rule, message: str) -> Finding:
    return Finding(rule.line, rule.column, message, Severity.WARNING)


def _of_rule(policy: CompiledPolicy, rule: Rule) -> Iterator[Finding]:
    defaults = policy.defaults
    idle = min(rule.idle or NEVER, defaults.idle or NEVER)
    absolute = min(rule.absolute or NEVER, defaults.absolute or NEVER)
    speaks = rule.idle is not None or rule.absolute is not None
    if speaks and absolute < idle < NEVER:
        yield _warn(
            rule,
            f"{rule.name}: idle {format_duration(idle)} is longer than absolute {format_duration(absolute)}: "
            "the idle limit never strikes",
        )
    for lead in rule.warn_before or ():
        for kind, limit in ((LimitKind.IDLE, idle), (LimitKind.ABSOLUTE, absolute)):
            if lead >= limit:
                yield _warn(
                    rule,
                    f"{rule.name}: a warning {format_duration(lead)} before the {kind.value} limit of "
                    f"{format_duration(limit)} never comes",
                )
    if rule.observe:
        if not speaks:
            yield _warn(
                rule, f"{rule.name}: on trial it observes nothing, because it gives no idle or absolute"
            )
        if rule != _only_limits(rule):
            yield _warn(
                rule, f"{rule.name}: on trial only idle and absolute are observed; the rest has no effect"
            )
    elif rule is not defaults:
        yield from _never_wins(policy, rule)


def _only_limits(rule: Rule) -> Rule:
    return Rule(
        rule.name,
        rule.origin,
        rule.when,
        rule.idle,
        rule.absolute,
        observe=True,
        line=rule.line,
        column=rule.column,
    )


def _never_wins(policy: CompiledPolicy, rule: Rule) -> Iterator[Finding]:
    """A limit that another entry undercuts for every session that the rule matches."""
    for kind in LimitKind:
        ms = asked(rule, kind)
        if ms is None:
            continue
        earlier = True  # of equal limits the first wins
        for other in (policy.defaults, *policy.rules):
            if other is rule:
                earlier = False
                continue
            limit = asked(other, kind)
            if limit is None or other.observe or limit > ms or (limit == ms and not earlier):
                continue
            if covers(other.when, rule.when, policy.classifications):
                yield _warn(
                    rule,
                    f"{rule.name}: {kind.value} {format_duration(ms)} never wins: {other.name} gives "
                    f"{format_duration(limit)} to every session it matches (only an exception lengthens)",
                )
                break


def _of_exception(policy: CompiledPolicy, exception: Rule, now: Millis) -> Iterator[Finding]:
    name = f"exception {exception.name}"
    if exception.until <= now:
        yield _warn(exception, f"{name} has ended: it lengthens nothing any more")
    elif exception.until <= now + SOON:
        days = -(-(exception.until - now) // DAY)
        yield _warn(exception, f"{name} ends within {days} {'day' if days == 1 else 'days'}")
    for kind in LimitKind:
        ms = asked(exception, kind)
        enforced = (rule for rule in (policy.defaults, *policy.rules) if not rule.observe)
        shortest = min(limit for rule in enforced if (limit := asked(rule, kind)) is not None)
        if ms is not None and ms <= shortest:
            yield _warn(
                exception, f"{name}: {kind.value} {format_duration(ms)} lengthens nothing: no rule gives less"
            )
    if exception.idle is not None and exception.absolute is None:
        longest = policy.defaults.absolute or NEVER
        if longest < exception.idle:
            yield _warn(
                exception,
                f"{name}: idle {format_duration(exception.idle)} is longer than absolute {format_duration(longest)}",
            )


def _of_pairs(rules: list[Rule]) -> Iterator[Finding]:
    """Rules that can match one session and ask of it what nothing can give."""
    for first, second in combinations(rules, 2):
        if first.acr_values and second.acr_values and not set(first.acr_values) & set(second.acr_values):
            yield _warn(
                second,
                f"{second.name} and {first.name} accept no acr in common: where both match, {first.name} decides",
            )
        if first.counts is not None and second.counts is not None and not first.counts & second.counts:
            yield _warn(
                second,
                f"{second.name} and {first.name} count no activity in common: where both match (also where what "
                "they ask about is not known), nothing moves the idle clock",
            )
