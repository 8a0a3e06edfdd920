"""The first bytes of an upload: is it an HDF5 file, and nothing else as well?"""

from __future__ import annotations

import os
import re
from pathlib import Path

from app.problems import Problem
from worker.intake.findings import located
from worker.intake.unpacking import first_unpacked

USER_BLOCK = 512
MUDATA = re.compile(rb"MuData \(format-version=[\w.]+;creator=[\w-]+;creator-version=[\w.+-]+\)")
HDF5 = b"\x89HDF\r\n\x1a\n"
TRIPLE = (
    "Send matrix.mtx, features.tsv and barcodes.tsv together: as three files in one form, or "
    "packed as one tar or zip."
)
REPACK = "upload the .h5ad inside; a tar of a matrix.mtx may be plain or compressed with gzip."
OTHERS = {
    b"\x1f\x8b": ("compressed with gzip", "Unpack it with gunzip and upload the .h5ad inside."),
    b"PK\x03\x04": ("a zip archive", "Unpack it and upload the .h5ad inside."),
    b"PK\x05\x06": ("an empty zip archive", "Upload the .h5ad itself."),
    b"RDX": ("an R data file", "Convert it to h5ad in R, for example with anndataR."),
    b"\x80\x04": ("a Python pickle", "Load it where it was made and use write_h5ad."),
    b"\x80\x05": ("a Python pickle", "Load it where it was made and use write_h5ad."),
    b"\x93NUMPY": ("a NumPy array", "Make an AnnData of it with its names and use write_h5ad."),
    b"PAR1": ("a Parquet table", "Make an AnnData of it with its names and use write_h5ad."),
    b"%PDF": ("a PDF document", "Upload the .h5ad itself."),
    b"BZh": ("compressed with bzip2", f"Unpack it with bunzip2 and {REPACK}"),
    b"\xfd7zXZ": ("compressed with xz", f"Unpack it with unxz and {REPACK}"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "Unpack it with unzstd and upload the result."),
    b"%%MatrixMarket": ("a Matrix Market text file", TRIPLE),
    b"<": ("a web page or XML", "Download the h5ad itself: this may be a log-in or error page."),
}
IN_GZIP = {
    b"X\n": ("an R data file", "Convert it to h5ad in R, for example with anndataR."),
}
"""What is usually compressed; too little to tell by where it is not."""
ENDS = {0: 40, 1: 44, 2: 28, 3: 28}
"""Where the header keeps the address of the file's end, by the version of the header."""
HEADER_BYTES = 64
LOOKED_AT = 64 * 1024


def check_signature(path: Path) -> None:
    """Refuse what does not begin as an HDF5 file, naming what it is where that can be told."""
    size = path.stat().st_size
    if size == 0:
        raise located(
            "empty-file", "/", "The file holds 0 bytes.", "Upload the h5ad itself; see `curl -T`."
        )
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
        if head.startswith(HDF5):
            _check_end(file.fileno(), head, size)
            return
        if _is_mudata(file.fileno()):
            _check_end(file.fileno(), os.pread(file.fileno(), HEADER_BYTES, USER_BLOCK), size)
            return
        if _has_user_block(file.fileno(), size):
            raise _user_block()
        inside = first_unpacked(os.pread(file.fileno(), LOOKED_AT, 0))
    raise _not_hdf5(head, inside)


def refuse_user_block(path: Path) -> None:
    """A zip to some readers that is an HDF5 file to others. A tar may hold an HDF5 file there."""
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
        if is_zip and _has_user_block(file.fileno(), path.stat().st_size):
            raise _user_block()


def _user_block() -> Problem:
    return located(
        "user-block",
        "/",
        "Other bytes stand before the HDF5 header (a user block).",
        "Write the file again with anndata's write_h5ad, which leaves no user block.",
    )


def _is_mudata(descriptor: int) -> bool:
    """mudata writes its name, its version and zeros before the header, and no format but its own
    may begin so: there is no room for anything else."""
    block = os.pread(descriptor, USER_BLOCK, 0)
    words = block.rstrip(b"\0")
    mine = MUDATA.fullmatch(words) is not None
    return mine and os.pread(descriptor, len(HDF5), USER_BLOCK) == HDF5


def _has_user_block(descriptor: int, size: int) -> bool:
    # HDF5 looks for its header at 0, 512, 1024, 2048 and so on.
    at = USER_BLOCK
    while at < size:
        if os.pread(descriptor, len(HDF5), at) == HDF5:
            return True
        at *= 2
    return False


def _check_end(descriptor: int, head: bytes, size: int) -> None:
    """Nothing but zeros may follow where the file says that it ends: storage may pad with those."""
    at = ENDS.get(head[8]) if len(head) == HEADER_BYTES else None
    if at is None:
        return  # for the HDF5 library to judge
    end = int.from_bytes(head[at : at + 8], "little")
    if end >= size:
        return
    looked_at = {end, max(end, size - LOOKED_AT)}
    if any(any(os.pread(descriptor, LOOKED_AT, start)) for start in looked_at):
        raise located(
            "trailing-bytes",
            "/",
            f"Other bytes stand after the end of the HDF5 file, which is at {end:,} of {size:,}.",
            "Write the file again with anndata's write_h5ad, which ends where it says.",
        )


def _not_hdf5(head: bytes, inside: bytes) -> Problem:
    if inside and not inside.startswith(HDF5):
        for start, (what, fix) in (OTHERS | IN_GZIP).items():
            if inside.startswith(start):
                detail = f"This is no h5ad file: it is {what}, compressed with gzip."
                return located("not-hdf5", "/", detail, fix)
        return located(
            "not-hdf5",
            "/",
            "This is no h5ad file: something else was compressed with gzip, such as a table.",
            "Make an AnnData of it with the names of cells and genes and use write_h5ad.",
        )
    for start, (what, fix) in OTHERS.items():
        if head.startswith(start):
            return located("not-hdf5", "/", f"This is no h5ad file: it is {what}.", fix)
    return located(
        "not-hdf5",
        "/",
        "This is no h5ad file: it does not begin with the HDF5 signature.",
        "Upload an .h5ad file as written by anndata's write_h5ad. If it is one, it was damaged "
        "on the way: compare its SHA-256 with the original's.",
    )
