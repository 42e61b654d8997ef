"""`session-monitor policy`: check, explain, test and apply the file that gives every session its limits."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree as ET

import typer

from monitor.cli.output import Format, hint, show
from monitor.cli.settings import Installation, takes_installation
from monitor.core.controls import Control, ControlType
from monitor.core.errors import InputError
from monitor.core.events import Attributes, Principal
from monitor.core.instants import Millis
from monitor.policy import CompiledPolicy, Finding, PolicyError, compile_policy
from monitor.policy.cases import Outcome, read_cases, run_case
from monitor.policy.check import check as doubts
from monitor.policy.compliance import Ruling, Verdict
from monitor.policy.explain import explain as explanation
from monitor.policy.standards import STANDARDS, against
from monitor.wire.bad_record import BadTime
from monitor.wire.codec import Record
from monitor.wire.controls import POLICY_KEY, encode_control
from monitor.wire.times import parse_time

FAILED = 1
REFUSED = 4

File = Annotated[Path, typer.Argument(help="The policy, a YAML file.")]
Files = Annotated[list[Path], typer.Argument(help="Policies, YAML files.")]
Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]
At = Annotated[
    str | None,
    typer.Option("--at", help="The instant to judge at, RFC 3339 or a day (00:00 UTC); now, if left out."),
]

policy = typer.Typer(
    name="policy", help="The limits: check, explain, test and apply them.", no_args_is_help=True
)


def register(program: typer.Typer) -> None:
    """Put the noun on the program."""
    program.add_typer(policy)


@policy.command()
def check(
    files: Files,
    standards: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            help=f"Judge it clause by clause; repeat it for several. One of {', '.join(STANDARDS)}.",
        ),
    ] = None,
    privileged: Annotated[
        list[str] | None,
        typer.Option(
            "--privileged",
            help="A role that counts as privileged; repeat it for several. Else the usual names that the policy speaks of.",
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a policy with warnings.")] = False,
    at: At = None,
    output: Output = Format.TABLE,
) -> None:
    """Say what is wrong and what is doubtful, and with --against which clauses of a standard are met, and why.

    Exit code 2 where a policy can't be used, 4 where a clause is not met or, with --strict, where there is a warning.
    """
    now = _instant(at)
    policies = _read_all(files)
    warnings = [_warning(one.name, found) for one in policies for found in doubts(one, now)]
    rulings = [
        (one.name, ruling)
        for one in policies
        for standard in standards or ()
        for ruling in against(one, standard, now, tuple(privileged or ()))
    ]
    if standards:
        for row in warnings:
            hint(f"{row['file']}:{row['line']}:{row['column']}: {row['severity']}: {row['message']}")
        show(
            [_ruling(name, ruling) for name, ruling in rulings],
            ("file", "standard", "clause", "verdict", "asks", "why"),
            output,
        )
    elif warnings or output is not Format.TABLE:
        show(warnings, ("file", "line", "column", "severity", "message"), output)
    for one in policies:
        hint(
            f"{one.name}: can be used; version {one.version}, {len(one.rules)} rules, {len(one.exceptions)} exceptions"
        )
    unmet = [ruling for _, ruling in rulings if ruling.verdict is Verdict.NOT_MET]
    if unmet:
        hint(f"not met: {', '.join(f'{ruling.standard} {ruling.clause}' for ruling in unmet)}")
    if unmet or (strict and warnings):
        raise typer.Exit(REFUSED)


@policy.command()
def explain(
    file: File,
    subject: Annotated[str | None, typer.Option(help="Who acts.")] = None,
    principal: Annotated[Principal | None, typer.Option(help="A person or a program.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="A role; repeat it for several.")] = None,
    classification: Annotated[str | None, typer.Option(help="Sensitivity of the data touched.")] = None,
    workload: Annotated[
        str | None, typer.Option(help="What the session does: console, inference, ...")
    ] = None,
    route: Annotated[str | None, typer.Option(help="The path or model used.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose data.")] = None,
    at: At = None,
    output: Output = Format.TABLE,
) -> None:
    """Print the limits of one session, and the rules that gave them in order. What is left out is not known."""
    compiled = _read(file)
    attributes = Attributes(
        subject=subject,
        principal=principal,
        roles=tuple(sorted(set(role or ()))),
        classification=classification,
        workload=workload,
        route=route,
        tenant=tenant,
    )
    if classification is not None and classification not in compiled.classifications:
        hint(
            f"{classification!r} is not in the policy's list: it counts as not known, and ranks above the highest"
        )
    unknown = [
        name
        for name in ("subject", "principal", "roles", "classification", "workload", "route", "tenant")
        if not getattr(attributes, name)
    ]
    if unknown:
        hint(f"not known: {', '.join(unknown)}; that meets the conditions of every rule and of no exception")
    rows = [
        {"what": line.what, "value": line.value, "by": line.by, "note": line.note}
        for line in explanation(compiled.plan(attributes, _instant(at)))
    ]
    show(rows, ("what", "value", "by", "note"), output)


@policy.command("test")
def run(
    file: File,
    cases: Annotated[Path, typer.Argument(help="What the policy must say of given sessions, a YAML file.")],
    junit: Annotated[Path | None, typer.Option(help="Write the results here as JUnit XML, too.")] = None,
    at: At = None,
    output: Output = Format.TABLE,
) -> None:
    """Run the cases of a file against a policy. Exit code 1 where one fails, 2 where a file can't be used."""
    now = _instant(at)
    compiled = _read(file)
    outcomes = [run_case(compiled, case, now) for case in read_cases(_text(cases), str(cases))]
    if not outcomes:
        raise InputError(f"{cases}: there are no cases in it; write some under 'cases:'")
    rows = [
        {
            "case": found.case.name,
            "result": "passed" if found.passed else "failed",
            "why": "; ".join(found.failures),
        }
        for found in outcomes
    ]
    if junit is not None:
        _write_junit(junit, cases, outcomes)
    show(rows, ("case", "result", "why"), output)
    failed = sum(not found.passed for found in outcomes)
    hint(f"{len(outcomes)} cases, {failed} failed")
    if failed:
        raise typer.Exit(FAILED)


@policy.command()
@takes_installation
def apply(
    file: File,
    installation: Installation,
    reason: Annotated[str, typer.Option(help="Why: it stands beside the policy for whoever asks later.")],
    by: Annotated[str, typer.Option(envvar=["SESSION_MONITOR_BY", "USER"], help="Who orders it.")],
) -> None:
    """Let a policy rule every worker and gateway, live. A policy that can't be used is refused before anything is sent."""
    compiled = _read(file)
    for name, given in (("reason", reason), ("by", by)):
        if not given.strip():
            raise InputError(f"policy apply: --{name} is empty; an order without it is refused")
    order = Control(
        -1, 0, ControlType.POLICY, "policy", reason=reason, by=by,
        policy_text=compiled.text, policy_version=compiled.version,
    )  # fmt: skip
    offset = _send(installation, encode_control(order, _instant(None)))
    typer.echo(f"{compiled.version} applied at {offset} of {installation.topics.session_control.name}")
    for found in doubts(compiled, _instant(None)):
        hint(f"{compiled.name}:{found.line}:{found.column}: {found.severity.value}: {found.message}")


def _send(installation: Installation, record: Record) -> int:
    """Write the policy's record to the topic and return its offset."""
    # Here, because the other verbs need no broker.
    from monitor.broker.control_log import write_control

    return write_control(
        installation.connection, installation.topics, POLICY_KEY.decode(), record.value, record.headers
    )


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{file} can't be read ({error.strerror}); name a YAML file, or '-' for stdin"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def _read(file: Path) -> CompiledPolicy:
    return compile_policy(_text(file), name=str(file))


def _read_all(files: Sequence[Path]) -> list[CompiledPolicy]:
    """Every file, or one error that tells of all of them."""
    policies, errors = [], []
    for file in files:
        try:
            policies.append(_read(file))
        except PolicyError as error:
            errors.append(str(error))
    if errors:
        raise InputError("\n".join(errors))
    return policies


def _instant(text: str | None) -> Millis:
    if text is None:
        return int(datetime.now(UTC).timestamp() * 1000)
    try:
        return parse_time(f"{text}T00:00:00Z" if len(text) == len("2026-12-31") else text)
    except BadTime as error:
        raise InputError(f"--at {text!r}: {error}; a day alone means 00:00 UTC") from None


def _warning(name: str, found: Finding) -> dict[str, object]:
    return {
        "file": name,
        "line": found.line,
        "column": found.column,
        "severity": found.severity.value,
        "message": found.message,
    }


def _ruling(name: str, found: Ruling) -> dict[str, object]:
    return {
        "file": name,
        "standard": found.standard,
        "clause": found.clause,
        "verdict": found.verdict.value,
        "asks": found.asks,
        "why": found.why,
    }


def _write_junit(file: Path, cases: Path, outcomes: Sequence[Outcome]) -> None:
    failed = sum(not found.passed for found in outcomes)
    suite = ET.Element(
        "testsuite", name=str(cases), tests=str(len(outcomes)), failures=str(failed), errors="0"
    )
    for found in outcomes:
        case = ET.SubElement(
            suite,
            "testcase",
            name=_printable(found.case.name),
            classname=cases.stem,
            file=str(cases),
            line=str(found.case.line),
        )
        if not found.passed:
            ET.SubElement(case, "failure", message=_printable("; ".join(found.failures))).text = _printable(
                "\n".join(found.failures)
            )
    root = ET.Element("testsuites")
    root.append(suite)
    try:
        ET.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise InputError(
            f"{file} can't be written ({error.strerror}); name a file in a directory that is there"
        ) from error


def _printable(text: str) -> str:
    """What XML can hold: a name from YAML may hold any character."""
    return "".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in text)
