"""Lines of a text: they end at CR LF, LF or CR, and nowhere else.

`str.splitlines` also parts at eight other characters, among them one of Latin-1, which stand in comments and names.
"""


def lines_of(text: str) -> list[str]:
    r"""Return the lines of a text, without their ends.

    >>> lines_of("a\r\nb\x85c\n\u2028d\r")
    ['a', 'b\x85c', '\u2028d']
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines
