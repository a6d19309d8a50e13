"""A video through a recognizer: frames in, results out, reading and recognising each in a thread of its own."""

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

from emodet.inference.capture import Frame, LiveVideo, VideoFile, read_ahead
from emodet.inference.faces import Box, Face
from emodet.inference.pictures import HeatMap, heat_maps
from emodet.inference.recognizer import DETECT_EVERY, FaceStream, Recognizer
from emodet.inference.smoothing import Smoothing

__all__ = ["SCORE_TO_HIDE", "Result", "recognise_video"]

SCORE_TO_HIDE = 0.3
"""When faces are to be hidden, whatever the detector is this sure of is hidden too, but not recognised."""

_EXPLAINED = 3  # faces of a frame of a video: as many as have room beside it


@dataclass(frozen=True, slots=True)
class Result:
    """One frame and what was recognised.

    Attributes:
        frame: The picture.
        faces: Its faces; those of the last recognised frame where `fresh` is False.
        hidden: Every place where a face is or was less than a second ago.
        maps: Heat maps, where they were asked for.
        fresh: Whether this frame was recognised, and not left out by `every`.
        recognised_s: How long finding and recognising took.
        age_s: How old the picture was when that was done; for something live, the latency that a user feels.
    """

    frame: Frame
    faces: tuple[Face, ...]
    hidden: tuple[Box, ...]
    maps: tuple[HeatMap, ...]
    fresh: bool
    recognised_s: float
    age_s: float


def recognise_video(
    recognizer: Recognizer,
    video: VideoFile | LiveVideo,
    *,
    smoothing: Smoothing,
    every: int = 1,
    all_frames: bool = False,
    hide: bool = False,
    explain: bool = False,
) -> Generator[Result, None, None]:
    """Recognise a video.

    Args:
        recognizer: What recognises.
        video: A file, or something live.
        smoothing: How readings are calmed.
        every: Recognise only every so many frames.
        all_frames: Also give the frames between, as a video that is to be watched needs them.
        hide: Look for faces in every frame and with a lower threshold, so that each can be hidden.
        explain: Make heat maps.

    Yields:
        A `Result` for each frame, or for each recognised one. Closing the iterator ends the threads.

    Raises:
        EmodetError: As iterating `video` does.
    """
    stream = FaceStream(
        recognizer,
        smoothing=smoothing,
        detect_every=1 if hide else DETECT_EVERY,
        min_score=min(SCORE_TO_HIDE, recognizer.detector.min_score) if hide else None,
    )
    if isinstance(video, LiveVideo):
        frames, step = iter(video), every
    else:
        # What nobody will see is left out where it is read.
        frames, step = read_ahead(video.frames(1 if all_frames else every), capacity=8), every if all_frames else 1
    results = _results(recognizer, stream, frames, step=step, all_frames=all_frames, hide=hide, explain=explain)
    done = read_ahead(results, capacity=2)
    try:
        yield from done
    finally:
        if isinstance(video, LiveVideo):
            # Before the threads are waited for: they may be waiting for a camera.
            video.close()
        done.close()


def _results(
    recognizer: Recognizer,
    stream: FaceStream,
    frames: Generator[Frame, None, None],
    *,
    step: int,
    all_frames: bool,
    hide: bool,
    explain: bool,
) -> Generator[Result, None, None]:
    faces: tuple[Face, ...] = ()
    maps: tuple[HeatMap, ...] = ()
    started = done = 0.0
    with closing(frames):
        for number, frame in enumerate(frames):
            fresh = number % step == 0
            if fresh:
                started = time.perf_counter()
                found = stream.step(frame.image_rgb, frame.time_s)
                done = time.perf_counter()
                faces = tuple(face for face in found if face.detection_score >= recognizer.detector.min_score)
                if explain:
                    maps = heat_maps(recognizer, frame.image_rgb, faces, at_most=_EXPLAINED)
            elif not all_frames:
                continue
            elif hide:
                stream.locate(frame.image_rgb, frame.time_s)
            hidden = tuple(track.detection.box for track in stream.tracks)
            yield Result(frame, faces, hidden, maps, fresh, done - started, done - frame.taken_s)
