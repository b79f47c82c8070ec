# SPDX-License-Identifier: GPL-3.0-or-later
# Low sun.
import bpy

own = bpy.context.scene.trackshade

own.prompt = "late afternoon sun low on the horizon, warm rim light, long soft shadows, dust in the air, photorealistic"
own.negative_prompt = "blurry, washed out, flickering, warped, text, watermark, flat light"
own.first_frame = "none"
own.control_scale = 1.0
own.control_start = 0.0
own.control_end = 1.0
