# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluation of the motion model: what its tokens say, and the pictures of its generator."""
