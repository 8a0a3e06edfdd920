"""A multipart form, read as it arrives: small fields are kept, bytes of files passed on."""

from __future__ import annotations

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from app.problems import MalformedUpload

MAX_FIELDS = 256
MAX_FILES = 96
"""Samples of a plate."""
MAX_FIELD_BYTES = 16 * 1024
FILE_FIELD = "file"


class FormReader:
    """Feed it the body; it returns the bytes that belong to files, each with its file's number."""

    def __init__(self, boundary: bytes) -> None:
        self.fields: list[tuple[str, str]] = []
        self.filenames: list[str | None] = []
        """Of each file so far, in their order."""
        self.ended = False
        self._headers: dict[str, bytes] = {}
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._name = ""
        self._value = bytearray()
        self._in_file = False
        self._pieces: list[tuple[int, bytearray]] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._take_header_name,
                "on_header_value": self._take_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._take_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _malformed(f"The form cannot be read: {error}.") from error
        taken = [(number, bytes(piece)) for number, piece in self._pieces]
        self._pieces.clear()
        return taken

    def finish(self) -> None:
        if not self.ended:
            raise _malformed("The form ends before its closing boundary.")
        if not self.filenames:
            raise _malformed(f"The form has no part {FILE_FIELD!r}.")

    def _begin_part(self) -> None:
        self._headers = {}
        self._value.clear()

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header_name.decode("latin-1").lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition"))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._in_file = self._name == FILE_FIELD
        if self._in_file:
            name = options.get(b"filename", b"").decode("utf-8", "replace")
            self.filenames.append(name or None)
        if len(self.filenames) > MAX_FILES or len(self.fields) >= MAX_FIELDS:
            raise _malformed(f"The form has over {MAX_FILES} files or {MAX_FIELDS} fields.")

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            number = len(self.filenames) - 1
            if not self._pieces or self._pieces[-1][0] != number:
                self._pieces.append((number, bytearray()))
            self._pieces[-1][1].extend(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise _malformed(f"The field {self._name!r} is over {MAX_FIELD_BYTES} bytes.")

    def _end_part(self) -> None:
        if not self._in_file:
            self.fields.append((self._name, self._value.decode("utf-8", "replace")))

    def _end(self) -> None:
        self.ended = True


def _malformed(detail: str) -> MalformedUpload:
    return MalformedUpload(detail, fix="Send the file: `curl -F file=@FILE URL`, or several.")
