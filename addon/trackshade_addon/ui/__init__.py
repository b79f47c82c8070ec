# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel in the 3D view's sidebar, and what its buttons do."""
