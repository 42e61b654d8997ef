"""What holds for every policy: rules only tighten, ignorance only tightens, bounds are bounds."""

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.events import Attributes, Principal
from monitor.core.instants import DAY, NEVER
from monitor.core.plan import LimitKind
from monitor.policy import compile_policy
from monitor.policy.loosest import Population, loosest

NOW = 1_790_000_000_000
LEVELS = ("low", "high")
VALUES = {
    "principal": (Principal.USER, Principal.SERVICE),
    "roles": (("~other",), ("admin",), ("root",), ("admin", "root")),
    "classification": LEVELS,
    "workload": ("~other", "batch"),
    "route": ("/~other", "/v1/a", "/v1/b"),
    "subject": ("~other", "alice"),
}
CONDITIONS = {
    "principal": ("user", "service"),
    "roles": ("[admin]", "[root, admin]"),
    "classification": ("{at_least: low}", "{at_least: high}", "low", "[low, high]"),
    "workload": ("batch",),
    "route": ('"/v1/*"', "[/v1/a]", '"*"'),
    "subject": ("alice", '"a*"'),
}

durations = st.sampled_from(("1m", "5m", "10m", "1h", "none"))


def whens(least):
    conditions = st.sampled_from(sorted(CONDITIONS)).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(CONDITIONS[name]))
    )
    return st.lists(conditions, min_size=least, max_size=2, unique_by=lambda pair: pair[0]).map(
        lambda pairs: "{" + ", ".join(f"{name}: {value}" for name, value in pairs) + "}" if pairs else ""
    )


@st.composite
def rules(draw):
    when = draw(whens(0))
    asks = [
        f"{kind}: {draw(durations)}"
        for kind in draw(st.sampled_from((["idle"], ["absolute"], ["idle", "absolute"])))
    ]
    if draw(st.booleans()):
        asks.append(f"concurrent: {draw(st.integers(1, 3))}")
    if draw(st.integers(0, 3)) == 3:
        asks.append("enforce: observe")
    if draw(st.integers(0, 3)) == 3:
        asks.append(f"idle_counts: {draw(st.sampled_from(('human', '[agent, inflight]')))}")
    return ", ".join(([f"when: {when}"] if when else []) + asks)


@st.composite
def exceptions(draw):
    until = draw(st.sampled_from(("2026-01-01", "2027-01-01", "2027-06-01")))
    kind = draw(st.sampled_from(("idle", "absolute")))
    return f"when: {draw(whens(1))}, {kind}: {draw(durations)}, until: {until}, reason: r, approved_by: c"


@st.composite
def policies(draw):
    """A list of rules, and a list of exceptions, and the defaults."""
    defaults = f"{{idle: {draw(durations)}, absolute: {draw(durations)}}}"
    return defaults, draw(st.lists(rules(), max_size=4)), draw(st.lists(exceptions(), max_size=2))


def compiled(defaults, rules, exceptions):
    lines = ["version: 1", f"classifications: [{', '.join(LEVELS)}]", f"defaults: {defaults}", "rules:"]
    lines += [f"  - {{name: r{n}, {rule}}}" for n, rule in enumerate(rules)]
    lines += ["exceptions:", *(f"  - {{name: x{n}, {entry}}}" for n, entry in enumerate(exceptions))]
    return compile_policy("\n".join(lines))


def maybe(values, nothing):
    return st.sampled_from((nothing, *values))


attributes = st.builds(
    Attributes, **{name: maybe(values, () if name == "roles" else None) for name, values in VALUES.items()}
)


@settings(max_examples=100)
@given(policies(), rules(), st.integers(0, 4), st.lists(attributes, min_size=1, max_size=8))
def test_adding_a_rule_can_only_tighten(parts, rule, place, sessions):
    defaults, others, excused = parts
    before = compiled(defaults, others, excused)
    after = compiled(defaults, [*others[:place], rule, *others[place:]], excused)
    for who in sessions:
        old, new = before.plan(who, NOW), after.plan(who, NOW)
        assert new.idle.ms <= old.idle.ms
        assert new.absolute.ms <= old.absolute.ms
        assert new.counts & ~old.counts == 0
        assert (new.concurrent or NEVER) <= (old.concurrent or NEVER)


@settings(max_examples=100)
@given(policies(), attributes, st.sampled_from(sorted(VALUES)))
def test_knowing_less_can_only_tighten(parts, who, name):
    policy = compiled(*parts)
    less = Attributes(**{n: getattr(who, n) for n in VALUES if n != name})
    assert policy.plan(less, NOW).idle.ms <= policy.plan(who, NOW).idle.ms
    assert policy.plan(less, NOW).absolute.ms <= policy.plan(who, NOW).absolute.ms


@settings(max_examples=100)
@given(policies(), attributes, st.data())
def test_the_order_of_rules_changes_no_limit(parts, who, data):
    defaults, others, excused = parts
    one = compiled(defaults, others, excused).plan(who, NOW)
    other = compiled(defaults, data.draw(st.permutations(others)), excused).plan(who, NOW)
    assert (one.idle.ms, one.absolute.ms) == (other.idle.ms, other.absolute.ms)
    assert (one.observed_idle.ms, one.observed_absolute.ms) == (
        other.observed_idle.ms,
        other.observed_absolute.ms,
    )


@settings(max_examples=100)
@given(policies(), attributes)
def test_the_chain_tells_of_each_limit_which_one_link_won(parts, who):
    plan = compiled(*parts).plan(who, NOW)
    for kind, limit in ((LimitKind.IDLE, plan.idle), (LimitKind.ABSOLUTE, plan.absolute)):
        (winner,) = [link for link in plan.chain if link.limit is kind and link.won]
        assert winner.rule == limit.rule
        assert (NEVER if winner.ms is None else winner.ms) == limit.ms
        assert not winner.observe


@settings(max_examples=100)
@given(policies(), attributes, st.sampled_from(VALUES["subject"]), st.integers(-DAY, DAY))
def test_within_a_period_a_subject_that_nobody_asks_for_changes_no_plan(parts, who, subject, later):
    policy = compiled(*parts)
    other = Attributes(**({n: getattr(who, n) for n in VALUES} | {"subject": subject}))
    if not policy.personal and policy.period(NOW) == policy.period(NOW + later):
        assert policy.plan(who, NOW) is policy.plan(other, NOW + later)


@settings(max_examples=60)
@given(policies(), st.sampled_from(((), ("admin",), ("root", "admin"))))
def test_the_loosest_plan_is_the_loosest_of_all_sessions(parts, roles):
    """Against every session of a small world that has all the words the policy speaks of, and one other each."""
    policy = compiled(*parts)
    population = Population("users", (Principal.USER,), roles)
    plans = [
        policy.plan(who, NOW)
        for values in product(*VALUES.values())
        for who in [Attributes(**dict(zip(VALUES, values, strict=True)))]
        if who.principal is Principal.USER and (not roles or set(roles) & set(who.roles))
    ]
    found = loosest(policy, population, NOW)
    assert found.idle.ms == max(plan.idle.ms for plan in plans)
    assert found.absolute.ms == max(plan.absolute.ms for plan in plans)
    assert (found.concurrent or NEVER) == max(plan.concurrent or NEVER for plan in plans)
    counted = 0
    for plan in plans:
        counted |= plan.counts
    assert found.counts == counted
