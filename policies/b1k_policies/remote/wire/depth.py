"""Deciding whether a server wants depth, by its metadata.

The protocol has no key for it: the evaluator sends `depth_linear` when its wrapper has it
(`RGBDFullResWrapper`, StanfordVL/BEHAVIOR-1K, `OmniGibson/omnigibson/eval/wrappers`), whatever the
server uses. Public servers send metadata of their own making, often empty. So a few plain ways of
asking are understood, any other mention of depth gets a remark, and `?depth=yes|no` after the
address decides in any case.
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
    """Return whether depth is sent, and what a person should know about that.

    Args:
        metadata: The server's metadata.
        told: `Address.depth`.
        ours: Whether it is a server of b1k-eval, whose policies use no depth.
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

    It does with `true` under `depth`, `needs_depth` and the like; with `depth` or `depth_linear` in
    a list, as of modalities; or with the evaluator's key of a camera's depth in a list or a map.
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
    """Return where the metadata mention depth in any way, printable; None if nowhere.

    A key with a negative value (false, null, 0, empty) does not count.
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
    """Return the beginning of a text, without control characters, which a terminal would obey."""
    return ascii(text[:_LONGEST_SHOWN])[1:-1]
