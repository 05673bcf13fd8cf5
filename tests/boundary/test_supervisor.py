"""Several worker processes of one command line: what no restart would mend ends all of them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from worker.dev.process import Child


async def test_a_wrong_setting_stops_all_processes(tmp_path: Path) -> None:
    """Its children alone find out that there is no key: starting them anew for ever would hide that from whoever deploys."""
    environment = {
        "REGISTRATION_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "REGISTRATION_DATABASE_URL": "postgresql://127.0.0.1:1/x",
        "REGISTRATION_SEALING_KEYS": "",
        "REGISTRATION_ADMIN_PORT": "0",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    variables = [f"{name}={value}" for name, value in environment.items()]
    command = ["/usr/bin/env", *variables, sys.executable, "-m", "worker", "worker", "--processes", "2"]
    child = Child(command, log=tmp_path / "log", death_signal=signal.SIGKILL)
    try:
        assert await child.ended(30), child.last_lines()
    finally:
        child.kill()

    assert child.exit_code == 2, child.last_lines()
    assert "REGISTRATION_SEALING_KEYS" in child.output()
    assert "process.ended" not in child.output()
