# SPDX-License-Identifier: GPL-3.0-or-later
"""The pipeline: prompt, first frame and tracking video in, a video out; and its loading by a registry entry."""
