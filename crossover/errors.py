"""What the command line says instead of a traceback."""


class UserError(Exception):
    """Bad input: one clear sentence saying what to do; the command ends with exit code 2."""


class Fallen(Exception):
    """A process that must run has ended: one clear sentence; the command ends with exit code 1."""
