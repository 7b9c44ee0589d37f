"""A detector as a file that needs neither its code nor, as ONNX, torch: its graph, checked against the detector itself.

The room has the name of the public function `sightline.export`, and Python sets a package in its parent as soon as anything in
it is imported: from then on the name is this module. So the module can be called as the function.
"""

import sys
from types import ModuleType
from typing import Any


class CallableRoom(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """`sightline.export.write.export`."""
        from sightline.export.write import export

        return export(*arguments, **options)


sys.modules[__name__].__class__ = CallableRoom
