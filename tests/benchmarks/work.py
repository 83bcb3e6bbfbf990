"""How much work a text is, counted in the operations of its matrix products (a product and its sum are two)."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder."""

    width: int
    intermediate: int
    layers: int

    @classmethod
    def of(cls, folder: Path) -> "Shape":
        """Read the sizes from a model folder's config.json."""
        config = json.loads((folder / "config.json").read_text())
        return cls(config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"])

    def every_token(self, tokens: int) -> float:
        """Return the operations of one text when each layer is computed for each of its tokens."""
        return float(self.layers * self._layer(tokens))

    def first_token(self, tokens: int) -> float:
        """Return them when the last layer answers for the first token alone: it needs keys and values of all tokens."""
        keys_and_values = 4 * self.width**2
        last = keys_and_values * (tokens - 1) + self._products + 4 * self.width * tokens
        return float((self.layers - 1) * self._layer(tokens) + last)

    @property
    def _products(self) -> int:
        return 2 * (4 * self.width**2 + 2 * self.width * self.intermediate)

    def _layer(self, tokens: int) -> int:
        return self._products * tokens + 4 * self.width * tokens**2
