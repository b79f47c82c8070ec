# SPDX-License-Identifier: GPL-3.0-or-later
"""Checking a scene before a job: facts about the scene, findings from the facts, and keeping both up to date."""
