"""A benchmark for people: lines for the terminal and tables in Markdown."""

from collections.abc import Sequence

from sightline.benchmarking.cost import HOUR_S, machine_text, price_text, slowest
from sightline.benchmarking.prices import Region
from sightline.benchmarking.results import Cost, Result
from sightline.benchmarking.spread import Spread, seconds

Row = Sequence[str]
Table = tuple[str, list[Row]]
"""(what it is, rows); the first row is the heading."""


def tables(result: Result) -> list[Table]:
    """All that was measured, as tables of text."""
    made = [(latency_title(result), latency_rows(result))]
    if result.batches:
        made.append(("Throughput by batch size, one batch after the other", batch_rows(result)))
    if result.clients:
        made.append(("Throughput by clients, each sends its next picture when it has its answer", client_rows(result)))
    if result.start is not None:
        made.append(("Start of a fresh process", start_rows(result)))
    if result.costs:
        made.append(("Dollars per 1,000 pictures", cost_rows(result.costs)))
    return made


def latency_title(result: Result) -> str:
    what = "to its answer" if result.kind == "remote" else "from its file to its answer"
    return f"One picture at a time, {what} ({result.latency.count} samples; p50 and p95 with 95 % intervals)"


def latency_rows(result: Result) -> list[Row]:
    rows: list[Row] = [("stage", "mean", "p50", "", "p95", "", "p99", "share")]
    whole = result.latency.mean
    for stage, one in result.stages.items():
        name = f"server: {stage}" if result.kind == "remote" else stage
        rows.append((name, *numbers(one), f"{one.mean / whole:.1%}" if whole else "-"))
    rows.append(("all", *numbers(result.latency), ""))
    return rows


def numbers(one: Spread) -> tuple[str, ...]:
    """mean, p50, its interval, p95, its interval, p99."""
    return (
        seconds(one.mean),
        seconds(one.p50),
        between(one.p50_from, one.p50_to),
        seconds(one.p95),
        between(one.p95_from, one.p95_to),
        seconds(one.p99),
    )


def between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{seconds(low)} .. {seconds(high)}"


def batch_rows(result: Result) -> list[Row]:
    gpu = any(batch.peak_gpu_bytes is not None for batch in result.batches)
    heading = [
        "batch",
        "pictures/s",
        "predict alone/s",
        "a batch, p50",
        "",
        "peak memory",
        *(["peak GPU memory"] if gpu else []),
    ]
    rows: list[Row] = [heading]
    for batch in result.batches:
        if batch.failed or batch.seconds is None:
            rows.append((str(batch.size), batch.failed, *[""] * (len(heading) - 2)))
            continue
        rows.append(
            (
                str(batch.size),
                f"{batch.pictures_per_s:.3g}",
                f"{batch.predict_per_s:.3g}",
                seconds(batch.seconds.p50 if batch.seconds.p50 is not None else batch.seconds.mean),
                between(batch.seconds.p50_from, batch.seconds.p50_to) or f"mean of {batch.seconds.count}",
                mib(batch.peak_bytes),
                *([mib(batch.peak_gpu_bytes)] if gpu else []),
            )
        )
    return rows


def client_rows(result: Result) -> list[Row]:
    rows: list[Row] = [("clients", "pictures/s", "p50", "p95", "p99", "samples", "503", "other errors")]
    for one in result.clients:
        times = one.seconds
        told = ", ".join(f"{number} x {what}" for what, number in one.errors.items())
        rows.append(
            (
                str(one.count),
                f"{one.answers_per_s:.3g}",
                *(("-",) * 3 if times is None else (seconds(times.p50), seconds(times.p95), seconds(times.p99))),
                "0" if times is None else str(times.count),
                str(one.busy),
                told,
            )
        )
    return rows


def start_rows(result: Result) -> list[Row]:
    assert result.start is not None
    rows: list[Row] = [("", "mean", "least", "most", "starts")]
    for name, one in (
        ("to the first answer", result.start.first_answer_s),
        ("of that, loading the model", result.start.load_s),
    ):
        rows.append((name, seconds(one.mean), seconds(one.least), seconds(one.most), str(one.count)))
    return rows


def cost_rows(costs: Sequence[Cost]) -> list[Row]:
    rows: list[Row] = [("", "price", "one at a time", "at throughput", "", "measured there")]
    for cost in costs:
        price = cost.price
        what = price.instance_type or f"serverless {price.memory_mb} MB"
        each = (
            f"${price.usd_per_hour:g}/h"
            if price.usd_per_hour is not None
            else f"${(price.usd_per_second or 0) * HOUR_S:.4g}/h busy"
        )
        busy = "-" if cost.at_throughput is None else dollars(cost.at_throughput)
        rows.append(
            (
                what,
                each,
                dollars(cost.one_at_a_time),
                busy,
                cost.throughput_at,
                "yes" if cost.measured_there else "NO, priced as if",
            )
        )
    return rows


