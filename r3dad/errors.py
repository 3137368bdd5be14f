"""Errors that a user can act on."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave is unusable.

    The message is one line: the file or argument, what was expected, the remedy. The command line prints it and exits with code 2.
    """
