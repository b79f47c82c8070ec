# SPDX-License-Identifier: GPL-3.0-or-later
"""The built-in models: one entry each. `trackshade.config.model_spec` says what the fields mean."""

from __future__ import annotations

from typing import Any

from trackshade.config.model_spec import LAYOUT_LOADER, ModelSpec

_WAN_480 = ((832, 480), (480, 832))
_WAN_720 = ((1280, 720), (720, 1280))
_APACHE: dict[str, Any] = {
    "license": "Apache-2.0",
    "license_url": "https://www.apache.org/licenses/LICENSE-2.0",
    "use": "Any use, also commercial.",
}
_USERS_OWN: dict[str, Any] = {  # weights that the user downloads
    "repo": "",
    "revision": "",
    "shipped": False,
    "loader": LAYOUT_LOADER,
    "key_pictures": "video",
    "dynamic_guidance": False,
}
_WAN: dict[str, Any] = {
    **_APACHE,
    **_USERS_OWN,
    "fps": 16.0,
    "keeps_rate": True,
    "steps": 50,
    "guidance": 5.0,
    "negative_prompt": "overexposed, static, blurred details, worst quality, low quality, JPEG artifacts, subtitles, "
    "watermark, deformed limbs, still picture",
    "text_length": 512,
}


_COGVIDEOX_FUN: dict[str, Any] = {**_USERS_OWN, "dynamic_guidance": True}


def _wan_vace(**values: Any) -> ModelSpec:
    return ModelSpec(
        **_WAN,
        family="trackshade.pipelines.families.wan_vace:WanVace",
        allowed_frame_counts=tuple(range(5, 82, 4)),
        controls=("depth", "layout"),
        inputs=("first-frame", "key-pictures", "references", "masks", "prompt"),
        **values,
    )


def _wan_animate(**values: Any) -> ModelSpec:
    defaults: dict[str, Any] = {
        **_WAN,
        "family": "trackshade.pipelines.families.wan_animate:WanAnimate",
        "allowed_frame_counts": tuple(range(5, 1602, 4)),
        "sizes": ((640, 800), (800, 640), *_WAN_480, *_WAN_720),
        "fps": 24.0,
        "steps": 40,
        "guidance": 3.0,
        "controls": ("layout", "render", "footage"),
        "inputs": ("first-frame", "references", "prompt"),
        "needs": ("first-frame",),
        "pass_frames": 81,
        "held_frames": 1,
        "memory_bytes": 84 << 30,  # 36 GB of which are keys and values of the driving video
        "preset_bytes": (("24", 72 << 30), ("16", 46 << 30), ("12", 40 << 30)),
        "download_bytes": 46 << 30,
    }
    return ModelSpec(**(defaults | values))


