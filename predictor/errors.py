"""The one exception that means "the user can mend this"."""


class InputError(ValueError):
    """Bad input: one sentence that says what is wrong, where, and what to do about it.

    Commands print it without a traceback and end with exit code 2; a pipeline step leaves it as its termination
    message, where both the local runner and Kubernetes read it.
    """
