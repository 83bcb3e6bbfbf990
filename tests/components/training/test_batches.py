from hypothesis import given
from hypothesis import strategies as st

from components.training.fine_tuning.batches import token_batches

lengths = st.lists(st.integers(1, 300), max_size=400)


@given(lengths, st.integers(8, 2048), st.integers(0, 5), st.integers(0, 3))
def test_every_row_once_within_the_budget(lengths: list[int], budget: int, seed: int, epoch: int) -> None:
    batches = list(token_batches(lengths, budget, seed, epoch))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    lengths = [n % 50 + 1 for n in range(300)]
    orders = {key: list(token_batches(lengths, 512, *key)) for key in ((0, 0), (0, 1), (1, 0))}
    assert orders[0, 0] == list(token_batches(lengths, 512, 0, 0))
    assert orders[0, 0] != orders[0, 1] != orders[1, 0]


def test_little_of_a_batch_is_padding() -> None:
    lengths = [(n * 37) % 100 + 10 for n in range(5000)]
    batches = list(token_batches(lengths, 1024, 0, 0))
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    assert padded < 1.03 * sum(lengths)
