"""`make bench`: every benchmark in turn, each writing its file under benchmarks/results/."""

from gancore.benchmarks import dispatch, loop

if __name__ == "__main__":
    loop.main()
    dispatch.main()
