"""The contract that fills in what nobody states: a preset that is named, or that fits the sizes.

There are two sizes: that of the pictures, which decides the bytes that are sent, and the one to
which the geometry encoder inside the model brings its pictures (`da3_process_res`). In the cards
of v4 and v17 they are equal. In the public code of the family the pictures have 224 px whatever
the encoder works at, which is 504 px unless a configuration says otherwise. So an encoder at
504 px means v4 only where the rest of config.json agrees with v4's card.

Sources: the model card of DA3-XVLA v17; JackLiu0406/spatial-xvla-training (`da3_inline`, the image
processor).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from b1k_policies.contract.codecs import ContractValueError
from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.fields import FIELDS
from b1k_policies.contract.presets import CARD_CONFIG, PRESETS
from b1k_policies.contract.reading import CONFIG_FILE, CONTRACT_FILE, Reading, Statement

FAMILY_IMAGE_SIZE = 224
"""Width and height of the pictures in the family's public code [px]."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """The contract that fills in the fields that nobody states.

    Attributes:
        contract: Its values; None where every field is stated.
        source: What to call it.
        own: Whether the checkpoint's file departs from it on purpose, as it names itself.
        fitted_by: By what it was chosen, in words, where nobody named it; the files must agree
            with it then.
    """

    contract: EvalContract | None = None
    source: str = ""
    own: bool = False
    fitted_by: str = ""

    def says(self, name: str) -> Statement | None:
        """Return its value of a field."""
        if self.contract is None or name not in FIELDS:
            return None
        return Statement(name=name, value=getattr(self.contract, name), where=self.source)


def find_base(
    folder: Path | None,
    stated: Mapping[str, Statement],
    by_hand: Mapping[str, Statement],
    config: Reading,
) -> Base:
    """Find the base of a checkpoint for which none is named by hand.

    Args:
        folder: The checkpoint's folder, or None.
        stated: What its files state.
        by_hand: Fields that were spelt out by hand.
        config: Its config.json.

    Raises:
        ContractValueError: Fields are missing and nothing names a base, or no preset fits.
    """
    missing = ", ".join(name for name in FIELDS if name not in {*stated, *by_hand})
    if folder is None or set(by_hand) >= set(FIELDS):
        if missing:
            raise ContractValueError(
                f'the contract lacks {missing}; say them, or name a base, as in "base": "v17"'
            )
        return Base()
    called, based = stated.get("name"), stated.get("base")
    if called is None or called.value in PRESETS:
        size = by_hand.get("image_size")
        chosen = _fit_preset(folder, stated, config, None if size is None else size.value)
        by = "its image size; no file names it"
        if "image_size" not in stated:
            by = (
                "the size inside its geometry encoder; no file names it or states that of the "
                "pictures"
            )
        return Base(contract=PRESETS[chosen], source=f"preset {chosen}", fitted_by=by)
    if based is not None:
        return Base(contract=PRESETS[based.value], source=f"base {based.value}", own=True)
    if missing:
        raise ContractValueError(
            f"{folder}: {called.where} says {called.value!r}, which is none of the presets "
            f"({', '.join(PRESETS)}), and nothing states {missing}; say them in {CONTRACT_FILE}, "
            f'or a base ("base": "v17"), or pass --contract'
        )
    return Base(own=True)


def _fit_preset(
    folder: Path, stated: Mapping[str, Statement], config: Reading, set_size: int | None
) -> str:
    """Choose the preset that fits the sizes of a checkpoint.

    `set_size` is `--set image_size` [px], used when no file states the size of the pictures.

    Raises:
        ContractValueError: No preset fits, or several do and the files name none of them.
    """
    names = ", ".join(PRESETS)
    picture, inside, called = (stated.get(n) for n in ("image_size", "geometry_size", "name"))
    size = picture.value if picture is not None else set_size
    if size is None and inside is None:
        if called is not None:
            return str(called.value)
        raise ContractValueError(
            f"{folder}: neither {CONTRACT_FILE} nor {CONFIG_FILE} states the size of the images, "
            f"or that inside the geometry encoder (geometry_conditioning.da3_process_res), so no "
            f"preset can be chosen; pass --contract with one of {names}, or a file"
        )
    says = f"{folder}: {_sizes(picture, inside, set_size)}"
    fitting = presets_of(size, None if inside is None else inside.value)
    if not fitting:
        have = ", ".join(
            f"{name} {preset.image_size} with {preset.geometry_size} inside"
            for name, preset in PRESETS.items()
        )
        raise ContractValueError(
            f"{says}, which fits no preset ({have}); pass --contract FILE (or one of {names}) and "
            "say what this checkpoint expects"
        )
    if called is not None and called.value in fitting:
        return str(called.value)
    if len(fitting) > 1:
        named = "no file names one" if called is None else f"{called.where} says {called.value!r}"
        raise ContractValueError(
            f"{says}, which fits several presets ({', '.join(fitting)}), and {named}; pass "
            f"--contract with the one it is, or a file, or give {CONTRACT_FILE} the name"
        )
    # 504 px is also the family's default encoder size, so it does not tell v4 by itself.
    (found,) = fitting
    own = PRESETS[found].image_size
    if size is None and own != FAMILY_IMAGE_SIZE and not _is_on_the_card(config, found):
        raise ContractValueError(
            f"{says}, and nothing says how large the pictures are that it is sent: {own} px in "
            f"{found}, {FAMILY_IMAGE_SIZE} px in the public code of this family, whatever is "
            f"inside, and config.json is not that of {found}; pass --contract {found}, or "
            f"--contract FILE with image_size {FAMILY_IMAGE_SIZE} and geometry_size "
            f"{PRESETS[found].geometry_size}"
        )
    return found


def presets_of(size: int | None, inside: int | None) -> list[str]:
    """List the presets with these sizes [px]; None fits every preset."""
    return [
        name
        for name, preset in PRESETS.items()
        if size in (None, preset.image_size) and inside in (None, preset.geometry_size)
    ]


def _sizes(picture: Statement | None, inside: Statement | None, set_size: int | None) -> str:
    texts = []
    if picture is not None:
        texts.append(f"{picture.where} says {picture.value} px")
    elif set_size is not None:
        texts.append(f"--set image_size says {set_size} px")
    if inside is not None:
        texts.append(f"{inside.where} says {inside.value} px inside the geometry encoder")
    return ", ".join(texts)


def _is_on_the_card(config: Reading, name: str) -> bool:
    return all(config.value(key) == value for key, value in CARD_CONFIG[name].items())
