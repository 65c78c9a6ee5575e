"""The tables of a run: medians over its rounds, and ours as a share of theirs. Pure text, no measuring."""

from statistics import median

OURS = "tiebeam"


def medians(rounds):
    """Of each figure that all rounds have."""
    keys = [key for key in rounds[0] if all(key in one for one in rounds)] if rounds else []
    return {key: median(one[key] for one in rounds) for key in keys}


def bars(cases, results, names):
    """One row a case: the figure of each proxy, ours / theirs, and whether the bar is reached."""
    rivals = [name for name in names if name != OURS]
    head = ["case", "", *names, *(f"{OURS} / {rival}" for rival in rivals), "to reach", ""]
    return _markdown(head, [_bar(case, results, names, rivals) for case in cases])


def details(cases, results, names):
    """One row a case and proxy: what else was seen."""
    head = ["case", "proxy", "user us", "system us", "core %", "requests/s", "p50 us", "p99 us", "RSS MiB", "errors"]
    rows = []
    for case in cases:
        for name in names:
            seen = medians(results[case.name][name]["rounds"])
            if seen:
                keys = ("user_us", "system_us", "core_percent", "rate", "p50_us", "p99_us")
                rss = _number(seen["rss_bytes"] / (1 << 20))
                errors = sum(one.get("errors", 0) for one in results[case.name][name]["rounds"])
                rows.append([case.name, name, *(_number(seen.get(key)) for key in keys), rss, str(errors)])
    return _markdown(head, rows)


def _bar(case, results, names, rivals):
    figures = {name: medians(results[case.name][name]["rounds"]).get("figure") for name in names}
    ours = figures.get(OURS)
    shares = [ours / figures[rival] if ours is not None and figures[rival] else None for rival in rivals]
    if case.most is not None:
        wanted = f"<= {case.most:,}"
        reached = None if ours is None else ours <= case.most
    else:
        wanted = f"<= {case.share:.2f} of each"
        reached = None if None in shares or not shares else all(share <= case.share for share in shares)
    verdict = {None: "", True: "reached", False: "missed"}[reached]
    shown = [_number(figures[name]) or results[case.name][name]["why"] or "-" for name in names]
    return [case.title, case.unit, *shown, *(f"{share:.2f}" if share else "-" for share in shares), wanted, verdict]


def _number(value):
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def _markdown(head, rows):
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [head, ["-" * max(3, width) for width in widths], *rows]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths)] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)
