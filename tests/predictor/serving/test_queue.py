"""Which of the texts that wait go together."""

from predictor.serving.call import QueuedText
from predictor.serving.queue import Queue


def queue_of(*lengths: int) -> Queue:
    queue = Queue()
    queue.add([QueuedText([1] * length, None, 0, number, 0.0) for number, length in enumerate(lengths)])
    return queue


def taken(queue: Queue, most: int, tokens: int, padding: int) -> list[int]:
    return [len(text.ids) for text in queue.next_batch(most, tokens, padding)]


def test_waiting_texts_run_with_those_of_like_length() -> None:
    queue = queue_of(9, 2, 10, 3, 11, 1, 8, 2)
    assert [taken(queue, 4, 64, 64) for _ in range(2)] == [[8, 9, 10, 11], [1, 2, 2, 3]]
    assert (len(queue), queue.tokens) == (0, 0)


def test_a_batch_is_filled_to_its_last_token_and_no_further() -> None:
    queue = queue_of(4, 4, 4, 5)
    assert taken(queue, 9, 12, 64) == [4, 4, 4]
    assert (len(queue), queue.tokens) == (1, 5)
    assert taken(queue, 9, 1, 64) == [5]  # too long for any batch: alone
    assert (len(queue), queue.tokens) == (0, 0)


def test_a_text_joins_where_the_padding_it_brings_is_worth_it() -> None:
    assert taken(queue_of(10, 12), 9, 512, 2) == [10, 12]
    assert taken(queue_of(10, 12), 9, 512, 1) == [10]
    assert taken(queue_of(10, 7), 9, 512, 3) == [7, 10]
    assert taken(queue_of(10, 7), 9, 512, 2) == [10]
    queue = queue_of(10, 10, 10, 11)  # the longer one would pad three
    assert [taken(queue, 9, 512, 2) for _ in range(2)] == [[10, 10, 10], [11]]
