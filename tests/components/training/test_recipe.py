import pytest

from components.training.recipe import Epoch, Recipe, recipe_for, training_rows
from predictor.errors import InputError


def test_recipes_follow_the_amount_of_data() -> None:
    fast = {500: 6, 1080: 5, 2000: 3, 7679: 3, 12000: 2, 24000: 1}
    assert {rows: recipe_for("fast", rows, 128).epochs for rows in fast} == fast
    assert [recipe_for("full", rows, 128).epochs for rows in (500, 1080, 6000, 65000)] == [10, 10, 4, 3]
    assert training_rows("full") == 0
    with pytest.raises(InputError, match="--profile slow is unknown"):
        training_rows("slow")


def test_assignments_are_numbers_as_text() -> None:
    recipe = Recipe(epochs=3).with_hyperparameters({"learning_rate": "3e-05", "batch_tokens": "2048.0", "epochs": "2"})
    assert (recipe.learning_rate, recipe.batch_tokens, recipe.epochs) == (3e-5, 2048, 2)
    assert recipe.weight_decay == Recipe(epochs=3).weight_decay
    assert Recipe(epochs=3).with_hyperparameters({}) == Recipe(epochs=3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": "0.1"}, "'lr' is unknown: choose from learning_rate"),
        ({"learning_rate": "fast"}, "learning_rate is fast"),
        ({"learning_rate": "nan"}, "learning_rate is nan"),
        ({"warmup": "1.5"}, "warmup is 1.5: give a number from 0 to 0.9"),
    ],
)
def test_bad_assignments_are_refused(values: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe(epochs=1).with_hyperparameters(values)


def test_an_epoch_that_leaves_a_class_out_is_best_only_where_all_do() -> None:
    mute, plain, better = (Epoch(1, 0.5, 0.5, accuracy, 1.0, 1.0, all_) for accuracy, all_ in
                           ((0.9, False), (0.7, True), (0.8, True)))  # fmt: skip
    assert max([mute, plain, better], key=lambda row: row.rank) is better
    assert max([mute, Epoch(2, 0.5, 0.5, 0.8, 1.0, 1.0, False)], key=lambda row: row.rank) is mute
