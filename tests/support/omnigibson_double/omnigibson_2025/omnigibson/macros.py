"""`from omnigibson.macros import gm, macros`."""

from omnigibson_double import touch
from omnigibson_double.macros import make_macros

macros = make_macros(__file__)
gm = macros.globals
touch.module(__name__)
