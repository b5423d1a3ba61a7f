"""Turning the instruction into tokens, with the tokenizer in the checkpoint's folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from b1k_policies.xvla.files.checkpoint import CheckpointError
from b1k_policies.xvla.silence import quietly

if TYPE_CHECKING:
    import torch

TOKENIZER_FILES: tuple[str, ...] = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
)
"""A folder with one of these has a tokenizer. tokenizer_config.json alone has no words, and
transformers 5 makes a tokenizer of it that knows none."""


class Tokenizer:
    """A checkpoint's own tokenizer, padded and cut to the contract's length."""

    def __init__(self, folder: Path, length: int) -> None:
        """Load it from disk only; none of the folder's code is run.

        Args:
            folder: Folder of the checkpoint.
            length: Number of tokens to pad or cut to (`EvalContract.language_length`).

        Raises:
            CheckpointError: There is no tokenizer, or it cannot be read.
        """
        from transformers import AutoTokenizer

        if not any((folder / name).is_file() for name in TOKENIZER_FILES):
            raise CheckpointError(
                f"{folder} has no tokenizer (none of {', '.join(TOKENIZER_FILES)}): copy the "
                "tokenizer's files that the model was trained with into it"
            )
        self._folder = folder
        self._length = length
        try:
            with quietly():
                self._tokenizer: Any = AutoTokenizer.from_pretrained(
                    str(folder), local_files_only=True, trust_remote_code=False
                )
        except Exception as error:
            raise CheckpointError(
                f"the tokenizer in {folder} cannot be read ({type(error).__name__}: {error})"
            ) from error
        if self._tokenizer.pad_token_id is None:
            raise CheckpointError(
                f"the tokenizer in {folder} has no padding token, and the instruction must be "
                f"padded to {length} tokens"
            )

    def ids(self, instruction: str) -> torch.Tensor:
        """Return the tokens of an instruction, int64 [1, length].

        Raises:
            CheckpointError: The tokenizer knows none of its words.
        """
        import torch

        encoded = self._tokenizer(
            [instruction], padding="max_length", truncation=True, max_length=self._length
        )
        # Only special tokens: the model would be given no instruction, without an error.
        if not set(encoded["input_ids"][0]) - set(self._tokenizer.all_special_ids):
            raise CheckpointError(
                f"the tokenizer in {self._folder} knows no word of {instruction!r}: copy the "
                "tokenizer's files that the model was trained with into it"
            )
        return torch.tensor(encoded["input_ids"], dtype=torch.int64)

    def count(self, instruction: str) -> int:
        """Return the number of tokens of an instruction before it is padded or cut."""
        return len(self._tokenizer([instruction], verbose=False)["input_ids"][0])
