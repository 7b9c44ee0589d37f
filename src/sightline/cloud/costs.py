"""What a job costs: billable seconds of every machine, times the price of an hour. Storage and transfers are not in it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one job.

    billable_s:     seconds of each machine on the bill; on spot capacity fewer than `used_s`: so AWS passes on its discount
    price_usd_hour: of one machine; None: not known
    priced_as:      whose price it is, where it is not that of training itself
    """

    billable_s: int
    used_s: int
    machines: int
    instance_type: str
    spot: bool
    price_usd_hour: float | None = None
    priced_as: str = ""

    @property
    def usd(self) -> float | None:
        if self.price_usd_hour is None:
            return None
        return self.billable_s * self.machines * self.price_usd_hour / 3600

    @property
    def saved_share(self) -> float:
        """Of the price without spot capacity, 0 to 1."""
        return max(1 - self.billable_s / self.used_s, 0.0) if self.spot and self.used_s else 0.0

    def __str__(self) -> str:
        text = f"{self.billable_s:,} s on the bill of {self.machines} x {self.instance_type}"
        if self.usd is None:
            text += "; the price of an hour is not known here (--price-per-hour)"
        else:
            text += (
                f": {self.usd:.2f} USD at {self.price_usd_hour:g} USD an hour{f' ({self.priced_as})' if self.priced_as else ''}"
            )
        if self.spot:
            text += f", {self.saved_share:.0%} saved by spot capacity"
        return text

    def as_dict(self) -> dict[str, object]:
        saved = {"saved_by_spot": round(self.saved_share, 4)} if self.spot else {}
        return {
            "billable_seconds": self.billable_s,
            "machines": self.machines,
            "instance_type": self.instance_type,
            "price_usd_hour": self.price_usd_hour,
            "cost_usd": None if self.usd is None else round(self.usd, 4),
            **saved,
        }
