"""Tables in HTML."""

from analysis_kit import _html


def test_columns_of_numbers_are_set_right_with_their_heads():
    """Numbers and their texts count, with blanks among them; a column with a word in it is set left."""
    shown = _html.table(
        ("name", "n", "s", "mean"),
        [("a", 1, "0.50", "+0.1"), ("7", 2.5, "1,000.00", ""), ("<b>", 0, "x", "-2")],
    )
    assert shown.count('<th class="num">') == 2
    assert '<th>name</th><th class="num">n</th><th>s</th><th class="num">mean</th>' in shown
    assert '<td>7</td><td class="num">2.5</td><td>1,000.00</td><td class="num"></td>' in shown
    assert "<td>&lt;b&gt;</td>" in shown


def test_a_table_without_rows_has_its_head():
    """No row is no reason to fail."""
    assert (
        _html.table(("a", "b"), [])
        == "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody></tbody></table>"
    )
