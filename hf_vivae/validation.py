"""The exception of a user's mistakes; every other is a defect of this package."""


class UserError(ValueError):
    """An input, setting, file or machine that cannot be used.

    The message says what was expected, what was found and what to do; scripts and commands print it alone. Every other
    exception is a defect, and keeps its traceback.
    """
