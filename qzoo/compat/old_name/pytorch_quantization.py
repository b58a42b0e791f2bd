"""On the path of processes that a script starts: the old name, which gives way to the stand-in when it is imported."""

import sys

from qzoo.compat.alias import stand_in

del sys.modules[__name__]
stand_in()
