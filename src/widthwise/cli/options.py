"""Options that several commands share, and how they show in the help."""

from typing import Annotated

from tyro.conf import FlagCreatePairsOff, arg

Flag = Annotated[bool, FlagCreatePairsOff, arg(help_behavior_hint="")]
JsonFlag = Annotated[bool, FlagCreatePairsOff, arg(name="json", help_behavior_hint="")]
Column = Annotated[str | None, arg(metavar="COLUMN", help_behavior_hint="")]
Field = Annotated[str | None, arg(metavar="FIELD", help_behavior_hint="")]
Count = Annotated[int | None, arg(metavar="N", help_behavior_hint="")]
Sizes = Annotated[tuple[int, ...] | None, arg(metavar="N N ...", help_behavior_hint="")]
