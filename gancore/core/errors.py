"""Errors that end a run with one clear line and a documented exit code."""


class GancoreError(Exception):
    """Base of the errors that the command line reports without a traceback."""

    exit_code = 1


class UsageError(GancoreError, ValueError):
    """A name, an option or a combination of options that cannot work."""

    exit_code = 2


class DataError(GancoreError, ValueError):
    """Data that is missing, truncated or corrupt; the message names the file and the defect."""

    exit_code = 3


class Diverged(GancoreError, ArithmeticError):
    """A loss became NaN or infinite; the last checkpoint is left as it was."""

    exit_code = 4
