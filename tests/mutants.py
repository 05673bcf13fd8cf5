"""
Whether the tests would notice: every small change of the rules must fail one of them. `make mutants` runs it.

mutmut changes one operator, constant or argument at a time in the two modules that decide (`[tool.mutmut]` in
pyproject.toml says which, and by which tests). It works on a copy in `.venv/mutants`, where `mutmut show` and
`mutmut browse` tell more.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
COPY: Final = ROOT / ".venv/mutants"
RULES: Final = ("worker/core/categorize.py", "worker/core/decide.py")
NOTICED_MIN: Final = 0.9
TIMEOUT_S: Final = 1200

_REMEMBERING: Final = re.compile(r"^@lru_cache\(.*\)\ndef (\w+)\(", re.MULTILINE)

NO_DIFFERENCE: Final[Mapping[str, str]] = {
    'self.missing_keys[key] = ""': "a dictionary that is used as an ordered set",
    "if before.input < key.input:": "no input claims twice: a key that is repeated is refused",
    "elif (before.value <= value) is (claim in LIMIT_CLAIMS):": "equal values were dealt with above",
    "return _answer(sent.encode(), catalogue, None)": "nothing known is nothing known",
    "REMEMBERED_CHARACTERS_MAX": "bounds memory, changes no answer",
    "(feature_id is not None) or True": "no id is None, so that looking for it finds nothing either",
    "(each is not None) or True": "no id is None, so that looking for it finds nothing either",
    "(key.claim) or True": "nothing is decided about no claim",
    "all_read = None": "as false as False",
    "_REFERENCES, strict=None)": "there are two of each",
    "_REFERENCES, )": "there are two of each",
    "_REFERENCES, strict=False)": "there are two of each",
    "texts.sort(key=None)": "no name stands there twice, so that nothing behind it is compared",
}
"""Changes that no test can notice, by what the changed line holds then, and why."""


def copy() -> None:
    """Lay out a copy of the project with rules that remember nothing, for mutmut leaves out what is decorated."""
    shutil.rmtree(COPY, ignore_errors=True)
    for name in ("worker", "schemas", "tests"):
        shutil.copytree(ROOT / name, COPY / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", COPY)
    for name in RULES:
        text = (COPY / name).read_text()
        names = _REMEMBERING.findall(text)
        assert names, f"{name}: nothing is remembered any more, and this need not be here"
        bare = _REMEMBERING.sub(r"def \1(", text)
        (COPY / name).write_text(bare + "".join(f"\n{each}.__wrapped__ = {each}\n" for each in names))


def mutmut(*arguments: str) -> str:
    """
    Run a command of mutmut; return what it says.

    Raises:
        SystemExit: it failed, or took too long; with the end of what it said.
    """
    command = [str(ROOT / ".venv/bin/mutmut"), *arguments]
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "mutants"}
    with subprocess.Popen(  # noqa: S603 - the command is ours
        command, cwd=COPY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=TIMEOUT_S)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise SystemExit(f"mutmut {' '.join(arguments)} failed:\n{said[-4000:]}")
    return said


def changed_line(mutant: str) -> str:
    """Return the line that a mutant has instead of the original one."""
    lines = mutmut("show", mutant).splitlines()
    return " / ".join(line[1:].strip() for line in lines if line.startswith("+") and not line.startswith("+++"))


def main() -> int:
    """Run it, name what no test noticed, and say whether enough was noticed."""
    os.nice(10)
    copy()
    mutmut("run")
    fates = dict(re.findall(r"^\s+(\S+): (.+)$", mutmut("results", "--all", "true"), re.MULTILINE))
    counted = Counter(fates.values())
    noticed, unnoticed = counted["killed"] + counted["timeout"], []
    for mutant in (name for name, fate in fates.items() if fate not in {"killed", "timeout"}):
        line = changed_line(mutant)
        reason = next((why for part, why in NO_DIFFERENCE.items() if part in line), None)
        unnoticed += [] if reason else [mutant]
        sys.stdout.write(f"{mutant}: {fates[mutant]}\n    {line}\n    {reason or 'A TEST IS MISSING'}\n")
    share = noticed / max(1, len(fates))
    sys.stdout.write(f"{len(fates)} mutants, {noticed} noticed ({share:.1%}); {len(unnoticed)} of the others could be\n")
    return 0 if share >= NOTICED_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
