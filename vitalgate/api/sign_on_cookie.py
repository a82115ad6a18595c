"""The cookie that a browser carries to the issuer and back."""

from __future__ import annotations

COOKIE = "vitalgate-sign-on"
#: How long a user may take at the issuer.
COOKIE_S = 600
