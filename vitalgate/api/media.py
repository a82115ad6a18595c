"""What an upload is, by its first bytes; what a client says of it is not believed. Pure."""

from __future__ import annotations

import re

import filetype

from vitalgate.api.problems import Problem

#: Taken, by what the bytes say. Nothing that a browser would run (HTML, SVG) is among them.
ALLOWED = frozenset({
    "application/pdf", "image/png", "image/jpeg", "application/dicom", "application/x-wfdb", "application/zip",
    "text/csv", "text/plain",
})  # fmt: skip
SNIFF = 4096
"""So many first bytes are looked at."""
_WFDB = re.compile(rb"(#[^\n]*\n)*[\w./-]+(/\d+)? \d+( \d+(\.\d+)?([/(][\d.()/]+)?( \d+)?( \d{1,2}:\d{2}:\d{2})?)?")


def sniff(first: bytes) -> str:
    """The media type of what begins so.

    Raises
    ------
    Problem
        415 for one that is not taken.
    """
    found = _sniff(first[:SNIFF])
    if found not in ALLOWED:
        raise Problem(
            415, "unsupported-media-type",
            f"The file is {found or 'of no known type'}; taken are {', '.join(sorted(ALLOWED))}.",
        )  # fmt: skip
    return found


def _sniff(first: bytes) -> str:
    if first[128:132] == b"DICM":
        return "application/dicom"
    kind = filetype.guess(first)
    if kind is not None:
        return str(kind.mime)
    try:
        text = first.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(first) - 4:  # a character cut at the end is fine
            return ""
        text = first[: error.start].decode("utf-8")
    if any((ord(character) < 32 and character not in "\t\r\n") or ord(character) == 127 for character in text):
        return ""
    lowered = text.lstrip().lower()
    if lowered.startswith(("<", "%!")) or "<script" in lowered:
        return "text/html"
    if _WFDB.match(first):
        return "application/x-wfdb"
    line = text.partition("\n")[0]
    return "text/csv" if line.count(",") >= 1 or line.count(";") >= 1 else "text/plain"


def file_name(given: str | None) -> str:
    """A name without folders and control characters, 120 characters at most."""
    name = re.split(r"[/\\]", given or "")[-1]
    name = "".join(character for character in name if character.isprintable() and character not in '"<>:|?*').strip(
        ". "
    )
    return name[-120:] or "file"
