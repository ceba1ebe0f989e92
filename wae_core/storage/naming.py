"""A finished file gets its name only if that is free: by a hard link, or by a rename that replaces nothing."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

# A disk without hard links, a sandbox that forbids them, or a file that has no room for one more name.
NO_LINKS = {
    errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EMLINK, errno.EXDEV
}  # fmt: skip
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # of <fcntl.h> and <linux/fs.h>


def name_if_free(source: Path, target: Path) -> None:
    """Give `source`, which is written whole, the name `target`; its old name may stay.

    Either way is one step of the disk, so that of two processes one wins, and nobody sees half of a file.

    Raises:
        FileExistsError: the name is taken.
        OSError: EOPNOTSUPP where the disk offers neither way, or whatever else it answers.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        if not _is_ours(source, target):
            raise
    except OSError as error:
        if _is_ours(source, target):
            return
        if error.errno not in NO_LINKS:
            raise
        _rename(source, target)


def _is_ours(source: Path, target: Path) -> bool:
    """Whether a link was made although its answer was an error, as may happen over NFS."""
    return target.exists() and target.samefile(source)


def _rename(source: Path, target: Path) -> None:
    """Rename where that replaces nothing: so do exFAT and SMB, which have no links."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:  # not Linux
        raise _unsupported(target)
    if rename(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        raise _unsupported(target)
    if not source.exists() and target.exists():
        return  # nobody else takes the source's name away: it was done, and the answer was lost
    raise OSError(number, os.strerror(number), str(source), None, str(target))


def _unsupported(target: Path) -> OSError:
    return OSError(
        errno.EOPNOTSUPP,
        "the disk can neither link a file nor rename one without replacing another, so no result could be published",
        str(target),
    )