MODELS = (
    ModelSpec(
        name="mini",
        title="Trackshade mini (embedded, runs on a CPU)",
        allowed_frame_counts=(17,),
        sizes=((144, 96),),
        fps=8.0,
        steps=1,
        guidance=1.0,
        dynamic_guidance=False,
        negative_prompt="",
        text_length=32,
        memory_bytes=1 << 30,
        license="GPL-3.0-or-later",
        license_url="https://spdx.org/licenses/GPL-3.0-or-later.html",
        repo="",
        revision="",
        loader="trackshade.pipelines.loading:load_diffusers",
        shipped=True,
    ),
    ModelSpec(
        name="das-cogvideox-5b",
        title="Diffusion as Shader on CogVideoX-5B I2V",
        allowed_frame_counts=(49,),
        sizes=((720, 480),),
        fps=8.0,
        steps=50,
        guidance=6.0,
        dynamic_guidance=True,
        negative_prompt=(
            "The video is not of a high quality, it has a low resolution. Watermark present in each frame. "
            "The background is solid. Strange body and strange trajectory. Distortion."
        ),
        text_length=226,
        memory_bytes=40 << 30,
        license="CogVideoX License (research; commercial use after registration)",
        license_url="https://huggingface.co/THUDM/CogVideoX-5b-I2V/blob/main/LICENSE",
        repo="EXCAI/Diffusion-As-Shader",
        revision="53122de",
        loader="trackshade.pipelines.loading:load_diffusers",
        shipped=False,
        key_pictures="video",
        use="Research; commercial use needs a registration with the authors.",
    ),
    _wan_vace(
        name="wan-vace-1.3b",
        title="Wan 2.1 VACE 1.3B",
        sizes=_WAN_480,
        memory_bytes=20 << 30,
        preset_bytes=(("24", 14 << 30), ("16", 8 << 30), ("12", 7 << 30)),
        download_bytes=19 << 30,
        source="https://huggingface.co/Wan-AI/Wan2.1-VACE-1.3B-diffusers",
        recognized_by=(("num_attention_heads", 12),),
    ),
    _wan_vace(
        name="wan-vace-14b",
        title="Wan 2.1 VACE 14B",
        sizes=_WAN_480 + _WAN_720,
        memory_bytes=56 << 30,
        preset_bytes=(("24", 42 << 30), ("16", 18 << 30), ("12", 11 << 30)),
        download_bytes=75 << 30,
        source="https://huggingface.co/Wan-AI/Wan2.1-VACE-14B-diffusers",
        recognized_by=(("num_attention_heads", 40),),
    ),
    _wan_vace(
        name="wan2.2-vace-fun-14b",
        title="Wan 2.2 VACE Fun A14B",
        sizes=_WAN_480 + _WAN_720,
        memory_bytes=90 << 30,
        preset_bytes=(("24", 42 << 30), ("16", 18 << 30), ("12", 11 << 30)),
        download_bytes=80 << 30,
        source="https://huggingface.co/alibaba-pai/Wan2.2-VACE-Fun-A14B",
        recognized_by=(("num_attention_heads", 40), ("has_second_transformer", True)),
    ),
    ModelSpec(
        **_WAN,
        name="wan-move-14b",
        title="Wan-Move 14B 480p",
        family="trackshade.pipelines.families.wan_move:WanMove",
        allowed_frame_counts=(81,),
        sizes=_WAN_480,
        controls=("tracks",),
        inputs=("first-frame", "prompt"),
        needs=("first-frame",),
        memory_bytes=54 << 30,
        preset_bytes=(("24", 40 << 30), ("16", 16 << 30), ("12", 11 << 30)),
        download_bytes=82 << 30,
        source="https://huggingface.co/Ruihang/Wan-Move-14B-480P",
    ),
    _wan_animate(
        name="wan-animate-2-14b",
        title="Wan-Animate 2 14B",
        source="https://huggingface.co/Wan-AI/Wan2.2-Animate-2-14B-Diffusers",
        recognized_by=(("is_distilled", False),),
    ),
    _wan_animate(
        name="wan-animate-2-14b-distilled",
        title="Wan-Animate 2 14B, distilled",
        steps=10,
        guidance=1.0,
        source="https://huggingface.co/Wan-AI/Wan2.2-Animate-2-14B-Distilled-Diffusers",
        recognized_by=(("is_distilled", True),),
    ),
    ModelSpec(
        **_USERS_OWN,
        name="ltx-2.5-layout",
        title="LTX-2.5 Layout-To-Render",
        family="trackshade.pipelines.families.ltx:LtxLayoutToRender",
        allowed_frame_counts=tuple(range(9, 3402, 8)),
        sizes=((1024, 576), (576, 1024), (1920, 1088), (1088, 1920), (768, 512), (512, 768), (768, 768)),
        fps=24.0,
        keeps_rate=True,
        steps=8,
        has_fixed_steps=True,
        guidance=1.0,
        negative_prompt="",
        text_length=1024,
        controls=("layout",),
        inputs=("first-frame", "key-pictures", "prompt"),
        pass_frames=401,
        held_frames=25,
        memory_bytes=76 << 30,
        preset_bytes=(("24", 48 << 30), ("16", 20 << 30), ("12", 14 << 30)),
        download_bytes=72 << 30,
        license="LTX-2.x Community License of 11 August 2026",
        license_url="https://huggingface.co/Lightricks/LTX-2.5",
        use="Free for companies with a revenue below $10 million a year, under a use policy; others need a license.",
        source="https://huggingface.co/Lightricks/LTX-2.5-22b-IC-LoRA-Layout-To-Render",
    ),
    ModelSpec(
        **_COGVIDEOX_FUN,
        name="cogvideox-fun-5b-control",
        title="CogVideoX-Fun 5B Control",
        family="trackshade.pipelines.families.cogvideox_fun:CogVideoXFun",
        allowed_frame_counts=(49,),
        sizes=((720, 480), (480, 720)),
        fps=8.0,
        steps=50,
        guidance=6.0,
        negative_prompt="The video is not of a high quality, it has a low resolution. Watermark present in each frame. "
        "Strange motion trajectory.",
        text_length=226,
        controls=("tracking", "depth"),
        inputs=("prompt",),
        memory_bytes=30 << 30,
        download_bytes=20 << 30,
        license="CogVideoX License (research; commercial use after registration)",
        license_url="https://huggingface.co/THUDM/CogVideoX-5b-I2V/blob/main/LICENSE",
        use="Research; commercial use needs a registration with the authors.",
        source="https://huggingface.co/alibaba-pai/CogVideoX-Fun-V1.1-5b-Pose",
    ),
)


MINI_MOTION = "mini-motion"
MOTION_MODEL = ModelSpec(
    name=MINI_MOTION,
    title="Trackshade mini-motion (embedded, runs on a CPU)",
    allowed_frame_counts=(8,),
    sizes=((48, 64),),
    fps=8.0,
    steps=2,
    guidance=1.0,
    dynamic_guidance=False,
    negative_prompt="",
    text_length=0,
    memory_bytes=1 << 30,
    license="GPL-3.0-or-later",
    license_url="https://spdx.org/licenses/GPL-3.0-or-later.html",
    repo="",
    revision="",
    loader="trackshade.pipelines.motion:MotionPipeline.from_pretrained",
    shipped=True,
)
