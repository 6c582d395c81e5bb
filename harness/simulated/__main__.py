"""``python -m harness.simulated``: see `harness.simulated.program`."""

import sys

from harness.simulated.program import main

sys.exit(main())
