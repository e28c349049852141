"""Files whose I/O the loop's driver does: by the ring, or by a few threads where that can't.

``kloop.open`` opens one. Here are the types of open files, and what is done to paths, by the names of ``os`` and
``shutil``. All of it is for coroutines on a kloop loop; nothing blocks the loop.
"""

from __future__ import annotations

from .buffered import BufferedFile
from .descriptor import BinaryFile
from .folders import DirEntry, listdir, readdir, scandir
from .opening import Opening, open
from .paths import (
    exists,
    link,
    lstat,
    makedirs,
    mkdir,
    readlink,
    remove,
    rename,
    replace,
    rmdir,
    stat,
    symlink,
    unlink,
)
from .raw import RawFile
from .text import TextFile
from .whole import copy, read_bytes, read_text, write_bytes, write_text

__all__ = ('BinaryFile', 'BufferedFile', 'DirEntry', 'Opening', 'RawFile', 'TextFile', 'copy', 'exists', 'link',
           'listdir', 'lstat', 'makedirs', 'mkdir', 'open', 'read_bytes', 'read_text', 'readdir', 'readlink', 'remove',
           'rename', 'replace', 'rmdir', 'scandir', 'stat', 'symlink', 'unlink', 'write_bytes', 'write_text')
