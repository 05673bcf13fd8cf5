"""
Become another program that cannot outlive its parent (run by `process.py` as `python -I -S launch.py …`, imports nothing of ours).

    launch.py PARENT_PID DEATH_SIGNAL USER_ID GROUP_ID KEEP PROGRAM ARGUMENT…

USER_ID -1 keeps the user. KEEP 1 lets the new user pass folders that only root may enter. A process of its own does this, and no
`preexec_fn`: between fork and exec of a program with threads almost nothing may be called, and uvloop knows no `user=`.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

# linux/prctl.h, linux/securebits.h and linux/capability.h
PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


def main(arguments: list[str]) -> None:
    """Drop root, tie the life to the parent's, then become the command."""
    parent, death_signal, user, group, keep = map(int, arguments[:5])
    command = arguments[5:]
    libc = ctypes.CDLL(None, use_errno=True)
    if user >= 0:
        drop_root(libc, user, group, keep=bool(keep))
    if sys.platform == "linux":
        # Last, for the kernel forgets it when the user changes (prctl(2)). It is tied to the *thread* that started us.
        call(libc.prctl, PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the line above took hold
        sys.exit("the parent is gone")
    # Python ignores these for itself, and a program inherits what is ignored.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execv(command[0], command)  # noqa: S606 -- no shell is wanted


def drop_root(libc: ctypes.CDLL, user: int, group: int, *, keep: bool) -> None:
    """Become another user for good; with `keep`, one that may still read what only root may."""
    if keep:
        # The change of user leaves capabilities alone; and access(2), by which initdb looks for its programs, counts them.
        call(libc.prctl, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    if not keep:
        return
    # capset(2): effective, permitted, inheritable; then "ambient" carries it over exec (capabilities(7)).
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    bit = 1 << CAP_DAC_OVERRIDE
    call(libc.capset, header, (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0))
    call(libc.prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def call(function: Callable[..., int], *arguments: object) -> None:
    """Call into the C library; -1 is an OSError."""
    if function(*arguments) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        # In a container that was given few capabilities.
        sys.exit(f"cannot run {sys.argv[6]} as user {sys.argv[3]}: {error.strerror}. Start this as a user other than root.")
