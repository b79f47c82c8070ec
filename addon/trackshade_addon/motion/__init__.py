# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion from footage: jobs of motion models, and joint rotations as keyframes of armatures."""
