from __future__ import annotations

import pytest

from trsr.llm.pacing import read_wait

NINE = "Mon, 01 Jan 2024 09:00:00 GMT"
NINE_AND_A_MINUTE = "Mon, 01 Jan 2024 09:01:00 GMT"


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Mon, 99 Foo"}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": NINE_AND_A_MINUTE, "date": NINE}, 60.0),
        ({"retry-after": NINE, "date": NINE_AND_A_MINUTE}, 0.0),
    ],
)
def test_what_servers_say(headers: dict[str, str], wait: float | None) -> None:
    assert read_wait(headers) == wait


def test_the_clock_of_this_machine_counts_only_where_the_server_tells_no_date() -> None:
    wrong = 0.0  # 1970
    assert read_wait({"retry-after": NINE_AND_A_MINUTE, "date": NINE}, now=wrong) == 60.0
    assert read_wait({"retry-after": NINE_AND_A_MINUTE}, now=1704099600.0) == 60.0
