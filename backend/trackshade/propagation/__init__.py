# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries pictures of single frames to all frames of a shot, along its exact tracks, at any size."""
