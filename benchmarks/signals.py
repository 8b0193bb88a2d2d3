"""What a plug-in says beside its numbers: that it cannot serve, what it is instead, what it chose."""


class NotApplicable(Exception):  # noqa: N818 - not an error: the cell becomes a `skipped` row with this reason
    """Raised by a plug-in that cannot serve this problem or model; the message is the reason."""


class Note(UserWarning):
    """Warned with by a method that is not what its name says here; the message goes into the table."""


class Remark(UserWarning):
    """Warned with by a method to report what it chose or measured itself; goes beside its cost."""
