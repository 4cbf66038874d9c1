import csv
import unittest
from decimal import Decimal

from till.ledger import by_category, calc_total, read_entries
from till.report import render

ROWS = "2026-03-01,coffee,3.20\n2026-03-01,bread,4.10\n2026-03-02,coffee,3.20\n"


class LedgerTest(unittest.TestCase):
    def setUp(self):
        self.entries = read_entries(csv.reader(ROWS.splitlines()))

    def test_the_total_is_the_sum(self):
        self.assertEqual(calc_total(self.entries), Decimal("10.50"))

    def test_categories_are_added_up(self):
        self.assertEqual(by_category(self.entries), {"bread": Decimal("4.10"), "coffee": Decimal("6.40")})

    def test_the_report_ends_with_the_total(self):
        self.assertTrue(render(self.entries).endswith("10.50"))
