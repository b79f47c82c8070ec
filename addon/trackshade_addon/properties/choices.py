# SPDX-License-Identifier: GPL-3.0-or-later
"""Items of the menus among the settings of a scene: identifier, label and tooltip of each. The first is the default."""

from trackshade.config.image_models import image_models

FROM_PROMPT = ("none", "From Prompt", "Generate the first frame from the prompt", 2)
FIRST_FRAMES = [
    ("render", "Render", "Render the first frame with the scene's render engine, in a separate Blender process", 0),
    ("file", "Image File", "Use an image file of the first frame, such as a painted-over render", 1),
    ("image", "Blender Image", "Use an image that is open in Blender, including unsaved painting", 3),
    FROM_PROMPT,
]
KEY_SOURCES = [
    ("file", "Image File", "An image file, such as a painted-over render"),
    ("image", "Blender Image", "An image that is open in Blender, including unsaved painting"),
]
LOOK_ENGINES = [
    ("CYCLES", "Cycles", "Path tracing; needs no GPU"),
    ("BLENDER_EEVEE", "EEVEE", "Fast; needs a GPU"),
    ("BLENDER_WORKBENCH", "Workbench", "Flat and fast; needs a GPU"),
]
IMAGE_MODELS = [
    ("none", "None", "Use the first frame as it is; without one, the model paints it from the prompt"),
    *((item.name, item.title, item.license) for item in image_models()),
    ("custom", "Custom", "Your own checkpoint"),
]
MEMORY = [
    ("auto", "Automatic", "As much as is free on the device"),
    ("full", "Full", "The whole model is on the device"),
    ("24", "24 GB", "Parts of the model take turns on the device"),
    ("16", "16 GB", "Eight blocks at a time are on the device"),
    ("12", "12 GB", "One block at a time is on the device"),
    ("8", "8 GB", "One layer at a time, in 8 bits, is on the device"),
]
CONTROL_CLIPS = [
    ("auto", "Automatic", "The first of what the model follows"),
    ("tracking", "Tracking Video", "The colors of the tracks"),
    ("layout", "Layout", "Gray clay renders of the scene"),
    ("depth", "Depth", "Inverse depth, near is white"),
    ("tracks", "Tracks", "Points that the first frame shows"),
    ("render", "Render", "The scene's own render of all frames"),
    ("footage", "Footage", "A video of somebody moving"),
]
IMAGE_FAMILIES = [
    ("sd15", "Stable Diffusion 1.5", "Uses the depth ControlNet of sd15-depth"),
    ("sdxl", "Stable Diffusion XL", "Uses the depth ControlNet of sdxl-depth"),
    ("flux", "FLUX.1 Depth", "A folder in diffusers' layout"),
]
FRAME_RULES = [
    ("auto", "Automatic", "Keep the frame range if the model accepts it, otherwise resample it"),
    ("choose", "First Frames", "Keep as many of the first frames as the model accepts"),
    ("step", "Larger Step", "Increase the step by a whole factor, so that only whole frames are used"),
    ("resample", "Resample", "Spread the model's frames evenly over the range, using subframes if necessary"),
]
SIZE_MODES = [
    ("pad", "Pad", "Keep the whole frame: the view is widened to the model's aspect ratio and cropped afterwards"),
    ("crop", "Crop", "Fill the model's aspect ratio; the margins of the frame are not shaded"),
]
KEY_PICTURES = [
    ("auto", "Automatic", "The first frame alone with the embedded model, and the model's video with the others"),
    (
        "first-frame",
        "First Frame",
        "Carry the first frame to all frames along the tracks. No model is needed unless it generates the first frame",
    ),
    ("video", "Video", "Carry the frames of the model's video to all frames along the tracks"),
]
OUTPUT_SIZES = [
    ("full", "Every Frame", "Every frame of the range, at the size of the scene's renders"),
    ("model", "Model", "The frames of the model as they are, at the model's size"),
]
IMAGE_FORMATS = [
    ("png", "PNG", "8 bits, as the frames are shown"),
    ("exr", "OpenEXR", "Scene-linear half floats. The frames are also written as 8-bit PNG, which are placed"),
]
LIGHTS = [
    (
        "clay",
        "Clay Renders",
        "Render every frame with Cycles, with gray surfaces and the scene's lights, in a separate Blender process. "
        "Skipped if nothing moves in the light",
    ),
    ("render", "Scene Renders", "Render every frame with the scene's render engine, in a separate Blender process"),
    ("none", "None", "Keep the light of the first frame on every surface"),
]
GLASS = [
    ("opaque", "Surface", "Track the glass, so that its reflections and refractions move with it"),
    ("through", "See Through", "Track what is behind the glass"),
]
HAIR = [
    ("none", "Ignore", "Track what is behind the hair"),
    ("strands", "Strands", "Track each strand as a thin tube; the shot can become very large"),
]
PLACEMENTS = [
    ("both", "Plate and Background", "A plate for renders, and a background image of the camera for the viewport"),
    ("plate", "Plate", "A plane in front of the camera that only the camera sees and that is rendered"),
    ("background", "Background", "A background image of the camera, shown in the viewport only"),
    ("compositor", "Compositor", "Nodes that lay the result over the image, just before the output"),
    ("sequencer", "Sequencer", "A strip in the video sequencer, above the other strips"),
    ("image", "Image", "Only the image data-block Trackshade Result, for your own nodes; each new result updates it"),
    (
        "splats",
        "Splats",
        "Gaussian splats that ride on the meshes, for any camera. Blender 5.3 and later; earlier versions show points",
    ),
    (
        "projected",
        "Projected Texture",
        "Show each frame on the meshes: every point shows the pixel in which the camera saw it, and a baked texture "
        "where it did not. The texture sticks to the surface under any camera",
    ),
    ("baked", "Baked Texture", "Show one still texture on each mesh: the median of all frames"),
    ("heat", "Heat Map", "Show on the meshes how much the color of each point varies over time"),
    ("none", "None", "Only save the result to its folder"),
]
INTERPOLATIONS = [
    ("auto", "Automatic", "Closest if the result has the pixels of the scene's frame, otherwise Linear"),
    ("Linear", "Linear", "Linear interpolation"),
    ("Closest", "Closest", "No interpolation"),
    ("Cubic", "Cubic", "Cubic interpolation"),
]
TEXTURE_SIZES = [
    ("auto", "Automatic", "Slightly finer than the mesh appears in the image, at most 2048"),
    *((str(side), str(side), "Size of the texture of each mesh") for side in (512, 1024, 2048, 4096, 8192)),
]
