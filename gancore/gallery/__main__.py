"""One recipe or demonstration in a process of its own: {"name", "sets", "steps"} in its argument, its result a line of JSON."""

import json
import sys

from gancore.recipes import get

asked = json.loads(sys.argv[1])
if get(asked["name"]).kind == "demo":
    from gancore.gallery import demos

    print(json.dumps(demos.results(asked["name"])))
else:
    from gancore.gallery import measure

    print(json.dumps(measure.results(**asked)))
