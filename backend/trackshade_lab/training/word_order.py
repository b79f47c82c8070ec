# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportCallIssue=false
"""The text encoder's lesson before the descent: which word is beside which, and which color is named first.

The transformer sees no order of words but what the encoder's vectors hold. By the transformer's loss alone a small
encoder learns for a long time only which colors a text names, not of what.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from trackshade_lab.scenes.captions import COLORS, SECONDARY_COLORS

from .text import tokenize

_BESIDE = (-3, -2, -1, 1, 2)  # words away: which neighbors a word is to name
_IN_ORDER = 3  # how many of a text's colors the mean of its vectors is to name
_BATCH, _RATE = 256, 3e-3


class _Heads(nn.Module):
    """What names words, from the encoder's vectors alone; dropped after the lesson."""

    def __init__(self, width: int, words: int) -> None:
        super().__init__()
        self.beside = nn.ModuleList(nn.Linear(width, words) for _ in _BESIDE)
        self.in_order = nn.ModuleList(nn.Linear(width, words) for _ in range(_IN_ORDER))

    def neighbors(self, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Loss of naming the words beside each of [B, L] tokens, from their vectors [B, L, E]."""
        length, losses = tokens.shape[1], []
        for head, offset in zip(self.beside, _BESIDE, strict=True):
            here = slice(max(0, -offset), length - max(0, offset))
            there = slice(max(0, offset), length - max(0, -offset))
            losses.append(F.cross_entropy(head(states[:, here]).flatten(0, 1), tokens[:, there].flatten()))
        return torch.stack(losses).sum()

    def colors(self, means: torch.Tensor, ordered: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of naming colors [B, _IN_ORDER] from the texts' mean vectors [B, E], and the first ones named [B]."""
        named = [head(means) for head in self.in_order]
        losses = [F.cross_entropy(scores, ordered[:, rank]) for rank, scores in enumerate(named)]
        return torch.stack(losses).sum(), named[0].argmax(dim=1)


def teach_order(
    encoder: T5EncoderModel, tokenizer: PreTrainedTokenizerFast, texts: list[str], length: int, steps: int, seed: int
) -> float:
    """Teach `encoder` the order of words in `texts`, cut to `length` tokens, in so many optimizer steps.

    Returns the share of first colors that the texts' mean vectors name right, over the last tenth of the steps.
    """
    tokens = tokenize(tokenizer, texts, length)
    ordered = _colors_in_order(tokens, tokenizer)
    torch.manual_seed(seed)
    heads = _Heads(encoder.config.d_model, len(tokenizer)).to(encoder.device)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=_RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    draw, right = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        picks = torch.randint(len(tokens), (_BATCH,), generator=draw)
        own, told = tokens[picks].to(encoder.device), ordered[picks].to(encoder.device)
        states = encoder(own)[0].float()  # [B, L, E]
        loss, first = heads.colors(states.mean(dim=1), told)
        loss = loss + heads.neighbors(states, own)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        right.append(float((first == told[:, 0]).float().mean()))
    last = right[-max(1, steps // 10) :]
    return sum(last) / len(last)


def _colors_in_order(tokens: torch.Tensor, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """[N, _IN_ORDER] the first color words of each text [N, L]; padding where there are fewer."""
    known = tokenizer.get_vocab()
    colors = torch.tensor([known[word] for word in (*COLORS, *SECONDARY_COLORS) if word in known], dtype=torch.int64)
    named = torch.isin(tokens, colors)
    found = torch.full((len(tokens), _IN_ORDER), tokenizer.pad_token_id)
    rank = named.cumsum(dim=1) - 1
    for text, place in named.nonzero().tolist():
        if rank[text, place] < _IN_ORDER:
            found[text, rank[text, place]] = tokens[text, place]
    return found