def dollars(value: float) -> str:
    return f"${value:.3f}" if value >= 0.01 else f"${value:.5f}"


def mib(size: int | None) -> str:
    return "-" if size is None else f"{size / 2**20:,.0f} MiB"


def head(result: Result) -> list[str]:
    """What was measured, on what, when."""
    where = f"on {machine_text(result)}"
    if result.kind == "remote":
        where = "on this machine" if result.machine.get("server_here") else "elsewhere"
    model = f", {mib(result.model_bytes)}, sha256 {result.sha256[:12]}" if result.sha256 and result.model_bytes else ""
    ran = "".join(f", {what}" for what in (result.runtime, f"device {result.device}" if result.device else "") if what)
    versions = ", ".join(f"{name} {number}" for name, number in result.machine["versions"].items())
    lines = [
        f"{result.target}{model}{ran}",
        f"{where}; {result.pictures} picture{'s' * (result.pictures != 1)} of {result.picture_px}; {result.date}",
        f"{versions}; load before {result.machine['load'][0]:.1f}",
        f"warm-up: {result.warm_up} runs, {'settled' if result.settled else 'not known to have settled'}",
    ]
    if result.sent_bytes is not None and result.received_bytes is not None:
        lines.append(
            f"a picture is {result.sent_bytes / 1024:,.0f} KiB to send, its answer {result.received_bytes / 1024:,.1f} KiB"
        )
    if result.peak_bytes is not None:
        gpu = f", {mib(result.peak_gpu_bytes)} on the GPU" if result.peak_gpu_bytes is not None else ""
        lines.append(f"peak memory, one picture at a time: {mib(result.peak_bytes)}{gpu}")
    if result.errors:
        lines.append("errors with one client: " + ", ".join(f"{number} x {what}" for what, number in result.errors.items()))
    if result.kind == "local" and result.stages:
        lines.append(slowest(result))
    return lines


def foot(result: Result) -> list[str]:
    """Arithmetic and sources of the costs, and what must be known to read the figures."""
    lines = []
    for cost in result.costs:
        lines += [price_text(cost.price), *(f"  {line}" for line in cost.arithmetic)]
    return [*lines, *(f"Note: {note}" for note in result.notes)]


def text(result: Result) -> str:
    """For a terminal."""
    parts = ["\n".join(head(result))]
    parts += [f"{title}\n{aligned(rows)}" for title, rows in tables(result)]
    if lines := foot(result):
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def aligned(rows: Sequence[Row]) -> str:
    """Columns, the first to the left, the others to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def markdown(result: Result) -> str:
    """The same as a page of Markdown."""
    parts = [
        f"# Benchmark of {escaped(result.target)}",
        "\n".join(f"- {escaped(line)}" for line in head(result)),
        f"`{result.command}`",
    ]
    for title, rows in tables(result):
        lines = [f"| {' | '.join(map(escaped, rows[0]))} |", "|" + "---|" * len(rows[0])]
        lines += [f"| {' | '.join(map(escaped, row))} |" for row in rows[1:]]
        parts.append(f"## {title}\n\n" + "\n".join(lines))
    if lines := foot(result):
        parts.append("\n".join(f"- {escaped(line.strip())}" for line in lines))
    return "\n\n".join(parts) + "\n"


def escaped(cell: str) -> str:
    """A line breaks no table, and a bar no cell."""
    return cell.replace("|", "\\|").replace("\n", " ")


def prices_text(region: Region) -> str:
    """A region's prices as a table, with their sources."""
    rows: list[Row] = [("instance type", "$/h", "vCPU", "memory", "GPU", "price of")]
    for name, one in sorted(region.instances.items(), key=lambda item: item[1].usd_per_hour):
        memory = "-" if one.memory_gib is None else f"{one.memory_gib:g} GiB"
        rows.append((name, f"{one.usd_per_hour:g}", str(one.vcpu or "-"), memory, one.gpu or "-", one.as_of))
    lines = [aligned(rows)]
    sources = {one.source for one in region.instances.values()}
    if (serverless := region.serverless) is not None:
        moved = serverless.usd_per_gb_processed
        data = "" if moved is None else f", ${moved:g} per GB in and out"
        lines.append(
            f"  serverless: ${serverless.usd_per_gb_second:.5f} per GB of memory and second{data} ({serverless.as_of})"
        )
        sources.add(serverless.source)
    return "\n".join([*lines, "", *(f"  {source}" for source in sorted(sources))])
