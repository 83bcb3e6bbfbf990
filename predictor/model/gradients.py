"""What each token adds to the transformer's answer: integrated gradients of the bundle's PyTorch weights.

Method: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks". Between a baseline, which has tokens
without meaning in the place of the text's, and the text, word embeddings are changed evenly. What a token adds is the
integral of the score's gradient along this path, times the way its embedding went. The sum over all tokens is the
difference between the two scores ("completeness"), so the error of their sum is known.

On real texts nearly all of the change lies in a small part of the path, and not in the same one. A rule with fixed
places, Gauss-Legendre as in captum, may need over 32 of them for an error of 1%. So the path is divided where the error
is the greatest, with Simpson's rule, which uses all places again: 18 of them on average, 27 at most, on 40 news texts,
where attributions are at most 0.5% of the sum of their sizes away from those of 129 places.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from predictor.errors import InputError
from predictor.model.attribution import Attribution, Part, contrast, gap, joined
from predictor.model.bundle import ServingSpec
from predictor.model.calibration import softmax
from predictor.model.cpus import configure_openmp
from predictor.model.text import Encoder

PACKAGES = ("torch", "transformers")
MOST_GAP = 0.01
"""What may be missing in the sum of the attributions, as a share of the difference between the two scores; and by how
much an attribution may be wrong, as a share of the sizes of all of them: errors of tokens may cancel each other out."""
MOST_PLACES = 65
"""Places on the path at which gradients are taken, however large the gap is."""
# Panels that are halved at a time, since gradients are quicker to take in batches; the others' errors are this share of
# the greatest one's at least.
_HALVED = 2
_WORTH = 0.3
# The error of a part, as a share of what halving the panel changes; a 15th where panels are narrow enough.
_DOUBT = 0.2
# How exact a sum of gradients is, as a share of their sizes: what is nearer to the difference of the scores is chance.
_FLOAT32 = 1e-5
_LEAST = 1e-30

Values = NDArray[np.float64]
Evaluate = Callable[[Sequence[float]], list[tuple[float, Values]]]
"""Returns, for places on the path from 0 to 1, the score and its derivative by each token, shape (tokens,)."""


@dataclass(frozen=True)
class Integral:
    """The integral along a path."""

    parts: Values
    """Of each token, shape (tokens,)."""
    start: float
    """The score at 0."""
    end: float
    """The score at 1."""
    places: int
    """Where the derivative was taken."""


@dataclass(frozen=True, eq=False)
class _Panel:
    """A part of the path, with Simpson's rule."""

    low: float
    high: float
    parts: Values
    error: float
    """What is missing in the sum of the parts."""
    doubt: Values
    """An estimate of the error of each part."""


def integrate(evaluate: Evaluate, most_gap: float = MOST_GAP, most_places: int = MOST_PLACES) -> Integral:
    """Integrate until the sum's error is at most `most_gap` of the scores' difference, and a part's of all the parts.

    Where parts nearly cancel each other out, the sum's error may be what 32 bits leave of them instead.

    Adaptive quadrature, as in Piessens et al. 1983, "QUADPACK": the panel with the greatest error is halved. The error
    of the sum need not be estimated, since a panel's parts add up to the difference between the scores at its ends.
    That of a single part is estimated by what halving the panel changes, as in Lyness 1969, "Notes on the Adaptive
    Simpson Quadrature Routine", with a greater share of it, since the path's steps are steep for so few places.

    Args:
        evaluate: the score and its derivatives.
        most_gap: a share of 1.
        most_places: the end, whatever the error.
    """
    known: dict[float, tuple[float, Values]] = {}

    def visit(*places: float) -> None:
        known.update(zip(places, evaluate(places), strict=True))

    def simpson(low: float, high: float) -> Values:
        first, middle, last = (known[place][1] for place in (low, (low + high) / 2, high))
        parts: Values = (high - low) / 6 * (first + 4 * middle + last)
        return parts

    def halves(low: float, high: float, whole: Values) -> list[_Panel]:
        ends = _halves(low, high)
        parts = [simpson(*each) for each in ends]
        doubt = _DOUBT / 2 * np.abs(whole - parts[0] - parts[1])
        rises = [known[last][0] - known[first][0] for first, last in ends]
        each = zip(ends, parts, rises, strict=True)
        return [_Panel(*place, part, rise - float(part.sum()), doubt) for place, part, rise in each]

    visit(*(place / 8 for place in range(9)))
    panels = [each for half in _halves(0.0, 1.0) for each in halves(*half, simpson(*half))]
    start, end = known[0.0][0], known[1.0][0]
    while True:
        parts: Values = np.sum([each.parts for each in panels], axis=0)
        size = max(float(np.abs(parts).sum()), _LEAST)
        most, most_doubt = max(most_gap * abs(end - start), _FLOAT32 * size), most_gap * size
        doubt = float(np.sum([each.doubt for each in panels], axis=0).max())
        enough = doubt <= most_doubt and abs(end - start - float(parts.sum())) <= most
        if enough or len(known) + 2 * _HALVED > most_places:
            return Integral(parts, start, end, len(known))
        excess = [max(abs(each.error) / most, float(each.doubt.max()) / most_doubt) for each in panels]
        greatest = sorted(range(len(panels)), key=excess.__getitem__)[-_HALVED:]
        chosen = [panels[place] for place in greatest if excess[place] > _WORTH * max(excess)]
        visit(*(sum(half) / 2 for each in chosen for half in _halves(each.low, each.high)))
        for each in chosen:
            panels.remove(each)
            panels += halves(each.low, each.high, each.parts)


