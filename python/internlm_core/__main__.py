"""`python -m internlm_core` is the command `internlm-core`."""

import sys

from internlm_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
