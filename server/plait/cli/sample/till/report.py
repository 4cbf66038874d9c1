from till.money import format_amount
from till.ledger import by_category, calc_total
import textwrap


def row(label, amount, width=28):
    """
    >>> row("coffee", 6)
    'coffee                  6.00'
    """
    return label.ljust(width - 12) + format_amount(amount).rjust(12)


def render(entries):
    lines = [row(category, amount) for category, amount in by_category(entries).items()]
    lines.append("-" * 28)
    lines.append(row("total", calc_total(entries)))
    return textwrap.indent("\n".join(lines), "  ")
