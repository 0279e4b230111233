"""The exponents with which cost grows."""

import pytest

from benchmarks import cost_growth


def test_an_exponent_is_said_with_where_it_holds() -> None:
    straight = [(x, 3 * x**2) for x in (1.0, 2.0, 4.0, 8.0)]
    assert cost_growth.exponents(straight) == pytest.approx([2, 2, 2])
    assert cost_growth.fitted(straight) == pytest.approx((2, 1, 8))
    with_a_fixed_part = [(x, 100 + x) for x in (1.0, 10.0, 1e3, 1e4, 1e5)]
    exponent, first, last = cost_growth.fitted(with_a_fixed_part) or (0, 0, 0)
    assert (first, last) == (1e3, 1e5)
    assert exponent == pytest.approx(0.98, abs=0.02)
    bent = [(1, 1), (2, 2), (4, 4), (8, 32), (16, 256)]
    assert cost_growth.fitted(bent) == pytest.approx((3, 4, 16))
    assert cost_growth.fitted([(1, 1), (2, 2), (4, 16), (8, 17)]) is None
    line = cost_growth.row("files", "s", straight[:2])
    assert (line["exponent"], line["holds"]) == (None, "nowhere")
