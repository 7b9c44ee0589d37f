"""Seconds to dollars per 1,000 pictures."""

from collections.abc import Sequence

from sightline.benchmarking.results import Cost, Price, Result
from sightline.benchmarking.spread import seconds

HOUR_S = 3600
GB = 1024**3


def cost_of(result: Result, price: Price) -> Cost:
    """What 1,000 pictures cost at one price, with the seconds that were measured, on whatever machine that was."""
    there = measured_there(result, price)
    if price.usd_per_hour is not None:
        return instance_cost(result, price, price.usd_per_hour, there)
    return serverless_cost(result, price, there)


def instance_cost(result: Result, price: Price, usd_per_hour: float, there: bool) -> Cost:
    mean = result.latency.mean
    alone = usd_per_hour / HOUR_S * mean * 1000
    lines = [f"${usd_per_hour:g}/h / 3,600 s x {mean:.4g} s x 1,000 = ${alone:.4g} one at a time"]
    rate, where = best_rate(result)
    if rate <= 0:
        return Cost(price, alone, None, "", there, tuple(lines))
    busy = usd_per_hour / HOUR_S / rate * 1000
    lines.append(f"${usd_per_hour:g}/h / 3,600 s / {rate:.4g} pictures/s x 1,000 = ${busy:.4g} at {where}")
    return Cost(price, alone, busy, where, there, tuple(lines))


def serverless_cost(result: Result, price: Price, there: bool) -> Cost:
    """By the second of the memory asked for, and what goes in and out where its price is known. Cold starts come on top."""
    per_second = price.usd_per_second or 0.0
    compute = per_second * result.latency.mean * 1000
    told = f"{price.memory_mb} MB at ${per_second:.4g}/s x {result.latency.mean:.4g} s x 1,000 = ${compute:.4g}"
    lines = [told]
    total = compute
    if price.usd_per_gb_processed is not None and result.sent_bytes is not None and result.received_bytes is not None:
        size = (result.sent_bytes + result.received_bytes) / GB
        moved = size * price.usd_per_gb_processed * 1000
        lines.append(f"{size * 1024:.4g} MB in and out x ${price.usd_per_gb_processed:g}/GB x 1,000 = ${moved:.4g}")
        total += moved
    else:
        lines.append("what goes in and out is not in it: its price or its size is not known")
    return Cost(price, total, None, "", there, tuple(lines))


def best_rate(result: Result) -> tuple[float, str]:
    """(pictures a second, what of) of the fastest batch size or number of clients; (0, "") where none was measured."""
    rates = [(batch.pictures_per_s, f"batches of {batch.size}") for batch in result.batches if not batch.failed]
    rates += [(one.answers_per_s, f"{one.count} clients" if one.count > 1 else "1 client") for one in result.clients]
    return max(rates, default=(0.0, ""))


def measured_there(result: Result, price: Price) -> bool:
    """Whether the price is that of the machine that was measured. Of a server elsewhere nobody knows the machine."""
    if price.instance_type is None:
        return False
    if result.machine.get("server_instance_type"):
        return bool(result.machine["server_instance_type"] == price.instance_type)
    if result.kind != "local" and not result.machine.get("server_here"):
        return False
    return result.machine.get("instance_type") == price.instance_type


def caveat(result: Result, costs: Sequence[Cost]) -> str:
    """The sentence that must stand beside prices of another machine's seconds; empty where all are the machine's own."""
    names = [priced_as(cost) for cost in costs if not cost.measured_there]
    if not names:
        return ""
    here = result.kind == "local" or result.machine.get("server_here")
    where = "on THIS machine" if here else f"at {result.target}"
    what = ", ".join(names[:-1]) + " or " + names[-1] if len(names) > 1 else names[0]
    return (
        f"Measured {where} ({machine_text(result)}); priced as if it were {what}. "
        "What pictures cost there follows only from a benchmark there."
    )


def priced_as(cost: Cost) -> str:
    return cost.price.instance_type or f"serverless with {cost.price.memory_mb} MB"


def machine_text(result: Result) -> str:
    """The machine that was measured in a few words."""
    facts = result.machine
    if result.kind != "local" and not facts.get("server_here"):
        return str(facts.get("server_instance_type") or "a machine that nobody told of")
    gpu = facts.get("gpu") or "no GPU"
    return f"{facts.get('processor')}, {facts.get('cores')} cores, {gpu}"


def price_text(price: Price) -> str:
    """What the price is, and where from."""
    source = f"({price.as_of}: {price.source})"
    if price.usd_per_hour is not None:
        return f"{price.instance_type} in {price.region} at ${price.usd_per_hour:g} an hour {source}"
    return f"serverless, {price.memory_mb} MB, in {price.region} at ${price.usd_per_second:.4g} a second {source}"


def fits_memory(result: Result, price: Price) -> str:
    """A sentence where a serverless endpoint would have less memory than the process took here; else empty."""
    if price.memory_mb is None or result.peak_bytes is None or result.peak_bytes <= price.memory_mb * 2**20:
        return ""
    took = f"{result.peak_bytes / 2**20:,.0f} MB"
    return f"It took {took} here, more than the {price.memory_mb:,} MB of that endpoint: it would end there."


def slowest(result: Result) -> str:
    """The stage with the greatest share of the time, in words; empty without stages."""
    if not result.stages:
        return ""
    name = max(result.stages, key=lambda stage: result.stages[stage].mean)
    share = result.stages[name].mean / max(sum(one.mean for one in result.stages.values()), 1e-12)
    return f"{share:.0%} of it is {name} ({seconds(result.stages[name].mean)} on average)"


def all_costs(result: Result, prices: Sequence[Price]) -> tuple[Cost, ...]:
    return tuple(cost_of(result, price) for price in prices)
