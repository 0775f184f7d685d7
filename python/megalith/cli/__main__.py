"""``python -m megalith.cli`` is the ``megalith`` command."""

import sys

from megalith.cli import main

sys.exit(main())
