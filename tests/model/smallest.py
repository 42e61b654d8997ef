"""The smallest history that still shows a fault: what a person wants to read.

Hypothesis finds the history; taking records, fields and rules away one by one is quicker than its own
shrinking of what was drawn, and every history is valid by construction.
"""

NEEDED = {
    "kind",
    "at",
    "type",
    "session_id",
    "controls_to",
    "source",
    "time",
    "final",
    "id",
    "target",
    "reason",
    "policy",
}


def smallest(history, fails):
    """Take away as long as `fails(history)` is true: records from the end, then controls, rules and fields."""
    size = len(history["log"])
    while size:
        for start in range(len(history["log"]) - size, -1, -size):
            shorter = {**history, "log": history["log"][:start] + history["log"][start + size :]}
            if shorter["log"] and fails(shorter):
                history = shorter
        size //= 2
    again = True
    while again:
        again = False
        for simpler in _simpler(history):
            if fails(simpler):
                history, again = simpler, True
                break
    return history


def _simpler(history):
    log = history["log"]
    for place in range(len(log) if len(log) > 1 else 0):
        yield {**history, "log": log[:place] + log[place + 1 :]}
    for place, control in enumerate(history["controls"]):
        yield _without_control(history, place)
        if "policy" in control:
            for policy in _simpler_policies(control["policy"]):
                yield _with(history, "controls", place, {**control, "policy": policy})
    for policy in _simpler_policies(history["policy"]):
        yield {**history, "policy": policy}
    for of in ("log", "controls"):
        for place, step in enumerate(history[of]):
            for name in step:
                event = step.get("kind") == "event"
                if name not in NEEDED or (event and name in {"source", "time"}):
                    yield _with(history, of, place, {n: v for n, v in step.items() if n != name})
            if step.get("kind") == "event" and step["type"] != "session.activity":
                yield _with(history, of, place, {**step, "type": "session.activity"})


def _with(history, of, place, step):
    steps = list(history[of])
    steps[place] = step
    return {**history, of: steps}


def _without_control(history, place):
    log = [
        {**step, "controls_to": step["controls_to"] - (step["controls_to"] >= place)}
        if step["kind"] == "tick"
        else step
        for step in history["log"]
    ]
    return {**history, "controls": history["controls"][:place] + history["controls"][place + 1 :], "log": log}


def _simpler_policies(policy):
    for part in ("rules", "exceptions"):
        for place in range(len(policy[part])):
            yield {**policy, part: policy[part][:place] + policy[part][place + 1 :]}
    if policy["defaults"]["warn_before"]:
        yield {**policy, "defaults": {**policy["defaults"], "warn_before": []}}
