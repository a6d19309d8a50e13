"""Draw annotated pictures with OpenCV (boxes, labels, bars, anonymised faces, heat maps) and write them to files."""

import errno
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from emodet.arrays import Float32, UInt8
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.files import write_atomically
from emodet.inference.faces import Box, Face, scaled, shared_area
from emodet.inference.rows import RowsError
from emodet.palette import UNCERTAIN_COLOUR, class_colours

Colour = tuple[int, int, int]
Area = tuple[int, int, int, int]

_FONT = cv2.FONT_HERSHEY_DUPLEX
_WHITE: Colour = (255, 255, 255)
_INK: Colour = (20, 24, 30)
_BARS = 3
_CELLS = 6  # number of cells across a hidden face
_HIDDEN_MARGIN = 0.3  # fraction of its side hidden around a face, for hair and ears
_READABLE_SIDE = 480
_JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Heat map of one face: title, crop, uint8 (size, size, 3) RGB, and heat, float32 (size, size)."""

    title: str
    crop: UInt8
    heat: Float32


def colour_of(emotion: str, class_names: Iterable[str] = EMOTIONS) -> Colour:
    """Return the colour (R, G, B), 0..255, of one of a model's classes, or of ``uncertain``."""
    names = tuple(class_names)
    text = dict(zip(names, class_colours(names), strict=True)).get(emotion, UNCERTAIN_COLOUR)
    return (int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16))


def annotate(image_rgb: UInt8, faces: Sequence[Face], *, note: str = "") -> UInt8:
    """Draw faces on a copy of an image, uint8 (H, W, 3) RGB, and a `note` in the lower left corner.

    Each face has a box and a label with its confidence; large faces also have bars of the three most probable classes.
    """
    picture = image_rgb.copy()
    height, width = picture.shape[:2]
    line = max(1, round(max(height, width) / 500))
    areas = [_pixels(face.box, width, height) for face in faces]
    for face, area in zip(faces, areas, strict=True):
        cv2.rectangle(picture, area[:2], area[2:], _INK, line + 2)
        cv2.rectangle(picture, area[:2], area[2:], colour_of(face.emotion, face.probabilities), line)
    # Draw labels after all boxes, so that no box crosses a label, and tall faces first.
    taken = areas if len(faces) > 1 else []
    for face in sorted(faces, key=lambda face: face.box[3] - face.box[1], reverse=True):
        _label(picture, face, taken)
    if note:
        scale = max(0.35, min(height, width) / 1000)
        draw_text(picture, note, (round(10 * scale), height - round(14 * scale)), scale, _WHITE, outline=_INK)
    return picture


def hide_faces(image_rgb: UInt8, boxes: Sequence[Box]) -> UInt8:
    """Copy an image, uint8 (H, W, 3) RGB, with each box and its surroundings averaged over a few large cells."""
    picture = image_rgb.copy()
    height, width = picture.shape[:2]
    for x1, y1, x2, y2 in boxes:
        margin = _HIDDEN_MARGIN * max(x2 - x1, y2 - y1)
        left, top = max(0, int(x1 - margin)), max(0, int(y1 - margin))
        right, bottom = min(width, int(np.ceil(x2 + margin))), min(height, int(np.ceil(y2 + margin)))
        if left < right and top < bottom:
            picture[top:bottom, left:right] = hide(picture[top:bottom, left:right])
    return picture


