"""`make bench`: every benchmark in turn, each writing its file under benchmarks/results/, then the README's tables from them."""

from gancore.benchmarks import dispatch, loop, tables

if __name__ == "__main__":
    loop.main()
    dispatch.main()
    tables.main()
