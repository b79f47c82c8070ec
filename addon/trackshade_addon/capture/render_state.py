# SPDX-License-Identifier: GPL-3.0-or-later
"""stub"""
class RenderState:
    def __init__(self, changes, scene, view_layer): pass
    def follow(self, depsgraph): pass
