# SPDX-License-Identifier: GPL-3.0-or-later
# The scene"s own materials and light, as its engine renders the first frame.
import bpy

own = bpy.context.scene.trackshade

own.prompt = ""
own.negative_prompt = ""
own.first_frame = "render"
own.control_scale = 1.0
own.control_start = 0.0
own.control_end = 1.0
