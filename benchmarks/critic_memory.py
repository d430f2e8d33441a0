"""Peak memory of a critic's update, in a fresh process."""

import json
import sys
from dataclasses import asdict, replace
from typing import Any

from gancore.benchmarks import critic_cases, peak
from gancore.benchmarks.critic_cases import Case

_SMALL = 2


def measured(case: Case, name: str) -> dict[str, float] | None:
    """`peak` of a fresh process, in 10^6 bytes: the most that it has beyond what it had before an update. None if it failed."""
    return peak.child("gancore.benchmarks.critic_memory", [json.dumps(asdict(case)), name])


def measure(case: Case, name: str) -> dict[str, float]:
    """The same in this process, which should have done nothing else."""
    # Libraries and thread pools load at a first call: at a small one they cost no memory of this size.
    critic_cases.body(replace(case, batch=_SMALL), name)()
    run = critic_cases.body(case, name)
    if name.endswith("-compiled"):
        run()
    before = peak.level()
    results = run()
    most = peak.highest() - before
    del results
    return {"peak": round(most / 1e6, 3)}


def main(words: list[str]) -> dict[str, Any]:
    """What the child process prints."""
    return dict(measure(Case(**json.loads(words[0])), words[1]))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
