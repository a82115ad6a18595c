"""The example receiver takes what the webhook sender sends, once, and refuses what is not genuine."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.handover.receiver import SECRET
from tests.handover.test_senders import webhook
from vitalgate.handover.notice import test_notice as a_test
from vitalgate.handover.senders import sender

EXAMPLE = Path(__file__).parents[2] / "examples" / "python" / "webhook_receiver.py"


def test_the_example_receiver(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    with subprocess.Popen(
        [sys.executable, EXAMPLE, "0", tmp_path / "seen.sqlite"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "VG_WEBHOOK_SECRET": SECRET},
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            url = "http://" + process.stdout.readline().split()[-1] + "/"
            book = webhook(url, tmp_path / "secret")

            async def send(*names: str) -> list[str]:
                one = sender("d", book.destination["d"], book, 5.0)
                found = [(await one.send(a_test("d", name, 0))).result for name in names]
                await one.close()
                return found

            assert asyncio.run(send("n-1", "n-1", "n-2")) == ["delivered"] * 3
            (tmp_path / "secret").write_text("whsec_" + "c3RvbGVuc3RvbGVuc3RvbGVuc3RvbGVuc3RvbGVu")
            assert asyncio.run(send("n-3")) == ["retry"], "401: the secret may be put right"
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(urllib.request.Request(url, b"{}"), timeout=5)
        finally:
            process.terminate()
        assert process.stdout.read().count("This is a test of the destination d") == 2, "a repeat is dropped"
