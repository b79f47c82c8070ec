# SPDX-License-Identifier: GPL-3.0-or-later
# From an image of the first frame that somebody painted over; choose it under Image.
import bpy

own = bpy.context.scene.trackshade

own.prompt = ""
own.negative_prompt = ""
own.first_frame = "file"
own.control_scale = 1.0
own.control_start = 0.0
own.control_end = 1.0
