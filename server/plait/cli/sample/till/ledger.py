from typing import NamedTuple
from decimal import Decimal
from collections import defaultdict
import datetime

from till.money import parse_amount


class Entry(NamedTuple):
    day: datetime.date
    category: str
    amount: Decimal


def read_entries(rows):
    return [Entry(datetime.date.fromisoformat(day), category, parse_amount(amount)) for day, category, amount in rows]


def calc_total(entries):
    return sum((entry.amount for entry in entries), Decimal(0))


def by_category(entries):
    groups = defaultdict(list)
    for entry in entries:
        groups[entry.category].append(entry)
    return {category: calc_total(group) for category, group in sorted(groups.items())}


def between(entries, first, last):
    return [entry for entry in entries if first <= entry.day <= last]
