"""Text in which the passwords of URLs are hidden. Every message, log and command line we print goes through here."""

from __future__ import annotations

import re

SECRETS = ("password", "sslpassword")
HIDDEN = "***"
# Up to the last at sign: one inside a password should be written %40, and often is not.
_IN_AUTHORITY = re.compile(r"(://[^:/@\s]*:)\S*@")
_IN_QUERY = re.compile(rf"\b({'|'.join(SECRETS)})=[^&\s]*")


def hide_passwords(text: str) -> str:
    """Return a text, such as a command line, in which the passwords of URLs are hidden."""
    return _IN_QUERY.sub(rf"\1={HIDDEN}", _IN_AUTHORITY.sub(rf"\1{HIDDEN}@", text))
