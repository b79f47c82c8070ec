# SPDX-License-Identifier: GPL-3.0-or-later
"""Training, evaluation and procedural scenes. Not part of the extension."""
