# SPDX-License-Identifier: GPL-3.0-or-later
"""Training of the embedded model: procedural data and the trainer."""
