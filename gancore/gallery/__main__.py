"""One recipe in a process of its own: reads {"name", "sets", "steps"} from its argument, prints the result as a line of JSON."""

import json
import sys

from gancore.gallery.measure import results

print(json.dumps(results(**json.loads(sys.argv[1]))))
