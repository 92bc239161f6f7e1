"""`python -m widthwise` is the same as `widthwise`."""

import sys

from widthwise.cli import main

sys.exit(main())
