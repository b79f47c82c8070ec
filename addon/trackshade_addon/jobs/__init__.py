# SPDX-License-Identifier: GPL-3.0-or-later
"""The one path of a job: capture, submit, follow, fetch, place."""
