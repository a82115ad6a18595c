"""Start and stop the one-machine stack from Python: `with Stack(data) as stack: ...`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vitalgate.config.loading import Loaded, load
from vitalgate.local import control, postgres
from vitalgate.local.errors import PartError, StackError
from vitalgate.local.layout import Layout, State

#: Told of each process that has become ready: its name and the seconds it took.
Progress = Callable[[str, float], None]


class Stack:
    """The one-machine stack in a data directory.

    Parameters
    ----------
    data
        Data directory; made when missing, kept on ``stop``.
    overrides
        Settings as flags would give them, ``{"kafka.nodes": "3"}``.
    only
        Parts and processes to start, of ``mqtt``, ``kafka``, ``postgres`` and our processes' names; None starts all.
    config
        A settings file.
    environment
        Variables for every process of the stack, beside those of this one.
    """

    def __init__(
        self,
        data: Path | str,
        overrides: Mapping[str, str] | None = None,
        only: set[str] | None = None,
        *,
        config: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = dict(environment or {})
        self.layout = Layout.at(data)
        self._overrides = dict(overrides or {})
        self._only = only
        self._config = config
        self._supervisor: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.layout.data

    @property
    def settings(self) -> Loaded:
        """Settings of the running stack, its addresses among them."""
        return load(config=self._config, flags=self._overrides, data=str(self.data))

    def start(self, progress: Progress | None = None, *, detach: bool = False) -> None:
        """Start and wait until everything is ready.

        With ``detach`` the stack outlives this process; else it stops when this process ends, however it ends.

        Raises
        ------
        PartError
            When a part is missing or cannot be prepared.
        StackError
            When a part cannot be started; the text ends with the last lines of its log.
        """
        request: dict[str, Any] = {
            "data": str(self.data),
            "flags": self._overrides,
            "config": str(self._config.absolute()) if self._config else None,
            "only": sorted(self._only) if self._only is not None else None,
            "detach": detach,
        }
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "vitalgate.local.supervisor", str(self.data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, **self._environment},
        )
        self._supervisor = supervisor
        assert supervisor.stdin is not None and supervisor.stdout is not None
        error, kind = "", StackError
        try:
            with contextlib.suppress(BrokenPipeError):
                supervisor.stdin.write(json.dumps(request).encode() + b"\n")
                supervisor.stdin.flush()
            for line in supervisor.stdout:
                event = json.loads(line)
                if event["event"] == "ready":
                    return
                if event["event"] == "failed":
                    error, kind = event["error"], PartError if event.get("part") else StackError
                elif progress:
                    progress(event["name"], event["seconds"])
        except BaseException:
            self._end_supervisor()
            raise
        code = self._end_supervisor()
        raise kind(
            error
            or f"the supervisor ended with status {code} while starting; its log is {self.layout.log('supervisor')}"
        )

    def _end_supervisor(self) -> int:
        """Let go of the supervisor that we started, ask it to end, and wait."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None:
            return 0
        for stream in (supervisor.stdin, supervisor.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        supervisor.terminate()
        return supervisor.wait()

    def wait(self) -> int:
        """Wait until the stack ends by itself or by `vitalgate down`; returns the supervisor's exit status."""
        return self._supervisor.wait() if self._supervisor else 0

    def stop(self, *, remove: bool = False) -> None:
        """Stop everything in reverse order; with ``remove``, delete the data directory too."""
        if self._supervisor is not None:
            self._end_supervisor()
        else:
            with contextlib.suppress(control.NotRunningError):
                control.stop(self.data)
        if remove:
            remove_data(self.data)

    def status(self) -> dict[str, Any]:
        """What `vitalgate status --json` prints."""
        return control.status(self.data)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def remove_data(data: Path | str) -> None:
    """Delete a stopped stack's data directory, and its database cluster where that lies outside."""
    import shutil

    layout = Layout.at(data)
    postgres.remove_outside(State(layout))
    shutil.rmtree(layout.data, ignore_errors=True)
