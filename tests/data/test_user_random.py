import numpy as np

from trsr.data.candidates import uniforms, user_keys


def test_keys_never_change_between_versions_and_machines() -> None:
    # Frozen: another value here means that all published splits and candidates have moved.
    assert user_keys(["ann", "Zoë"], 7, "split").tolist() == [16601910281152303415, 6246134037648391626]


def test_keys_depend_on_user_seed_and_purpose() -> None:
    keys = {
        int(user_keys([user], seed, purpose)[0])
        for user in ("a", "b")
        for seed in (0, 1)
        for purpose in ("split", "order")
    }
    assert len(keys) == 8


def test_no_users_no_keys() -> None:
    assert uniforms(user_keys([], 0, "split"), 3).shape == (0, 3)


def test_numbers_are_those_of_splitmix64() -> None:
    # First outputs of the reference generator started at 0: e220a8397b1dcdaf, 6e789e6aa1b965f4.
    got = uniforms(np.zeros(1, dtype=np.uint64), 2)[0]
    want = [(0xE220A8397B1DCDAF >> 11) / 2**53, (0x6E789E6AA1B965F4 >> 11) / 2**53]
    assert got.tolist() == want


def test_numbers_are_uniform_and_differ_between_users() -> None:
    numbers = uniforms(user_keys(map(str, range(2000)), 0, "test"), 50)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    shares = np.histogram(numbers, bins=10, range=(0, 1))[0] / numbers.size
    assert np.abs(shares - 0.1).max() < 0.005
    assert abs(np.corrcoef(numbers[:-1].ravel(), numbers[1:].ravel())[0, 1]) < 0.02