def hide(part: UInt8) -> UInt8:
    """Average an image, uint8 (H, W, 3), over at most six by six cells; the result has the same shape."""
    height, width = part.shape[:2]
    cells = cv2.resize(part, (min(_CELLS, width), min(_CELLS, height)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def draw(
    image_rgb: UInt8,
    faces: Sequence[Face],
    *,
    hidden: Sequence[Box] | None = None,
    maps: Sequence[HeatMap] | None = None,
    note: str = "",
    enlarge: bool = False,
) -> UInt8:
    """Draw the annotated picture.

    Args:
        image_rgb: uint8, (H, W, 3), RGB; not modified.
        faces: Faces to label.
        hidden: Boxes of faces to make unrecognisable, in the heat maps too; None hides no face.
        maps: Heat maps for a strip on the right, as many as fit; None for no strip.
        note: Text for the lower left corner.
        enlarge: Whether to enlarge a picture that is too small for labels, by a whole factor.

    Returns:
        uint8, (H, W, 3), or (H, W + S, 3) with a strip of width S = 2 * floor(0.15 * H).
    """
    factor = math.ceil(_READABLE_SIDE / max(image_rgb.shape[:2])) if enlarge else 1
    if factor > 1:
        size = (image_rgb.shape[1] * factor, image_rgb.shape[0] * factor)
        image_rgb = np.asarray(cv2.resize(image_rgb, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
        faces = [scaled(face, factor, factor) for face in faces]
        hidden = hidden and [(x1 * factor, y1 * factor, x2 * factor, y2 * factor) for x1, y1, x2, y2 in hidden]
    picture = annotate(image_rgb if hidden is None else hide_faces(image_rgb, hidden), faces, note=note)
    if maps is None:
        return picture
    height = picture.shape[0]
    side = max(2, 2 * math.floor(height * 0.3 / 2))  # even for H.264; three tiles fit into the strip
    tiles = [_heat_tile(each, side, hidden=hidden is not None) for each in maps]
    tiles = tiles[: height // len(tiles[0])] if tiles else []
    rest = np.full((height - sum(map(len, tiles)), side, 3), _INK, dtype=np.uint8)
    return np.concatenate([picture, np.concatenate([*tiles, rest])], axis=1)


def _heat_tile(heat_map: HeatMap, side: int, *, hidden: bool) -> UInt8:
    """Draw heat over a crop, anonymised if `hidden`, with the title below: uint8, (side + title, side, 3), RGB."""
    strength = np.maximum(heat_map.heat, 0)
    strength = strength / max(float(strength.max()), 1e-6)
    coloured = cv2.applyColorMap((strength * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    grey = cv2.cvtColor(hide(heat_map.crop) if hidden else heat_map.crop, cv2.COLOR_RGB2GRAY)[:, :, None]
    share = (0.75 * strength)[:, :, None]
    mixed = (grey * (1 - share) + coloured * share).astype(np.uint8)
    scale = side / 330
    tile = np.full((side + round(34 * scale), side, 3), _INK, dtype=np.uint8)
    tile[:side] = cv2.resize(mixed, (side, side), interpolation=cv2.INTER_CUBIC)
    draw_text(tile, heat_map.title, (round(6 * scale), side + round(24 * scale)), scale * 0.8, _WHITE)
    return tile


def write_picture(picture: UInt8, path: Path) -> None:
    """Write a uint8 (H, W, 3) RGB picture as JPEG or PNG, by the suffix; an existing file is replaced."""
    try:
        write_atomically(path, encoded(picture, path.suffix.lower(), name=str(path)))
    except OSError as problem:
        kind = RowsError if problem.errno in (errno.ENOSPC, errno.EDQUOT) else EmodetError
        raise kind(f"{path}: could not be written ({problem.strerror or problem})") from None


def encoded(picture: UInt8, suffix: str, *, name: str = "picture") -> bytes:
    """Encode a uint8 (H, W, 3) RGB picture as an image file: ``.jpg``, ``.jpeg`` or ``.png``."""
    if suffix not in (".jpg", ".jpeg", ".png"):
        raise EmodetError(f"{name}: pictures are written as .jpg or .png, not {suffix or 'without a suffix'}")
    settings = [] if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    success, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), settings)
    if not success:
        raise EmodetError(f"{name}: {picture.shape[1]}×{picture.shape[0]} pixels cannot be encoded as {suffix}")
    return bytes(data)


def draw_text(
    picture: UInt8, text: str, at: tuple[int, int], scale: float, colour: Colour, *, outline: Colour | None = None
) -> None:
    """Draw ASCII text into `picture`; `at` is the left end of the baseline."""
    plain = text.encode("ascii", "replace").decode()
    if outline is not None:
        cv2.putText(picture, plain, at, _FONT, scale, outline, max(2, round(4 * scale)), cv2.LINE_AA)
    cv2.putText(picture, plain, at, _FONT, scale, colour, max(1, round(1.4 * scale)), cv2.LINE_AA)


def text_size(text: str, scale: float) -> tuple[int, int]:
    """Return the width of a text and its height above the baseline, in pixels."""
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, max(1, round(1.4 * scale)))
    return width, height


def _label(picture: UInt8, face: Face, taken: list[Area]) -> None:
    """Draw the label above the box, or below it if that place is taken; draw bars beside large faces."""
    height, width = picture.shape[:2]
    left, top, right, bottom = _pixels(face.box, width, height)
    min_scale, max_scale = max(0.38, min(height, width) / 2200), max(0.45, min(height, width) / 900)
    scale = float(np.clip((right - left) / 300, min_scale, max_scale))
    pad = max(2, round(8 * scale))
    colour = colour_of(face.emotion, face.probabilities)
    number = "" if face.track_id is None else f"#{face.track_id} "
    text = f"{number}{face.emotion} {round(face.confidence * 100)}%"
    wide, high = text_size(text, scale)
    x = int(np.clip(left, 0, max(0, width - wide - 2 * pad)))
    tall = high + 2 * pad
    box = (x, top - tall, x + wide + 2 * pad, top) if top >= tall else (x, top, x + wide + 2 * pad, top + tall)
    if any(shared_area(box, other) for other in taken) and bottom + tall <= height:
        box = (x, bottom, box[2], bottom + tall)
    taken.append(box)
    cv2.rectangle(picture, box[:2], box[2:], colour, cv2.FILLED)
    bright = np.dot(colour, (0.299, 0.587, 0.114)) > 120
    draw_text(picture, text, (box[0] + pad, box[3] - pad), scale, _INK if bright else _WHITE)
    if min(right - left, bottom - top) >= min(height, width) / 7:
        _bars(picture, face, (left, top, right, bottom), max(min_scale, scale * 0.7), taken)


def _bars(picture: UInt8, face: Face, box: Area, scale: float, taken: list[Area]) -> None:
    """Draw bars of the three most probable classes beside or below the box, if there is room."""
    height, width = picture.shape[:2]
    left, top, right, bottom = box
    best = face.top(_BARS)
    pad = max(3, round(10 * scale))
    row = text_size("Hg", scale)[1] + pad
    label = max(text_size(name, scale)[0] for name, _ in best)
    length = round(100 * scale) + 20
    wide, tall = label + length + 3 * pad, row * len(best) + pad
    places = ((right + pad, top), (left - wide - pad, top), (left, bottom + pad))
    for x, y in places:
        panel = (x, y, x + wide, y + tall)
        inside = x >= 0 and y >= 0 and panel[2] < width and panel[3] < height
        if inside and not any(shared_area(panel, other) for other in taken):
            break
    else:
        return
    taken.append(panel)
    picture[panel[1] : panel[3], panel[0] : panel[2]] //= 3
    start = x + label + 2 * pad
    for place, (name, probability) in enumerate(best):
        base = y + row * (place + 1)
        draw_text(picture, name, (x + pad, base), scale, _WHITE)
        corner, filled = (start, base - row + pad), start + max(1, round(length * probability))
        cv2.rectangle(picture, corner, (start + length, base), _INK, cv2.FILLED)
        cv2.rectangle(picture, corner, (filled, base), colour_of(name, face.probabilities), cv2.FILLED)


def _pixels(box: Box, width: int, height: int) -> Area:
    left, top = (min(max(round(at), 0), size - 1) for at, size in zip(box[:2], (width, height), strict=True))
    return left, top, min(max(round(box[2]) - 1, left), width - 1), min(max(round(box[3]) - 1, top), height - 1)
