"""A tiny random Llama with a byte-level tokenizer, as a Hugging Face directory.

From Python: ``make_tiny.write(directory)``. From a shell: ``python test/python/make_tiny.py DIR``.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

gc.disable()  # as lockstep/collector.py does: a third of this program's time
import torch  # noqa: E402
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: E402

gc.freeze()
gc.enable()

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer() -> Tokenizer:
    """One id a byte, and a few merges, so that tokens of several characters occur: 264 ids."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("a", "n"), (".", "Ġ"), ("Ċ", "Ċ")]
    words = [*SPECIAL, *letters, *("".join(pair) for pair in merges)]
    made = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIAL])
    return made


def write(
    directory: str | Path,
    *,
    seed: int = 0,
    layers: int = 4,
    kv_heads: int = 2,
    group: int = 2,
    head_dim: int = 8,
    hidden: int = 32,
    tied: bool = True,
) -> Path:
    """Write the checkpoint; the same arguments give the same bytes."""
    directory = Path(directory)
    made = tokenizer()
    generator = torch.Generator().manual_seed(seed)
    config = LlamaConfig(
        vocab_size=made.get_vocab_size(),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=kv_heads * group,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name:
                weight.copy_(1.0 + 0.1 * noise)
            else:
                weight.copy_(noise * (0.4 if "embed" in name else weight.shape[1] ** -0.5))
    model.save_pretrained(directory)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|endoftext|>", model_max_length=512
    )
    fast.chat_template = CHAT
    fast.save_pretrained(directory)
    return directory


if __name__ == "__main__":
    print(write(sys.argv[1]))