def _halves(low: float, high: float) -> list[tuple[float, float]]:
    middle = (low + high) / 2
    return [(low, middle), (middle, high)]


class Gradients:
    """The bundle's PyTorch weights, on the CPU.

    Args:
        folder: the bundle's folder.
        spec: the content of its `serving.json`.
        threads: of PyTorch; its own choice where it is None.

    Raises:
        InputError: PyTorch or transformers are not installed.
    """

    def __init__(self, folder: Path, spec: ServingSpec, threads: int | None = None) -> None:
        configure_openmp()
        try:
            import torch
            from transformers import AutoModelForSequenceClassification, AutoTokenizer

            from predictor.model.cls_only_layer import use_cls_only_layer
        except ImportError as error:
            raise InputError(f"explanations need {error.name}: pip install 'pigeonhole[explain]'") from error
        if threads:
            torch.set_num_threads(threads)
        self._torch = torch
        self._spec = spec
        self._encoder = Encoder(folder, spec.max_length, spec.cleaning)
        self._model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
        self._model.requires_grad_(False)
        use_cls_only_layer(self._model)
        mask = AutoTokenizer.from_pretrained(folder, local_files_only=True).mask_token_id
        self._fillers = [(spec.pad_token_id, "padding")] + ([] if mask is None else [(mask, "mask")])

    def __call__(self, cleaned: str, label: int) -> tuple[Attribution, NDArray[np.float32]]:
        """Attribute the score of a label to the tokens of a text.

        The baseline has padding or mask tokens in the text's place, special tokens stay: whichever of the two speaks
        less for the label, since a model has an opinion on either.

        Args:
            cleaned: the text as `Encoder.clean` returns it.
            label: number of the label.

        Returns:
            The attribution, and the probabilities that these weights give, shape (labels,).
        """
        torch = self._torch
        pieces = self._encoder.pieces(cleaned)
        weights = torch.tensor(contrast(len(self._spec.labels), label) / self._spec.temperature, dtype=torch.float32)
        words = self._model.get_input_embeddings()
        with torch.inference_mode():
            ids = torch.tensor([pieces.ids])
            special = torch.tensor([[word is None for word in pieces.words]])
            fillers = torch.tensor([[filler] for filler, _ in self._fillers])
            baselines = words(torch.where(special, ids, fillers))
            lowest = int((self._logits(baselines) @ weights).argmin())
        text, baseline = words(ids)[0], baselines[lowest].clone()
        way = text - baseline
        logits: dict[float, NDArray[np.float32]] = {}

        def evaluate(places: Sequence[float]) -> list[tuple[float, Values]]:
            steps = torch.tensor(places, dtype=torch.float32)[:, None, None]
            inputs = (baseline + steps * way).requires_grad_()
            found = self._logits(inputs)
            scores = found @ weights
            (slopes,) = torch.autograd.grad(scores.sum(), inputs)
            parts = (slopes * way).sum(dim=2).double().numpy()
            logits.update(zip(places, found.detach().numpy(), strict=True))
            return list(zip(scores.tolist(), parts, strict=True))

        whole = integrate(evaluate)
        rows = zip(pieces.spans, pieces.words, whole.parts.tolist(), strict=True)
        placed = [(Part(*span, part), word) for span, word, part in rows if word is not None]
        tokens = [token for token, _ in placed]
        total = float(whole.parts.sum())
        method = (
            f"integrated gradients from {self._fillers[lowest][1]} tokens, {whole.places} gradients, "
            f"PyTorch weights in fp32"
        )
        attribution = Attribution(
            method=method,
            score=whole.end,
            baseline=whole.start,
            rest=total - sum(token.attribution for token in tokens),
            gap=gap(total, whole.end - whole.start),
            tokens=tokens,
            words=joined(tokens, [word for _, word in placed]),
            truncated=pieces.truncated,
        )
        return attribution, softmax(logits[1.0], self._spec.temperature)

    def _logits(self, embeddings: "torch.Tensor") -> "torch.Tensor":  # type: ignore[name-defined]  # noqa: F821
        mask = self._torch.ones(embeddings.shape[:2], dtype=self._torch.int64)
        return self._model(inputs_embeds=embeddings, attention_mask=mask).logits.float()
