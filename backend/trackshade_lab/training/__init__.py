# SPDX-License-Identifier: GPL-3.0-or-later
"""Training of small models from scratch and of the tracking branch of a published base."""
