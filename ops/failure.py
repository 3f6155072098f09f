"""What ends a command with one line on standard error and exit 1, beside SettingsError and Refusal."""


class Failure(Exception):
    """A command could not be done; the text says what to do or where to look."""
