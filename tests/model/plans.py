"""Limits by brute force: what a policy, given as a plain dict, says of a session's attributes at an instant.

A policy: `classifications`, `timing` (ms), `defaults` (`idle`, `absolute`, `warn_before`), `rules` (`name`, `when`,
`idle`, `absolute`, `counts`, `acr_values`, `enforce`) and `exceptions` (`name`, `when`, limits, `until` in ms).
"""

from fnmatch import fnmatchcase

NEVER = 1 << 60


def rank(policy, word):
    words = policy["classifications"]
    return -1 if word is None else words.index(word) if word in words else len(words)


def holds(policy, when, attributes, missing):
    """Whether every condition holds; a missing attribute answers `missing`."""
    for name, wanted in when.items():
        have = attributes.get(name)
        if not have or (name == "classification" and have not in policy["classifications"]):
            met = missing
        elif name == "classification":
            met = rank(policy, have) >= rank(policy, wanted["at_least"])
        elif name == "roles":
            met = bool(set(have) & set(wanted))
        elif name == "route":
            met = any(fnmatchcase(have, pattern) for pattern in wanted)
        else:
            met = have in wanted
        if not met:
            return False
    return True


def shortest(kind, rules):
    return min(
        ((r[kind], r["name"]) for r in rules if kind in r), key=lambda pair: pair[0], default=(NEVER, "")
    )


def make_plan(policy, attributes, at):
    """Most restrictive wins; then exceptions, while they last; rules on trial beside it."""
    matching = [r for r in policy["rules"] if holds(policy, r["when"], attributes, missing=True)]
    trial = [r for r in matching if r.get("enforce") == "observe"]
    rules = [{"name": "defaults"} | policy["defaults"], *(r for r in matching if r not in trial)]
    excused = [
        x
        for x in policy["exceptions"]
        if at < x["until"] and holds(policy, x["when"], attributes, missing=False)
    ]
    plan = {"until": min((x["until"] for x in excused), default=NEVER)}
    for kind in ("idle", "absolute"):
        limit = shortest(kind, rules)
        for exception in excused:
            if exception.get(kind, 0) > limit[0]:
                limit = (exception[kind], exception["name"])
        plan[kind] = limit
        on_trial = shortest(kind, trial)
        plan["observed_" + kind] = on_trial if on_trial[0] < limit[0] else (NEVER, "")
    plan["counts"] = {"human", "agent", "inflight"}.intersection(
        *(r["counts"] for r in rules if "counts" in r)
    )
    plan["acr_values"] = next((r["acr_values"] for r in rules if "acr_values" in r), ())
    plan["warn_before"] = policy["defaults"]["warn_before"]
    lower = attributes.get("classification") in policy["classifications"][:-1]  # known, and not the highest
    plan["source_grace"] = policy["timing"]["source_grace"] if lower else 0
    return plan
