"""`make bench`: every benchmark in turn, each writing its files, then the README's tables from them."""

from gancore.benchmarks import suite, tables

if __name__ == "__main__":
    suite.everything()
    tables.main()
