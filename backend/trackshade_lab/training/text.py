# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportCallIssue=false
"""The small model's text: a word-level tokenizer, a tiny T5 encoder, and the encoder's pretraining on word order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from trackshade_lab.scenes.captions import COLORS, SECONDARY_COLORS

_NEIGHBOR_OFFSETS = (-3, -2, -1, 1, 2)  # words whose neighbors are predicted
_NUM_COLORS = 3  # colors of a text, in order, that are predicted from its mean embedding
_BATCH_SIZE, _LEARNING_RATE = 256, 3e-3


def build_tokenizer(captions: Iterable[str], length: int) -> PreTrainedTokenizerFast:
    """Build a tokenizer of the lower-case words and punctuation that occur at least twice; others are `<unk>`.

    It pads to `length` tokens and ends texts with `</s>`.
    """
    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    splitter = pre_tokenizers.Whitespace()
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(caption)))
    words = sorted(word for word, count in counts.items() if count >= 2)
    special = ["<pad>", "</s>", "<unk>"]
    vocabulary = {word: index for index, word in enumerate([*special, *(w for w in words if w not in special)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=length
    )


def build_text_encoder(vocabulary_size: int, embed_dim: int, seed: int) -> T5EncoderModel:
    """Build a randomly initialized T5 encoder with two layers."""
    torch.manual_seed(seed)
    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary_size,
            d_model=embed_dim,
            d_kv=embed_dim // 2,
            d_ff=2 * embed_dim,
            num_layers=2,
            num_heads=2,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=0,
            eos_token_id=1,
            tie_word_embeddings=False,
        )
    )


def tokenize(tokenizer: PreTrainedTokenizerFast, texts: list[str], length: int) -> torch.Tensor:
    """Tokenize texts to [N, length] token ids, padded and truncated."""
    return tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids


class _WordHeads(nn.Module):
    """Linear classifiers of words on the encoder's output, dropped after pretraining."""

    def __init__(self, embed_dim: int, vocabulary_size: int) -> None:
        super().__init__()
        self.neighbors = nn.ModuleList(nn.Linear(embed_dim, vocabulary_size) for _ in _NEIGHBOR_OFFSETS)
        self.colors = nn.ModuleList(nn.Linear(embed_dim, vocabulary_size) for _ in range(_NUM_COLORS))

    def neighbor_loss(self, embeddings: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy of the words beside each of the tokens [B, L], from their embeddings [B, L, E]."""
        length, losses = tokens.shape[1], []
        for head, offset in zip(self.neighbors, _NEIGHBOR_OFFSETS, strict=True):
            words = slice(max(0, -offset), length - max(0, offset))
            neighbors = slice(max(0, offset), length - max(0, -offset))
            losses.append(
                nn.functional.cross_entropy(head(embeddings[:, words]).flatten(0, 1), tokens[:, neighbors].flatten())
            )
        return torch.stack(losses).sum()

    def color_loss(self, embeddings: torch.Tensor, colors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cross-entropy of colors [B, _NUM_COLORS] from mean embeddings [B, E], and the first colors."""
        logits = [head(embeddings) for head in self.colors]
        losses = [nn.functional.cross_entropy(scores, colors[:, rank]) for rank, scores in enumerate(logits)]
        return torch.stack(losses).sum(), logits[0].argmax(dim=1)


def pretrain_text_encoder(
    encoder: T5EncoderModel, tokenizer: PreTrainedTokenizerFast, texts: list[str], length: int, steps: int, seed: int
) -> float:
    """Train the text encoder in place on the order of words: each word's neighbors, and which color a text names first.

    The transformer sees word order only in the encoder's embeddings, and its loss alone teaches a small encoder for a
    long time only which colors a text names, not of what.

    Returns:
        The accuracy of the first color over the last tenth of the steps.
    """
    tokens = tokenize(tokenizer, texts, length)
    colors = _colors_in_order(tokens, tokenizer)
    torch.manual_seed(seed)
    heads = _WordHeads(encoder.config.d_model, len(tokenizer)).to(encoder.device)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=_LEARNING_RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    generator, accuracies = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        picks = torch.randint(len(tokens), (_BATCH_SIZE,), generator=generator)
        batch, batch_colors = tokens[picks].to(encoder.device), colors[picks].to(encoder.device)
        embeddings = encoder(batch)[0].float()  # [B, L, E]
        loss, first_colors = heads.color_loss(embeddings.mean(dim=1), batch_colors)
        loss = loss + heads.neighbor_loss(embeddings, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        accuracies.append(float((first_colors == batch_colors[:, 0]).float().mean()))
    last = accuracies[-max(1, steps // 10) :]
    return sum(last) / len(last)


def _colors_in_order(tokens: torch.Tensor, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Return the first color words [N, _NUM_COLORS] of texts [N, L], padded."""
    vocabulary = tokenizer.get_vocab()
    color_ids = torch.tensor(
        [vocabulary[word] for word in (*COLORS, *SECONDARY_COLORS) if word in vocabulary], dtype=torch.int64
    )
    is_color = torch.isin(tokens, color_ids)
    colors = torch.full((len(tokens), _NUM_COLORS), tokenizer.pad_token_id)
    rank = is_color.cumsum(dim=1) - 1
    for text, position in is_color.nonzero().tolist():
        if rank[text, position] < _NUM_COLORS:
            colors[text, rank[text, position]] = tokens[text, position]
    return colors
