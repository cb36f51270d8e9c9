r"""From bytes to text that the parsers can rely on: one policy for encodings and for odd characters.

The policy, for files, strings and JSON alike:

- line ends of every kind (CRLF, CR, NEL, form feed, U+2028, U+2029) become ``\n``;
- spaces of every width, NBSP among them, become a plain space;
- ligatures, as they come out of a PDF, become their letters;
- characters that only lay out (BOM, soft hyphen, zero-width space, word joiner) are removed;
- what is no text (NUL and other controls, lone surrogates) becomes U+FFFD, so that it is seen and not glued over;
- direction marks stay in the speech, where they matter, and are ignored in labels, names and headings.
"""

from __future__ import annotations

import re

from analysis_kit.errors import TranscriptError

_REPLACED = "\ufffd"
_TABLE: dict[int, str | None] = {
    **dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], _REPLACED),
    **dict.fromkeys(map(ord, "\n\r\v\f\x85\u2028\u2029"), "\n"),
    **dict.fromkeys([0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000], " "),
    **dict.fromkeys([0xAD, 0x200B, 0x2060, 0xFEFF]),
    **dict(zip(range(0xFB00, 0xFB07), ("ff", "fi", "fl", "ffi", "ffl", "st", "st"), strict=True)),
    ord("\t"): "\t",
}
_DIRECTION_MARKS = dict.fromkeys([0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
_SURROGATE = re.compile("[\ud800-\udfff]")
_NON_ASCII = re.compile(r"[^\x00-\x7f]")
#: Control bytes that plain text in any one-byte encoding does not hold.
_CONTROL_BYTES = re.compile(rb"[\x00-\x06\x0e-\x19\x1c-\x1f\x7f]")

_ENCODED_BY_MARK = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_KNOWN_BY_MAGIC = (
    (b"%PDF", "a PDF", "extract its text first (pdftotext call.pdf call.txt) and give that file"),
    (
        b"PK\x03\x04",
        "a zip archive or an office document (.docx, .odt)",
        "save it as plain text, or unpack it",
    ),
    (b"\xd0\xcf\x11\xe0", "an old office document (.doc)", "save it as plain text (UTF-8)"),
    (b"{\\rtf", "a rich text (RTF) file", "save it as plain text (UTF-8)"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"\x89PNG", "an image", "give the transcript's text"),
    (b"\xff\xd8\xff", "an image", "give the transcript's text"),
)
_WEB_PAGE = re.compile(rb"\s*<(?:!doctype html|html|head|body)\b", re.IGNORECASE)


def decode(data: bytes, where: str) -> str:
    """Return a file's bytes as text.

    UTF-8 and, by their byte order mark, UTF-16 and UTF-32; a file that is UTF-8 but for a few damaged characters is
    read as UTF-8 with U+FFFD in their place; anything else that is text is read as Windows-1252.

    Parameters
    ----------
    data : bytes
        The whole file.
    where : str
        Its name, for the errors.

    Raises
    ------
    TranscriptError
        If the file is empty or is no text.
    """
    if not data:
        raise TranscriptError(
            f"{where} is empty (0 bytes); a transcript with speaker labels was expected", path=where
        )
    for magic, kind, cure in _KNOWN_BY_MAGIC:
        if data.startswith(magic):
            raise TranscriptError(f"{where} is {kind}, not a text file; {cure}", path=where)
    if _WEB_PAGE.match(data):
        raise TranscriptError(
            f"{where} is a web page (HTML), not a text file; copy its text into a .txt file and give that",
            path=where,
        )
    for mark, encoding in _ENCODED_BY_MARK:
        if data.startswith(mark):
            # An office tool that cuts a file may end it in half a character: that is no reason to refuse it.
            return data.decode(encoding, errors="replace")
    if b"\x00" in data:
        line = data.count(b"\n", 0, data.find(b"\x00")) + 1
        raise TranscriptError(
            f"{where} is a binary file (a NUL byte in line {line}, {len(data):,} bytes in all); a text file was "
            "expected (UTF-16 text needs its byte order mark: save it as UTF-8)",
            path=where,
            line=line,
        )
    return _without_mark(data, where)


def _without_mark(data: bytes, where: str) -> str:
    try:
        # "surrogatepass": halves of pairs that some tools write are not UTF-8, yet the rest of the file is.
        return data.decode("utf-8", errors="surrogatepass")
    except UnicodeDecodeError as exc:
        text = data.decode("utf-8", errors="replace")
        damaged = text.count(_REPLACED)
        if len(_NON_ASCII.findall(text)) > 2 * damaged:
            return text
        line = data.count(b"\n", 0, exc.start) + 1
        fault = f"byte 0x{data[exc.start]:02x} in line {line} is not UTF-8"
        if not _CONTROL_BYTES.search(data):
            try:
                return data.decode("cp1252")
            except UnicodeDecodeError as also:
                fault += f", and byte 0x{data[also.start]:02x} is not Windows-1252 either"
        raise TranscriptError(
            f"{where} is a binary file or in an unknown encoding ({fault}); a text file in UTF-8 was expected",
            path=where,
            line=line,
        ) from exc


def clean(text: str) -> str:
    r"""Return ``text`` by the policy above; clean text comes back as it is.

    Examples
    --------
    >>> clean("\ufeffNet\u00a0sales\r\nrose\x00")
    'Net sales\nrose\ufffd'
    """
    if _SURROGATE.search(text):
        # Through UTF-16 so that two halves which do belong together become their one character.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\r\n", "\n").translate(_TABLE)


def bare(text: str) -> str:
    """Return ``text`` as labels and headings are compared: no direction marks, single spaces, no ends."""
    return " ".join(text.translate(_DIRECTION_MARKS).split())


def tidy(text: str) -> str:
    r"""Return speech with each line stripped, and one blank line between paragraphs.

    Examples
    --------
    >>> tidy("  We grew. \n\n\n Costs fell.\n")
    'We grew.\n\nCosts fell.'
    """
    kept: list[str] = []
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped or (kept and kept[-1]):
            kept.append(stripped)
    return "\n".join(kept).rstrip("\n")
