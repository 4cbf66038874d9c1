from decimal import ROUND_HALF_UP, Decimal
import re

CENT = Decimal("0.01")
PATTERN = re.compile(r"\s*([-+]?\d+(?:[.,]\d{1,2})?)\s*")


def parse_amount(text):
    """
    >>> parse_amount(" 3,20 ")
    Decimal('3.20')
    >>> parse_amount("-5")
    Decimal('-5.00')
    """
    match = PATTERN.fullmatch(text)
    if match is None:
        raise ValueError("not an amount: %r" % (text,))
    return Decimal(match[1].replace(",", ".")).quantize(CENT, ROUND_HALF_UP)


def format_amount(amount):
    """
    >>> format_amount(Decimal("1234.5"))
    '1,234.50'
    """
    return f"{amount:,.2f}"


def split_amount(amount, shares):
    """
    >>> split_amount(Decimal("10.00"), 3)
    [Decimal('3.34'), Decimal('3.33'), Decimal('3.33')]
    """
    cents = int(amount / CENT)
    each, rest = divmod(cents, shares)
    return [(each + (1 if number < rest else 0)) * CENT for number in range(shares)]


def is_round(amount):
    return amount == amount.to_integral_value()
