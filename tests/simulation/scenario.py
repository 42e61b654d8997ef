"""What happens in one run: a plan drawn from a seed, as plain data, so that it can be told and made smaller."""

import json
import random
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from monitor.policy import CompiledPolicy, compile_policy, version_of
from monitor.wire.partitioner import partition_for
from monitor.wire.topics import Topics
from monitor.worker import appender
from monitor.worker.follower import compiled as compile_control
from tests.kafka.plain import rfc3339
from tests.simulation.cluster import BASE, Cluster
from tests.simulation.process import EPOCH, Process
from tests.simulation.virtual import World

POLICY = """
version: 1
timing: {lateness: 2s, outage_grace: 4s, source_grace: 3s}
defaults: {idle: 4s, absolute: 20s}
rules:
  - name: secret
    when: {classification: {at_least: restricted}}
    idle: 2s
"""
STRICTER = POLICY.replace("idle: 4s", "idle: 3s").replace("absolute: 20s", "absolute: 15s")


def _model(idle: int, absolute: int) -> dict[str, Any]:
    return {
        "classifications": ["public", "internal", "confidential", "restricted"],
        "timing": {"lateness": 2000, "outage_grace": 4000, "source_grace": 3000, "credential_lifetime": 86_400_000},
        "defaults": {"idle": idle, "absolute": absolute, "warn_before": []},
        "rules": [{"name": "secret", "when": {"classification": {"at_least": "restricted"}}, "idle": 2000}],
        "exceptions": [],
    }


MODELS = {POLICY: _model(4000, 20_000), STRICTER: _model(3000, 15_000)}
LONG = 30_000
"""Milliseconds of traffic and faults ..."""
CALM = 32_000
"""... and afterwards, until every deadline has struck whatever the graces."""

_policies: dict[str, CompiledPolicy] = {}


def compiled(control: Any) -> CompiledPolicy:
    """As the worker's own, each text once."""
    if control.policy_text not in _policies:
        _policies[control.policy_text] = compile_control(control)
    return _policies[control.policy_text]


