"""The commands: one module each, thin over the rooms.

Nothing is imported here that takes time, so that Ctrl-C is answered from the first moment.
"""

import sys

from upshift.cli.ending import Unhurried, leave

INTERRUPTED = 130
"""The exit status after Ctrl-C: 128 + SIGINT, as shells have it."""


def main() -> None:
    """Run the command that the arguments name, and end the process."""
    status = 0
    try:
        from upshift.cli.commands import upshift

        upshift()
    except KeyboardInterrupt:  # the commands tell theirs; this one came while they were imported
        sys.stderr.write("upshift: interrupted\n")
        status = INTERRUPTED
    except Unhurried:
        raise
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    leave(status)
