"""What training starts from: a checkpoint, an encoder, token ids; a random one when dry."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from documents import Encode

LETTERS = 256  # vocabulary of the dry run: bytes


@dataclass(frozen=True)
class Inputs:
    """train and held: token ids of texts that share nothing."""

    checkpoint: Path
    encode: Encode
    train: Any
    held: Any


def opened(checkpoint: Path, tokens: Path) -> Inputs:
    """``tokens`` holds train.npy and held.npy, uint16, as pack.py writes them."""
    import numpy as np
    from lockstep.tokenizer.file import load_tokenizer

    tokenizer = load_tokenizer(checkpoint)
    return Inputs(
        checkpoint,
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        np.load(tokens / "train.npy", allow_pickle=False),
        np.load(tokens / "held.npy", allow_pickle=False),
    )


def dry(folder: Path) -> Inputs:
    """A random tiny Llama over bytes, written to ``folder`` as a checkpoint."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=LETTERS,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    rng = random.Random(0)
    texts = [[rng.randrange(97, 123) for _ in range(20_000)] for _ in range(2)]
    return Inputs(folder, lambda text: list(text.encode()), *texts)
