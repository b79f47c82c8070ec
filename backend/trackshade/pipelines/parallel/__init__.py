# SPDX-License-Identifier: GPL-3.0-or-later
"""Context parallelism: several devices share each step of a video model, each with a part of the tokens.

The worker is rank 0. It runs the whole pipeline, and starts a process for each further device, which has the
transformers alone. Before a transformer runs in the worker, its arguments are sent to the others, and all run it
together (`ranks`, `rank`). The tokens are split between them and gathered at the end (`sequence`).
"""
