# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes HTML pages of the guide, which the extension holds, so that a web browser shows them without a network.

Headings get the anchors that GitHub gives them. Links between pages are kept, pictures are copied, and links to files
that the extension does not have become plain text. Markdown is read by markdown-it-py, which comes with rich.
"""

from __future__ import annotations

import html
import re
import shutil
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

STYLE = """body { max-width: 52em; margin: 2em auto; padding: 0 1em; font: 16px/1.5 sans-serif; color: #222; }
a { color: #1a5fb4; } code, pre { font-family: monospace; background: #f2f2f2; }
pre { padding: 0.8em; overflow-x: auto; } img { max-width: 100%; }
table { border-collapse: collapse; } td, th { border: 1px solid #ccc; padding: 0.3em 0.6em; vertical-align: top; }
nav { border-bottom: 1px solid #ccc; padding-bottom: 0.5em; }"""
PAGES = {  # in the order of the links above each page
    "installing": "Installing", "first-plate": "First plate", "looks": "Looks", "panel": "Panel",
    "placing": "Placing", "render-engine": "Rendering", "video-models": "Video models",
    "many-cameras": "Many cameras", "photo-to-scene": "Photo or video", "motion-from-footage": "Motion from footage",
    "what-is-captured": "What is captured", "cookbook": "Cookbook", "troubleshooting": "Troubleshooting",
}  # fmt: skip


def write_pages(guide: Path, target: Path) -> list[Path]:
    """Write the pages of the guide, and the pictures that they show, to a folder.

    Args:
        guide: folder of the Markdown files.
        target: folder to create.

    Returns:
        The pages.
    """
    target.mkdir(parents=True)
    pages = []
    for source in sorted(guide.glob("*.md")):
        page = target / f"{source.stem}.html"
        body, pictures = convert(source.read_text(encoding="utf-8"))
        for picture in pictures:
            (target / "images").mkdir(exist_ok=True)
            shutil.copy(guide / picture, target / "images")
        title = PAGES.get(source.stem, source.stem)
        links = " · ".join(f'<a href="{name}.html">{text}</a>' for name, text in PAGES.items())
        page.write_text(
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title} – Trackshade</title>\n'
            f"<style>\n{STYLE}\n</style>\n</head>\n<body>\n<nav>{links}</nav>\n{body}</body>\n</html>\n",
            encoding="utf-8",
        )
        pages.append(page)
    return pages


def convert(text: str) -> tuple[str, list[str]]:
    """Return the HTML of a page, and the paths of its pictures, as the page has them."""
    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(text)
    pictures: list[str] = []
    anchors: dict[str, int] = {}
    for opening, content in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", _anchor(content.content, anchors))
    for token in tokens:
        token.children = None if token.children is None else _adapt(token.children, pictures)
    return parser.renderer.render(tokens, parser.options, {}), pictures


def _adapt(tokens: list[Token], pictures: list[str]) -> list[Token]:
    """Return the inline tokens with links and pictures as the pages have them; add the paths of pictures."""
    kept, depth = [], 0  # of links that are left out
    for token in tokens:
        if token.type == "image":
            path = str(token.attrGet("src"))
            pictures.append(path)
            token.attrSet("src", f"images/{Path(path).name}")
        elif token.type == "link_open":
            address = str(token.attrGet("href"))
            found = re.fullmatch(r"([a-z-]+)\.md(#.*)?", address)
            if found is not None:
                token.attrSet("href", f"{found[1]}.html{found[2] or ''}")
            elif not address.startswith(("https:", "#")):
                depth += 1
                continue
        elif token.type == "link_close" and depth:
            depth -= 1
            continue
        kept.append(token)
    return kept


def _anchor(heading: str, known: dict[str, int]) -> str:
    """Return GitHub's anchor of a heading: a repeated one gets a number."""
    plain = re.sub(r"[^\w\- ]", "", html.unescape(heading).lower()).strip().replace(" ", "-")
    known[plain] = known.get(plain, -1) + 1
    return f"{plain}-{known[plain]}" if known[plain] else plain
