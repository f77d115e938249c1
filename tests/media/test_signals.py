from __future__ import annotations

import numpy as np

from seqloom.media.signals import changes, last_values

NAN = np.nan


def test_changes_are_from_the_last_value_that_is_there_and_sum_up_to_it() -> None:
    values = np.array([[NAN, 1], [2, NAN], [NAN, NAN], [5, 7], [4, 7]], np.float32)
    np.testing.assert_array_equal(last_values(values), [[NAN, 1], [2, 1], [2, 1], [5, 7], [4, 7]])
    np.testing.assert_array_equal(changes(values), [[NAN, NAN], [NAN, NAN], [NAN, NAN], [3, 6], [-1, 0]])
    assert changes(values).dtype == np.float32