@dataclass
class Plan:
    """Instants in milliseconds from the begin. `faults` are (when, kind, ...), `sends` (when, topic, partition key, value)."""

    seed: int
    partitions: int = 2
    trouble: float = 0.0
    faults: list[tuple[Any, ...]] = field(default_factory=list)
    sends: list[tuple[int, str, bytes, bytes]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, {self.partitions} partitions, {self.trouble:.0%} of requests lost"]
        lines += [f"  {what[0]:>6} {what[1]:<8} {what[2:]}" for what in self.faults]
        lines += [f"  {at:>6} -> {topic}: {value.decode(errors='replace')}" for at, topic, _, value in self.sends[:40]]
        return "\n".join([*lines, f"  ({len(self.sends)} records sent)"])


def draw(seed: int) -> Plan:
    """A plan: one in eight without any fault."""
    dice = random.Random(f"plan {seed}")
    plan = Plan(seed, partitions=dice.choice((1, 2, 3)))
    plan.sends = sorted(_traffic(dice) + _controls(dice), key=lambda send: send[0])
    if dice.random() < 0.125:
        return plan
    plan.trouble = dice.choice((0.0, 0.0, 0.01, 0.05))
    kinds = ("kill", "kill", "aim", "aim", "aim", "freeze", "freeze", "start", "start", "stop", "outage", "compact", "compact", "compact")
    for _ in range(dice.randrange(1, 9)):
        kind, at = dice.choice(kinds), dice.randrange(2500, LONG)
        if kind == "freeze":
            plan.faults.append((at, kind, dice.random(), dice.choice((1500, 7500, 9000, 13_000))))
        elif kind == "outage":
            plan.faults.append((at, kind, dice.choice((500, 3500, 7000, 12_000))))
        elif kind == "aim":
            plan.faults.append((at, kind, dice.random(), dice.choice(("session-commands", "app-sessions-changelog", "commit"))))
        elif kind == "compact":
            plan.faults += [(at + n * 1500, kind) for n in range(3)]
        else:
            plan.faults.append((at, kind, dice.random()))
    plan.faults.sort(key=lambda fault: fault[0])
    return plan


def _traffic(dice: random.Random) -> list[tuple[int, str, bytes, bytes]]:
    """Sources with clocks of their own, some announced, some cut off for a while; sessions that come, work and stop."""
    sends: list[tuple[int, str, bytes, bytes]] = []
    for number in range(dice.randrange(1, 4)):
        source, skew = f"gateway-{number}", dice.choice((0, 0, 0, 400, -400, -1500, 60_000))
        cut = dice.randrange(LONG) if dice.random() < 0.4 else None
        back = None if cut is None else cut + dice.choice((1000, 4000, 9000))

        def send(at: int, key: bytes, value: dict[str, Any], cut: int | None = cut, back: int | None = back) -> None:
            late = back if cut is not None and back is not None and cut <= at < back else at
            sends.append((late + dice.choice((0, 0, 3, 40)), "access-events", key, json.dumps(value).encode()))

        if dice.random() < 0.4:
            for at in range(0, LONG, 1000):
                send(at + 5, b"~alive", {"type": "source.alive", "source": source, "time": rfc3339(BASE + at + min(skew, 0))})
        for session in range(dice.randrange(2, 5)):
            name = f"s{number}{session}"
            pace, at = dice.choice((300, 900, 2500, 5500)), dice.randrange(LONG // 2)
            ends = dice.choice((LONG, LONG, at + 9000))
            while at < ends:
                event: dict[str, Any] = {"type": "session.activity", "session_id": name, "source": source, "time": rfc3339(BASE + at + skew)}
                if dice.random() < 0.3:
                    event["subject"] = f"user-{dice.choice((name, name, 'other')) if dice.random() < 0.05 else name}"
                if dice.random() < 0.05:
                    event["classification"] = dice.choice(("internal", "restricted"))
                if dice.random() < 0.06:
                    event["auth_time"] = rfc3339(BASE + at - 30)
                if dice.random() < 0.03:
                    event["type"] = "session.closed"
                if dice.random() < 0.05:
                    event["activity"] = "keepalive"
                send(at, name.encode(), event)
                if dice.random() < 0.05:
                    send(at + dice.choice((0, 20, 700)), name.encode(), event)
                if dice.random() < 0.02:
                    sends.append((at, "access-events", name.encode(), b'{"type": "session.activity", '))
                at += int(pace * (0.4 + dice.random()))
    return sends


def _controls(dice: random.Random) -> list[tuple[int, str, bytes, bytes]]:
    sends = []
    for number in range(dice.choice((0, 0, 1, 2, 3))):
        kind = dice.choice(("control.revoke", "control.lock", "control.unlock", "control.policy"))
        control: dict[str, Any] = {"type": kind, "id": f"c{number}", "by": "tests", "reason": "an incident"}
        if kind == "control.policy":
            text = dice.choice((POLICY, STRICTER))
            control |= {"id": "policy", "policy_text": text, "policy_version": version_of(text)}
        elif kind == "control.unlock":
            control["id"] = f"c{max(0, number - 1)}"
        else:
            control["target"] = dice.choice(({"session_id": "s00"}, {"subject": "user-s01"}, {"all": True}))
        sends.append((dice.randrange(4000, LONG), "session-control", control["id"].encode(), json.dumps(control).encode()))
    return sends


class Run:
    """A plan carried out."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.world = World()
        self.topics = Topics("", plan.partitions, "app")
        commands, changelog = self.topics.session_commands.name, self.topics.changelog.name
        self.cluster = Cluster(self.world, f"cluster {plan.seed}", plan.partitions, compacted={commands, changelog})
        self.cluster.trouble = plan.trouble
        self.cluster.slow = 0.02 if plan.faults or plan.trouble else 0.0
        self.dice = random.Random(f"run {plan.seed}")
        self.processes: list[Process] = []

    def carry_out(self) -> "Run":
        world, real = self.world, appender._monotonic
        appender._monotonic = lambda: world.now + EPOCH
        try:
            return self._carry_out(world)
        finally:
            appender._monotonic = real

    def _carry_out(self, world: World) -> "Run":
        self._start()
        for at, topic, key, value in self.plan.sends:
            world.at(at, lambda t=topic, k=key, v=value: self._send(t, k, v))
        for fault in self.plan.faults:
            world.at(fault[0], lambda f=fault: getattr(self, f"_{f[1]}")(*f[2:]))
        for at in range(0, LONG + CALM, 500):
            world.at(at, self.cluster.bury)
            world.at(at, self._keep_one_alive)
        world.at(LONG, self._heal)
        try:
            world.run(LONG + CALM)
            self.failures = [(p.name, p.failure) for p in self.processes if p.failure is not None]
            self.pending = sum(p.appender.pending for p in self.processes if not (p.dead or p.stopped))
        finally:
            for process in self.processes:
                process.loop.end()
        return self

    def read(self, topic: str) -> list[Any]:
        """Everything that was ever written to a topic."""
        return [
            SimpleNamespace(partition=partition, offset=r.offset, timestamp=r.timestamp, key=r.key, value=r.value, headers=r.headers)
            for (name, partition), log in sorted(self.cluster.history.items())
            if name == topic
            for r in log
        ]

    def _send(self, topic: str, key: bytes, value: bytes) -> None:
        if topic == "session-control" and len(self.cluster.committed) < self.plan.partitions:
            # The judge lets each partition begin under the first control.
            self.world.after(500, lambda: self._send(topic, key, value))
        elif self.cluster.down:  # a producer buffers and repeats
            self.world.at(self.cluster.down_until + 5, lambda: self._send(topic, key, value))
        elif key == b"~alive":
            for partition in range(self.plan.partitions):
                self.cluster.write(topic, partition, [(key, value, ())])
        else:
            partition = partition_for(key, self.plan.partitions) if topic == "access-events" else 0
            self.cluster.write(topic, partition, [(key, value, ())])

    def _alive(self) -> list[Process]:
        return [process for process in self.processes if not (process.dead or process.stopped)]

    def _start(self, _which: float = 0.0) -> None:
        if len(self._alive()) < 3:
            skew = self.dice.choice((0, 0, 300, -300, 20_000, -20_000))
            self.processes.append(Process(f"w{len(self.processes)}", self.cluster, self.topics, POLICY, skew, compiled))

    def _pick(self, which: float) -> Process | None:
        alive = [process for process in self._alive() if not process.frozen]
        return alive[int(which * len(alive))] if alive else None

    def _kill(self, which: float) -> None:
        process = self._pick(which)
        if process is not None:
            process.kill()
            self.world.after(self.dice.choice((10, 800, 3000)), self._start)

    def _aim(self, which: float, kind: str) -> None:
        process = self._pick(which)
        if process is not None:
            process.aim = kind

    def _stop(self, which: float) -> None:
        process = self._pick(which)
        if process is not None and len(self._alive()) > 1:
            process.stop()

    def _freeze(self, which: float, duration: int) -> None:
        process = self._pick(which)
        if process is not None:
            process.freeze()
            self.world.after(duration, process.thaw)

    def _outage(self, duration: int) -> None:
        self.cluster.down_until = max(self.cluster.down_until, self.world.now + duration)

    def _compact(self) -> None:
        self.cluster.compact()

    def _keep_one_alive(self) -> None:
        if not self._alive():
            self._start()

    def _heal(self) -> None:
        self.cluster.trouble = 0.0


def smaller(plan: Plan) -> list[Plan]:
    """The plan with something left out, the largest pieces first."""
    plans = [replace(plan, trouble=0.0)] if plan.trouble else []
    for name in ("faults", "sends"):
        whole = getattr(plan, name)
        size = len(whole) // 2
        while size:
            plans += [replace(plan, **{name: whole[:at] + whole[at + size :]}) for at in range(0, len(whole), size)]
            size //= 2 if len(whole) < 40 or size > len(whole) // 16 else len(whole)
    return plans


__all__ = ["MODELS", "POLICY", "Plan", "Run", "compile_policy", "draw", "smaller"]
