import sys
from till.report import render
from till.ledger import read_entries, calc_total
import csv


def main(paths):
    for path in paths:
        with open(path, newline="") as file:
            entries = read_entries(csv.reader(file))
        print(render(entries))
        print("%d entries, %s in all" % (len(entries), calc_total(entries)))


if __name__ == "__main__":
    main(sys.argv[1:])
