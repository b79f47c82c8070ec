# SPDX-License-Identifier: GPL-3.0-or-later
# A wet city night.
import bpy

own = bpy.context.scene.trackshade

own.prompt = (
    "at night in the rain, wet reflecting surfaces, neon signs in magenta and cyan, haze, deep shadows, cinematic"
)
own.negative_prompt = "blurry, washed out, flickering, warped, text, watermark, daylight"
own.first_frame = "none"
own.control_scale = 1.0
own.control_start = 0.0
own.control_end = 1.0
