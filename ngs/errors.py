"""The one exception that means "your input, not our bug".

It rests on nothing; every layer raises it and the command line turns it into one line.
"""


class InputError(ValueError):
    """A value given by the user cannot be used.

    The message is one line that says what was given, what is allowed and what to do. The ``ngs``
    command prints it and ends with exit code 2.
    """
