"""Whether a server wants depth, by what it says of itself.

The protocol has no word for it: the evaluator sends `depth_linear` when its wrapper has it
(`RGBDFullResWrapper`, StanfordVL/BEHAVIOR-1K, `OmniGibson/omnigibson/eval/wrappers`), whatever the
server looks at. Public servers announce themselves in maps of their own making, many of them empty.
So a few plain ways of asking are understood, `?depth=yes|no` after the address decides in any case,
and what else speaks of depth is remarked.
"""

from __future__ import annotations

from b1k_envs.r1pro import CAMERAS

_NAMES = ("depth", "depth_linear", *(camera.depth_key for camera in CAMERAS.values()))
_VERBS = ("need", "needs", "require", "requires", "use", "uses", "send")
_FLAGS = (*_NAMES, *(f"{verb}_depth" for verb in _VERBS))
_LONGEST_SHOWN = 80


def wanted_depth(
    metadata: object, *, told: bool | None, ours: bool
) -> tuple[bool, tuple[str, ...]]:
    """Whether depth is sent, and what a person should know about that.

    Args:
        metadata: What the server says of itself.
        told: `Address.depth`.
        ours: Whether it is a server of b1k-eval, whose policies look at no depth.
    """
    if ours:
        said = ("depth=yes sends depth to a server that looks at none",) if told else ()
        return bool(told), said
    asks = asks_for_depth(metadata)
    if told is True or (told is None and asks):
        return True, ()
    if asks:
        return False, ("the server asks for depth, and gets none: depth=no",)
    spoken = None if told is False else mention_of_depth(metadata)
    if spoken is None:
        return False, ()
    return False, (
        f"the server's metadata speak of depth ({spoken}), and it gets none: ?depth=yes after the "
        "address sends it, ?depth=no says that none is wanted",
    )


def asks_for_depth(metadata: object) -> bool:
    """Whether a server asks for depth, anywhere in its metadata.

    That is: `true` under `depth`, `needs_depth` and the like; `depth` or `depth_linear` in a list,
    as of modalities; the evaluator's own key of a camera's depth in a list or as a key of a map.
    """
    if isinstance(metadata, dict):
        return any(
            (value is True and key in _FLAGS)
            or (value is not False and key in _NAMES[2:])
            or asks_for_depth(value)
            for key, value in metadata.items()
        )
    if isinstance(metadata, list):
        return any(
            (isinstance(one, str) and one in _NAMES) or asks_for_depth(one) for one in metadata
        )
    return False


def mention_of_depth(metadata: object) -> str | None:
    """Where metadata speak of depth in any way, printable; None where they do not.

    A key whose value says no (false, null, 0, empty) does not count.
    """
    if isinstance(metadata, str):
        return _shown(metadata) if "depth" in metadata.lower() else None
    if isinstance(metadata, list):
        return next(filter(None, map(mention_of_depth, metadata)), None)
    if not isinstance(metadata, dict):
        return None
    for key, value in metadata.items():
        no = value is None or (isinstance(value, (bool, int, float, str, list, dict)) and not value)
        if isinstance(key, str) and "depth" in key.lower() and not no:
            return _shown(f"{key}: {value}")
    return mention_of_depth(list(metadata.values()))


def _shown(text: str) -> str:
    """The beginning of a text for a terminal, which would obey control characters."""
    return ascii(text[:_LONGEST_SHOWN])[1:-1]
