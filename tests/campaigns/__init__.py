# SPDX-License-Identifier: GPL-3.0-or-later
"""Campaigns: many damaged inputs, killed processes and floods, counted in one table (see README.md)."""
