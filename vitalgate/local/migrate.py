"""Run `vitalgate migrate`, its libraries loaded while the database starts."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from vitalgate.local import logs
from vitalgate.local.child import Gate
from vitalgate.local.errors import StackError

log = logging.getLogger(__name__)


async def migrate(after: Iterable[asyncio.Task[None]], env: Mapping[str, str], path: Path) -> None:
    """Start the command, let it go on when ``after`` is done, and wait for its end.

    Raises
    ------
    StackError
        When it fails; the text ends with the last lines of its log at ``path``.
    """
    gate = Gate()
    with path.open("ab") as stream:
        running = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "vitalgate.cli", "migrate",
            stdin=asyncio.subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True,
            env={**os.environ, **env, **gate.environment}, pass_fds=(gate.descriptor,),
        )  # fmt: skip
    try:
        await asyncio.gather(*after)
        gate.open()
        began = time.monotonic()
        code = await running.wait()
    except BaseException:
        running.kill()
        await running.wait()
        raise
    if code:
        raise StackError(f"`vitalgate migrate` failed with exit status {code}:\n{logs.tail(path)}")
    log.info("migrated in %.2f s", time.monotonic() - began)
