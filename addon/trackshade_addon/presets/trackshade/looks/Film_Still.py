# SPDX-License-Identifier: GPL-3.0-or-later
# Like a photographed film.
import bpy

own = bpy.context.scene.trackshade

own.prompt = (
    "a live-action film still, natural materials with worn edges, soft overcast daylight, 35 mm lens, fine grain"
)
own.negative_prompt = "blurry, washed out, flickering, warped, text, watermark, cartoon, plastic"
own.first_frame = "none"
own.control_scale = 1.0
own.control_start = 0.0
own.control_end = 1.0
