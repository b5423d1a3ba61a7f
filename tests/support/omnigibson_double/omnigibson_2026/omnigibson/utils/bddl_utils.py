"""`is_system_bddl_inst`."""

from omnigibson_double import touch


def is_system_bddl_inst(bddl_inst):
    return bddl_inst.startswith("dust.n.")


touch.module(__name__)
