"""A thermometer that loses nothing: ``pip install vitalgate[client]``, then ``python thermometer.py 36.8 37.1``.

Every value goes into an outbox on the disk and leaves it when the server's receipt names it. Run it without a network,
switch the power off, run it again: the values arrive, once each, with the times at which they were measured.
"""

from __future__ import annotations

import os
import sys

from vitalgate.client import Device, Rejected, Settings


def refused(item: Rejected) -> None:
    """The server keeps what it refuses, with this reason; sending it again would change nothing."""
    print(f"message {item.seq} was refused: {item.reason}: {item.detail}", file=sys.stderr)


def told(wished: Settings) -> None:
    """What `vitalgate device configure` set for this device, at each connection and when it changes."""
    print(f"settings {wished.revision}: {dict(wished.settings)}", file=sys.stderr)


def main() -> int:
    """Send the values given as arguments; 0 when every value so far is known to be kept."""
    environment = os.environ
    device = Device(
        environment.get("VG_HOST", "127.0.0.1"),
        int(environment.get("VG_PORT", "1883")),
        environment["VG_DEVICE"],
        environment["VG_PASSWORD"],
        outbox=environment.get("VG_OUTBOX", "thermometer.sqlite"),
        on_rejected=refused,
        on_settings=told,
    )
    with device:
        for value in sys.argv[1:]:
            device.send_readings([{"metric": "temperature", "value": float(value), "unit": "Cel", "site": "ear"}])
        if device.wait_until_kept(30):
            return 0
        print(f"{device.pending()} messages wait in the outbox; they go out at the next start", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
