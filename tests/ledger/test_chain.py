"""The chain by itself: rows verified one after the other, without a disk."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from fedsynth.errors import LedgerError
from fedsynth.ledger.chain import NOTHING, Chain, Row, mac, people_key
from fedsynth.privacy.mechanism import Mechanism

KEY = b"k" * 32
SUM = Mechanism("sum", 2.0, 1.0, 1, 1.0)
SETS = {people_key(names): names for names in (["anna", "bert"], ["carl"], [])}
BOTH, CARL, NOBODY = SETS


def chain_of(rows: list[Row]) -> Chain:
    chain = Chain(KEY)
    chain.extend(rows, SETS.__getitem__)
    return chain


def rows_for(*people: str) -> list[Row]:
    chain, rows = Chain(KEY), list[Row]()
    for number, one in enumerate(people):
        rows.append(chain.next_row(nonce=f"n{number}", study="s", people=one, mechanism=SUM))
        chain.extend(rows[-1:], SETS.__getitem__)
    return rows


def linked(*rows: tuple[object, ...]) -> list[Row]:
    """Link rows as whoever holds the key could, whatever they say."""
    out, previous = list[Row](), NOTHING
    for row in rows:
        previous = mac(KEY, previous, *row).hex()
        out.append((*row, previous))  # type: ignore[arg-type]
    return out


def test_rows_come_back_as_the_charges_that_were_written() -> None:
    chain = chain_of(rows_for(BOTH, CARL))

    assert [(c.number, c.nonce, c.people, c.mechanism) for c in chain.lines] == [
        (1, "n0", BOTH, SUM),
        (2, "n1", CARL, SUM),
    ]
    assert chain.head == chain.lines[1].link
    assert chain.find("n1") == chain.lines[1]
    assert chain.find("n2") is None


def test_rows_may_come_in_parts() -> None:
    rows = rows_for(BOTH, CARL, BOTH)
    chain = chain_of(rows[:1])
    chain.extend(rows[1:], SETS.__getitem__)

    assert chain.lines == chain_of(rows).lines


def test_an_equal_mechanism_is_read_once() -> None:
    first, second = chain_of(rows_for(BOTH, CARL)).lines

    assert first.mechanism is second.mechanism


@pytest.mark.parametrize(
    ("bend", "line"),
    [
        pytest.param(lambda rows: rows[1:], 1, id="the first is missing"),
        pytest.param(lambda rows: [rows[0], rows[2]], 2, id="one in between is missing"),
        pytest.param(lambda rows: [rows[1], rows[0], rows[2]], 1, id="two are swapped"),
        pytest.param(lambda rows: [rows[0], rows[0]], 2, id="one comes twice"),
        pytest.param(lambda rows: [(7, *rows[0][1:])], 1, id="another number"),
        pytest.param(lambda rows: [(*rows[0][:3], CARL, *rows[0][4:])], 1, id="other people"),
        pytest.param(lambda rows: [(*rows[0][:5], rows[0][5].upper())], 1, id="another link"),
        pytest.param(lambda rows: [(*rows[0][:5], "é" * 64)], 1, id="a link that is no digits"),
        pytest.param(lambda rows: [(*rows[0][:5], None)], 1, id="no link"),
        pytest.param(lambda rows: [(*rows[0][:2], b"s", *rows[0][3:])], 1, id="bytes for text"),
    ],
)
def test_a_row_that_was_touched_is_named(bend: Callable[[list[Row]], list[Row]], line: int) -> None:
    with pytest.raises(LedgerError, match=f"line {line} of the ledger was edited or is missing"):
        chain_of(bend(rows_for(BOTH, CARL, BOTH)))


def test_a_nonce_is_in_one_line_only_whoever_wrote_it() -> None:
    body = json.dumps(SUM.as_json(), sort_keys=True)

    with pytest.raises(LedgerError, match="line 2 of the ledger was edited"):
        chain_of(linked((1, "n", "s", BOTH, body), (2, "n", "s", BOTH, body)))


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({**SUM.as_json(), "noise": "of a kind not known yet"}, id="a word that is not known"),
        pytest.param({"purpose": "sum"}, id="words missing"),
        pytest.param({**SUM.as_json(), "steps": 0}, id="no mechanism"),
        pytest.param([], id="no object"),
    ],
)
def test_a_line_that_cannot_be_priced_is_not_taken_for_an_edit(said: object) -> None:
    with pytest.raises(LedgerError, match=r"line 1 .* this version of fedsynth cannot price"):
        chain_of(linked((1, "n", "s", BOTH, json.dumps(said))))


@pytest.mark.parametrize("found", [["anna"], ["anna", "bert", "carl"], [], ["anna", b"bert"]])
def test_a_set_of_people_that_was_touched_is_refused_with_its_line(found: list[str]) -> None:
    chain = Chain(KEY)

    with pytest.raises(LedgerError, match="set of people in the ledger was edited"):
        chain.extend(rows_for(BOTH), lambda _: found)
    assert (list(chain.lines), chain.head) == ([], NOTHING)


@pytest.mark.parametrize(
    ("tokens", "nonces"),
    [
        pytest.param(["anna"], ["n0", "n3"], id="one of two"),
        pytest.param(["bert", "carl"], ["n0", "n1", "n3"], id="people of two sets"),
        pytest.param(["dora"], [], id="somebody new"),
        pytest.param([], ["n2"], id="nobody"),
    ],
)
def test_whoever_shares_anybody_is_touched(tokens: list[str], nonces: list[str]) -> None:
    chain = chain_of(rows_for(BOTH, CARL, NOBODY, BOTH))

    assert [charge.nonce for charge in chain.touching(tokens)] == nonces


def test_another_key_verifies_nothing() -> None:
    with pytest.raises(LedgerError, match="line 1"):
        Chain(b"l" * 32).extend(rows_for(BOTH), SETS.__getitem__)


def test_a_link_covers_every_column() -> None:
    row = rows_for(BOTH)[0]
    other = Chain(KEY)
    changed = [
        other.next_row(nonce="m", study="s", people=BOTH, mechanism=SUM),
        other.next_row(nonce="n0", study="t", people=BOTH, mechanism=SUM),
        other.next_row(nonce="n0", study="s", people=CARL, mechanism=SUM),
        other.next_row(nonce="n0", study="s", people=BOTH, mechanism=replace(SUM, unit="window")),
    ]

    assert other.next_row(nonce="n0", study="s", people=BOTH, mechanism=SUM) == row
    assert len({row[5], *(one[5] for one in changed)}) == 5
