"""What differs, as Markdown. Nothing here asks anybody."""

NAMES = ("Tiebeam", "nginx", "HAProxy")
# Of a message, characters.
SHOWN = 110

HEAD = """# Odd messages: the edge, nginx and HAProxy

Written by `make differences`; nothing here is by hand. {requests} requests and {answers} answers, hostile or odd, went through
{versions}, each in front of a server that keeps what it sees, and each with no
more words in its configuration than it needs. The corpus in `crates/edge/tests/corpus` has all of the messages with the word
of the RFC, and the tests of the edge hold it to that. Here stands only where the three differ.

**Bold** is against the RFC, its MUST or SHOULD; where that is the edge, the reason follows. *As it came*: the server was sent
a control, or more than one framing. A proxy that passes a body on while it still reads it may do one or the other, from run
to run, where the fault is at the end.

| | {names} |
|---|{bars}|
"""


def page(versions, requests, answers):
    """`requests` and `answers`: the cases, and for each what the three did."""
    taken = [[request_cell(case, took) for took in three] for case, three in zip(*requests)]
    passed = [[answer_cell(case, got) for got in three] for case, three in zip(*answers)]
    text = HEAD.format(
        requests=len(taken), answers=len(passed), names=" | ".join(NAMES), bars="---|" * (len(NAMES) - 1) + "---",
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
    )
    rows = (
        ("requests accepted against the RFC", taken, lambda cell: cell.accepted and cell.is_wrong),
        ("requests refused against the RFC", taken, lambda cell: not cell.accepted and cell.is_wrong),
        ("requests passed on as they came", taken, lambda cell: cell.ambiguous),
        ("bytes behind a refused request read as another", taken, lambda cell: cell.reads_on),
        ("answers passed on against the RFC", passed, lambda cell: cell.accepted and cell.is_wrong),
        ("answers not passed on against the RFC", passed, lambda cell: not cell.accepted and cell.is_wrong),
    )
    for words, cells, counts in rows:
        text += line([words, *(str(sum(counts(row[i]) for row in cells)) for i in range(len(NAMES)))])
    text += section("Requests", "What the server saw stands behind the status.", requests[0], taken)
    text += section("Answers", "What the client got, of an answer that its server sent.", answers[0], passed)
    return text + statuses(requests[0], taken)


class Cell:
    """What one proxy did with one message."""

    def __init__(self, accepted, words, status, is_wrong, ambiguous=False, reads_on=False):
        self.accepted, self.words, self.status, self.is_wrong = accepted, words, status, is_wrong
        self.ambiguous, self.reads_on = ambiguous, reads_on

    def shown(self):
        return f"**{self.words}**" if self.is_wrong else self.words


def request_cell(case, took):
    """Accepted is what the server saw whole and what it answered."""
    accepted = took.status == 200
    status = {0: "closed", -1: "waits"}.get(took.status, str(took.status))
    seen, reads_on = took.seen, took.reads_on and not accepted
    ambiguous = accepted and seen is not None and seen.is_ambiguous
    is_wrong = disagrees(case, accepted, ambiguous)
    words = status
    if accepted and seen:
        words = f"{status}: `{printable(seen.method)} {printable(seen.target)}`"
        words += f", host `{printable(seen.host)}`" if seen.host else ", no host"
        if seen.body:
            words += f", {len(seen.body)} bytes"
        if ambiguous:
            words += ", as it came"
    elif accepted:
        words = f"{status}, its own"
    if reads_on:
        words += ", reads on"
    return Cell(accepted, words, status, is_wrong or reads_on, ambiguous, reads_on)


def answer_cell(case, got):
    accepted = got.is_whole and got.status != 502
    words = "closed" if got.status == 0 else str(got.status)
    if got.status not in (0, 502):
        words += f", {len(got.body)} bytes" if got.body else ""
        words += "" if got.is_whole else ", cut"
    return Cell(accepted, words, words, disagrees(case, accepted))


def disagrees(case, accepted, as_it_came=False):
    wants = case.rule.wants
    return wants == ("refuse" if accepted else "accept") or (wants == "mend" and as_it_came)


def section(title, words, cases, rows):
    """Where one accepts what another does not, or where servers or clients see different things."""
    text, rule = f"\n## {title}\n\n{words}\n", None
    for case, row in zip(cases, rows):
        accepted = {cell.accepted for cell in row}
        passed = {cell.words for cell in row if cell.accepted}
        if len(accepted) == 1 and len(passed) <= 1 and not any(cell.reads_on for cell in row):
            continue
        if case.rule is not rule:
            rule = case.rule
            text += f"\n### {rule_title(rule)}\n\n{rule.text}"
            text += f" The edge: {rule.here}\n" if rule.here else "\n"
            text += f"\n| | {' | '.join(NAMES)} |\n|---|---|---|---|\n"
        text += line([code(case.text), *(cell.shown() for cell in row)])
    return text


def statuses(cases, rows):
    """Where all refuse, but not with the same words."""
    counts = {}
    for case, row in zip(cases, rows):
        told = tuple(cell.status for cell in row)
        if not any(cell.accepted for cell in row) and len(set(told)) > 1:
            counts.setdefault(told, []).append(case.line)
    text = "\n## Refused by all, with another status\n\nThe lines of `requests.txt`.\n\n"
    text += f"| {' | '.join(NAMES)} | lines |\n|---|---|---|---|\n"
    for told, lines in sorted(counts.items(), key=lambda entry: -len(entry[1])):
        text += line([*told, ", ".join(map(str, lines))])
    return text


def rule_title(rule):
    number, _, section_number = rule.source.partition(" ")
    wanted = {
        "accept": "to be accepted", "refuse": "to be refused", "mend": "to be refused or mended",
        "either": "either way",
    }[rule.wants]
    return f"RFC {number}, section {section_number}: {wanted}"


def line(cells):
    return f"| {' | '.join(cells)} |\n"


def code(text):
    if len(text) > SHOWN:
        half = (SHOWN - 3) // 2
        text = f"{text[:half]}...{text[-half:]}"
    text = text.replace("|", "\\|")
    # In a table a bar is escaped even within code.
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def printable(text):
    shown = text.encode("latin-1").decode("latin-1").encode("unicode_escape").decode()
    shown = shown.replace("`", "'").replace("|", "\\|")
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
