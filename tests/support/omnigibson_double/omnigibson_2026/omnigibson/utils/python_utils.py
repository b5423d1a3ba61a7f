"""`recursively_convert_to_torch`: lists of numbers become float32 tensors."""

from omnigibson_double import touch
from omnigibson_double.conversions import recursively_convert_to_torch

__all__ = ["recursively_convert_to_torch"]
touch.module(__name__)
