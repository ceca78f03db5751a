"""The studio: what a dialogue is, where it is kept, what a click does."""

__version__ = "0.1.0"


class StudioError(Exception):
    """Something the person can mend: what went wrong, the value, and the next step, in one line.

    Raised by everything in ``studio``; shown as a toast by the app and as one line with exit code 1 by the command line.
    """
