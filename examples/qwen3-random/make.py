"""A small Qwen3 with random weights: heads wider than hidden / heads, query and key norms.

usage: .venv/bin/python examples/qwen3-random/make.py TOKENIZER OUT [--hidden 256] [--head-dim 64]

TOKENIZER is a checkpoint folder whose tokenizer is taken; six layers, eight query heads in four
groups. For trying contracts, policies and trainings where quality does not matter: a step takes a
fraction of a second, and nothing is downloaded.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import Qwen3Config, Qwen3ForCausalLM

LAYERS, HEADS, KV_HEADS = 6, 8, 4
COPIED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    vocabulary = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json")).get_vocab_size()
    torch.manual_seed(args.seed)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocabulary,
            hidden_size=args.hidden,
            intermediate_size=3 * args.hidden,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            head_dim=args.head_dim,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    model.save_pretrained(args.out)
    for name in COPIED:
        if (args.tokenizer / name).is_file():
            shutil.copyfile(args.tokenizer / name, args.out / name)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{args.out}: {count:,} parameters")


if __name__ == "__main__":
    main()
