"""Rules whose `ENABLED` is set on the class; the washer's is the one that acts here."""

from omnigibson_double import touch


class BaseTransitionRule(metaclass=touch.TouchedMeta):
    ENABLED = True


class ToggleableMachineRule(BaseTransitionRule):
    pass


class MixingToolRule(BaseTransitionRule):
    pass


class CookingSystemRule(BaseTransitionRule):
    pass


class WasherRule(BaseTransitionRule):
    pass


touch.module(__name__)
