"""The predictor: embed an image once, then ask for masks as often as needed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from napari_kdsam.core.errors import NotWrittenError, PromptError
from napari_kdsam.core.geometry import PaddedSquare
from napari_kdsam.core.intensity import (
    IntensityMapping,
    check_image,
    to_model_pixels,
)
from napari_kdsam.core.prompts import Prompt
from napari_kdsam.core.sizes import PROMPT_SIDE
from napari_kdsam.inference.cache import LeastRecentlyUsed
from napari_kdsam.inference.masks import mask_of_logits
from napari_kdsam.inference.windows import CloseUp
from napari_kdsam.model.network import PromptableModel

if TYPE_CHECKING:
    from napari_kdsam.inference.embedding_store import EmbeddingStore

_logger = logging.getLogger(__name__)
DEFAULT_CACHE_BYTES = 512 * 1024**2
# Objects decoded together; more would only cost memory.
OBJECTS_PER_CALL = 32


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """What a model knows of one image.

    Attributes
    ----------
    features : torch.Tensor
        (1, 256, 64, 64) float32 on the model's device.
    image_shape : tuple of int
        (rows, columns) of the image.
    mapping : IntensityMapping
        How the image's values became 8 bits, limits resolved.
    model_key : str
        Which model's embedding this is.
    key : str
        Hash of content, model and mapping.
    """

    features: torch.Tensor
    image_shape: tuple[int, int]
    mapping: IntensityMapping
    model_key: str
    key: str

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return self.features.numel() * self.features.element_size()


@dataclass(frozen=True, eq=False)
class Candidate:
    """One mask offered for a prompt.

    Attributes
    ----------
    logits : numpy.ndarray
        (256, 256) float32 over the padded square; `Prompt.logits` takes it.
    score : float
        Predicted IoU; about 0..1, but the network does not enforce it.
    image_shape : tuple of int
        (rows, columns).
    close_up : CloseUp or None
        What `look_again` found, which is the mask then; `logits` are still those of
        the whole image.
    """

    logits: NDArray[np.float32]
    score: float
    image_shape: tuple[int, int]
    close_up: CloseUp | None = None

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """(rows, columns) bool, computed when first asked for."""
        if self.close_up is not None:
            return self.close_up.mask(self.image_shape)
        return mask_of_logits(self.logits, self.image_shape)

    @property
    def has_mask(self) -> bool:
        """Whether `mask` is already computed, so that asking for it costs nothing."""
        return 'mask' in self.__dict__

    def make_mask(self) -> None:
        """Compute `mask` now, such as in a thread that may take its time."""
        _ = self.mask


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer to one prompt.

    Attributes
    ----------
    candidates : tuple of Candidate
        Three for one ambiguous point, one otherwise (SAM's rule), in the model's
        order.
    preferred : int or None
        The best one, whatever the scores: those of a close-up do not compare with the
        others. None for the highest score.
    """

    candidates: tuple[Candidate, ...]
    preferred: int | None = None

    @property
    def best_index(self) -> int:
        """Index of the candidate with the highest predicted IoU."""
        if self.preferred is not None:
            return self.preferred
        return int(np.argmax([candidate.score for candidate in self.candidates]))

    @property
    def best(self) -> Candidate:
        """The candidate with the highest predicted IoU."""
        return self.candidates[self.best_index]

    def candidate(self, index: int | None) -> Candidate:
        """Return the candidate at `index`, or the best for None or a missing one."""
        if index is None or not 0 <= index < len(self.candidates):
            return self.best
        return self.candidates[index]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(rows, columns) bool mask of the best candidate."""
        return self.best.mask

    @property
    def score(self) -> float:
        """Predicted IoU of the best candidate."""
        return self.best.score

    @property
    def logits(self) -> NDArray[np.float32]:
        """(256, 256) float32 logits of the best candidate, for `Prompt.logits`."""
        return self.best.logits


class Predictor:
    """Turn images and prompts into masks with one model.

    Parameters
    ----------
    model : PromptableModel
        From `load_model`.
    cache_bytes : int
        Memory for embeddings, least recently used dropped first; each takes 4 MB.
    store : EmbeddingStore, optional
        Where embeddings are looked for and kept on disk. It rounds them to half
        precision, the same before and after. One that cannot be written is no reason
        to stop: that is logged once, and `store_problem` says it.
    must_store : bool
        Whether `embed` raises what kept it from writing to the store instead.

    Attributes
    ----------
    store_problem : str
        Why an embedding could not be put into the store; empty if all could.
    """

    def __init__(
        self,
        model: PromptableModel,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        store: EmbeddingStore | None = None,
        *,
        must_store: bool = False,
    ) -> None:
        self.model = model
        self.store = store
        self._must_store = must_store
        self.store_problem = ''
        self.cache: LeastRecentlyUsed[ImageEmbedding] = LeastRecentlyUsed(cache_bytes)

    @property
    def model_key(self) -> str:
        """Identity of the embeddings this predictor makes and accepts."""
        return f'{self.model.identity.key}|{self.model.compute_dtype}'

    def embed(
        self,
        image: ArrayLike,
        mapping: IntensityMapping | None = None,
        *,
        stored: bool = True,
    ) -> ImageEmbedding:
        """Embed one image, or return its cached embedding.

        Parameters
        ----------
        image : array-like
            (H, W), (H, W, 1), (1, H, W), (H, W, 3) RGB or (H, W, 4) RGBA;
            boolean, integer or float.
        mapping : IntensityMapping, optional
            How values become 8 bits; automatic by default.
        stored : bool
            Whether the store, if there is one, is looked into and added to.

        Raises
        ------
        ImageError
            If the image cannot be used.
        NotWrittenError
            With `must_store`, if the embedding cannot be put into the store.
        """
        array = check_image(np.asarray(image))
        resolved = (mapping or IntensityMapping()).resolve(array)
        pixels = to_model_pixels(array, resolved, self.model.input_size)
        shape = (array.shape[0], array.shape[1])
        key = self._key(pixels, shape, resolved)
        found = self.cache.get(key)
        if found is not None:
            return found
        features = self._features(key, pixels, self.store if stored else None)
        embedding = ImageEmbedding(features, shape, resolved, self.model_key, key)
        self.cache.put(key, embedding)
        return embedding

    def _features(
        self, key: str, pixels: NDArray[np.uint8], store: EmbeddingStore | None
    ) -> torch.Tensor:
        stored = None if store is None else store.get(key)
        if stored is None:
            batch = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())
            with torch.inference_mode():
                features = self.model.encode(batch)
            if store is None:
                return features
            stored = self._kept(store, key, features)
        wide = np.asarray(stored, np.float32)[None]
        return torch.from_numpy(wide).to(self.model.device)

    def _kept(
        self, store: EmbeddingStore, key: str, features: torch.Tensor
    ) -> NDArray[np.float16]:
        values = features[0].cpu().numpy().astype(np.float16)
        try:
            return store.put(key, values)
        except NotWrittenError as error:
            if self._must_store:
                raise
            if not self.store_problem:
                _logger.warning('%s', error)
            self.store_problem = str(error)
            return values

    def _key(
        self,
        pixels: NDArray[np.uint8],
        shape: tuple[int, int],
        mapping: IntensityMapping,
    ) -> str:
        # The network sees only these pixels, so equal ones have equal embeddings.
        digest = hashlib.blake2b(pixels.tobytes(), digest_size=16)
        digest.update(f'{pixels.shape}{shape}{mapping}{self.model_key}'.encode())
        return digest.hexdigest()

    def predict(self, embedding: ImageEmbedding, prompt: Prompt) -> Prediction:
        """Predict the mask of one object.

        Parameters
        ----------
        embedding : ImageEmbedding
            From `embed` of a predictor with the same model.
        prompt : Prompt
            In image pixel coordinates.

        Raises
        ------
        PromptError
            If the prompt is outside the image or the embedding is another model's.
        """
        return self.predict_many(embedding, [prompt])[0]

    def predict_many(
        self, embedding: ImageEmbedding, prompts: Sequence[Prompt]
    ) -> list[Prediction]:
        """Predict the masks of many objects of one image.

        Objects prompted alike (as many points, with or without box and logits)
        share one decoder call, so a set of boxes or of single clicks is one call.

        Parameters
        ----------
        embedding : ImageEmbedding
            From `embed` of a predictor with the same model.
        prompts : sequence of Prompt
            One for each object.

        Returns
        -------
        list of Prediction
            In the order of `prompts`.

        Raises
        ------
        PromptError
            If a prompt is outside the image or the embedding is another model's;
            nothing is predicted then.
        """
        if embedding.model_key != self.model_key:
            raise PromptError(
                'This embedding was made by another model; embed the image again.'
            )
        square = PaddedSquare(embedding.image_shape, PROMPT_SIDE)
        checked = [prompt.within(square) for prompt in prompts]
        groups: dict[Any, list[int]] = {}
        for index, prompt in enumerate(checked):
            groups.setdefault(prompt.signature, []).append(index)
        results: dict[int, Prediction] = {}
        for indices in groups.values():
            for start in range(0, len(indices), OBJECTS_PER_CALL):
                chunk = indices[start : start + OBJECTS_PER_CALL]
                answers = self._decode(embedding, square, [checked[i] for i in chunk])
                results.update(zip(chunk, answers, strict=True))
        return [results[index] for index in range(len(checked))]

    def predict_masks(
        self, embedding: ImageEmbedding, prompts: Sequence[Prompt]
    ) -> Iterator[tuple[NDArray[np.bool_], float]]:
        """Predict the masks of any number of objects, one mask in memory at a time.

        Parameters
        ----------
        embedding : ImageEmbedding
            From `embed` of a predictor with the same model.
        prompts : sequence of Prompt
            One for each object.

        Yields
        ------
        tuple of (numpy.ndarray, float)
            (rows, columns) bool mask of the best candidate, and its predicted IoU.

        Raises
        ------
        PromptError
            As `predict_many`, when its prompts' turn comes.
        """
        for start in range(0, len(prompts), OBJECTS_PER_CALL):
            part = prompts[start : start + OBJECTS_PER_CALL]
            for prediction in self.predict_many(embedding, part):
                # The candidate's own mask would be kept with it; this one is not.
                mask = mask_of_logits(prediction.logits, embedding.image_shape)
                yield mask, prediction.score

    def _decode(
        self, embedding: ImageEmbedding, square: PaddedSquare, prompts: list[Prompt]
    ) -> list[Prediction]:
        def tensor(values: Any) -> torch.Tensor:
            return torch.as_tensor(
                np.asarray(values), dtype=torch.float32, device=self.model.device
            )

        first = prompts[0]
        points = boxes = logits = None
        if first.points:
            points = (
                tensor([square.points_to_square(p.points) for p in prompts]),
                tensor([p.labels for p in prompts]),
            )
        if first.box is not None:
            boxes = tensor([square.box_to_square(p.box) for p in prompts if p.box])
        if first.logits is not None:
            logits = tensor([p.logits for p in prompts])[:, None]
        with torch.inference_mode():
            all_logits, all_scores = self.model.decode(
                embedding.features,
                points,
                boxes,
                logits,
                multimask_output=first.ambiguous,
            )
        arrays, scores = all_logits.cpu().numpy(), all_scores.cpu().numpy()
        return [
            Prediction(
                tuple(
                    Candidate(arrays[n, c], float(scores[n, c]), embedding.image_shape)
                    for c in range(arrays.shape[1])
                )
            )
            for n in range(len(prompts))
        ]
